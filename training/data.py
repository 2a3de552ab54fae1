"""Training examples: every row is checked before the first step, and kept on disk.

One pass reads the input, in whatever format, into a temporary SQLite database. Then examples are
read by position, in memory that does not grow with the input, also from gzip and standard input.
"""

from __future__ import annotations

import json
import sqlite3
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

from splade_es.data.jsonl import JSON_NAMES
from splade_es.errors import TrainingError
from splade_es.training.formats import open_source
from splade_es.training.formats.rows import Id, Row, Source

#: Called with what is being read, "queries", "documents" or "rows", and with their number so far.
ReadCallback: TypeAlias = Callable[[str, int], object]

_T = TypeVar("_T")
_Table = Literal["queries", "documents"]

# Items between two calls of a ReadCallback.
_CALL_EVERY = 1000
_FLOAT32_MAX = 3e38
_SCHEMA = """
CREATE TABLE queries (id INTEGER PRIMARY KEY, key TEXT UNIQUE, text TEXT);
CREATE TABLE documents (id INTEGER PRIMARY KEY, key TEXT UNIQUE, text TEXT);
CREATE TABLE examples (id INTEGER PRIMARY KEY, place TEXT, packed TEXT);
"""


class Example(NamedTuple):
    """One training example.

    Scores are those of a teacher, one for each text; either both lists have them or none. Keys say
    which documents are the same: they are ids where the format has ids, otherwise the texts.
    `positive_keys` has all known positives of the query, those of `positives` first.
    """

    query: str
    positives: tuple[str, ...]  # at least one
    negatives: tuple[str, ...]
    positive_scores: tuple[float, ...] | None
    negative_scores: tuple[float, ...] | None
    positive_keys: tuple[str, ...]
    negative_keys: tuple[str, ...]
    place: str  # "train.jsonl:7"


def read_examples(
    path: str,
    *,
    format: str | None = None,
    corpus: str | None = None,
    needs_scores: bool = False,
    reading: ReadCallback | None = None,
    cache_kib: int = 64 * 1024,
) -> Examples:
    """Read and check all rows of training data.

    Parameters
    ----------
    path : str
        A file or folder; "-" is standard input.
    format : str, optional
        One of `formats.FORMATS`; by default it is recognized.
    corpus : str, optional
        BEIR folder with the texts that rows name by id.
    needs_scores : bool
        Refuse a row without negatives that a teacher scored.
    reading : callable, optional
        Called after every thousand items, and after the last one.
    cache_kib : int
        KiB of the examples that may stay in memory.

    Raises
    ------
    CorpusError, TrainingError
        A row is invalid; the message begins with "path:line".
    """
    source = open_source(path, format, corpus)
    return Examples(path, source, needs_scores, reading or (lambda what, count: None), cache_kib)


class Examples:
    """The examples by position. They are in a file without a name, in the temporary directory.

    The file disappears with the last reference; to free the disk sooner, close this or use it in
    `with`. It may be used by one thread at a time. format: the format of the data.
    """

    def __init__(
        self,
        path: str,
        source: Source,
        needs_scores: bool,
        reading: ReadCallback,
        cache_kib: int,
    ) -> None:
        self.format = source.format
        self._reading = reading
        # to SQLite the empty name means a temporary file, which is deleted when it is closed
        self._db = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._finalizer = weakref.finalize(self, self._db.close)
        try:
            self._db.executescript(
                f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA temp_store=FILE; "
                f"PRAGMA cache_size=-{cache_kib}; {_SCHEMA}; BEGIN"
            )
            self._load("queries", source.queries)
            self._load("documents", source.documents)
            for row in self._counted("rows", source.rows):
                packed = json.dumps(self._check(row, needs_scores), ensure_ascii=False)
                self._db.execute(
                    "INSERT INTO examples (place, packed) VALUES (?, ?)", (row.place, packed)
                )
            self._db.execute("COMMIT")
            [self._length] = self._db.execute("SELECT count(*) FROM examples").fetchone()
            if not self._length:
                raise TrainingError(
                    f"{path}: there are no training rows",
                    'Write rows with "query" and "positive".',
                )
        except sqlite3.Error as exc:
            self.close()
            raise TrainingError(
                f"{path}: cannot be kept in a temporary file ({exc})",
                "Free some space, or set TMPDIR to a directory that has more.",
            ) from exc
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Delete the examples."""
        self._finalizer()

    def __enter__(self) -> Examples:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        return int(self._length)

    def __getitem__(self, position: int) -> Example:
        """The example at a position; raises IndexError outside of 0 .. len - 1."""
        if not 0 <= position < self._length:
            raise IndexError(position)
        place, packed = self._db.execute(
            "SELECT place, packed FROM examples WHERE id = ?", (position + 1,)
        ).fetchone()
        (query, positives, negatives, positive_scores, negative_scores, known, rejected) = (
            json.loads(packed)
        )
        [[query_text], _] = self._fetch("queries", [query])
        positive_texts, positive_keys = self._fetch("documents", positives)
        negative_texts, negative_keys = self._fetch("documents", negatives)
        return Example(
            query_text,
            tuple(positive_texts),
            tuple(negative_texts),
            None if positive_scores is None else tuple(positive_scores),
            None if negative_scores is None else tuple(negative_scores),
            tuple(known or positive_keys),
            tuple(rejected or negative_keys),
            place,
        )

    def _load(self, table: _Table, items: Iterable[tuple[str, str]]) -> None:
        # of two texts with the same id the last one counts, as in an index
        self._db.executemany(
            f"INSERT OR REPLACE INTO {table} (key, text) VALUES (?, ?)", self._counted(table, items)
        )

    def _counted(self, what: str, items: Iterable[_T]) -> Iterator[_T]:
        count = 0
        for count, item in enumerate(items, 1):
            yield item
            if count % _CALL_EVERY == 0:
                self._reading(what, count)
        self._reading(what, count)

    def _fetch(self, table: _Table, stored: list[Any]) -> tuple[Sequence[str], Sequence[str]]:
        """Texts and keys of what `_check` stored: texts as they are, or numbers of texts."""
        if not stored or isinstance(stored[0], str):
            return stored, stored
        rows = self._db.execute(
            f"SELECT t.text, t.key FROM json_each(?) AS wanted "
            f"CROSS JOIN {table} AS t ON t.id = wanted.value ORDER BY wanted.key",
            (json.dumps(stored),),
        ).fetchall()
        return [text for text, _ in rows], [key for _, key in rows]

    def _check(self, row: Row, needs_scores: bool) -> list[Any]:
        """What to store of a row. Raises TrainingError for an invalid one."""
        place = row.place
        [(query, _)] = self._find(place, "queries", "the query", [row.query])
        if not row.positives:
            raise TrainingError(f"{place}: there is no positive", "Give each row at least one.")
        positives = self._find(place, "documents", "positive", row.positives)
        negatives = self._find(place, "documents", "negative", row.negatives)
        positive_scores, negative_scores = _check_scores(row)
        known = row.positive_keys or [*map(str, row.positives)]
        rejected = row.negative_keys or [*map(str, row.negatives)]
        if len(known) < len(positives) or len(rejected) != len(negatives):
            raise TrainingError(
                f"{place}: {_count(len(known), 'id')} for {_count(len(positives), 'positive')} and "
                f"{len(rejected)} for {_count(len(negatives), 'negative')}",
                "Give each text its id.",
            )
        keys, texts = set(known), {text for _, text in positives}
        kept = [
            number
            for number, (key, (_, text)) in enumerate(zip(rejected, negatives, strict=True))
            if key not in keys and text not in texts
        ]
        if len(kept) < len(negatives) and not row.mined:
            first = min(set(range(len(negatives))) - set(kept))
            id = row.negatives[first]
            name = f"document {id}" if isinstance(id, Id) else f"negative {first + 1}"
            raise TrainingError(
                f"{place}: {name} is also a positive of the same query",
                "Remove it from the positives or from the negatives.",
            )
        if needs_scores and (negative_scores is None or not kept):
            raise TrainingError(
                f'{place}: there are no negatives with "scores", which this loss needs',
                "Add the scores of a teacher, or set `loss` to infonce.",
            )
        return [
            query,
            [stored for stored, _ in positives],
            [negatives[i][0] for i in kept],
            positive_scores,
            negative_scores and [negative_scores[i] for i in kept],
            row.positive_keys,
            row.negative_keys and [row.negative_keys[i] for i in kept],
        ]

    def _find(
        self, place: str, table: _Table, name: str, values: Sequence[Any]
    ) -> list[tuple[int | str, str]]:
        """What to store for each text or Id, and its text."""
        found: list[tuple[Any, Any]] = [(value, value) for value in values]
        if by_id := any(isinstance(value, Id) for value in values):
            name = "query" if table == "queries" else "document"
            found = self._db.execute(
                f"SELECT t.id, t.text FROM json_each(?) AS wanted "
                f"LEFT JOIN {table} AS t ON t.key = wanted.value ORDER BY wanted.key",
                (json.dumps(values),),
            ).fetchall()
        for number, (stored, text) in enumerate(found):
            if isinstance(text, str) and text.strip():
                continue
            which = name if name == "the query" else f"{name} {number + 1}"
            which = f"{name} {values[number]}" if by_id else which
            if by_id and stored is None:
                raise TrainingError(
                    f"{place}: the text of {which} is not in the data",
                    "Check the id, or set `corpus` to the folder with the texts.",
                )
            what = "empty"
            if not isinstance(text, str):
                what = f"{JSON_NAMES.get(type(text), type(text).__name__)}, not a text"
            raise TrainingError(f"{place}: {which} is {what}", "Correct or remove the row.")
        return found


def _check_scores(row: Row) -> tuple[list[float] | None, list[float] | None]:
    if row.positive_scores is None and row.negative_scores is None:
        return None, None
    positive, negative = row.positive_scores or [], row.negative_scores or []
    if (len(positive), len(negative)) != (len(row.positives), len(row.negatives)):
        raise TrainingError(
            f"{row.place}: {_count(len(positive) + len(negative), 'score')} for "
            f"{_count(len(row.positives), 'positive')} and "
            f"{_count(len(row.negatives), 'negative')}",
            "Give a score for each, those of the positives first.",
        )
    for score in [*positive, *negative]:
        if type(score) not in (int, float) or not abs(score) <= _FLOAT32_MAX:
            raise TrainingError(
                f"{row.place}: the score {json.dumps(score, default=str)} is not a finite number",
                "Correct or remove the row.",
            )
    return [float(score) for score in positive], [float(score) for score in negative]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
