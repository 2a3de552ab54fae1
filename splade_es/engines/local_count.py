"""The number of documents of an index that is at rest, in a file.

Qdrant Edge opens a shard whose files have lost documents, and says nothing.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from splade_es.data.files import atomic_file, sync_directory
from splade_es.errors import EngineError


class RestingCount:
    """Exists while every write has ended well and the index was closed. Raises OSError.

    After a crash there is none, and Edge repeats what is in its log.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def check(self, count: int) -> None:
        """Raise EngineError if this is not the number of documents that there were."""
        # an empty file is what a power cut leaves
        if self._file.exists() and self._file.read_text("utf-8") not in ("", _text(count)):
            raise EngineError(
                f"{self._file.parent} is damaged: it has {count:,} documents, not as many as "
                f"{self._file.name} says",
                "Delete the index, and load the corpus again.",
            )

    def forget(self) -> None:
        """Remove it before a write."""
        if self._file.exists():
            self._file.unlink()
            sync_directory(self._file.parent)

    def keep(self, count: int) -> None:
        """Write it; a disk without room for it only has none."""
        with suppress(EngineError), atomic_file(self._file, EngineError, sync=True) as file:
            file.write(_text(count))


def _text(count: int) -> str:
    return json.dumps({"documents": count})
