"""Rows of training data, as every reader yields them: with texts, or with ids of texts.

Readers only bring a row into this form. Whether it is valid is checked in one place,
`splade_es.training.data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from splade_es.data.jsonl import JSON_NAMES
from splade_es.errors import TrainingError

#: Pairs such as ("train.jsonl:7", the object on that line).
Records: TypeAlias = Iterator[tuple[str, dict[str, Any]]]


class Id(str):
    """The id of a query or document, in the place of its text."""


class Row(NamedTuple):
    """One example that is not checked yet: its values may have any type.

    positive_keys: of all known positives, those of `positives` first. Without keys, a text is its
    own key, and an Id is. Scores are those of a teacher, in both lists or in none. mined: the
    negatives were retrieved; a copy of a positive among them, under another id, is left out. In
    rows that were not mined such a negative is an error.
    """

    place: str
    query: Any
    positives: Sequence[Any]
    negatives: Sequence[Any] = ()
    positive_scores: Sequence[Any] | None = None
    negative_scores: Sequence[Any] | None = None
    positive_keys: Sequence[str] | None = None
    negative_keys: Sequence[str] | None = None
    mined: bool = False


class Source(NamedTuple):
    """Opened training data: its rows, and (id, text) of the texts that they name by Id."""

    format: str
    rows: Iterable[Row]
    queries: Iterable[tuple[str, str]] = ()
    documents: Iterable[tuple[str, str]] = ()


def listed(value: Any) -> list[Any]:
    """A list as it is, null as an empty list, and anything else as a list of one item."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def read_ids(place: str, name: str, value: Any) -> list[str]:
    """The ids in `listed(value)`, as strings. Raises TrainingError for an invalid id."""
    for id in listed(value):
        if type(id) not in (str, int) or id == "":
            raise TrainingError(
                f'{place}: an id in "{name}" is {JSON_NAMES.get(type(id), type(id).__name__)}'
                f"{' and empty' if id == '' else ''}",
                "Make it a string or a whole number.",
            )
    return [str(id) for id in listed(value)]


def with_scores(row: Row, scores: Any) -> Row:
    """The row with scores from one list, those of the positives first."""
    if scores is None:
        return row
    cut = len(row.positives)
    return row._replace(positive_scores=listed(scores)[:cut], negative_scores=listed(scores)[cut:])


def from_candidates(
    place: str, query: str, scores: dict[str, Any], positives: Sequence[str]
) -> Row:
    """A row of a query from the scores that a teacher gives to its candidates.

    Candidates that are not known positives are the negatives. If some positives have a score, only
    these are used, and the others are just known; if none has one, the row has no scores.
    """
    known = set(positives)
    scored = [id for id in positives if id in scores]
    negatives = [id for id in scores if id not in known]
    used = scored or positives
    return Row(
        place,
        Id(query),
        [Id(id) for id in used],
        [Id(id) for id in negatives],
        [scores[id] for id in scored] if scored else None,
        [scores[id] for id in negatives] if scored else None,
        positive_keys=list(dict.fromkeys([*used, *positives])),
        mined=True,
    )


def from_ranking(place: str, query: Any, documents: Sequence[Any], scores: Sequence[Any]) -> Row:
    """A row of a list of documents with a list of numbers, which does not name the positive.

    If all numbers are 0 or 1, they are labels: 1 means positive. Otherwise they are scores of a
    teacher, and the document with the highest one is the positive. Raises TrainingError if the
    lists have different lengths.
    """
    if len(documents) != len(scores):
        raise TrainingError(
            f"{place}: {len(scores)} scores for {len(documents)} documents",
            "Give a score for each document.",
        )
    pairs = list(zip(documents, scores, strict=True))
    if all(score in (0, 1) for score in scores):
        return Row(place, query, [d for d, s in pairs if s], [d for d, s in pairs if not s])
    # other values cannot be compared; `training.data` refuses them with the other invalid scores
    numbers = [s if isinstance(s, (int, float)) else float("-inf") for s in scores]
    best = pairs.pop(numbers.index(max(numbers)))
    return Row(place, query, [best[0]], [d for d, _ in pairs], [best[1]], [s for _, s in pairs])
