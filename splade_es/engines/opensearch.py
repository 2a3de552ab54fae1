"""OpenSearch, by its own client. Features live in a `rank_features` field."""

from __future__ import annotations

import threading
from typing import Any

import opensearchpy

from splade_es.engines.address import Address
from splade_es.engines.base import FieldType
from splade_es.engines.responses import engine_error, unreachable, unreadable
from splade_es.engines.server import ServerEngine
from splade_es.engines.transport import FeatureField


class _Connection(opensearchpy.Urllib3HttpConnection):
    """Keeps the header that the client's exceptions leave out, for the thread that asked."""

    last = threading.local()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._create_urllib3_pool()
        urlopen = self.pool.urlopen

        def remembering(*args: Any, **options: Any) -> Any:
            answer = urlopen(*args, **options)
            self.last.retry_after = answer.headers.get("retry-after")
            return answer

        self.pool.urlopen = remembering


class OpenSearchEngine(ServerEngine):
    """An `Engine` on an OpenSearch server."""

    name = "opensearch"
    # its sparse_vector is another, approximate thing
    field_types: tuple[FieldType, ...] = ("rank_features",)
    feature_fields = (FeatureField("rank_features", {"type": "rank_features"}, {}, "rank_feature"),)

    def __init__(self, address: Address, version: str) -> None:
        super().__init__(address, version)
        options: dict[str, Any] = {}
        if address.ssl_context:
            options = {"ssl_context": address.ssl_context}
            options |= {"ssl_assert_fingerprint": address.fingerprint}
        if address.signer:
            options["http_auth"] = address.signer
        self._client = opensearchpy.OpenSearch(
            list(address.urls),
            headers=address.headers,
            connection_class=_Connection,
            # At another host, if this one cannot be reached. Else the caller retries: it knows what
            # may be sent again.
            max_retries=len(address.urls) - 1,
            retry_on_status=(),
            **options,
        )

    def send(self, method: str, path: str, body: bytes | None, timeout: float) -> Any:
        """See `Transport.send`."""
        _Connection.last.retry_after = None
        try:
            return self._client.transport.perform_request(
                method, path, params={"request_timeout": timeout}, body=body
            )
        except opensearchpy.SSLError as exc:
            raise unreachable(self.label, exc, tls=True) from exc
        except opensearchpy.ConnectionError as exc:  # ConnectionTimeout is one
            raise unreachable(self.label, exc) from exc
        except opensearchpy.TransportError as exc:
            after = _Connection.last.retry_after
            raise engine_error(int(exc.status_code), exc.info, self.label, after) from exc
        except opensearchpy.OpenSearchException as exc:  # no JSON, mostly
            raise unreadable(self.label) from exc

    def close(self) -> None:
        """See `Engine.close`."""
        self._client.close()
