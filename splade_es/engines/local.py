"""The engine that needs no server: Qdrant Edge in this process, a directory for each index."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from splade_es.engines.base import EngineIndex, FieldType
from splade_es.engines.local_index import LocalIndex
from splade_es.engines.local_store import LocalStore


class LocalEngine:
    """An `Engine` over the indices in a directory.

    wait: seconds to wait for an index that another process has open.
    """

    name = "local"
    field_types: tuple[FieldType, ...] = ()

    def __init__(self, directory: Path, wait: float = 5.0) -> None:
        self.version = version("qdrant-edge-py")
        self.where = str(directory)
        self._store = LocalStore(directory, wait)

    def index(self, name: str, *, retry: bool = False) -> EngineIndex:
        """See `Engine.index`; nothing is ever sent again here."""
        return LocalIndex(self, self._store, name)

    def indices(self) -> list[str]:
        """See `Engine.indices`."""
        return self._store.indices()

    def close(self) -> None:
        """See `Engine.close`."""
        self._store.close()
