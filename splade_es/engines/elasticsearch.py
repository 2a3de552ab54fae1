"""Elasticsearch, version 8 and above, by its own client.

Features live in a `rank_features` field where the server has that type, else in `sparse_vector`.
"""

from __future__ import annotations

import re
from typing import Any

import elastic_transport
import elasticsearch
from elastic_transport.client_utils import url_to_node_config

from splade_es.engines.address import TIMEOUT, Address
from splade_es.engines.answers import engine_error, unreachable, unreadable
from splade_es.engines.base import FieldType, check_field_type
from splade_es.engines.indices import NO_RANK_FEATURES
from splade_es.engines.server import ServerEngine
from splade_es.errors import EngineError
from splade_es.mappings import index_body
from splade_es.records import IndexMeta, Source


class ElasticsearchEngine(ServerEngine):
    """An `Engine` on an Elasticsearch server."""

    name = "elasticsearch"
    field_types: tuple[FieldType, ...] = ("rank_features", "sparse_vector")

    def __init__(self, address: Address, version: str, patient: bool = False) -> None:
        super().__init__(address, version, patient)
        self._numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if version and self._numbers < (8,):
            raise EngineError(
                f"The server at {self.where} is Elasticsearch {version}", "It must be 8 or newer."
            )
        sparse_vector: dict[str, Any] = {"type": "sparse_vector"}
        if not version or self._numbers >= (9, 1) or (8, 19) <= self._numbers < (9,):
            sparse_vector["index_options"] = {"prune": False}  # or queries lose terms by default
        if self._numbers >= (9, 2):
            self._whole_source = {"exclude_vectors": False}
        self._feature_types = ({"type": "rank_features"}, sparse_vector)
        hosts: list[Any] = list(address.urls)
        if address.ssl_context:
            tls = {"ssl_context": address.ssl_context, "ssl_show_warn": False}
            if address.fingerprint:
                tls["ssl_assert_fingerprint"] = address.fingerprint
            # Left alone, the client would set the context to verify again.
            tls["verify_certs"] = not address.insecure
            hosts = [url_to_node_config(url).replace(**tls) for url in address.urls]
        self._client = elasticsearch.Elasticsearch(
            hosts,
            headers=address.headers,
            # At another host, if this one cannot be reached. Else the caller retries: it knows what
            # may be sent again.
            max_retries=len(address.urls) - 1,
            retry_on_status=(),
        )

    def _send(
        self, method: str, path: str, body: bytes | None, timeout: float | None = None
    ) -> Any:
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        client = self._client.options(request_timeout=timeout or TIMEOUT)
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

    def create(
        self,
        index: str,
        meta: IndexMeta,
        field_type: FieldType | None = None,
        source: Source = "full",
    ) -> None:
        check_field_type(self, field_type)
        rank_features, sparse_vector = self._feature_types
        if field_type != "sparse_vector":
            try:
                return self._put(index, index_body(meta, rank_features, source=source))
            except EngineError as exc:
                if NO_RANK_FEATURES not in exc.message:
                    raise
                if field_type == "rank_features":
                    raise EngineError(
                        f"{self._server} has no rank_features field type", "Use sparse_vector."
                    ) from exc
        body = index_body(meta, sparse_vector, source=source)
        if source == "no-vectors" and self._numbers >= (9, 2):
            # By default it keeps vectors beside `_source`, in half of the index.
            body["settings"]["index"]["mapping"]["exclude_source_vectors"] = False
        self._put(index, body)

    def close(self) -> None:
        self._client.close()
