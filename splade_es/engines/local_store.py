"""A directory of indices of the local engine: which exist, and which are open."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from splade_es.engines.base import check_index_name
from splade_es.engines.qdrant_index import META_FILE, QdrantIndex
from splade_es.engines.responses import index_exists, index_missing
from splade_es.errors import EngineError, IndexMismatch, SpladeEsError, Unavailable
from splade_es.index_meta import IndexMeta

# What is under such a name is no index; check_index_name lets none begin with a dot.
_NEW, _DELETED = ".new-", ".deleted-"


class LocalStore:
    """The indices in a directory, which is created when the first index is.

    An index is open, and no other process can open it, from its first use until `close`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.label = f"local at {directory}"
        self._open: dict[str, QdrantIndex] = {}
        self._lock = RLock()  # one thread loads documents while another may search

    @contextmanager
    def errors(self, index: str) -> Iterator[None]:
        """Turns what Edge and the file system raise about an index into EngineError."""
        try:
            yield
        except SpladeEsError:
            raise
        except OSError as exc:
            raise EngineError(
                f"The index {index!r} on {self.label} cannot be used ({exc.strerror or exc})",
                "Check the directory, its permissions and the space on its disk.",
            ) from exc
        except BaseException as exc:
            # Edge raises Exception itself, and on a panic what derives from BaseException only.
            if type(exc) is not Exception and type(exc).__name__ != "PanicException":
                raise
            if "WouldBlock" in str(exc):
                raise Unavailable(
                    f"The index {index!r} on {self.label} is in use by another process",
                    "Wait until that process ends, or stop it.",
                ) from exc
            raise EngineError(
                f"The index {index!r} on {self.label} is damaged, or its disk is full ({exc})",
                "Make room on the disk; if that does not help, index again with `recreate`.",
            ) from exc

    @contextmanager
    def open(self, index: str) -> Iterator[QdrantIndex]:
        """The open index, for a block in which what Edge raises becomes EngineError."""
        with self._lock, self.errors(index):
            if index not in self._open:
                self.stored(index)
                self._open[index] = QdrantIndex(self.directory / index)
            yield self._open[index]

    def create(self, index: str, meta: IndexMeta) -> None:
        """Create an empty index, whole or not at all."""
        path = self.path(index)
        new = self.directory / f"{_NEW}{uuid.uuid4().hex}"
        with self._lock, self.errors(index):
            if path.exists():
                raise index_exists(index, self.label)
            try:
                new.mkdir(parents=True)
                QdrantIndex.create(new)
                with (new / META_FILE).open("w", encoding="utf-8") as file:
                    json.dump({**meta.to_dict(), "uuid": uuid.uuid4().hex}, file, indent=1)
                    file.flush()
                    os.fsync(file.fileno())
                _sync(new)
                new.rename(path)  # only now, and at once, the index exists
                _sync(self.directory)
            finally:
                shutil.rmtree(new, ignore_errors=True)

    def exists(self, index: str) -> bool:
        """Whether there is such a directory."""
        with self.errors(index):
            return self.path(index).is_dir()

    def stored(self, index: str) -> dict[str, Any]:
        """What META_FILE holds. Raises IndexMissing, IndexMismatch."""
        if not self.exists(index):
            raise index_missing(index, self.label)
        with self.errors(index):
            try:
                text = (self.path(index) / META_FILE).read_text("utf-8")
                stored: dict[str, Any] = json.loads(text)
                IndexMeta.from_dict(stored)
                return stored
            except (FileNotFoundError, ValueError, KeyError, RecursionError) as exc:
                raise IndexMismatch(
                    f"splade-es did not make the index {index!r} on {self.label}, "
                    f"or its file {META_FILE} is damaged",
                    "Choose another index.",
                ) from exc

    def indices(self) -> list[str]:
        """Names of the indices, sorted."""
        found = self.directory.glob(f"*/{META_FILE}")
        return sorted(f.parent.name for f in found if not f.parent.name.startswith("."))

    def delete(self, index: str) -> None:
        """Delete an index, a damaged one too."""
        path = self.path(index)
        with self._lock, self.errors(index):
            try:
                with self.open(index):
                    self._open.pop(index).close()
            except Unavailable:  # in use by another process
                raise
            except EngineError:
                if not (path / META_FILE).exists():
                    raise
                # else damaged, and to delete it is the remedy
            path.rename(self.directory / f"{_DELETED}{uuid.uuid4().hex}")  # gone at once
            _sync(self.directory)
            self._sweep()

    def replace(self, index: str, other: str) -> None:
        """Let one index take the place of another, which is deleted."""
        with self._lock, self.errors(index):
            for name in (index, other):
                with self.open(name):  # no other process has it
                    self._open.pop(name).close()
            self.path(index).rename(self.directory / f"{_DELETED}{uuid.uuid4().hex}")
            self.path(other).rename(self.path(index))
            _sync(self.directory)
            self._sweep()

    def _sweep(self) -> None:
        """Remove what was deleted, now or by a process that was killed."""
        for deleted in self.directory.glob(f"{_DELETED}*"):
            shutil.rmtree(deleted, ignore_errors=True)

    def close(self) -> None:
        """Close every open index."""
        with self._lock:
            while self._open:
                index, opened = self._open.popitem()
                with self.errors(index):
                    opened.close()

    def path(self, index: str) -> Path:
        """The directory of an index, which need not exist."""
        check_index_name(index)
        return self.directory / index


def _sync(directory: Path) -> None:
    """Write the names in a directory to the disk. Windows has no such call, and needs none."""
    if os.name == "posix":
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
