"""Folders of bizreach-inc/light-splade: NDJSON files with the texts, and others with their ids.

    query_master.ndjson       {"qid": 3, "text": "..."}
    doc_master.ndjson         {"doc_id": 11, "text": "..."}
    positive_lists.ndjson     {"qid": 3, "positive_doc_ids": [11, 100]}
    triplets.ndjson           {"qid": 3, "pos_doc_id": 11, "neg_doc_id": 12}
    hard-negatives-cross-encoder-scores.ndjson, or hard_negative_scores.ndjson
                              {"qid": 3, "scores": {"11": 0.95, "12": 0.23}}

All files may be compressed, and may lie in `train/`. The scores may lie in the folder above,
because they are shared with the validation queries. If there are scores, triplets are ignored;
without either of them the lists are read as pairs.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from splade_es.data.jsonl import JSON_NAMES, find_file, parse_object, read_lines
from splade_es.errors import CorpusError, TrainingError
from splade_es.training.formats.rows import (
    Id,
    Records,
    Row,
    Source,
    from_candidates,
    read_ids,
)

_SCORES = ("hard-negatives-cross-encoder-scores.ndjson", "hard_negative_scores.ndjson")
_NEEDED = ("query_master.ndjson", "doc_master.ndjson", "positive_lists.ndjson")


def find_folder(path: str) -> str | None:
    """The folder with query_master.ndjson: the path itself, or `train` in it."""
    folders = (path, os.path.join(path, "train"))
    return next((folder for folder in folders if find_file(folder, _NEEDED[0])), None)


def open_folder(path: str) -> Source:
    """Open a folder. The positive lists are kept in memory.

    Raises CorpusError if a file is missing.
    """
    folder = find_folder(path) or path
    found = [find_file(folder, name) for name in _NEEDED]
    missing = [name for name, file in zip(_NEEDED, found, strict=True) if file is None]
    if missing:
        raise CorpusError(
            f"{folder}: there is no {' and no '.join(missing)}",
            f"A light-splade folder has {', '.join(_NEEDED)}, plain or compressed.",
        )
    queries, documents, lists = (file for file in found if file)
    above = os.path.dirname(os.path.abspath(folder))
    scores = [file for f in (folder, above) for name in _SCORES if (file := find_file(f, name))]
    triplets = find_file(folder, "triplets.ndjson")
    if scores:
        rows = _scored(scores[0], lists)
    elif triplets:
        rows = _triplets(triplets, lists)
    else:
        rows = (Row(place, Id(query), [*map(Id, ids)]) for place, query, ids in _lists(lists))
    return Source("light-splade", rows, _texts(queries, "qid"), _texts(documents, "doc_id"))


def _records(path: str) -> Records:
    for place, line in read_lines(path, arrays=True):
        try:
            yield place, parse_object(line)
        except ValueError as exc:
            raise CorpusError(f"{place}: {exc}") from exc


def _id(place: str, record: dict[str, object], name: str) -> str:
    ids = read_ids(place, name, record.get(name))
    if len(ids) != 1:
        raise TrainingError(f'{place}: {len(ids)} ids in "{name}"', "Give one id.")
    return ids[0]


def _texts(path: str, name: str) -> Iterator[tuple[str, str]]:
    for place, record in _records(path):
        text = record.get("text")
        if not isinstance(text, str):
            raise CorpusError(f'{place}: "text" is {JSON_NAMES[type(text)]}', "Make it a string.")
        yield _id(place, record, name), text


def _lists(path: str) -> Iterator[tuple[str, str, list[str]]]:
    for place, record in _records(path):
        ids = read_ids(place, "positive_doc_ids", record.get("positive_doc_ids"))
        yield place, _id(place, record, "qid"), ids


def _triplets(path: str, lists: str) -> Iterator[Row]:
    known = {query: ids for _, query, ids in _lists(lists)}
    for place, record in _records(path):
        query = _id(place, record, "qid")
        positive = _id(place, record, "pos_doc_id")
        yield Row(
            place,
            Id(query),
            [Id(positive)],
            [Id(_id(place, record, "neg_doc_id"))],
            positive_keys=list(dict.fromkeys([positive, *known.get(query, ())])),
        )


def _scored(path: str, lists: str) -> Iterator[Row]:
    waiting = {query: ids for _, query, ids in _lists(lists)}
    for place, record in _records(path):
        query = _id(place, record, "qid")
        scores = record.get("scores")
        if not isinstance(scores, dict):
            raise TrainingError(
                f'{place}: "scores" is {JSON_NAMES[type(scores)]}', "Make it an object: id, score."
            )
        if query in waiting:  # the others are validation queries
            yield from_candidates(place, query, scores, waiting.pop(query))
    if waiting:
        raise TrainingError(
            f"{path}: there are no scores of query {min(waiting)}, which {lists} has",
            "Score its candidates too, or remove the query.",
        )
