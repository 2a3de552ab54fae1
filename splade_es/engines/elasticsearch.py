"""Elasticsearch, version 8 and above, by its own client.

Features live in a `rank_features` field where the server has that type, else in `sparse_vector`.
"""

from __future__ import annotations

import re
from typing import Any

import elastic_transport
import elasticsearch

from splade_es.engines.address import TIMEOUT, Address
from splade_es.engines.answers import engine_error, unreachable, unreadable
from splade_es.engines.base import FieldType, check_field_type
from splade_es.engines.server import ServerEngine
from splade_es.errors import EngineError
from splade_es.records import IndexMeta

#: In the answer of a server without that type, in all the ways that versions word it.
NO_RANK_FEATURES = "type [rank_features]"


class ElasticsearchEngine(ServerEngine):
    """An `Engine` on an Elasticsearch server."""

    name = "elasticsearch"
    field_types: tuple[FieldType, ...] = ("rank_features", "sparse_vector")

    def __init__(self, address: Address, version: str) -> None:
        super().__init__(address, version)
        self._numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if version and self._numbers < (8,):
            raise EngineError(
                f"The server at {self.where} is Elasticsearch {version}", "It must be 8 or newer."
            )
        options: dict[str, Any] = {}
        if address.insecure:  # the client would set a context to verify again
            options = {"verify_certs": False, "ssl_show_warn": False}
            options |= {"client_cert": address.client_cert, "client_key": address.client_key}
        elif address.ssl_context:
            options = {"ssl_context": address.ssl_context}
            options |= {"ssl_assert_fingerprint": address.fingerprint}
        self._client = elasticsearch.Elasticsearch(
            list(address.urls),
            headers=address.headers,
            max_retries=0,  # the caller retries, and knows what may be sent again
            **options,
        )

    def _send(self, method: str, path: str, body: bytes | None, timeout: float = TIMEOUT) -> Any:
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        client = self._client.options(request_timeout=timeout)
        try:
            return client.perform_request(method, path, headers=headers, body=body).body
        except elasticsearch.ApiError as exc:
            after = exc.meta.headers.get("retry-after")
            raise engine_error(exc.meta.status, exc.body, self._server, after) from exc
        except elastic_transport.TlsError as exc:
            raise unreachable(self._server, exc, tls=True) from exc
        except elastic_transport.ConnectionError as exc:
            raise unreachable(self._server, exc) from exc
        except elastic_transport.ConnectionTimeout as exc:
            raise unreachable(self._server, exc) from exc
        except elastic_transport.TransportError as exc:  # no JSON, mostly
            raise unreadable(self._server) from exc

    def create(self, index: str, meta: IndexMeta, field_type: FieldType | None = None) -> None:
        check_field_type(self, field_type)
        if field_type != "sparse_vector":
            try:
                return self._put(index, meta, {"type": "rank_features"})
            except EngineError as exc:
                if NO_RANK_FEATURES not in exc.message:
                    raise
                if field_type == "rank_features":
                    raise EngineError(
                        f"{self._server} has no rank_features field type", "Use sparse_vector."
                    ) from exc
        features: dict[str, Any] = {"type": "sparse_vector"}
        if not self._numbers or self._numbers >= (9, 1) or (8, 19) <= self._numbers < (9,):
            features["index_options"] = {"prune": False}  # else queries lose terms by default
        self._put(index, meta, features)

    def close(self) -> None:
        self._client.close()
