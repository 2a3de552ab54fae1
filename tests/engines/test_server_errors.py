"""What a person is told when a server says no, is down, or is no server at all."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import pytest

from any_engine import action
from servers import PASSWORD, READER
from splade_es.engines.address import Address, identify
from splade_es.engines.connect import connect_engine
from splade_es.engines.elasticsearch import ElasticsearchEngine
from splade_es.engines.opensearch import OpenSearchEngine
from splade_es.engines.server import ServerEngine
from splade_es.errors import (
    AccessDenied,
    EngineError,
    IndexMismatch,
    IndexMissing,
    RequestTooLarge,
    Unavailable,
)
from splade_es.index_meta import IndexMeta
from splade_es.mappings import index_body
from splade_es.records import Clause
from stub import Stub

META = IndexMeta("0.1.0", "models/tiny", "f" * 64, "v" * 64, 1, 100.0, 256, "max")
ENGINES = [ElasticsearchEngine, OpenSearchEngine]
ACTION = action("a", {"splade": {"heart": 1}, "text": ""})


@pytest.fixture(params=ENGINES)
def stubbed(stub: Stub, request: pytest.FixtureRequest) -> Iterator[ServerEngine]:
    engine: ServerEngine = request.param(Address.parse(stub.url), "9.0.0")
    yield engine
    engine.close()


def error(kind: str, reason: str, **further: Any) -> dict[str, Any]:
    cause = {"type": kind, "reason": reason, **further}
    return {"error": {"root_cause": [cause], **cause}}


@pytest.mark.parametrize(
    "status, kind",
    [
        (401, AccessDenied),
        (403, AccessDenied),
        (413, RequestTooLarge),
        (429, Unavailable),
        (502, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
        (400, EngineError),
        (500, EngineError),
    ],
)
@pytest.mark.parametrize("html", [False, True], ids=["json", "a proxy's page"])
def test_a_refused_request_is_sent_once_and_named(
    stub: Stub, stubbed: ServerEngine, status: int, kind: type[EngineError], html: bool
) -> None:
    page = b"<html><h1>nginx</h1></html>"
    name = "security_exception" if kind is AccessDenied else "some_exception"
    body: Any = page if html else error(name, "for some reason")
    stub.says(status, body, "text/html" if html else "application/json")
    with pytest.raises(EngineError) as caught:
        stubbed.index("docs").bulk([ACTION])
    assert type(caught.value) is kind
    assert f"{stubbed.name} at {stub.url} answers {status}" in str(caught.value)
    assert html or f"{name}: for some reason" in str(caught.value)
    assert stub.requests == [
        "GET /docs/_settings/index.uuid?filter_path=*.settings.index.uuid",
        "POST /docs/_bulk?filter_path=items.*.status,items.*.error,items.*.result",
    ]
    if kind is AccessDenied:
        for variable in ("SPLADE_ES_API_KEY", "SPLADE_ES_USERNAME", "SPLADE_ES_PASSWORD"):
            assert variable in caught.value.hint


def test_items_keep_their_order_status_and_reasons(stub: Stub, stubbed: ServerEngine) -> None:
    deep = {"type": "outer", "reason": "o", "caused_by": {"type": "inner", "reason": "i"}}
    rejected = {"type": "rejected_execution_exception", "reason": "queue is full"}
    items = [
        {"index": {"_id": "a", "status": 201, "result": "created"}},
        {"index": {"_id": "b", "status": 400, "error": deep}},
        {"index": {"_id": "c", "status": 429, "error": rejected}},
        {"delete": {"_id": "d", "status": 404, "result": "not_found"}},
    ]
    stub.says(200, {"errors": True, "items": items})
    assert stubbed.index("docs").bulk([ACTION] * 4) == [
        (201, ""),
        (400, "outer: o; inner: i"),
        (429, "rejected_execution_exception: queue is full"),
        (404, ""),
    ]


def test_an_index_that_goes_away_during_the_request_is_missing(
    stub: Stub, stubbed: ServerEngine
) -> None:
    gone = error("index_not_found_exception", "no such index [docs]", index="docs")
    stub.says(200, {"errors": True, "items": [{"index": {"_id": "a", "status": 404, **gone}}]})
    with pytest.raises(IndexMissing, match="There is no index 'docs' on"):
        stubbed.index("docs").bulk([ACTION])


@pytest.mark.parametrize("status, kind", [(429, Unavailable), (400, EngineError)])
def test_one_failed_search_of_many_is_an_error(
    stub: Stub, stubbed: ServerEngine, status: int, kind: type[EngineError]
) -> None:
    stub.says(200, {"docs": {"mappings": index_body(META, {"type": "rank_features"})["mappings"]}})
    index = stubbed.index("docs")
    assert index.meta() == META  # the field type is known from now on
    good = {"status": 200, "hits": {"hits": []}}
    stub.says(200, {"responses": [good, {"status": status, **error("bad", "one shard failed")}]})
    with pytest.raises(EngineError, match="bad: one shard failed") as caught:
        index.search_many([[Clause("heart", 1.0)]] * 2, 10)
    assert type(caught.value) is kind


def test_an_answer_that_is_no_json_is_one_line(stub: Stub, stubbed: ServerEngine) -> None:
    stub.says(200, b"<html>", "text/html")
    with pytest.raises(EngineError, match="sends an invalid answer"):
        stubbed.index("docs").count()


def test_a_server_that_never_answers_times_out(stubbed: ServerEngine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = Address.parse(f"http://127.0.0.1:{silent.getsockname()[1]}")
        address = replace(address, timeout=0.2)
        engine = type(stubbed)(address, "9.0.0")
        with pytest.raises(Unavailable, match=f"No answer from {engine.name} at {address.url}"):
            engine.index("docs").count()
        engine.close()


def test_a_request_is_sent_again_where_that_is_asked_for(
    stub: Stub, stubbed: ServerEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            stub.says(200, {"count": 5, "_shards": {"failed": 0}})

    monkeypatch.setattr(time, "sleep", sleep)
    stub.says(503, error("unavailable", "no master"))
    with pytest.raises(Unavailable):
        stubbed.index("docs").count()
    assert not waits
    patient = stubbed.index("docs", retry=True)
    assert patient.count() == 5
    assert len(waits) == 3 and 0.25 <= waits[0] <= 0.5 and 1 <= waits[2] <= 2
    stub.says(503, error("unavailable", "no master"))
    with pytest.raises(Unavailable):
        patient.bulk([ACTION])  # for its caller to send again
    assert len(waits) == 3


@pytest.mark.parametrize("kind", ENGINES)
def test_a_server_that_is_down(kind: type[ServerEngine]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    engine = kind(Address.parse(url), "9.0.0")
    with pytest.raises(Unavailable) as caught:
        engine.index("docs").count()
    engine.close()
    assert str(caught.value) == (
        f"No answer from {engine.name} at {url} ([Errno 111] Connection refused). "
        "Check the URL and that it runs."
    )
    with pytest.raises(Unavailable, match=f"No answer from {url} .*Connection refused"):
        connect_engine(url)


@pytest.mark.parametrize("status, kind", [(401, AccessDenied), (404, EngineError)])
def test_connect_says_why_the_server_is_not_known(
    stub: Stub, status: int, kind: type[EngineError]
) -> None:
    stub.says(status, error("security_exception", "missing credentials"))
    with pytest.raises(kind, match=f"the server at {stub.url} answers {status}"):
        connect_engine(stub.url)


@pytest.mark.parametrize("body", [b"<html>", {}, [], {"version": "1"}, {"nodes": {}}])
def test_something_else_that_listens_there(stub: Stub, body: Any) -> None:
    stub.says(200, body)
    with pytest.raises(EngineError, match="is neither Elasticsearch nor OpenSearch"):
        connect_engine(stub.url)


def test_an_elasticsearch_that_is_too_old(stub: Stub) -> None:
    stub.says(200, {"version": {"number": "7.17.0"}, "tagline": "You Know, for Search"})
    with pytest.raises(EngineError, match=r"Elasticsearch 7.17.0. It must be 8 or newer"):
        connect_engine(stub.url)


def test_tls_where_there_is_none(stub: Stub) -> None:
    address = Address.parse(stub.url.replace("http:", "https:"))
    with pytest.raises(EngineError, match="SPLADE_ES_CA_CERT") as caught:
        identify(address)
    assert not isinstance(caught.value, Unavailable)  # trying again does not help
    for kind in ENGINES:
        engine = kind(address, "9.0.0")
        with pytest.raises(EngineError, match="No trusted TLS connection to"):
            engine.index("docs").count()
        engine.close()


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    if parts.username is None:
        pytest.skip("the running server asks for no password")
    return f"{parts.scheme}://{parts.hostname}:{parts.port}"


def test_credentials_of_the_url_or_the_environment_let_one_in(
    elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, bare = urlsplit(elasticsearch_url), without_credentials(elasticsearch_url)
    engine = connect_engine(elasticsearch_url)
    assert (engine.name, engine.where) == ("elasticsearch", bare)
    engine.close()
    monkeypatch.setenv("SPLADE_ES_USERNAME", str(parts.username))
    monkeypatch.setenv("SPLADE_ES_PASSWORD", str(parts.password))
    engine = connect_engine(bare)
    assert not engine.index("docs").exists()
    engine.close()


def test_a_wrong_password_is_denied_and_never_shown(
    elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = without_credentials(elasticsearch_url)
    with pytest.raises(AccessDenied, match="answers 401"):
        connect_engine(bare)
    monkeypatch.setenv("SPLADE_ES_API_KEY", "bm90OmFrZXk=")
    address = Address.parse(bare.replace("//", "//tester:s3cret@"))
    engine = ElasticsearchEngine(address, "9.5.0")
    with pytest.raises(AccessDenied) as caught:
        engine.index("docs").create(META)
    engine.close()
    shown = f"{caught.value!s} {caught.value!r} {engine!r} {engine.where} {address!r}"
    assert "SPLADE_ES_USERNAME" in shown
    assert "s3cret" not in shown
    assert "dGVzdGVyOnMzY3JldA" not in shown  # the same in base64


def test_a_user_without_the_right_is_denied(elasticsearch_url: str) -> None:
    bare = without_credentials(elasticsearch_url)
    engine = connect_engine(bare.replace("//", f"//{READER}:{PASSWORD}@"))
    with pytest.raises(AccessDenied, match="answers 403") as caught:
        engine.index("docs").create(META)
    engine.close()
    hint = "Grant this user one of the index privileges [create_index, manage, all]."
    assert caught.value.hint == hint
    assert PASSWORD not in str(caught.value)


def test_an_index_of_someone_else_is_left_alone(
    opensearch_url: str, elasticsearch_url: str
) -> None:
    for url in (opensearch_url, elasticsearch_url):
        engine = connect_engine(url)
        assert isinstance(engine, ServerEngine)
        engine.request("PUT", "/foreign", {"mappings": {"properties": {"text": {"type": "text"}}}})
        try:
            index = engine.index("foreign")
            for act in (index.meta, index.delete, lambda: index.search([], 10)):  # noqa: B023
                with pytest.raises(
                    IndexMismatch, match="splade-es did not make the index 'foreign'"
                ):
                    act()
            assert "foreign" not in engine.indices()
            assert engine.index("foreign").exists()
        finally:
            engine.request("DELETE", "/foreign")
            engine.close()


def test_a_request_over_the_server_s_limit_is_too_large(
    opensearch_url: str, elasticsearch_url: str
) -> None:
    huge = action("huge", {"splade": {"heart": 1}, "text": "word " * 21_000_000})
    for url in (opensearch_url, elasticsearch_url):
        engine = connect_engine(url)
        engine.index("limits").create(META)
        try:
            with pytest.raises(RequestTooLarge, match="answers 413"):
                engine.index("limits").bulk([huge])
            assert engine.index("limits").bulk([ACTION]) == [(201, "")]
        finally:
            engine.index("limits").delete()
            engine.close()


def test_field_types_are_those_of_the_product(opensearch_url: str, elasticsearch_url: str) -> None:
    opensearch, elasticsearch = connect_engine(opensearch_url), connect_engine(elasticsearch_url)
    try:
        with pytest.raises(EngineError, match="opensearch has no field type sparse_vector"):
            opensearch.index("typed").create(META, field_type="sparse_vector")
        elasticsearch.index("typed").create(META, field_type="sparse_vector")
        assert elasticsearch.index("typed").stats().field_type == "sparse_vector"
        elasticsearch.index("typed").delete()
    finally:
        opensearch.close()
        elasticsearch.close()
