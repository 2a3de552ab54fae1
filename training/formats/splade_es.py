"""Rows of splade-es, with texts or with ids of a BEIR folder, and BEIR folders themselves.

    {"query": "...", "positive": "..."}
    {"query": "...", "positive": "...", "negative": "..."}
    {"query": "...", "positive": "...", "negatives": ["...", "..."], "scores": [9.1, 3.2, 0.4]}
    {"query_id": "7", "positive_ids": ["d1", "d5"], "negative_ids": ["d3"], "scores": [9, 8, 1]}

`positives` is a list of several. `scores` are those of a teacher, the ones of the positives first.
`positive_id`, or `positive_ids` (of all known positives, those of the row first), say which texts
are the same document.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any

from splade_es.data.corpus import read_documents
from splade_es.data.jsonl import find_file
from splade_es.data.trec_beir import read_qrels
from splade_es.errors import CorpusError
from splade_es.records import Rejected
from splade_es.training.formats.rows import Id, Row, Source, listed, read_ids, with_scores

_POSITIVES = {"positive", "positives", "positive_id", "positive_ids"}
#: Keys that show another format, which may have `query` and `positive` as well.
_OTHERS = re.compile(r"labels?|score|negative_\d+|(positive|negative)s?_scores?")


def matches(record: dict[str, Any]) -> bool:
    """Whether a record has this format."""
    keys = record.keys()
    return (
        bool(keys & {"query", "query_id"} and keys & _POSITIVES)
        and not any(map(_OTHERS.fullmatch, keys))
    )  # fmt: skip


def to_row(place: str, record: dict[str, Any]) -> Row:
    """A row of a record, with its texts, or with ids if it has no texts.

    Raises TrainingError for an invalid id.
    """
    own = read_ids(place, "positive_id", record.get("positive_id"))
    known = list(
        dict.fromkeys([*own, *read_ids(place, "positive_ids", record.get("positive_ids"))])
    )
    rejected = read_ids(place, "negative_ids", record.get("negative_ids"))
    query = record.get("query")
    if query is None:
        query = next(map(Id, read_ids(place, "query_id", record.get("query_id"))), None)
    row = Row(
        place,
        query,
        listed(record.get("positives", record.get("positive"))) or [*map(Id, own or known)],
        listed(record.get("negatives", record.get("negative"))) or [*map(Id, rejected)],
        positive_keys=known or None,
        negative_keys=rejected or None,
    )
    return with_scores(row, record.get("scores"))


def read_corpus(folder: str) -> Iterator[tuple[str, str]]:
    """Stream (id, title and text) of corpus.jsonl; raises CorpusError for an invalid line."""
    for item in read_documents(folder):
        if isinstance(item, Rejected):
            raise CorpusError(f"{item.place}: {item.reason}")
        yield item.id, item.body


def read_queries(folder: str) -> Iterator[tuple[str, str]]:
    """Stream (id, text) of queries.jsonl, nothing if there is no such file."""
    path = find_file(folder, "queries.jsonl")
    return read_corpus(path) if path else iter(())  # queries have the form of documents


def open_beir(folder: str) -> Source:
    """Open a BEIR folder: a row for each query of qrels/train.tsv with all relevant documents.

    The judgements are kept in memory. Raises CorpusError if one of the three files is missing.
    """
    qrels = find_file(os.path.join(folder, "qrels"), "train.tsv")
    found = [find_file(folder, "corpus.jsonl"), find_file(folder, "queries.jsonl"), qrels]
    if qrels is None or None in found:
        names = ("corpus.jsonl", "queries.jsonl", "qrels/train.tsv")
        missing = [name for name, path in zip(names, found, strict=True) if path is None]
        raise CorpusError(
            f"{folder}: there is no {' and no '.join(missing)}",
            f"A BEIR folder to train on has {', '.join(names)}, plain or compressed.",
        )

    def rows(path: str) -> Iterator[Row]:
        for query, grades in read_qrels(path).items():
            if positives := [Id(id) for id, grade in grades.items() if grade > 0]:
                yield Row(f"{path}, query {query}", Id(query), positives)

    return Source("beir", rows(qrels), read_queries(folder), read_corpus(folder))
