"""Lines that could not be used, written to a file with the reasons, to be repaired and loaded."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from splade_es.data.files import PartFile, check_not_input
from splade_es.data.kinds import REJECT
from splade_es.errors import CorpusError, SettingsError
from splade_es.records import Document, ItemResult, Rejected

# Bytes of a file that tell whether it is one of rejects.
_LOOK = 100


class Rejects:
    """Writes each rejected line to a file as JSON {"place", "reason", "line"}. Thread-safe.

    Parameters
    ----------
    file : TextIO
        Where they are written.
    fail_fast : bool
        Raise the first one as a CorpusError instead.
    path : str
        Name of the file, for messages.

    Attributes
    ----------
    count : int
        Lines so far.
    size : int
        Their bytes.
    first : Rejected or None
        The first of them.
    path : str
        Name of the file.
    fail_fast : bool
        As given.
    """

    def __init__(self, file: TextIO, fail_fast: bool = False, path: str = "") -> None:
        self.path = path
        self.count = 0
        self.first: Rejected | None = None
        self.size = 0
        self._file = file
        self.fail_fast = fail_fast
        self._lock = threading.Lock()

    def add(self, item: Rejected) -> None:
        """Write one line. Raises CorpusError if that fails, and always with `fail_fast`."""
        if self.fail_fast:
            raise CorpusError(f"{item.place}: {item.reason}", "Reading stopped there.")
        with self._lock:
            line = json.dumps(asdict(item), ensure_ascii=False) + "\n"
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise CorpusError(
                    f"{item.place}: this bad line cannot be written to {self.path} "
                    f"({error.strerror})",
                    "Free some space, or name another file with `rejects`.",
                ) from error
            self.size += len(line.encode("utf-8", "backslashreplace"))
            self.count += 1
            self.first = self.first or item

    def add_refused(self, document: Document, engine: str, result: ItemResult) -> str:
        """Write a document that an engine of this name refused. Returns the reason as written."""
        reason = f"{engine} refused it ({result.status}): {result.reason}"
        self.add(Rejected(document.place, reason, document.to_json()))
        return reason


def check_rejects(path: str, corpus: str | None = None) -> None:
    """Raise SettingsError if the file for bad lines is the corpus, or another file than such a one.

    corpus: the file that is read.
    """
    check_not_input("rejects", path, corpus)
    try:
        if not os.path.isfile(path):  # a device, such as /dev/stdout, can be written
            return
        with open(path, "rb") as file:
            head = file.read(_LOOK)
    except OSError:
        return  # `rejects_file` says what is wrong with it
    if head and not REJECT.match(head):
        raise SettingsError(
            f"`rejects` would overwrite {path}, which is not a file of rejects",
            "Name another file.",
        )


def default_rejects(corpus: str) -> str:
    """Return the name of the file for the bad lines of a corpus.

    It is in the current directory, because the directory of a corpus is often read-only.
    """
    return f"{'stdin' if corpus == '-' else Path(corpus).resolve().name}.rejects.jsonl"


@contextmanager
def rejects_file(path: Path, fail_fast: bool = False) -> Iterator[Rejects]:
    """Open a file for rejected lines.

    It appears at the end, after an error too, but only if there were any: otherwise the file of an
    earlier load, which somebody may be repairing, is kept. Raises CorpusError if it cannot be
    written.
    """
    try:
        part = PartFile(path)
        # a broken line may contain a lone surrogate, which is not UTF-8 but can be escaped in JSON
        file = part.path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be written ({error.strerror})",
            "Name another file for bad lines with `rejects`.",
        ) from error
    rejects = Rejects(file, fail_fast, str(path))
    try:
        yield rejects
    finally:
        with suppress(OSError):  # which `add` has told
            file.close()
        with suppress(OSError):  # a device has no size
            os.truncate(part.path, rejects.size)  # the disk may have been full within a line
        if rejects.count:
            try:
                part.commit()
            except OSError as error:
                raise CorpusError(
                    f"{path}: cannot be written ({error.strerror})",
                    f"The bad lines are in {part.path}.",
                ) from error
        else:
            part.discard()
