"""Where a URL leads, and who knocks there."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from splade_es.engines import connect
from splade_es.engines.address import Address, _identity
from splade_es.errors import EngineError


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("API_KEY", "USERNAME", "PASSWORD", "CA_CERT"):
        monkeypatch.delenv(f"SPLADE_ES_{name}", raising=False)


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
        connect(url)
    assert "secret" not in repr(caught.value)


@pytest.mark.parametrize("url", ["http://u:secret@h:port", "http://u:secret@[h", "http://h:99999"])
def test_what_cannot_be_parsed_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(EngineError, match="The server's URL cannot be read") as caught:
        connect(url)
    assert "secret" not in repr(caught.value)


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
    with pytest.raises(EngineError, match="SPLADE_ES_API_KEY holds characters") as caught:
        Address.parse("http://h")
    assert key not in str(caught.value)


def test_a_file_without_certificates_is_named(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, content in (("missing.pem", None), ("empty.pem", "no certificate")):
        if content is not None:
            (tmp_path / name).write_text(content)
        monkeypatch.setenv("SPLADE_ES_CA_CERT", str(tmp_path / name))
        with pytest.raises(EngineError, match=f"{name} holds no CA certificates"):
            connect("https://127.0.0.1:1")
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
        ({"version": {"number": "1"}, "tagline": "something else"}, None),
        (None, None),
    ],
)
def test_servers_say_what_they_are(body: Any, identity: tuple[str, str] | None) -> None:
    assert _identity(body) == identity
