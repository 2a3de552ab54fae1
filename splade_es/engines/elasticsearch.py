"""Elasticsearch, version 8 and above, by its own client.

Features live in a `rank_features` field where the server has that type, else in `sparse_vector`.
"""

from __future__ import annotations

import re
from typing import Any

import elastic_transport
import elasticsearch
from elastic_transport.client_utils import url_to_node_config

from splade_es.engines.address import Address
from splade_es.engines.base import FieldType
from splade_es.engines.responses import engine_error, unreachable, unreadable, unsupported
from splade_es.engines.server import ServerEngine
from splade_es.engines.transport import FeatureField
from splade_es.errors import EngineError


class ElasticsearchEngine(ServerEngine):
    """An `Engine` on an Elasticsearch server."""

    name = "elasticsearch"
    field_types: tuple[FieldType, ...] = ("rank_features", "sparse_vector")

    def __init__(self, address: Address, version: str) -> None:
        super().__init__(address, version)
        numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
        if version and numbers < (8,):
            raise EngineError(
                f"The server at {self.where} is Elasticsearch {version}", "It must be 8 or newer."
            )
        self.feature_fields = _feature_fields(numbers)
        #: A server refuses every request of a newer client, except where Elastic runs it for many.
        self._client_is_newer = bool(numbers) and elasticsearch.__version__[0] > numbers[0]
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

    def send(self, method: str, path: str, body: bytes | None, timeout: float) -> Any:
        """See `Transport.send`."""
        headers = {"accept": "application/json"}
        if body is not None:
            headers["content-type"] = "application/json"
        client = self._client.options(request_timeout=timeout)
        try:
            return client.perform_request(method, path, headers=headers, body=body).body
        except elasticsearch.UnsupportedProductError as exc:
            raise unsupported(self.label) from exc
        except elasticsearch.ApiError as exc:
            refused = method == "HEAD" or exc.message == "media_type_header_exception"
            if refused and exc.meta.status == 400 and self._client_is_newer:
                raise self._refusal() from exc
            after = exc.meta.headers.get("retry-after")
            raise engine_error(exc.meta.status, exc.body, self.label, after) from exc
        except elastic_transport.TlsError as exc:
            raise unreachable(self.label, exc, tls=True) from exc
        except elastic_transport.ConnectionError as exc:
            raise unreachable(self.label, exc) from exc
        except elastic_transport.ConnectionTimeout as exc:
            raise unreachable(self.label, exc) from exc
        except elastic_transport.TransportError as exc:  # no JSON, mostly
            raise unreadable(self.label) from exc

    def _refusal(self) -> EngineError:
        client = elasticsearch.__version__[0]
        return EngineError(
            f"The server at {self.where} is Elasticsearch {self.version}, which refuses version "
            f"{client} of the Python client",
            f"Run: pip install 'elasticsearch<{client}'",
        )

    def close(self) -> None:
        """See `Engine.close`."""
        self._client.close()


def _feature_fields(version: tuple[int, ...]) -> tuple[FeatureField, ...]:
    """What a version can hold features in. version: () where the server does not report it."""
    mapping: dict[str, Any] = {"type": "sparse_vector"}
    if not version or version >= (9, 1) or (8, 19) <= version < (9,):
        mapping["index_options"] = {"prune": False}  # or queries lose terms by default
    # from 9.2 on it keeps vectors beside `_source`, in half of the index, by default
    no_vectors = {"exclude_source_vectors": False} if version >= (9, 2) else {}
    # 8.11 to 8.14 have the field, and no query for it but `term`
    query = "term" if version and version < (8, 15) else "sparse_vector"
    return (
        FeatureField("rank_features", {"type": "rank_features"}, {}, "rank_feature"),
        FeatureField("sparse_vector", mapping, no_vectors, query),
    )
