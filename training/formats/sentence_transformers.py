"""Rows of sentence-transformers (https://sbert.net): columns by their order, not by their names.

A column named label, labels, score or scores is the label. Of the other columns the first is the
query, the second the positive, and the rest are negatives. The label may be, as for its losses:

    query, positive, negative                a margin, teacher(positive) - teacher(negative)
    query, positive, n negatives             n margins, or n + 1 scores of the teacher
    query, list of documents                 a list of labels 0 and 1, or of scores
    query, positive                          1, or no label
"""

from __future__ import annotations

import re
from typing import Any

from splade_es.errors import TrainingError
from splade_es.training.formats.rows import Row, from_ranking, listed, with_scores

_LABELS = ("label", "labels", "score", "scores")
#: Names of columns that cannot be texts.
_IDS = re.compile(r"_?id|.*_(id|ids|idx)")


def matches(record: dict[str, Any]) -> bool:
    """Whether a record has this format."""
    label, columns = _split(record)
    texts = all(isinstance(value, str) for value in columns.values())
    query, *documents = columns.values() or [None]
    ranked = isinstance(query, str) and len(documents) == 1 and isinstance(documents[0], list)
    return (
        bool(documents)
        and (texts or (ranked and label is not None))
        and not any(map(_IDS.fullmatch, columns))
    )


def to_row(place: str, record: dict[str, Any]) -> Row:
    """A row of a record. Margins become scores: 0 of the positive, or (margin, 0) of a triplet.

    Raises TrainingError for a column of ids, or for a label that is not in the table above.
    """
    label, columns = _split(record)
    if ids := [name for name in columns if _IDS.fullmatch(name)]:
        raise TrainingError(
            f'{place}: column "{ids[0]}" holds ids, and columns are read by their order',
            "Keep only query, positive, negatives and the label, in this order.",
        )
    query, *documents = columns.values() or [None]
    if len(documents) == 1 and isinstance(documents[0], list):
        return from_ranking(place, query, documents[0], listed(label))
    row = Row(place, query, documents[:1], documents[1:])
    negatives = len(row.negatives)
    if label is None:
        return row
    if negatives == 0 and not isinstance(label, list):
        if label != 1:
            raise TrainingError(
                f"{place}: a pair has the label {label}, but only 1 makes a positive",
                "Write rows of query, positive and negatives.",
            )
        return row
    if negatives == 1 and not isinstance(label, list):
        return with_scores(row, [label, 0.0])
    if negatives and isinstance(label, list) and len(label) == negatives:
        numbers = all(type(margin) in (int, float) for margin in label)
        return with_scores(row, [0.0, *(-margin if numbers else margin for margin in label)])
    if not isinstance(label, list) or len(label) != negatives + 1:
        raise TrainingError(
            f"{place}: {len(listed(label))} numbers in the label, and {negatives} negatives",
            "Give a margin for each negative, or a score for the positive and each negative.",
        )
    return with_scores(row, label)


def _split(record: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The label, and the other columns without dataset_name, which their trainer adds."""
    name = next((name for name in _LABELS if name in record), None)
    columns = {k: v for k, v in record.items() if k not in (name, "dataset_name")}
    return record.get(name) if name else None, columns
