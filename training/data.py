"""Training lines: pairs, triples and distillation rows, as JSON Lines.

    {"query": "...", "positive": "..."}
    {"query": "...", "positive": "...", "negative": "..."}
    {"query": "...", "positive": "...", "negatives": ["...", "..."], "scores": [9.1, 3.2, 0.4]}

`scores` are a teacher's, of the positive and then of each negative. `positive_id`, where given,
says which positives are the same document. Other keys are left alone.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, NamedTuple

from splade_es.errors import TrainingError
from splade_es.jsonl import parse_object, read_lines

_FLOAT32_MAX = 3e38


class Example(NamedTuple):
    """One training line. documents: the positive, then the negatives; scores: a teacher's."""

    query: str
    documents: tuple[str, ...]
    key: str  # equal keys are the same positive document
    scores: tuple[float, ...] | None


def read_examples(path: str, needs_scores: bool) -> list[Example]:
    """All lines of a file (.gz too). Raises CorpusError or TrainingError with "path:line"."""
    examples: list[Example] = []
    for place, line in read_lines(path):
        try:
            example = _example(place, parse_object(line))
        except ValueError as error:
            raise TrainingError(f"{place}: {error}") from error
        if needs_scores and (example.scores is None or len(example.documents) < 2):
            raise TrainingError(
                f'{place}: no negatives with "scores", which this loss needs',
                "Add a teacher's scores, or train with --loss infonce.",
            )
        if examples and len(example.documents) != len(examples[0].documents):
            raise TrainingError(
                f"{place}: {len(example.documents) - 1} negatives, but the lines before it have "
                f"{len(examples[0].documents) - 1}",
                "Give every line the same number.",
            )
        examples.append(example)
    if not examples:
        raise TrainingError(f"{path}: no training lines", 'Write lines with "query", "positive".')
    return examples


def _example(place: str, row: dict[str, Any]) -> Example:
    negatives = row.get("negatives", [row["negative"]] if "negative" in row else []) or []
    listed = isinstance(negatives, list)
    texts = [row.get("query"), row.get("positive"), *(negatives if listed else [])]
    if not (listed and all(isinstance(text, str) and text.strip() for text in texts)):
        raise TrainingError(
            f'{place}: "query", "positive" and each of "negatives" must be a text that is not '
            "empty",
            'Mend or remove the line; "negatives" is a list.',
        )
    scores = row.get("scores")
    if scores is not None and not (
        isinstance(scores, list)
        and len(scores) == len(texts) - 1
        and all(type(s) in (int, float) and abs(s) <= _FLOAT32_MAX for s in scores)
    ):
        raise TrainingError(
            f'{place}: "scores" must be {len(texts) - 1} finite numbers, the positive\'s first',
            "Mend or remove the line.",
        )
    return Example(
        query=texts[0],
        documents=tuple(texts[1:]),
        key=str(row.get("positive_id", texts[1])),
        scores=tuple(map(float, scores)) if scores is not None else None,
    )


def batches(examples: list[Example], size: int, seed: int, start: int) -> Iterator[list[Example]]:
    """Endless batches, every epoch in an order of its own; `start` skips that many batches.

    A function of its arguments alone: a resumed run sees what the interrupted one would have seen.
    """
    size = min(size, len(examples))
    per_epoch = len(examples) // size
    batch = start
    while True:
        epoch, position = divmod(batch, per_epoch)
        if position == 0 or batch == start:
            order = list(range(len(examples)))
            random.Random(f"{seed} {epoch}").shuffle(order)
        yield [examples[i] for i in order[position * size : (position + 1) * size]]
        batch += 1
