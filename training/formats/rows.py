"""What every reader yields: rows as their file has them, with texts or with ids of texts.

Readers only bring a row into this shape; whether it can be trained on is checked in one place,
`splade_es.training.data`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from splade_es.data.jsonl import JSON_NAMES
from splade_es.errors import TrainingError

#: ("train.jsonl:7", the object on that line)
Records: TypeAlias = Iterator[tuple[str, dict[str, Any]]]


class Id(str):
    """The id of a query or document, in the place of its text."""


class Row(NamedTuple):
    """One example, not yet checked, so that any value may be anything.

    positive_keys: of all known positives, those of `positives` first. Without keys a text is its
    own key, and an Id its id. The two lists of scores are a teacher's, both or none.
    mined: `negatives` are what was retrieved, less the known positives, and may hold copies of them
    under other ids, which are no negatives. Elsewhere such a negative is an error.
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
    """What a reader makes of a path: rows, and (id, text) of what they refer to by Id."""

    format: str
    rows: Iterable[Row]
    queries: Iterable[tuple[str, str]] = ()
    documents: Iterable[tuple[str, str]] = ()


def listed(value: Any) -> list[Any]:
    """A list as it is, null as an empty one, and anything else as a list of one."""
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def read_ids(place: str, name: str, value: Any) -> list[str]:
    """The ids in `listed(value)` as strings. Raises TrainingError for what is no id."""
    for id in listed(value):
        if type(id) not in (str, int) or id == "":
            raise TrainingError(
                f'{place}: an id in "{name}" is {JSON_NAMES.get(type(id), type(id).__name__)}'
                f"{' and empty' if id == '' else ''}",
                "Make it a string or a whole number.",
            )
    return [str(id) for id in listed(value)]


def with_scores(row: Row, scores: Any) -> Row:
    """The row with scores that a file has in one list, the positives' first."""
    if scores is None:
        return row
    cut = len(row.positives)
    return row._replace(positive_scores=listed(scores)[:cut], negative_scores=listed(scores)[cut:])


def from_candidates(
    place: str, query: str, scores: dict[str, Any], positives: Sequence[str]
) -> Row:
    """A row of a file that has a teacher's scores of what was retrieved for a query.

    Candidates that are no known positive are the negatives. Positives without a score cannot
    stand beside them: they stay known, and only if none has a score the row goes without scores.
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
    """A row that lists documents beside numbers, and does not say which is the positive.

    Numbers that are all 0 or 1 are labels: 1 is a positive. Others are a teacher's scores, and the
    document that it likes best is the positive. Raises TrainingError for lists of two lengths.
    """
    if len(documents) != len(scores):
        raise TrainingError(
            f"{place}: {len(scores)} scores for {len(documents)} documents", "Give one for each."
        )
    pairs = list(zip(documents, scores, strict=True))
    if all(score in (0, 1) for score in scores):
        return Row(place, query, [d for d, s in pairs if s], [d for d, s in pairs if not s])
    # what is no number cannot be compared, and is refused with the other bad scores
    numbers = [s if isinstance(s, (int, float)) else float("-inf") for s in scores]
    best = pairs.pop(numbers.index(max(numbers)))
    return Row(place, query, [best[0]], [d for d, _ in pairs], [best[1]], [s for _, s in pairs])
