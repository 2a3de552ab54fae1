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
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias, TypedDict

from splade_es.data.corpus import read_documents
from splade_es.data.files import atomic_file
from splade_es.data.jsonl import find_file
from splade_es.data.trec_beir import open_beir
from splade_es.engines.base import EngineIndex
from splade_es.errors import CorpusError, SettingsError, TrainingError
from splade_es.limits import MAX_K
from splade_es.progress import MineProgress
from splade_es.records import Document, Query, Run
from splade_es.search.modes import Mode, bm25_run, check_mode
from splade_es.search.searcher import Searcher
from splade_es.training.training_lines import check_not_input, is_text, read_rows

# Queries that are searched at once, and hits whose texts are in memory at once.
_BATCH_QUERIES = 64
_BATCH_HITS = 10_000

#: Query, text of a positive, its id or None, and a JSON array of ids known to be positive.
_Row: TypeAlias = tuple[str, str, str | None, str]


class MineSettings(TypedDict, total=False):
    """Settings of mining; each may be left out.

    Attributes
    ----------
    mode : {"splade", "bm25", "hybrid"}
        What searches: the model of the index, which is the default, BM25, or both.
    model : str
        Where the model is now, if it has moved.
    split : str
        Judgements of a BEIR folder, "train" by default.
    depth : int
        Hits of a query to take negatives from; 100 by default.
    skip_top : int
        Leave out this many of the best hits that are not known positives, because they often are
        positives that nobody judged; 2 by default.
    negatives : int
        Draw this many for a query; 8 by default, 0 takes all, by rank.
    seed : int
        Seed of the draw.
    """

    mode: Mode
    model: str | None
    split: str
    depth: int
    skip_top: int
    negatives: int
    seed: int


class _Asked(NamedTuple):
    """A query. positives: text -> id, None where nobody said; known: ids of positives, in order."""

    query: str
    positives: dict[str, str | None]
    known: dict[str, None]


def mine_steps(
    index: EngineIndex, data: str, output: str, settings: MineSettings
) -> Generator[MineProgress, None, None]:
    """Write training lines with negatives from an index to `output`; yields counts on the way.

    data: a BEIR folder, whose judgements of `split` with a grade above 0 are the positives, or JSON
    Lines with "query" and "positive", and "positive_id" or "positive_ids" where they are known.

    Of the first `depth` hits of a query, those that are known positives, by id or by text, are
    taken out; then the first `skip_top`; and of the rest `negatives` are drawn. The draw depends on
    seed, query and hits alone. Raises, at the call, TrainingError, SettingsError and EngineError;
    while it runs also CorpusError and QueryError.
    """
    mode, depth = settings.get("mode", "splade"), settings.get("depth", 100)
    check_mode(mode)
    if mode == "bm25" and settings.get("model"):
        raise SettingsError("bm25 searches without a `model`")
    if not 1 <= depth <= MAX_K:
        raise SettingsError(f"`depth` is {depth}; it must be 1 to {MAX_K:,}")
    if settings.get("skip_top", 2) >= depth:
        raise SettingsError(
            f"`skip_top` {settings.get('skip_top', 2)} leaves nothing of `depth` {depth}"
        )
    sources = (
        [find_file(data, "corpus.jsonl"), find_file(data, "queries.jsonl")]
        if os.path.isdir(data)
        else [data]
    )
    check_not_input(output, *sources)
    searcher = None if mode == "bm25" else Searcher(index, settings.get("model"))

    def rank(queries: Sequence[Query]) -> Run:
        if searcher is None:
            return bm25_run(index, queries, depth)
        return searcher.run(queries, depth, mode=mode)

    return _mine(index, data, output, settings, rank, depth)


def _mine(
    index: EngineIndex,
    data: str,
    output: str,
    settings: MineSettings,
    rank: Callable[[Sequence[Query]], Run],
    depth: int,
) -> Generator[MineProgress, None, None]:
    wanted, seed = settings.get("negatives", 8), settings.get("seed", 0)
    split = settings.get("split", "train")
    progress = MineProgress()
    with atomic_file(output, TrainingError) as file, closing(read_pairs(data, split)) as pairs:
        (total,) = pairs.execute("SELECT COUNT(DISTINCT query) FROM pairs").fetchone()
        queries = _by_query(pairs)
        size = max(1, min(_BATCH_QUERIES, _BATCH_HITS // depth))
        progress = replace(progress, total=total)
        while batch := list(itertools.islice(queries, size)):
            run = rank([Query(str(n), asked.query) for n, asked in enumerate(batch)])
            found = [list(run[str(n)]) for n in range(len(batch))]
            # each document once, however many queries of the batch it is found for
            ids = sorted({id for ranked in found for id in ranked})
            documents = {document.id: document for document in index.documents(ids)}
            lines = negatives = bare = 0
            for asked, ranked in zip(batch, found, strict=True):
                hits = [documents[id] for id in ranked if id in documents]
                rest = _unknown(asked, hits)[settings.get("skip_top", 2) :]
                if wanted:
                    draw = random.Random(f"{seed} {asked.query}")
                    rest = draw.sample(rest, min(wanted, len(rest)))
                for line in _lines(asked, rest):
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
                    lines += 1
                    negatives += len(rest)
                    bare += not rest
            progress = replace(
                progress,
                queries=progress.queries + len(batch),
                lines=progress.lines + lines,
                negatives=progress.negatives + negatives,
                bare=progress.bare + bare,
            )
            yield progress


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
