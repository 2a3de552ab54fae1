"""Whatever a server or a proxy answers: a result, or an error in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from any_engine import META, action
from splade_es.engines.address import Address, identify
from splade_es.engines.base import EngineIndex, IndexAlias, IndexSettings, IndexUpdates
from splade_es.engines.elasticsearch import ElasticsearchEngine
from splade_es.engines.opensearch import OpenSearchEngine
from splade_es.engines.server import ServerEngine
from splade_es.engines.transport import Known
from splade_es.errors import EngineError, QueryError, Unavailable
from splade_es.inspection.dashboards import import_saved_objects
from splade_es.mappings import index_body
from splade_es.records import Clause
from stub import Stub

ENGINES = [ElasticsearchEngine, OpenSearchEngine]
ACTIONS = [action(id, {"splade": {"heart": 1}, "text": ""}) for id in ("a", "b")]
CLAUSES = [Clause("heart", 1.0)]
HIT = {
    "_id": "a", "_score": 1.5, "_source": {"text": "heart"}, "fields": {"splade_id": ["a"]},
    "matched_queries": {"heart": 1.5}, "sort": [1], "_seq_no": 1, "_primary_term": 1,
}  # fmt: skip
FOUND = {"status": 200, "hits": {"hits": [HIT], "total": {"value": 1}}}
OURS = {"docs": {"mappings": index_body(META, {"type": "rank_features"})["mappings"]}}
SETTINGS = {"docs": {"settings": {"index": {"uuid": "u", "number_of_shards": "1"}}}}
DONE = {"acknowledged": True, "_shards": {"failed": 0}}
SIZES = {"store": {"size_in_bytes": 5}, "segments": {"file_sizes": {"doc": {"size_in_bytes": 5}}}}
ALIASES: dict[str, Any] = {"docs-1": {"aliases": {"docs": {}}}}
ITEMS = [{"index": {"status": 201, "result": "created"}}, {"index": {"status": 400, "error": {
    "type": "outer", "reason": "o", "caused_by": {"type": "inner", "reason": "i"}}}}]  # fmt: skip
HASHES = {"docs": [{"_id": "a", "_source": {"splade_hash": "h"}}, {"_id": "b", "found": False}]}
REFUSED = {"error": {"root_cause": [{"type": "t", "reason": "r"}], "type": "t", "reason": "r",
    "caused_by": {"type": "inner", "reason": "i"}}}  # fmt: skip

#: Every request of the product by the name of its method: what makes it, and a good answer.
CALLS: dict[str, tuple[Callable[[EngineIndex], Any], Any]] = {
    "create": (lambda index: index.create(META), DONE),
    "exists": (lambda index: index.exists(), {}),
    "meta": (lambda index: index.meta(), OURS),
    "uuid": (lambda index: index.uuid(), SETTINGS),
    "pin": (lambda index: index.pin(), SETTINGS),
    "replace_with": (lambda index: index.replace_with(index.engine.index("o")), ALIASES | DONE),
    "bulk": (lambda index: index.bulk(ACTIONS), {"items": ITEMS, **SETTINGS}),
    "refresh": (lambda index: index.refresh(), DONE),
    "count": (lambda index: index.count(), {"count": 5, "_shards": {"failed": 0}}),
    "hashes": (lambda index: index.hashes(["a", "b"]), HASHES),
    "ids": (lambda index: list(islice(index.ids(), 9)), FOUND),
    "force_merge": (lambda index: index.force_merge(), DONE),
    "search": (lambda index: index.search(CLAUSES, 10, contributions=True), FOUND),
    "search_many": (lambda index: index.search_many([CLAUSES], 10), {"responses": [FOUND]}),
    "search_bm25": (lambda index: index.search_bm25(["heart"], 10), {"responses": [FOUND]}),
    "document_frequencies": (
        lambda index: index.document_frequencies(["heart"]), {"responses": [FOUND]}
    ),
    "documents": (lambda index: index.documents(["a"]), FOUND),
    "explain": (lambda index: index.explain(CLAUSES, "a"), FOUND),
    "stats": (lambda index: index.stats(), {"_all": {"primaries": SIZES}, **DONE, "count": 5}),
    "delete": (lambda index: index.delete(), OURS),
    "read": (lambda index: index.settings.read(), SETTINGS),  # type: ignore[union-attr]
    "write": (lambda index: index.settings.write({"a": 1}), DONE),  # type: ignore[union-attr]
    "read_notes": (lambda index: index.settings.read_notes(), OURS),  # type: ignore[union-attr]
    "write_notes": (lambda index: index.settings.write_notes({}), OURS),  # type: ignore[union-attr]
    "targets": (lambda index: index.alias.targets(), ALIASES),  # type: ignore[union-attr]
    "move": (lambda index: index.alias.move(["a"], "b"), DONE),  # type: ignore[union-attr]
    "check_own": (lambda index: index.check_own(), OURS),
    "features_field": (lambda index: index.updates.features_field(), OURS),  # type: ignore[union-attr]
    "check": (
        lambda index: index.updates.check(["text"]), OURS | FOUND  # type: ignore[union-attr]
    ),
    "add_features": (
        lambda index: index.updates.add_features(META, "v"), OURS  # type: ignore[union-attr]
    ),
    "note_text_fields": (
        lambda index: index.updates.note_text_fields(["text"]), OURS  # type: ignore[union-attr]
    ),
    "shards": (lambda index: index.updates.shards(), SETTINGS),  # type: ignore[union-attr]
    "changes": (
        lambda index: list(islice(index.updates.changes(0, ["text"]), 9)),  # type: ignore[union-attr]
        FOUND,
    ),
    "indices": (lambda index: index.engine.indices(), OURS),
    "identify": (
        lambda index: identify(Address.parse(index.engine.where)),
        {"version": {"number": "9.0.0"}, "tagline": "You Know, for Search",
         "nodes": {"a": {"version": "9.0.0", "build_flavor": "default"}}},
    ),
    "import_saved_objects": (
        lambda index: import_saved_objects(index.engine.where, [{"id": "d", "type": "dashboard"}]),
        {"success": False, "successCount": 0, "successResults": [{"type": "dashboard"}],
         "errors": [{"type": "lens", "id": "1", "error": {"type": "missing_references",
                     "references": [{"id": "x"}]}}]},
    ),
}  # fmt: skip

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from(["²", "1e999", "\ud800", "x\x1b[31m"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["error", "hits", "type", "status", "a"]), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, good: Any) -> Any:
    """A good answer in which something is missing, or something else."""
    answer = copy.deepcopy(good)
    for _ in range(draw(st.integers(0, 2))):
        at = answer
        while isinstance(at, dict | list) and at:
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            inner = at[key]
            if draw(st.booleans()) or not (isinstance(inner, dict | list) and inner):
                if draw(st.booleans()):
                    del at[key]
                else:
                    at[key] = draw(json_values)
                break
            at = inner
    return answer


@st.composite
def bodies(draw: st.DrawFn, good: Any) -> bytes:
    kind = draw(
        st.sampled_from(["damaged"] * 6 + ["refused", "any", "cut", "page", "bytes", "deep"])
    )
    if kind == "page":
        return draw(st.sampled_from([b"", b"<html><h1>nginx</h1></html>", b"null", b"[]", b"NaN"]))
    if kind == "bytes":
        return draw(st.binary(max_size=20))
    if kind == "deep":
        return b"[" * 3_000
    value = draw(json_values if kind == "any" else damaged(REFUSED if kind == "refused" else good))
    body = json.dumps(value).encode()
    return body[: draw(st.integers(0, len(body)))] if kind == "cut" else body


@pytest.mark.parametrize("kind", ENGINES)
@settings(
    max_examples=300, deadline=None, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(data=st.data())
def test_an_answer_of_any_shape_is_a_result_or_an_error_in_one_line(
    stub: Stub, kind: type[ServerEngine], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(CALLS)))
    call, good = CALLS[name]
    status = data.draw(st.sampled_from([200] * 6 + [201, 302, 400, 401, 403, 404, 413, 429, 503]))
    content_type = data.draw(
        st.sampled_from(["application/json"] * 4 + ["text/html", "text/plain", "", "é", "a/b;c=d"])
    )
    stub.says(status, data.draw(bodies(good)), content_type)
    stub.finds_index = data.draw(st.booleans())
    stub.missing = data.draw(st.sampled_from([0, 0, 0, 0, 7]))
    retry_after = data.draw(st.sampled_from(["1", "²", "-1", "1e999", "nan", "Fri, 31 Dec 1999"]))
    stub.further = {"retry-after": retry_after, "x-elastic-product": "Elasticsearch"}
    if data.draw(st.sampled_from([False] * 5 + [True])):
        del stub.further["x-elastic-product"]
    engine = kind(Address.parse(stub.url), "9.0.0")
    if data.draw(st.booleans()):
        engine.known["docs"] = Known(engine.feature_fields[0], "splade", {"text": ""})
    try:
        call(engine.index("docs"))
    except (EngineError, QueryError) as error:
        assert error.message and "\n" not in str(error)
        if isinstance(error, Unavailable):
            assert error.retry_after >= 0
    finally:
        engine.close()


def test_every_request_of_an_engine_is_among_those_tried() -> None:
    parts = (EngineIndex, IndexSettings, IndexAlias, IndexUpdates)
    methods = {
        name
        for part in parts
        for name, value in vars(part).items()
        if callable(value) and not name.startswith("_")
    }
    assert methods <= CALLS.keys()
