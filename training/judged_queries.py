"""Queries with their positives, from a BEIR folder or from training lines, for mining."""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeAlias

from splade_es.data.corpus import read_documents
from splade_es.data.trec_beir import open_beir
from splade_es.errors import CorpusError, TrainingError
from splade_es.records import Document
from splade_es.training.training_lines import is_text, read_rows

#: A query, the text of a positive, its id or None, and a JSON array of the known positive ids.
_Row: TypeAlias = tuple[str, str, str | None, str]


class JudgedQuery(NamedTuple):
    """A query with its positives.

    positives: text -> id, None if it is unknown; known: all known ids of positives, in order.
    """

    query: str
    positives: dict[str, str | None]
    known: dict[str, None]


def read_pairs(data: str, split: str) -> sqlite3.Connection:
    """Read all rows of a BEIR folder or of a file into a table `pairs` of a temporary database.

    All positives of a query must be known before the query is searched, and they may be anywhere in
    the data. SQLite keeps the table in memory as long as it is small, otherwise in a file that is
    deleted when the database is closed. Raises CorpusError and TrainingError.
    """
    database = sqlite3.connect("")
    try:
        database.execute("CREATE TABLE pairs (query, positive, id, known)")
        rows = _beir_rows(database, data, split) if os.path.isdir(data) else _file_rows(data)
        database.executemany("INSERT INTO pairs VALUES (?, ?, ?, ?)", rows)
        if database.execute("SELECT 1 FROM pairs").fetchone() is None:
            raise TrainingError(
                f"{data}: there are no positives", "Give queries with a relevant document."
            )
    except sqlite3.OperationalError as error:
        database.close()
        raise TrainingError(
            f"{data}: its texts cannot be kept in the temporary directory ({error})",
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
    database.executemany(  # of two documents with the same id the last one counts, as in an index
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
                    "Correct the corpus, or remove the judgement.",
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


def by_query(pairs: sqlite3.Connection) -> Iterator[JudgedQuery]:
    """Each query once, with all its positives, in the order of the input."""
    rows: Iterable[tuple[str, str, str | None, str, int]] = pairs.execute(
        "SELECT query, positive, id, known, MIN(rowid) OVER (PARTITION BY query) AS first"
        " FROM pairs ORDER BY first, rowid"
    )
    for (_, query), group in itertools.groupby(rows, lambda row: (row[4], row[0])):
        judged = JudgedQuery(query, {}, {})
        for _, positive, id, known, _ in group:
            judged.positives[positive] = judged.positives.get(positive) or id
            judged.known.update(dict.fromkeys(json.loads(known)))
        yield judged
