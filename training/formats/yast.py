"""Rows of hotchpotch/yast, and of the OpenSearch sample for tuning sparse models.

    {"query": "...", "positives": ["..."], "negatives": ["...", "..."],
     "positives_score": [0.9], "negatives_score": [0.2, 0.1]}

or with other names that yast knows; a single text or number need not be in a list. The sample has:

    {"query": "...", "pos": "...", "negs": ["...", "..."]}
    {"query": "...", "docs": ["...", "..."], "scores": [1.0, 5.0]}
"""

from __future__ import annotations

from typing import Any

from splade_es.errors import TrainingError
from splade_es.training.formats.rows import Row, from_ranking, listed

_QUERY = ("query", "qry", "question", "q")
_POSITIVES = ("pos", "positive", "positives")
_NEGATIVES = ("neg", "negative", "negatives")
# the last name of each is that of FlagEmbedding, whose rows have the same form
_POSITIVE_SCORES = (
    "pos_score",
    "positive_score",
    "positive_scores",
    "positives_score",
    "pos_scores",
)
_NEGATIVE_SCORES = (
    "neg_score",
    "negative_score",
    "negative_scores",
    "negatives_score",
    "neg_scores",
)


def matches(record: dict[str, Any]) -> bool:
    """Whether a record is one of yast: lists or scores distinguish it from columns of text."""
    documents = (_first(record, _POSITIVES), _first(record, _NEGATIVES))
    return (
        _first(record, _QUERY) is not None
        and None not in documents
        and bool(
            record.keys() & {*_POSITIVE_SCORES, *_NEGATIVE_SCORES}
            or any(isinstance(value, list) for value in documents)
        )
    )


def to_row(place: str, record: dict[str, Any]) -> Row:
    """A row of a record of yast."""
    positive_scores = listed(_first(record, _POSITIVE_SCORES))
    negative_scores = listed(_first(record, _NEGATIVE_SCORES))
    scored = bool(positive_scores or negative_scores)
    return Row(
        place,
        _first(record, _QUERY),
        listed(_first(record, _POSITIVES)),
        listed(_first(record, _NEGATIVES)),
        positive_scores if scored else None,
        negative_scores if scored else None,
    )


def matches_opensearch(record: dict[str, Any]) -> bool:
    """Whether a record is one of the OpenSearch sample."""
    return "query" in record and bool(record.keys() & {"pos", "docs"})


def to_row_opensearch(place: str, record: dict[str, Any]) -> Row:
    """A row of a record of the OpenSearch sample. Of `docs` the best scored is the positive."""
    query = record.get("query")
    if "docs" not in record:
        return Row(place, query, listed(record.get("pos")), listed(record.get("negs")))
    if record.get("scores") is None:
        raise TrainingError(
            f'{place}: there are "docs" without "scores", which show the positive among them',
            'Add them, or write "pos" and "negs".',
        )
    return from_ranking(place, query, listed(record["docs"]), listed(record["scores"]))


def _first(record: dict[str, Any], names: tuple[str, ...]) -> Any:
    return next((record[name] for name in names if record.get(name) is not None), None)
