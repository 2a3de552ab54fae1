"""Batches of examples: which texts are drawn, and what the documents are to the queries."""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from splade_es.training.data import Example, Examples
from splade_es.training.losses import Targets

_Prepared = TypeVar("_Prepared")


class Batch(NamedTuple):
    """The texts of a batch, and what a loss must know about them.

    queries: B texts; documents: N texts, the positive and the negatives of each query, one query
    after the other; sizes: how many of these documents belong to each query.
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
    """Batches without an end; each epoch has another order. `start` skips that many batches.

    Of an example one positive is drawn and `negatives` of its negatives, or all if this is None or
    if there are fewer. margin: see `make_batch`. The batches depend on the arguments alone, so that
    a resumed run sees what the interrupted one would have seen.
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


def one_ahead(
    drawn: Iterator[Batch], prepare: Callable[[Batch], _Prepared]
) -> Generator[_Prepared, None, None]:
    """Prepare batches in a thread, each while the one before it is computed."""

    def make() -> _Prepared | None:
        batch = next(drawn, None)
        return None if batch is None else prepare(batch)

    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(make)
        while (made := future.result()) is not None:
            future = thread.submit(make)
            yield made


def draw(example: Example, negatives: int | None, seed: str) -> Example:
    """The example with one of its positives, and with at most `negatives` of its negatives."""
    if len(example.positives) == 1 and (negatives is None or negatives >= len(example.negatives)):
        return example
    generator = random.Random(seed)
    positive = generator.randrange(len(example.positives))
    places = range(len(example.negatives))
    kept = (
        list(places)
        if negatives is None or negatives >= len(places)
        else sorted(generator.sample(places, negatives))
    )
    keys = list(example.positive_keys)
    keys.insert(0, keys.pop(positive))  # the others are still known as positives
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
    """A batch of examples with one positive each.

    margin: a negative that has a higher score of the teacher than that of the positive minus this
    margin may be relevant, and infonce leaves it out. With None no negative is left out.
    """
    documents: list[str] = []
    keys: list[str] = []
    sizes = [1 + len(example.negatives) for example in examples]
    candidates = torch.full((len(examples), max(sizes)), -1)  # [B, 1 + n]
    scored = all(
        example.positive_scores and example.negative_scores is not None for example in examples
    )
    teacher = torch.zeros(len(examples), max(sizes)) if scored else None  # [B, 1 + n]
    for row, example in enumerate(examples):
        candidates[row, : sizes[row]] = torch.arange(len(documents), len(documents) + sizes[row])
        documents += [example.positives[0], *example.negatives]
        keys += [example.positive_keys[0], *example.negative_keys]
        if teacher is not None:
            scores = [*(example.positive_scores or ()), *(example.negative_scores or ())]
            teacher[row, : sizes[row]] = torch.tensor(scores)

    places: dict[str, list[int]] = {}
    for place, key in enumerate(keys):
        places.setdefault(key, []).append(place)
    excluded = torch.zeros(len(examples), len(documents), dtype=torch.bool)  # [B, N]
    for row, example in enumerate(examples):
        for key in example.positive_keys:
            excluded[row, places.get(key, [])] = True
        if margin is not None and teacher is not None:
            close = teacher[row, : sizes[row]] > teacher[row, 0] - margin  # [1 + n_row]
            excluded[row, candidates[row, : sizes[row]][close]] = True
        excluded[row, candidates[row, 0]] = False
    return Batch(
        [e.query for e in examples], documents, sizes, Targets(candidates, teacher, excluded)
    )
