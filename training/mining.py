"""Hard negatives from a live index: what it finds for a query and nobody calls relevant.

One line for each query and positive:

    {"query": "...", "positive": "...", "positive_id": "7", "positive_ids": ["7", "12"],
     "negatives": ["...", "..."], "negative_ids": ["31", "4"]}

`positive_ids` are all known positives of the query, the line's own first.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

from splade_es.collection import open_beir
from splade_es.corpus import read_documents
from splade_es.engines.base import Engine
from splade_es.errors import CorpusError, TrainingError
from splade_es.files import whole_file
from splade_es.jsonl import find_file
from splade_es.records import Document, Query
from splade_es.search import Searcher
from splade_es.training.lines import check_not_input, is_text, read_rows

# Queries that are searched at once, and hits whose texts are in memory at once.
_BATCH_QUERIES = 64
_BATCH_HITS = 10_000

#: Query, text of a positive, its id or None, and a JSON array of ids known to be positive.
_Row: TypeAlias = tuple[str, str, str | None, str]


@dataclass(slots=True)
class Mined:
    """Counts of one run. total: different queries of the input; queries: searched so far; lines:
    written; negatives: in all these lines together; bare: lines without any."""

    total: int = 0
    queries: int = 0
    lines: int = 0
    negatives: int = 0
    bare: int = 0


class _Asked(NamedTuple):
    """A query. positives: text -> id, None where nobody said; known: ids of positives, in order."""

    query: str
    positives: dict[str, str | None]
    known: dict[str, None]


def mine(
    data: str,
    engine: Engine,
    index: str,
    output: str,
    *,
    searcher: Searcher | None = None,
    split: str = "train",
    depth: int = 100,
    skip_top: int = 2,
    negatives: int = 8,
    seed: int = 0,
) -> Iterator[Mined]:
    """Write training lines with negatives from an index to `output`; yields counts on the way.

    data: a BEIR folder, whose judgements of `split` with a grade above 0 are the positives, or JSON
    Lines with "query" and "positive", and "positive_id" or "positive_ids" where they are known.
    searcher: of this index; None asks for BM25.

    Of the first `depth` hits of a query, those that are known positives, by id or by text, are
    taken out; then the first `skip_top`, which are often positives that nobody judged; and of the
    rest `negatives` are drawn, or all are kept, by rank, if that is 0. The draw depends on seed,
    query and hits alone. Raises TrainingError, CorpusError, QueryError and EngineError.
    """
    sources = (
        [find_file(data, "corpus.jsonl"), find_file(data, "queries.jsonl")]
        if os.path.isdir(data)
        else [data]
    )
    mined = Mined()
    check_not_input(output, *sources)
    with whole_file(output, TrainingError) as file, closing(read_pairs(data, split)) as pairs:
        (mined.total,) = pairs.execute("SELECT COUNT(DISTINCT query) FROM pairs").fetchone()
        queries = _by_query(pairs)
        size = max(1, min(_BATCH_QUERIES, _BATCH_HITS // max(1, depth)))
        while batch := list(itertools.islice(queries, size)):
            texts = [asked.query for asked in batch]
            if searcher:
                run = searcher.run([Query(str(n), text) for n, text in enumerate(texts)], depth)
                found = [list(run[str(n)]) for n in range(len(texts))]
            else:
                found = [[hit.id for hit in hits] for hits in engine.match(index, texts, depth)]
            # each document once, however many queries of the batch it is found for
            ids = sorted({id for ranked in found for id in ranked})
            documents = {document.id: document for document in engine.documents(index, ids)}
            for asked, ranked in zip(batch, found, strict=True):
                hits = [documents[id] for id in ranked if id in documents]
                rest = _unknown(asked, hits)[skip_top:]
                if negatives:
                    draw = random.Random(f"{seed} {asked.query}")
                    rest = draw.sample(rest, min(negatives, len(rest)))
                for line in _lines(asked, rest):
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    mined.lines += 1
                    mined.negatives += len(rest)
                    mined.bare += not rest
            mined.queries += len(batch)
            yield mined


def _unknown(asked: _Asked, hits: list[Document]) -> list[Document]:
    """The hits that are no known positives, by rank. A hit with the text of a positive is one, and
    its id is learned."""
    unknown = []
    for hit in hits:
        same = next((text for text in (hit.body, hit.text) if text in asked.positives), None)
        if same is not None:
            asked.known[hit.id] = None
            asked.positives[same] = asked.positives[same] or hit.id
        elif hit.id not in asked.known and hit.body.strip():
            unknown.append(hit)
    return unknown


def _lines(asked: _Asked, negatives: list[Document]) -> Iterator[dict[str, Any]]:
    for positive, id in asked.positives.items():
        line: dict[str, Any] = {"query": asked.query, "positive": positive}
        if id is not None:
            line["positive_id"] = id
            line["positive_ids"] = [id, *(other for other in asked.known if other != id)]
        if negatives:
            line["negatives"] = [document.body for document in negatives]
            line["negative_ids"] = [document.id for document in negatives]
        yield line


def read_pairs(data: str, split: str) -> sqlite3.Connection:
    """A table `pairs` of all rows of a BEIR folder or of a file, in a database of its own.

    SQLite keeps it in memory while it is small, else in a file that is gone when it is closed: all
    positives of a query must be known before the query is searched, and they may be anywhere.
    Raises CorpusError and TrainingError.
    """
    database = sqlite3.connect("")
    try:
        database.execute("CREATE TABLE pairs (query, positive, id, known)")
        rows = _beir_rows(database, data, split) if os.path.isdir(data) else _file_rows(data)
        database.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?)", rows)
        if database.execute("SELECT 1 FROM pairs").fetchone() is None:
            raise TrainingError(f"{data}: no positives", "Give queries with a relevant document.")
    except sqlite3.OperationalError as error:
        database.close()
        raise TrainingError(
            f"{data}: no room for its texts in the temporary directory ({error})",
            "Free some space, or set SQLITE_TMPDIR to another directory.",
        ) from error
    except BaseException:
        database.close()
        raise
    return database


def _beir_rows(database: sqlite3.Connection, folder: str, split: str) -> Iterator[_Row]:
    queries, qrels = open_beir(folder, split)
    relevant = {
        query: [id for id, grade in grades.items() if grade > 0] for query, grades in qrels.items()
    }
    wanted = {id for ids in relevant.values() for id in ids}
    database.execute("CREATE TABLE documents (id PRIMARY KEY, body)")
    database.executemany(  # of an id that comes twice the last counts, as in an index
        "INSERT OR REPLACE INTO documents VALUES (?, ?)",
        (
            (item.id, item.body)
            for item in read_documents(folder)
            if isinstance(item, Document) and item.id in wanted
        ),
    )
    for query in queries:
        for id in relevant[query.id]:
            row = database.execute("SELECT body FROM documents WHERE id = ?", (id,)).fetchone()
            if row is None or not is_text(row[0]):
                raise CorpusError(
                    f'{folder}: document "{id}", a positive of query "{query.id}", '
                    + ("is not in corpus.jsonl" if row is None else "has no text"),
                    "Mend the corpus, or remove the judgement.",
                )
            yield query.text, row[0], id, json.dumps([id])


def _file_rows(path: str) -> Iterator[_Row]:
    for place, row in read_rows(path):
        own = row.get("positive_id")
        listed = row.get("positive_ids")
        ids = [*([] if own is None else [own]), *(listed if isinstance(listed, list) else [])]
        if not (
            isinstance(listed, (list, type(None)))
            and all(type(id) in (str, int) and id != "" for id in ids)
        ):
            raise TrainingError(
                f'{place}: "positive_id" must be an id, and "positive_ids" a list of ids',
                "Make each id a string or an integer, or leave them out.",
            )
        names = [str(id) for id in ids]
        yield row["query"], row["positive"], names[0] if names else None, json.dumps(names)


def _by_query(pairs: sqlite3.Connection) -> Iterator[_Asked]:
    """Each query once, with all its positives, in the order of the input."""
    rows: Iterable[tuple[str, str, str | None, str, int]] = pairs.execute(
        "SELECT query, positive, id, known, MIN(rowid) OVER (PARTITION BY query) AS first"
        " FROM pairs ORDER BY first, rowid"
    )
    for (_, query), group in itertools.groupby(rows, lambda row: (row[4], row[0])):
        asked = _Asked(query, {}, {})
        for _, positive, id, known, _ in group:
            asked.positives[positive] = asked.positives.get(positive) or id
            asked.known.update(dict.fromkeys(json.loads(known)))
        yield asked
