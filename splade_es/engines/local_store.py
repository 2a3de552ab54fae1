"""A directory of indices of the local engine: which exist, and which are open."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import RLock
from typing import IO, Any, NamedTuple

from splade_es.data.files import lock_file, sync_directory
from splade_es.engines.base import check_index_name
from splade_es.engines.qdrant_index import META_FILE, QdrantIndex
from splade_es.engines.responses import index_exists, index_missing
from splade_es.errors import (
    EngineError,
    IndexMismatch,
    SpladeEsError,
    Unavailable,
    raised_in_rust,
)
from splade_es.index_meta import IndexMeta

# What is under such a name is no index; check_index_name lets none begin with a dot.
_NEW, _DELETED, _REPLACED, _LOCKS = ".new-", ".deleted-", ".replaced-", ".locks"


class _Opened(NamedTuple):
    edge: QdrantIndex
    lock: IO[bytes]


class LocalStore:
    """The indices in a directory, which is created when the first index is.

    An index is open, and no other process can open, replace or delete it, from its first use until
    `close`: even to open it for reading, Edge repairs its files, and so destroys what another
    process is writing. Who meets an index in use waits, and then raises Unavailable.

    wait: seconds.
    """

    def __init__(self, directory: Path, wait: float = 5.0) -> None:
        self.directory = directory
        self.label = f"local at {directory}"
        self._wait = wait
        self._open: dict[str, _Opened] = {}
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
            if not raised_in_rust(exc):
                raise
            if "Not enough space" in str(exc):
                raise EngineError(
                    f"The disk of the index {index!r} on {self.label} is full ({exc})",
                    "Make room on it.",
                ) from exc
            raise EngineError(
                f"The index {index!r} on {self.label} is damaged, or its disk is full ({exc})",
                "Make room on the disk; if that does not help, delete the index, and load the "
                "corpus again.",
            ) from exc

    @contextmanager
    def open(self, index: str) -> Iterator[QdrantIndex]:
        """The open index, for a block in which what Edge raises becomes EngineError."""
        with self._lock, self.errors(index):
            if index not in self._open:
                with ExitStack() as stack:
                    lock = stack.enter_context(self._locked(index))
                    self.stored(index)
                    self._open[index] = _Opened(QdrantIndex(self.directory / index), lock)
                    stack.pop_all()  # it is held until the index is closed
            yield self._open[index].edge

    def _locked(self, index: str, *, new: bool = False) -> IO[bytes]:
        """A lock that keeps other processes from an index until it is closed."""
        check_index_name(index)
        path = self.directory / _LOCKS / index
        # an index that is just being replaced has no directory for a moment, but has its lock
        if not (new or path.exists() or self.exists(index)):
            raise index_missing(index, self.label)
        lock = lock_file(path, self._wait)
        if lock is None:
            raise Unavailable(
                f"The index {index!r} on {self.label} is in use by another process, or "
                f"another connection of this one, after a wait of {self._wait:g} seconds",
                "Close it there, or try again when that process has ended.",
            )
        self._end_replacement(index)  # of a process that was killed between its two steps
        return lock

    def _end_replacement(self, index: str) -> None:
        """Put an index back whose successor never took its place, or delete it if one did."""
        path, replaced = self.directory / index, self.directory / f"{_REPLACED}{index}"
        if replaced.exists():
            replaced.rename(self._deleted() if path.exists() else path)

    @contextmanager
    def _closed(self, index: str, *, new: bool = False) -> Iterator[None]:
        """Close an index if it is open here, and keep other processes from it."""
        opened = self._open.pop(index, None)
        with opened.lock if opened else self._locked(index, new=new):
            if opened:
                opened.edge.close()
            yield

    def create(self, index: str, meta: IndexMeta) -> None:
        """Create an empty index, whole or not at all."""
        path = self.path(index)
        new = self.directory / f"{_NEW}{uuid.uuid4().hex}"
        with self._lock, self.errors(index):
            if path.exists():
                raise index_exists(index, self.label)
            with self._locked(index, new=True):
                if path.exists():
                    raise index_exists(index, self.label)
                try:
                    new.mkdir(parents=True)
                    QdrantIndex.create(new)
                    stored = {**meta.to_dict(), "uuid": uuid.uuid4().hex}
                    with (new / META_FILE).open("w", encoding="utf-8") as file:
                        json.dump({**stored, "sha256": _sha256(stored)}, file, indent=1)
                        file.flush()
                        os.fsync(file.fileno())
                    sync_directory(new)
                    new.rename(path)  # only now, and at once, the index exists
                    sync_directory(self.directory)
                finally:
                    shutil.rmtree(new, ignore_errors=True)

    def exists(self, index: str) -> bool:
        """Whether there is such a directory."""
        with self.errors(index):
            return self._present(index).is_dir()

    def stored(self, index: str) -> dict[str, Any]:
        """What META_FILE holds. Raises IndexMissing, IndexMismatch."""
        if not self.exists(index):
            raise index_missing(index, self.label)
        with self.errors(index):
            try:
                text = (self._present(index) / META_FILE).read_text("utf-8")
                stored: dict[str, Any] = json.loads(text)
                sha256 = stored.pop("sha256", None)
                IndexMeta.from_dict(stored)
                if sha256 is None:
                    raise IndexMismatch(
                        f"The index {index!r} on {self.label} was made by an earlier version of "
                        "splade-es",
                        "Delete it, and load the corpus again.",
                    )
                if sha256 != _sha256(stored):
                    raise ValueError("another checksum")
                return stored
            except (FileNotFoundError, ValueError, TypeError, KeyError, RecursionError) as exc:
                raise IndexMismatch(
                    f"splade-es did not make the index {index!r} on {self.label}, "
                    f"or its file {META_FILE} is damaged",
                    "Choose another index; or, if it is one, delete it and load the corpus again.",
                ) from exc

    def indices(self) -> list[str]:
        """Names of the indices, sorted."""
        found = {path.parent.name for path in self.directory.glob(f"*/{META_FILE}")}
        named = {name.removeprefix(_REPLACED) for name in found}  # see `_present`
        return sorted(name for name in named if not name.startswith("."))

    def delete(self, index: str) -> None:
        """Delete an index, a damaged one too."""
        path = self.path(index)
        with self._lock, self.errors(index), self._closed(index):
            if not (path / META_FILE).exists():
                self.stored(index)  # raises
            path.rename(self._deleted())  # gone at once
            sync_directory(self.directory)
            self._sweep()

    def replace(self, index: str, other: str) -> None:
        """Let one index take the place of another, which is deleted if it exists."""
        path, new = self.path(index), self.path(other)
        with self._lock, self.errors(index), self._closed(index, new=True), self._closed(other):
            self.stored(other)
            if path.exists():
                self.stored(index)  # raises if it is no index
                path.rename(self.directory / f"{_REPLACED}{index}")
            new.rename(path)
            self._end_replacement(index)
            sync_directory(self.directory)
            self._sweep()

    def _deleted(self) -> Path:
        return self.directory / f"{_DELETED}{uuid.uuid4().hex}"

    def _present(self, index: str) -> Path:
        """Where an index is: in its place, or set aside by a process that was killed."""
        path, replaced = self.path(index), self.directory / f"{_REPLACED}{index}"
        return replaced if replaced.exists() and not path.exists() else path

    def _sweep(self) -> None:
        """Remove what was deleted, now or by a process that was killed."""
        for deleted in self.directory.glob(f"{_DELETED}*"):
            shutil.rmtree(deleted, ignore_errors=True)

    def close(self) -> None:
        """Close every open index."""
        with self._lock:
            while self._open:
                index = next(iter(self._open))
                with self.errors(index), self._closed(index):
                    pass

    def path(self, index: str) -> Path:
        """The directory of an index, which need not exist."""
        check_index_name(index)
        return self.directory / index


def _sha256(stored: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(stored, sort_keys=True).encode()).hexdigest()
