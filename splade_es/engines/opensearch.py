"""OpenSearch, by its own client. Features live in a `rank_features` field."""

from __future__ import annotations

from typing import Any

import opensearchpy

from splade_es.engines.address import TIMEOUT, Address
from splade_es.engines.answers import engine_error, unreachable, unreadable
from splade_es.engines.base import FieldType, check_field_type
from splade_es.engines.server import ServerEngine
from splade_es.records import IndexMeta


class OpenSearchEngine(ServerEngine):
    """An `Engine` on an OpenSearch server."""

    name = "opensearch"
    # its sparse_vector is another, approximate thing
    field_types: tuple[FieldType, ...] = ("rank_features",)

    def __init__(self, address: Address, version: str) -> None:
        super().__init__(address, version)
        options: dict[str, Any] = (
            {"ssl_context": address.ssl_context} if address.ssl_context else {}
        )
        self._client = opensearchpy.OpenSearch(
            address.url,
            headers=address.headers,
            timeout=TIMEOUT,
            max_retries=0,  # the caller retries, and knows what may be sent again
            **options,
        )

    def _send(self, method: str, path: str, body: bytes | None) -> Any:
        try:
            return self._client.transport.perform_request(method, path, body=body)
        except opensearchpy.SSLError as exc:
            raise unreachable(self._server, exc, tls=True) from exc
        except opensearchpy.ConnectionError as exc:  # ConnectionTimeout is one
            raise unreachable(self._server, exc) from exc
        except opensearchpy.TransportError as exc:
            raise engine_error(int(exc.status_code), exc.info, self._server) from exc
        except opensearchpy.OpenSearchException as exc:  # no JSON, mostly
            raise unreadable(self._server) from exc

    def create(self, index: str, meta: IndexMeta, field_type: FieldType | None = None) -> None:
        check_field_type(self, field_type)
        self._put(index, meta, {"type": "rank_features"})

    def close(self) -> None:
        self._client.close()
