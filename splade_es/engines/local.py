"""The engine that needs no server: Qdrant Edge in this process, a directory for each index."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from threading import RLock
from typing import Any

from splade_es.engines.answers import index_missing
from splade_es.engines.base import FieldType, check_field_type, check_index_name, check_search
from splade_es.engines.edge import META_FILE, EdgeIndex
from splade_es.errors import EngineError, IndexMismatch, QueryError, SpladeEsError, Unavailable
from splade_es.records import (
    Action,
    Clause,
    Document,
    Hit,
    IndexMeta,
    IndexStats,
    ItemResult,
    ScoredId,
    Source,
)

# What is under such a name is no index; check_index_name lets none begin with a dot.
_NEW, _DELETED = ".new-", ".deleted-"


class LocalEngine:
    """An `Engine` over the indices in a directory, which is made when the first index is.

    An index is open, and no other process can open it, from its first use until `close`. Scores are
    sums in float32: exact for integer boosts, else within rounding of what the servers answer.
    """

    name = "local"
    field_types: tuple[FieldType, ...] = ()

    def __init__(self, directory: Path) -> None:
        self.version = version("qdrant-edge-py")
        self.where = str(directory)
        self._directory = directory
        self._open: dict[str, EdgeIndex] = {}
        self._lock = RLock()  # one thread loads documents while another may search

    @contextmanager
    def _errors(self, index: str) -> Iterator[None]:
        """Turns what Edge and the file system raise about an index into EngineError."""
        try:
            yield
        except SpladeEsError:
            raise
        except OSError as exc:
            raise EngineError(
                f"The index {index!r} on {self._here} cannot be used ({exc.strerror or exc})",
                "Check the directory, its rights and the space on its disk.",
            ) from exc
        except BaseException as exc:
            # Edge raises Exception itself, and on a panic what derives from BaseException only.
            if type(exc) is not Exception and type(exc).__name__ != "PanicException":
                raise
            if "WouldBlock" in str(exc):
                raise Unavailable(
                    f"The index {index!r} on {self._here} is in use by another process",
                    "Wait until that ends, or stop it.",
                ) from exc
            raise EngineError(
                f"The index {index!r} on {self._here} is damaged, or its disk is full ({exc})",
                "Make room on the disk; if that does not help, index anew with --recreate.",
            ) from exc

    @contextmanager
    def _index(self, index: str) -> Iterator[EdgeIndex]:
        """The open index, for a block in which what Edge raises becomes EngineError."""
        with self._lock, self._errors(index):
            if index not in self._open:
                self.meta(index)
                self._open[index] = EdgeIndex(self._directory / index)
            yield self._open[index]

    def create(
        self,
        index: str,
        meta: IndexMeta,
        field_type: FieldType | None = None,
        source: Source = "full",
    ) -> None:
        check_field_type(self, field_type)
        path = self._path(index)
        new = self._directory / f"{_NEW}{uuid.uuid4().hex}"
        with self._lock, self._errors(index):
            if path.exists():
                raise EngineError(
                    f"There is already an index {index!r} on {self._here}",
                    "Choose another name, or `--recreate` to replace it.",
                )
            try:
                new.mkdir(parents=True)
                EdgeIndex.create(new)
                with (new / META_FILE).open("w", encoding="utf-8") as file:
                    json.dump({**meta.to_dict(), "uuid": uuid.uuid4().hex}, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                _sync(new)
                new.rename(path)  # only now, and at once, is there such an index
                _sync(self._directory)
            finally:
                shutil.rmtree(new, ignore_errors=True)

    def exists(self, index: str) -> bool:
        with self._errors(index):
            return self._path(index).is_dir()

    def meta(self, index: str) -> IndexMeta:
        stored = self._stored(index)
        return IndexMeta(**{name: stored[name] for name in IndexMeta.__dataclass_fields__})

    def settings(self, index: str) -> dict[str, Any]:
        return {"uuid": self._stored(index).get("uuid")}

    def _stored(self, index: str) -> dict[str, Any]:
        if not self.exists(index):
            raise index_missing(index, self._here)
        with self._errors(index):
            try:
                stored: dict[str, Any] = json.loads(
                    (self._path(index) / META_FILE).read_text("utf-8")
                )
                if missing := IndexMeta.__dataclass_fields__.keys() - stored:
                    raise ValueError(f"without {missing}")
                return stored
            except (FileNotFoundError, ValueError, TypeError) as exc:
                raise IndexMismatch(
                    f"splade-es did not make the index {index!r} on {self._here}, "
                    f"or its file {META_FILE} is damaged",
                    "Choose another --index.",
                ) from exc

    def bulk(self, index: str, actions: Sequence[Action]) -> list[ItemResult]:
        with self._index(index) as opened:
            return opened.bulk(actions) if actions else []

    def refresh(self, index: str) -> None:
        with self._index(index) as opened:
            opened.optimize()

    def count(self, index: str) -> int:
        with self._index(index) as opened:
            return opened.count()

    def hashes(self, index: str, ids: Sequence[str]) -> dict[str, str]:
        with self._index(index) as opened:
            return opened.hashes(ids)

    def ids(self, index: str) -> Iterator[str]:
        with self._index(index) as opened:
            yield from opened.ids()

    def apply(self, index: str, settings: Mapping[str, Any]) -> None:
        pass

    def note(self, index: str, notes: Mapping[str, Any]) -> None:
        pass  # they are about settings and aliases, which it has not

    def noted(self, index: str) -> dict[str, Any]:
        return {}

    def force_merge(self, index: str) -> None:
        self.refresh(index)

    def alias(self, name: str) -> list[str]:
        raise EngineError("The local engine has no aliases", "Use --index and --recreate.")

    def move_alias(self, name: str, before: Sequence[str], index: str) -> None:
        self.alias(name)

    def search(
        self, index: str, clauses: Sequence[Clause], k: int, contributions: bool = False
    ) -> list[Hit]:
        check_search([clauses], k)
        with self._index(index) as opened:
            hits = opened.search(clauses, k)
            if contributions:
                hits = [
                    hit._replace(contributions=opened.explain(clauses, hit.id) or {})
                    for hit in hits
                ]
            return hits

    def search_many(
        self, index: str, queries: Sequence[Sequence[Clause]], k: int
    ) -> list[list[ScoredId]]:
        check_search(queries, k)
        with self._index(index) as opened:
            return [opened.search_ids(clauses, k) for clauses in queries]

    def match(self, index: str, texts: Sequence[str], k: int) -> list[list[ScoredId]]:
        check_search([], k)
        with self._index(index) as opened:
            return opened.match(texts, k)

    def frequencies(self, index: str, features: Sequence[str]) -> list[int]:
        with self._index(index) as opened:
            return opened.frequencies(features)

    def documents(self, index: str, ids: Sequence[str]) -> list[Document]:
        with self._index(index) as opened:
            return opened.documents(ids)

    def explain(self, index: str, clauses: Sequence[Clause], id: str) -> dict[str, float]:
        check_search([clauses], 1)
        with self._index(index) as opened:
            contributions = opened.explain(clauses, id)
        if contributions is None:
            raise QueryError(
                f"There is no document {id!r} in the index {index!r}", "Ask for the id of a hit."
            )
        return contributions

    def stats(self, index: str) -> IndexStats:
        documents = self.count(index)
        with self._errors(index):
            files = [path.stat() for path in self._path(index).rglob("*")]
        # Edge's files are sparse: 70 MB of a new index are 0.1 MB on the disk.
        size = sum(512 * f.st_blocks if hasattr(f, "st_blocks") else f.st_size for f in files)
        return IndexStats(documents, size, "sparse vector of Qdrant Edge", {})

    def indices(self) -> list[str]:
        found = self._directory.glob(f"*/{META_FILE}")
        return sorted(f.parent.name for f in found if not f.parent.name.startswith("."))

    def delete(self, index: str) -> None:
        path = self._path(index)
        with self._lock, self._errors(index):
            try:
                with self._index(index):
                    self._open.pop(index).close()
            except Unavailable:  # in use by another process
                raise
            except EngineError:
                if not (path / META_FILE).exists():
                    raise
                # else damaged, and to delete it is the remedy
            path.rename(self._directory / f"{_DELETED}{uuid.uuid4().hex}")  # gone at once
            _sync(self._directory)
            for deleted in self._directory.glob(f"{_DELETED}*"):  # or left so by a crash
                shutil.rmtree(deleted, ignore_errors=True)

    def close(self) -> None:
        with self._lock:
            while self._open:
                index, opened = self._open.popitem()
                with self._errors(index):
                    opened.close()

    def _path(self, index: str) -> Path:
        check_index_name(index)
        return self._directory / index

    @property
    def _here(self) -> str:
        return f"{self.name} at {self.where}"


def _sync(directory: Path) -> None:
    """Bring the names in a directory to the disk. Windows has no such thing, and needs none."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
