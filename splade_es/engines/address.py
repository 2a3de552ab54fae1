"""Where a server is and how to be let in; both server engines are built from one Address."""

from __future__ import annotations

import base64
import json
import os
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from splade_es.engines.answers import engine_error, unreachable
from splade_es.errors import EngineError

#: Seconds until a request is given up: a bulk request into a busy cluster takes its time.
TIMEOUT = 60.0


@dataclass(frozen=True)
class Address:
    """A URL without credentials, and the credentials, which no repr or error shows."""

    url: str
    headers: dict[str, str] = field(repr=False)
    ca_cert: str | None = None

    @staticmethod
    def parse(url: str) -> Address:
        """Credentials of the URL come first, then SPLADE_ES_API_KEY, then
        SPLADE_ES_USERNAME with SPLADE_ES_PASSWORD. Raises EngineError."""
        try:
            parts = urlsplit(url.strip())
            port = parts.port or (443 if parts.scheme == "https" else 80)
        except ValueError as exc:
            # The URL itself may hold a password, and so may the text of the exception.
            raise EngineError("The server's URL cannot be read", "Write http://host:9200.") from exc
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise EngineError("The server's URL is not of the form http://host:port")
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        credentials = _authorization(unquote(parts.username or ""), unquote(parts.password or ""))
        ca_cert = os.environ.get("SPLADE_ES_CA_CERT") or None
        return Address(
            f"{parts.scheme}://{host}:{port}{parts.path.rstrip('/')}",
            {"authorization": credentials} if credentials else {},
            ca_cert if parts.scheme == "https" else None,
        )

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """What to verify the server's certificate by; None where the URL is not https."""
        if not self.url.startswith("https:"):
            return None
        try:
            return ssl.create_default_context(cafile=self.ca_cert)
        except OSError as exc:
            raise EngineError(
                f"{self.ca_cert} holds no CA certificates", "Set SPLADE_ES_CA_CERT to a PEM file."
            ) from exc


def _authorization(username: str, password: str) -> str:
    """The value of the header, "" if nobody gave credentials."""
    key = "" if username else os.environ.get("SPLADE_ES_API_KEY", "").strip()
    if key:
        if not (key.isascii() and key.isprintable()):  # or the HTTP library quotes it in an error
            raise EngineError("SPLADE_ES_API_KEY is no API key: it holds odd characters")
        return f"ApiKey {key}"
    if not username:
        username = os.environ.get("SPLADE_ES_USERNAME", "")
        password = os.environ.get("SPLADE_ES_PASSWORD", "")
        if bool(username) != bool(password):
            raise EngineError(
                "Only one of SPLADE_ES_USERNAME and SPLADE_ES_PASSWORD is set", "Set both or none."
            )
    if not username:
        return ""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


class Identity(NamedTuple):
    """What the server says it is: "elasticsearch" or "opensearch", and its version."""

    product: str
    version: str


def identify(address: Address) -> Identity:
    """Ask the server which of the two it is, with neither of the two clients: one refuses the
    other's server. Raises EngineError if it is none of them, and Unavailable."""
    import urllib3

    with urllib3.PoolManager(
        headers=address.headers, retries=False, ssl_context=address.ssl_context
    ) as http:
        # A server may refuse `GET /` to a user who may do all that is needed here.
        for path in ("/", "/_nodes/_local?filter_path=nodes.*.version,nodes.*.build_*"):
            try:
                answer = http.request("GET", address.url + path, timeout=TIMEOUT, redirect=False)
            except urllib3.exceptions.SSLError as exc:
                raise unreachable(address.url, exc, tls=True) from exc
            except urllib3.exceptions.HTTPError as exc:
                raise unreachable(address.url, exc) from exc
            try:
                body: Any = json.loads(answer.data)
            except ValueError:
                body = None
            if answer.status == 200 and (identity := _identity(body)):
                return identity
    if answer.status >= 400:
        raise engine_error(answer.status, body, f"the server at {address.url}")
    raise EngineError(
        f"{address.url} answers, but is neither Elasticsearch nor OpenSearch", "Check the port."
    )


def _identity(body: Any) -> Identity | None:
    match body:
        case {"version": {"distribution": "opensearch", "number": str(number)}}:
            return Identity("opensearch", number)
        case {"version": {"number": str(number)}, "tagline": "You Know, for Search"}:
            return Identity("elasticsearch", number)
        case {"nodes": dict(nodes)} if nodes:
            node = next(iter(nodes.values()))  # OpenSearch dropped the flavor when it forked
            product = "elasticsearch" if "build_flavor" in node else "opensearch"
            return Identity(product, node["version"])
    return None
