"""What a load has done so far, so that it continues after a crash of either side.

A file of JSON lines: the header says what is loaded into which index, and each further line is one
request whose documents are all acknowledged or rejected. A line is on the disk before the next
request is counted. A line that a crash cut short is ignored: its documents are sent again, with the
same ids and contents.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

from splade_es.data.files import lock
from splade_es.data.rejects import Rejects
from splade_es.errors import CorpusError
from splade_es.indexing.journal_entries import Done, digest, read_entries, total
from splade_es.records import Document, Item, Rejected, document_of

# How a journal begins. Nothing else is ever written to.
_SIGNATURE = {"splade-es journal": 1}
_MAGIC = b'{"splade-es journal":'


class Journal:
    """The journal of one load. No other process can open it.

    Several threads may use it under a lock of their own. `finish` it when all is done, and close it
    in any case. bound: whether it is known to belong to this load; replaced: whether the file still
    holds the journal of an earlier load, which stays until this load has begun.
    """

    def __init__(
        self,
        path: Path,
        file: BinaryIO,
        header: dict[str, Any],
        done: list[Done],
        replaced: bool = False,
    ) -> None:
        self.path = path
        self.header = header
        self.done = done  # of earlier runs
        self.bound = False
        self._file = file
        self._replaced = replaced

    @staticmethod
    def open(path: Path, *, resume: bool = False, recreate: bool = False) -> Journal:
        """Open the journal at a path; the header of a new one is {}.

        resume: continue the one that exists, if any; recreate: overwrite it as soon as the new load
        has begun. Raises CorpusError if one exists and neither is set, or if another process has it
        open, or if the file is no journal.
        """
        if path.exists() and not path.is_file():  # to read a pipe would never end
            raise _foreign(path)
        try:
            # created if it does not exist, and never truncated, in one step
            file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        except OSError as error:
            raise CorpusError(
                f"{path}: the journal cannot be written ({error.strerror})",
                "Name another file with `journal`.",
            ) from error
        try:
            _lock(file, path)
            content = file.read()
            if content and not content.startswith(_MAGIC):
                raise _foreign(path)
            lines = [] if recreate else _whole_lines(content)
            header, done = read_entries(path, lines)
            if header and not resume:
                count = sum(total(d.numbers) for d in done)
                raise CorpusError(
                    f"{path}: an earlier load into {header['index']!r} ended after {count:,} "
                    "documents",
                    "Continue it with `resume`, or delete this file to start over.",
                )
            if not recreate:
                file.truncate(sum(map(len, lines)))
                file.seek(0, os.SEEK_END)
        except BaseException:
            file.close()
            raise
        return Journal(path, file, header, done, replaced=recreate and bool(content))

    def bind(self, bound: dict[str, Any], facts: dict[str, Any]) -> None:
        """Write the header of a new journal, or check that an old one belongs to the same load.

        bound: what must be the same when the load continues; facts: what was true when it began.
        Raises CorpusError, with the name of what differs.
        """
        if not self.header:
            self._file.seek(0)
            self._file.truncate()
            self._replaced = False
            self.header = {**_SIGNATURE, **bound, **facts}
            self._write(self.header)
        for name, value in bound.items():
            if self.header.get(name) != value:
                raise CorpusError(
                    f"{self.path}: this load was begun with another {name}",
                    "Resume with the same settings, or delete this file to start over.",
                )
        self.bound = True

    def remaining(self, items: Iterable[Item], rejects: Rejects) -> Iterator[Item]:
        """The items that are not done yet. What the engine refused goes to `rejects` again.

        Raises CorpusError if a document that is done has changed since.
        """
        if not self.done:
            yield from items
            return
        unchanged = _Runs(done.unchanged for done in self.done)
        sent = _Runs(done.numbers for done in self.done)
        settings = self.header.get("setting", "")
        check = _Comparison([(d.numbers, d.digest) for d in self.done], settings, self.path)
        check_unchanged = _Comparison(
            [(d.unchanged, d.unchanged_digest) for d in self.done], settings, self.path
        )
        for item in items:
            document = document_of(item)
            if isinstance(document, Rejected):  # it was never sent
                yield item
            elif (entry := unchanged.at(document.number)) is not None:
                check_unchanged.add(entry, document)
            elif (entry := sent.at(document.number)) is None:
                yield item
            else:
                check.add(entry, document)
                if (reason := self.done[entry].refused.get(document.number)) is not None:
                    rejects.add(Rejected(document.place, reason, document.to_json()))
        check.end()
        check_unchanged.end()

    def record(self, done: Done) -> None:
        """Append a request that is done; returns when it is on the disk. Raises CorpusError."""
        self._write(asdict(done))

    def finish(self) -> None:
        """Close and remove it: everything is done, and there is nothing to resume."""
        if os.name != "posix":  # Windows removes no open file
            self._file.close()
        # elsewhere while it is locked: another process must not begin with a file that vanishes
        self.path.unlink(missing_ok=True)
        self._file.close()

    def close(self) -> None:
        """Close it, and remove it if nothing has begun."""
        if not self.header and not self._replaced:
            self.finish()
        self._file.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        try:
            self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise CorpusError(
                f"{self.path}: the journal cannot be written ({error.strerror})",
                "Free some space, and continue with `resume`.",
            ) from error


class _Runs:
    """Finds the list of runs that a number is in; ask in ascending order."""

    def __init__(self, lists: Iterable[list[list[int]]]) -> None:
        self._runs = sorted((first, last, n) for n, r in enumerate(lists) for first, last in r)
        self._next = 0

    def at(self, number: int) -> int | None:
        while self._next < len(self._runs) and self._runs[self._next][1] < number:
            self._next += 1
        if self._next < len(self._runs) and self._runs[self._next][0] <= number:
            return self._runs[self._next][2]
        return None


class _Comparison:
    """Compares what is read with what was done.

    done: numbers, as runs, and digest of each request. Keeps in memory the requests that were in
    flight at once. settings: see `Document.content_hash`.
    """

    def __init__(self, done: list[tuple[list[list[int]], str]], settings: str, path: Path) -> None:
        self._settings = settings
        self._path = path
        self._digests = [expected for _, expected in done]
        self._left = {n: count for n, (numbers, _) in enumerate(done) if (count := total(numbers))}
        self._known: dict[int, list[tuple[str, str]]] = {}

    def add(self, entry: int, document: Document) -> None:
        known = self._known.setdefault(entry, [])
        known.append((document.id, document.content_hash(self._settings)))
        self._left[entry] -= 1
        if not self._left[entry]:
            del self._left[entry]
            if digest(self._known.pop(entry)) != self._digests[entry]:
                raise CorpusError(
                    f"{document.place}: this document, or one before it, has changed since "
                    f"{self._path} was begun",
                    "Resume with the same corpus, or delete the journal.",
                )

    def end(self) -> None:
        if self._left:
            raise CorpusError(
                f"The corpus has fewer documents than {self._path} says were loaded",
                "Resume with the same corpus, or delete the journal.",
            )


def _foreign(path: Path) -> CorpusError:
    return CorpusError(f"{path}: not a journal of splade-es", "Name another file with `journal`.")


def _whole_lines(content: bytes) -> list[bytes]:
    lines = content.splitlines(keepends=True)
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


def _lock(file: BinaryIO, path: Path) -> None:
    """Lock the journal itself, so that no lock file is ever left beside it."""
    try:
        locked = lock(file)
    except OSError as error:  # the file system has no locks
        raise CorpusError(
            f"{path}: the journal cannot be locked ({error.strerror})",
            "Name another file with `journal`.",
        ) from error
    if not locked:
        raise CorpusError(
            f"{path}: another process is loading this corpus", "Wait until it ends, or stop it."
        )
