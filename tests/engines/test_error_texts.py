"""Errors of servers, and of the clouds in front of them, are told in their own words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from any_engine import META, action
from splade_es.engines.address import Address
from splade_es.engines.connect import connect_engine
from splade_es.engines.elasticsearch import ElasticsearchEngine
from splade_es.engines.opensearch import OpenSearchEngine
from splade_es.engines.server import ServerEngine
from splade_es.errors import AccessDenied, EngineError
from stub import Stub

CREDENTIALS = (
    "Set SPLADE_ES_API_KEY, SPLADE_ES_BEARER_TOKEN, or SPLADE_ES_USERNAME and SPLADE_ES_PASSWORD, "
    "to credentials "
)
DENIED = "User: arn:aws:iam::1:user/a is not authorized to perform: es:ESHttpPut on resource: x"
NO_RIGHT = "no permissions for [indices:admin/create] and User [name=reader, backend_roles=[]]"


def security(reason: str) -> dict[str, Any]:
    return {"error": {"type": "security_exception", "reason": reason}}


@pytest.mark.parametrize("kind", [ElasticsearchEngine, OpenSearchEngine])
@pytest.mark.parametrize(
    ("status", "body", "detail", "hint"),
    [
        (404, {"ok": False, "message": "Unknown deployment."}, "Unknown deployment.", ""),
        (500, {"message": None, "Message": "Internal failure"}, "Internal failure", ""),
        (429, {"message": "Too Many Requests"}, "Too Many Requests", "Try again later."),
        (
            400,
            {"errors": [{"code": "clusters.not_found", "message": "No such cluster."}]},
            "clusters.not_found: No such cluster.",
            "",
        ),
        (400, {"error": "no handler found"}, "no handler found", ""),
        (403, {"Message": DENIED}, DENIED, "Allow this user the action es:ESHttpPut."),
        (
            403,
            {"message": "Forbidden"},
            "Forbidden",
            f"{CREDENTIALS}with the privilege to do this.",
        ),
        (401, {"message": "Unauthorized"}, "Unauthorized", f"{CREDENTIALS}that it knows."),
        (
            403,
            security(NO_RIGHT),
            f"security_exception: {NO_RIGHT}",
            "Grant this user the permission indices:admin/create.",
        ),
        (403, {"error": {"type": "odd", "reason": "no"}}, "odd: no", ""),
        (400, {"error": {"type": None}}, "", ""),
    ],
)
def test_what_is_said_and_what_to_do(
    stub: Stub, kind: type[ServerEngine], status: int, body: Any, detail: str, hint: str
) -> None:
    engine = kind(Address.parse(stub.url), "9.0.0")
    stub.says(status, body)
    with pytest.raises(EngineError) as caught:
        engine.index("docs").count()
    engine.close()
    said = f"{engine.name} at {stub.url} answers {status}" + (f" ({detail})" if detail else "")
    assert (caught.value.message, caught.value.hint) == (said, hint)
    assert isinstance(caught.value, AccessDenied) == (status in (401, 403))


@pytest.mark.parametrize("url", ["opensearch_url", "elasticsearch_url"])
def test_a_refused_field_is_named_with_what_is_wrong_with_it(
    request: pytest.FixtureRequest, url: str
) -> None:
    engine = connect_engine(request.getfixturevalue(url))
    assert isinstance(engine, ServerEngine)
    name = "error-texts"
    engine.index(name).create(META)
    try:
        mapping = {"properties": {"year": {"type": "long", "ignore_malformed": False}}}
        engine.request("PUT", f"/{name}/_mapping", mapping)
        (result,) = engine.index(name).bulk(
            [action("a", {"splade": {"heart": 1}, "text": "", "year": "x"})]
        )
    finally:
        engine.index(name).delete()
        engine.close()
    assert result.status == 400
    assert "failed to parse field [year] of type [long]" in result.reason
    assert 'For input string: "x"' in result.reason


def test_a_proxy_that_strips_the_header_of_the_product(stub: Stub) -> None:
    engine = ElasticsearchEngine(Address.parse(stub.url), "9.0.0")
    stub.further = {}
    stub.says(200, {"count": 5, "_shards": {"failed": 0}})
    with pytest.raises(EngineError) as caught:
        engine.index("docs").count()
    engine.close()
    assert str(caught.value) == (
        f"An answer of elasticsearch at {stub.url} lacks the header x-elastic-product, without "
        "which its Python client takes no answer. Let the proxy in between pass that header."
    )


@pytest.mark.parametrize("kind", [ElasticsearchEngine, OpenSearchEngine])
def test_an_answer_about_fewer_documents_than_were_sent_is_an_error(
    stub: Stub, kind: type[ServerEngine]
) -> None:
    engine = kind(Address.parse(stub.url), "9.0.0")
    one = {"index": {"status": 201, "result": "created"}}
    for items in ([], [one], [one] * 3, [one, {"index": {"status": 3}}]):
        stub.says(200, {"items": items})
        with pytest.raises(EngineError, match="sends an invalid answer"):
            engine.index("docs").bulk([action(id, {"splade": {"a": 1}}) for id in "ab"])
    engine.close()
    assert json.loads(stub.bodies[-1].splitlines()[0]) == {"index": {"_id": "a"}}
