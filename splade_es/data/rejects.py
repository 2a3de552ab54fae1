"""Input that could not be used, kept with its reasons, so that it can be mended and given again."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TextIO

from splade_es.data.files import PartFile
from splade_es.errors import CorpusError
from splade_es.records import Document, ItemResult, Rejected


class Rejects:
    """Writes each as a JSON line {"place", "reason", "line"}; or, with fail_fast, raises the first
    as a CorpusError. Several threads may add. count, first: of those added; path: of the file."""

    def __init__(self, file: TextIO, fail_fast: bool = False, path: str = "") -> None:
        self.path = path
        self.count = 0
        self.first: Rejected | None = None
        self._file = file
        self._fail_fast = fail_fast
        self._lock = threading.Lock()

    def add(self, item: Rejected) -> None:
        """Raises CorpusError, also if it cannot be written."""
        if self._fail_fast:
            raise CorpusError(f"{item.place}: {item.reason}", "Reading stopped there.")
        with self._lock:
            try:
                self._file.write(json.dumps(asdict(item), ensure_ascii=False) + "\n")
                self._file.flush()
            except OSError as error:
                raise CorpusError(
                    f"{item.place}: this bad line cannot be written down ({error.strerror})",
                    "Free some space, or name another file with `rejects`.",
                ) from error
            self.count += 1
            self.first = self.first or item

    def add_refused(self, document: Document, engine: str, result: ItemResult) -> str:
        """A document that an engine of this name does not take; the reason, as it is kept."""
        reason = f"{engine} refused it ({result.status}): {result.reason}"
        self.add(Rejected(document.place, reason, document.to_json()))
        return reason


def default_rejects(corpus: str) -> str:
    """The file for the bad lines of a corpus: in the current directory, because that of a corpus is
    often read-only."""
    return f"{'stdin' if corpus == '-' else Path(corpus).resolve().name}.rejects.jsonl"


@contextmanager
def rejects_file(path: Path, fail_fast: bool = False) -> Iterator[Rejects]:
    """A file to write rejects to. It takes its place at the end, after an error too, and only if
    there were any: those of an earlier load, which somebody may be mending, stay. Raises
    CorpusError."""
    part = PartFile(path)
    try:
        # half a surrogate pair, as a broken line may hold, is not UTF-8 but can be written as JSON
        file = part.path.open("w", encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        raise CorpusError(
            f"{path}: cannot be written ({error.strerror})",
            "Name another file for bad lines with `rejects`.",
        ) from error
    rejects = Rejects(file, fail_fast, str(path))
    try:
        with file:
            yield rejects
    finally:
        if rejects.count:
            part.commit()
        else:
            part.discard()
