"""Where a server is and what it asks for; both server engines are built from one Address."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from splade_es.engines.credentials import Signer, authorization, signer
from splade_es.engines.responses import engine_error, reason, unreachable
from splade_es.engines.shapes import read_json
from splade_es.errors import EngineError, Unavailable

if TYPE_CHECKING:
    import urllib3


@dataclass(frozen=True)
class Address:
    """The URLs of a cluster's hosts, and the credentials, which no repr or error shows.

    Attributes
    ----------
    urls : tuple of str
        Each without credentials.
    headers : dict
        The authorization of each request.
    ca_cert, client_cert, client_key : str, optional
        PEM files.
    fingerprint : str, optional
        SHA-256 of the server's certificate in hex digits. Nothing else is checked then.
    insecure : bool
        Whether any certificate is accepted.
    timeout : float
        Seconds until a request is given up.
    """

    urls: tuple[str, ...]
    headers: dict[str, str] = field(repr=False)
    ca_cert: str | None = None
    client_cert: str | None = None
    client_key: str | None = None
    fingerprint: str | None = None
    insecure: bool = False
    # long, because a bulk request into a busy cluster takes its time
    timeout: float = 60.0

    @staticmethod
    def parse(text: str) -> Address:
        """Read one URL, several with commas between them, or cloud:CLOUD_ID of Elastic Cloud.

        Several are hosts of one cluster, tried in turn. Credentials come from the first URL or from
        environment variables, which also say how to verify the server: see `splade_es.connect`.
        Raises EngineError.
        """
        hosts = [_cloud_url(part) if part.startswith("cloud:") else part
                 for part in text.strip().split(",")]  # fmt: skip
        try:
            parsed = [_parse(host) for host in hosts]
        except EngineError as error:
            if "@" in text:  # most likely a password in which some characters are not encoded
                error.hint = (
                    "In a password write # as %23, / as %2F, ? as %3F, a comma as %2C and % as "
                    "%25; or set SPLADE_ES_USERNAME and SPLADE_ES_PASSWORD, and leave both out of "
                    "the URL."
                )
            raise
        urls = tuple(url for url, _, _ in parsed)
        if len({url.partition(":")[0] for url in urls}) > 1:
            raise EngineError("Some of the server's URLs are http and some are https")
        credentials = authorization(*parsed[0][1:])
        headers = {"authorization": credentials} if credentials else {}
        if urls[0].startswith("http:"):
            return Address(urls, headers)
        fingerprint = os.environ.get("SPLADE_ES_CERT_FINGERPRINT", "").replace(":", "").lower()
        if fingerprint and not re.fullmatch("[0-9a-f]{64}", fingerprint):
            raise EngineError(
                "SPLADE_ES_CERT_FINGERPRINT is not a SHA-256 fingerprint",
                "It has 64 hex digits: openssl x509 -fingerprint -sha256 -noout -in CERT",
            )
        return Address(
            urls,
            headers,
            os.environ.get("SPLADE_ES_CA_CERT") or None,
            os.environ.get("SPLADE_ES_CLIENT_CERT") or None,
            os.environ.get("SPLADE_ES_CLIENT_KEY") or None,
            fingerprint or None,
            os.environ.get("SPLADE_ES_INSECURE", "") not in ("", "0"),
        )

    @property
    def url(self) -> str:
        """All URLs, as errors name them: without credentials."""
        return ",".join(self.urls)

    @cached_property
    def signer(self) -> Signer | None:
        """Signs each request for AWS; None unless SPLADE_ES_AWS_REGION is set."""
        return signer()

    @cached_property
    def ssl_context(self) -> ssl.SSLContext | None:
        """How to verify the server's certificate; None if the URL is not https."""
        if not self.url.startswith("https:"):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca_cert)
        except OSError as exc:
            raise EngineError(
                f"{self.ca_cert} contains no CA certificates",
                "Set SPLADE_ES_CA_CERT to a PEM file.",
            ) from exc
        if self.insecure or self.fingerprint:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.client_cert:
            try:  # a key with a password fails: without one here, OpenSSL would ask for it
                context.load_cert_chain(self.client_cert, self.client_key, password="")
            except (OSError, ValueError) as exc:
                raise EngineError(
                    f"{self.client_cert} is not a client certificate with its key",
                    "Set SPLADE_ES_CLIENT_CERT and SPLADE_ES_CLIENT_KEY to PEM files, the key "
                    "without a password.",
                ) from exc
        return context

    def request(
        self, method: str, url: str, path: str, headers: dict[str, str], **body: Any
    ) -> urllib3.BaseHTTPResponse:
        """Send one request that neither client offers, with the server verified as they do.

        headers: beside the credentials; body: as urllib3 takes it. Raises EngineError if there is
        no answer.
        """
        import urllib3

        if self.insecure:
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        tls: dict[str, Any] = {}
        if self.ssl_context:
            tls = {"ssl_context": self.ssl_context, "assert_fingerprint": self.fingerprint}
        with urllib3.PoolManager(retries=False, **tls) as http:
            try:
                return http.request(
                    method, url + path, headers={**self.headers, **headers}, timeout=self.timeout,
                    redirect=False, **body,
                )  # fmt: skip
            except urllib3.exceptions.SSLError as exc:
                raise unreachable(url, exc, tls=True) from exc
            except urllib3.exceptions.HTTPError as exc:
                raise unreachable(url, exc) from exc


def _parse(url: str) -> tuple[str, str, str]:
    """URL without credentials, user name, password."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        # The URL itself may hold a password, and so may the text of the exception.
        raise EngineError("The server's URL cannot be read", "Write http://host:9200.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EngineError("The server's URL is not of the form http://host:port")
    if "@" in parts.path + parts.query + parts.fragment:  # the rest of a password with a slash
        raise EngineError("The server's URL cannot be read")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    path = parts.path.rstrip("/")
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return f"{parts.scheme}://{host}:{port}{path}", user, password


def _cloud_url(text: str) -> str:
    """The URL of Elasticsearch in "cloud:CLOUD_ID"."""
    from elastic_transport.client_utils import parse_cloud_id

    try:  # the console pads the id, and people lose that when they copy it
        address = parse_cloud_id(text.removeprefix("cloud:") + "==").es_address
    except ValueError:
        address = None
    if address is None:
        raise EngineError(
            "What follows cloud: is not a cloud id", "Copy it from the console of Elastic Cloud."
        )
    return f"https://{address[0]}:{address[1]}"


_SERVERLESS = "serverless"


class Identity(NamedTuple):
    """What a server says it is: "elasticsearch" or "opensearch", and its version.

    The version is "" if the server does not report it to this user.
    """

    product: str
    version: str


def identify(address: Address) -> Identity:
    """Ask a server which of the two it is, without their clients: one refuses the other's server.

    Raises EngineError if it is neither of them, or a serverless offering of one, and Unavailable if
    there is no answer.
    """
    if str(urlsplit(address.urls[0]).hostname).endswith(".aoss.amazonaws.com"):
        raise EngineError(
            f"{address.url} is Amazon OpenSearch Serverless, which cannot be asked to refresh an "
            "index, and refuses document ids in some collections",
            "Use a domain of Amazon OpenSearch Service.",
        )
    for url in address.urls[:-1]:
        try:
            return _identify(address, url)
        except Unavailable:
            continue
    return _identify(address, address.urls[-1])


def _identify(address: Address, url: str) -> Identity:
    # A server may refuse `GET /` to a user who may do everything that is needed here.
    for path in ("/", "/_nodes/_local?filter_path=nodes.*.version,nodes.*.build_*"):
        signed = address.signer("GET", url + path, None) if address.signer else {}
        answer = address.request("GET", url, path, signed)
        body = read_json(answer.data)
        if answer.status == 200 and (identity := _identity(body)):
            if identity.version == _SERVERLESS:
                raise EngineError(
                    f"{url} is Elastic Cloud Serverless, which refuses the index settings and the "
                    "statistics that splade-es needs",
                    "Use a hosted deployment of Elastic Cloud, or a cluster of your own.",
                )
            return identity
    if answer.status == 403 and isinstance(body, dict):
        # It knows this user and does not say what it is, but each refuses in its own words.
        elastic = "x-elastic-product" in answer.headers or (
            "is unauthorized for" in reason(body.get("error"))
        )
        return Identity("elasticsearch" if elastic else "opensearch", "")
    if answer.status >= 400:
        raise engine_error(answer.status, body, f"the server at {url}")
    raise EngineError(
        f"{url} answers, but is neither Elasticsearch nor OpenSearch", "Check the port."
    )


def _identity(body: Any) -> Identity | None:
    match body:
        case {"version": {"distribution": "opensearch", "number": str(number)}}:
            return Identity("opensearch", number)
        case {"version": {"number": str(number), **build}, "tagline": "You Know, for Search"}:
            serverless = build.get("build_flavor") == _SERVERLESS  # its number says nothing
            return Identity("elasticsearch", _SERVERLESS if serverless else number)
        case {"nodes": dict(nodes)} if nodes:
            match next(iter(nodes.values())):
                case {"version": str(number), **node}:
                    # OpenSearch dropped the flavor when it forked
                    product = "elasticsearch" if "build_flavor" in node else "opensearch"
                    return Identity(product, number)
    return None
