"""What a URL and the environment say about a server."""

from __future__ import annotations

import base64
import os
import ssl
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pytest

from proxy import running_proxy
from splade_es.engines.address import Address, identify
from splade_es.engines.connect import connect_engine
from splade_es.errors import EngineError
from stub import Stub


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("SPLADE_ES_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    "url, where",
    [
        ("http://localhost:9200", "http://localhost:9200"),
        ("http://localhost:9200/", "http://localhost:9200"),
        ("https://search.example.org", "https://search.example.org:443"),
        ("http://search.example.org/es/", "http://search.example.org:80/es"),
        ("https://user:p%40ss@search.example.org:9200", "https://search.example.org:9200"),
        ("http://[::1]:9200", "http://[::1]:9200"),
    ],
)
def test_the_address_is_the_url_without_credentials(url: str, where: str) -> None:
    assert Address.parse(url).url == where


@pytest.mark.parametrize(
    "url", ["localhost:9200", "ftp://u:secret@h", "http://", "http://u:secret@"]
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(EngineError, match="not of the form http://host:port") as caught:
        connect_engine(url)
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize("url", ["http://u:secret@h:port", "http://u:secret@[h", "http://h:99999"])
def test_what_cannot_be_parsed_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(EngineError, match="The server's URL cannot be read") as caught:
        connect_engine(url)
    assert "secret" not in repr(caught.value)


def test_serverless_offerings_are_refused(stub: Stub) -> None:
    """As their documentation says they answer: there is none to be asked."""
    version = {"number": "8.11.0", "build_flavor": "serverless"}
    stub.says(200, {"version": version, "tagline": "You Know, for Search"})
    with pytest.raises(EngineError) as caught:
        connect_engine(stub.url)
    assert str(caught.value) == (
        f"{stub.url} is Elastic Cloud Serverless, which refuses the index settings and the "
        "statistics that splade-es needs. Use a hosted deployment of Elastic Cloud, or a cluster "
        "of your own."
    )
    with pytest.raises(EngineError, match="is Amazon OpenSearch Serverless, which cannot be asked"):
        connect_engine("https://abc.eu-west-1.aoss.amazonaws.com")


def test_proxies_of_the_environment_are_not_used(
    stub: Stub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    for distribution in ("opensearch", "other"):
        version = {"number": "9.0.0", "distribution": distribution}
        stub.says(200, {"version": version, "tagline": "You Know, for Search"})
        engine = connect_engine(stub.url)
        assert engine.indices() == ["tagline", "version"]
        engine.close()


@pytest.mark.parametrize("character", "#/?,[")
@pytest.mark.parametrize("rest", ["secret", "1234"])
def test_a_password_that_must_be_encoded(character: str, rest: str) -> None:
    password = f"12{character}{rest}"  # what comes first may look like a port
    with pytest.raises(EngineError) as caught:
        connect_engine(f"http://user:{password}@host:9200")
    assert "write # as %23" in caught.value.hint and "SPLADE_ES_PASSWORD" in caught.value.hint
    shown = "".join(traceback.format_exception(caught.value))  # as a notebook does
    assert rest not in shown and f"12{character}" not in shown


def basic(credentials: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(credentials.encode()).decode()}


def test_credentials_come_from_the_url_then_the_key_then_the_user(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert Address.parse("http://h").headers == {}
    monkeypatch.setenv("SPLADE_ES_USERNAME", "ann")
    monkeypatch.setenv("SPLADE_ES_PASSWORD", "pässword")
    assert Address.parse("http://h").headers == basic("ann:pässword")
    monkeypatch.setenv("SPLADE_ES_API_KEY", "a2V5\n")
    assert Address.parse("http://h").headers == {"authorization": "ApiKey a2V5"}
    address = Address.parse("http://bob:p%40ss@h")
    assert address.headers == basic("bob:p@ss")
    assert "authorization" not in repr(address)


@pytest.mark.parametrize("name", ["SPLADE_ES_USERNAME", "SPLADE_ES_PASSWORD"])
def test_half_of_the_credentials_is_an_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "secret")
    with pytest.raises(EngineError, match="Only one of SPLADE_ES_USERNAME and") as caught:
        Address.parse("http://h")
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize("key", ["schlüssel", "a\nb"])
def test_a_key_that_fits_no_header_is_refused_unseen(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLADE_ES_API_KEY", key)
    with pytest.raises(EngineError, match="SPLADE_ES_API_KEY contains characters") as caught:
        Address.parse("http://h")
    assert key not in str(caught.value)


def test_a_file_without_certificates_is_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("missing.pem", None), ("empty.pem", "no certificate")):
        if content is not None:
            (tmp_path / name).write_text(content)
        monkeypatch.setenv("SPLADE_ES_CA_CERT", str(tmp_path / name))
        with pytest.raises(EngineError, match=f"{name} contains no CA certificates"):
            connect_engine("https://127.0.0.1:1")
    assert Address.parse("http://h").ssl_context is None


@pytest.mark.parametrize(
    "body, identity",
    [
        ({"version": {"distribution": "opensearch", "number": "3.5.0"}}, ("opensearch", "3.5.0")),
        (
            {"version": {"number": "9.5.0"}, "tagline": "You Know, for Search"},
            ("elasticsearch", "9.5.0"),
        ),
        (
            {"nodes": {"x": {"version": "9.5.0", "build_flavor": "default"}}},
            ("elasticsearch", "9.5.0"),
        ),
        ({"nodes": {"x": {"version": "3.5.0", "build_type": "tar"}}}, ("opensearch", "3.5.0")),
    ],
)
def test_servers_say_what_they_are(stub: Stub, body: Any, identity: tuple[str, str]) -> None:
    stub.says(200, body)
    assert identify(Address.parse(stub.url)) == identity


@pytest.mark.parametrize("body", [{"version": {"number": "1"}, "tagline": "something else"}, None])
def test_another_server_is_neither_of_the_two(stub: Stub, body: Any) -> None:
    stub.says(200, body)
    with pytest.raises(EngineError, match="answers, but is neither Elasticsearch nor OpenSearch"):
        identify(Address.parse(stub.url))


def test_several_hosts_of_one_cluster() -> None:
    address = Address.parse("http://ann:s3cret@a:9200,http://b:9201/es")
    assert address.urls == ("http://a:9200", "http://b:9201/es")
    assert address.url == "http://a:9200,http://b:9201/es"
    assert address.headers == basic("ann:s3cret")
    with pytest.raises(EngineError, match="Some of the server's URLs are http and some are https"):
        Address.parse("http://a,https://b")


def test_a_cloud_id_stands_for_its_url() -> None:
    host = base64.b64encode(b"eu-west-1.aws.found.io:9243$abc123$kibana").decode().rstrip("=")
    assert Address.parse(f"cloud:my-deployment:{host}").url == (
        "https://abc123.eu-west-1.aws.found.io:9243"
    )
    host = base64.b64encode(b"eu-west-1.aws.found.io$abc123").decode()
    assert Address.parse(f"cloud:x:{host}").url == "https://abc123.eu-west-1.aws.found.io:443"
    for wrong in ("cloud:", "cloud:x:%%%", "cloud:x:YWJj"):
        with pytest.raises(EngineError, match="is not a cloud id"):
            Address.parse(wrong)


def test_tokens_and_secrets_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPLADE_ES_BEARER_TOKEN", "t0ken")
    assert Address.parse("http://h").headers == {"authorization": "Bearer t0ken"}
    (tmp_path / "key").write_text("a2V5\n")
    monkeypatch.setenv("SPLADE_ES_API_KEY_FILE", str(tmp_path / "key"))
    assert Address.parse("http://h").headers == {"authorization": "ApiKey a2V5"}
    monkeypatch.setenv("SPLADE_ES_API_KEY_FILE", str(tmp_path / "none"))
    with pytest.raises(EngineError, match=r"SPLADE_ES_API_KEY_FILE cannot be read\. .*none"):
        Address.parse("http://h")


def test_what_tls_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SPLADE_ES_CERT_FINGERPRINT", "12:34")
    with pytest.raises(EngineError, match=r"not a SHA-256 fingerprint.*64 hex digits"):
        Address.parse("https://h")
    monkeypatch.setenv("SPLADE_ES_CERT_FINGERPRINT", "AB:" * 31 + "AB")
    address = Address.parse("https://h")
    assert address.fingerprint == "ab" * 32
    assert address.ssl_context and address.ssl_context.verify_mode == ssl.CERT_NONE
    monkeypatch.delenv("SPLADE_ES_CERT_FINGERPRINT")
    address = Address.parse("https://h")
    assert address.ssl_context and address.ssl_context.verify_mode == ssl.CERT_REQUIRED
    (tmp_path / "client.pem").write_text("no certificate")
    monkeypatch.setenv("SPLADE_ES_CLIENT_CERT", str(tmp_path / "client.pem"))
    with pytest.raises(EngineError, match=r"client\.pem is not a client certificate with its key"):
        assert Address.parse("https://h").ssl_context


def test_requests_to_aws_are_signed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, opensearch_url: str
) -> None:
    """The signature that is sent, found again by AWS's own code from what the server was sent."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    monkeypatch.setenv("SPLADE_ES_AWS_REGION", "eu-west-1")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-of-aws")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    sent: list[tuple[str, str, dict[str, str], bytes]] = []
    with running_proxy(opensearch_url, share=0.0, stall=0.0, sent=sent) as proxy:
        engine = connect_engine(proxy.url)
        assert engine.name == "opensearch"
        engine.indices()
        engine.close()
    assert len(sent) >= 2
    for method, path, headers, body in sent:
        given = headers["authorization"]
        assert given.startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
        assert "/eu-west-1/es/aws4_request" in given and "s3cret-of-aws" not in given
        place, _, query = path.partition("?")
        encoded = urlencode(parse_qs(query), doseq=True)  # as AWS reads it
        url = f"{proxy.url}{place}" + (f"?{encoded}" if encoded else "")
        request = AWSRequest(method, url, data=body)
        request.context["timestamp"] = headers["x-amz-date"]
        request.headers["X-Amz-Date"] = headers["x-amz-date"]
        request.headers["X-Amz-Content-SHA256"] = headers["x-amz-content-sha256"]
        signer = SigV4Auth(Credentials("AKIDEXAMPLE", "s3cret-of-aws"), "es", "eu-west-1")
        string = signer.string_to_sign(request, signer.canonical_request(request))
        assert given.endswith(f"Signature={signer.signature(string, request)}")
