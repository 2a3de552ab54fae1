"""What the Elasticsearch and the OpenSearch engine share."""

from __future__ import annotations

from splade_es.engines.base import EngineIndex, FieldType
from splade_es.engines.server_admin import IndexRequests
from splade_es.engines.server_index import ServerIndex
from splade_es.engines.transport import Transport


class ServerEngine(Transport):
    """An `Engine` on a server. Safe to use from several threads."""

    field_types: tuple[FieldType, ...]

    def index(self, name: str, *, retry: bool = False) -> EngineIndex:
        """See `Engine.index`."""
        return ServerIndex(self, IndexRequests(self, name, retry))

    def indices(self) -> list[str]:
        """See `Engine.indices`."""
        path = "/_mapping?filter_path=*.mappings._meta.splade_es.toolkit"
        with self.answer("GET", path) as answer:
            return sorted(answer.keys())
