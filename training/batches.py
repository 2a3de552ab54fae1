"""From examples to a batch: which of their texts, and what these are to each other."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch

from splade_es.training.data import Example, Examples
from splade_es.training.losses import Targets


class Batch(NamedTuple):
    """queries: B texts; documents: each query's positive and negatives, one query after the other.

    sizes: how many documents each query has; they add up to N, the number of documents.
    """

    queries: list[str]
    documents: list[str]
    sizes: list[int]
    targets: Targets


def batches(
    examples: Examples,
    size: int,
    seed: int,
    start: int,
    negatives: int | None = None,
    margin: float | None = None,
) -> Iterator[Batch]:
    """Endless batches, every epoch in an order of its own; `start` skips that many batches.

    Of an example's positives one is drawn, and of its negatives as many as `negatives` says (all
    if None, or if there are fewer); see `make_batch` for the margin. A function of its arguments
    alone: a resumed run sees what the interrupted one would have seen.
    """
    size = min(size, len(examples))
    per_epoch = len(examples) // size
    batch = start
    while True:
        epoch, position = divmod(batch, per_epoch)
        if position == 0 or batch == start:
            order = np.random.default_rng([seed, epoch]).permutation(len(examples))
        chosen = order[position * size : (position + 1) * size].tolist()
        drawn = [draw(examples[i], negatives, f"{seed} {epoch} {i}") for i in chosen]
        yield make_batch(drawn, margin)
        batch += 1


def draw(example: Example, negatives: int | None, seed: str) -> Example:
    """The same with one of its positives, and at most `negatives` of its negatives."""
    if len(example.positives) == 1 and (negatives is None or negatives >= len(example.negatives)):
        return example
    dice = random.Random(seed)
    positive = dice.randrange(len(example.positives))
    places = range(len(example.negatives))
    kept = (
        list(places)
        if negatives is None or negatives >= len(places)
        else sorted(dice.sample(places, negatives))
    )
    keys = list(example.positive_keys)
    keys.insert(0, keys.pop(positive))  # the others stay known
    scores, others = example.positive_scores, example.negative_scores
    return example._replace(
        positives=(example.positives[positive],),
        negatives=tuple(example.negatives[i] for i in kept),
        positive_scores=None if scores is None else (scores[positive],),
        negative_scores=None if others is None else tuple(others[i] for i in kept),
        positive_keys=tuple(keys),
        negative_keys=tuple(example.negative_keys[i] for i in kept),
    )


def make_batch(examples: Sequence[Example], margin: float | None = None) -> Batch:
    """Examples with one positive each, as the losses want them.

    margin: a negative that the teacher scores above the positive's score minus this counts as
    relevant, and is left out of infonce's negatives; None believes the labels.
    """
    documents: list[str] = []
    keys: list[str] = []
    sizes = [1 + len(example.negatives) for example in examples]
    own = torch.full((len(examples), max(sizes)), -1)  # [B, 1 + n]
    scored = all(
        example.positive_scores and example.negative_scores is not None for example in examples
    )
    teacher = torch.zeros(len(examples), max(sizes)) if scored else None  # [B, 1 + n]
    for row, example in enumerate(examples):
        own[row, : sizes[row]] = torch.arange(len(documents), len(documents) + sizes[row])
        documents += [example.positives[0], *example.negatives]
        keys += [example.positive_keys[0], *example.negative_keys]
        if teacher is not None:
            scores = [*(example.positive_scores or ()), *(example.negative_scores or ())]
            teacher[row, : sizes[row]] = torch.tensor(scores)

    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    banned = torch.zeros(len(examples), len(documents), dtype=torch.bool)  # [B, N]
    for row, example in enumerate(examples):
        for key in example.positive_keys:
            banned[row, places.get(key, [])] = True
        if margin is not None and teacher is not None:
            close = teacher[row, : sizes[row]] > teacher[row, 0] - margin  # [1 + n_row]
            banned[row, own[row, : sizes[row]][close]] = True
        banned[row, own[row, 0]] = False
    return Batch([e.query for e in examples], documents, sizes, Targets(own, teacher, banned))
