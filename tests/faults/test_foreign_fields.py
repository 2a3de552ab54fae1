"""Features for documents of others: their own fields stay, and the text may be anywhere."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from command_line import error, run
from foreign import FOUND, TEXT, features, make, products, state, whole
from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines.server import ServerEngine
from splade_es.errors import IndexMismatch, IndexReplaced, SettingsError, SpladeEsError

pytestmark = pytest.mark.usefixtures("home")


def test_fields_of_others_stay_whatever_their_names(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    index = products(server, foreign_name)
    routed = {"body": "heart", "splade_year": 2020}
    server.request("PUT", f"/{foreign_name}/_doc/r?routing=there", routed)
    before = state(server, foreign_name, FOUND)
    assert index.backfill(["body"], tiny_encoder).updated == 3
    assert state(server, foreign_name, FOUND) == before
    server.request("POST", f"/{foreign_name}/_update/a", {"doc": {"body": "liver"}})
    server.request("PUT", f"/{foreign_name}/_doc/r?routing=there", {**routed, "body": "eye"})
    before = state(server, foreign_name, FOUND)
    old = features(index, "a")
    assert index.backfill(["body"], tiny_encoder).updated == 2
    assert state(server, foreign_name, FOUND) == before
    assert features(index, "a") != old
    assert index.backfill(["body"], tiny_encoder).unchanged == 3
    # and they are shown, and can be filtered by
    (hit,) = index.search("liver", filter={"splade_year": 1999})
    (document,) = index.documents(["a"])
    assert hit.source["splade_year"] == document.fields["splade_year"] == 1999
    (hit,) = index.search("liver", mode="bm25")
    assert hit.source["splade_year"] == 1999


def test_vectors_of_others_stay(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    if server.name == "opensearch":
        fields: dict[str, Any] = {"splade_own": {"type": "rank_features"}}
        queries: list[dict[str, Any]] = [{"rank_feature": {"field": "splade_own.x", "linear": {}}}]
    else:  # which keeps them out of `_source`
        fields = {
            "splade_own": {"type": "sparse_vector"},
            "splade_dense": {"type": "dense_vector", "dims": 2},
        }
        queries = [
            {"term": {"splade_own": "x"}},
            {"knn": {"field": "splade_dense", "query_vector": [1, 2], "k": 1}},
        ]
    documents: dict[str, Any] = {}
    documents["a"] = {"body": "heart attack", "splade_own": {"x": 1.5}, "splade_dense": [1, 2]}
    index = make(server, foreign_name, {"body": TEXT, **fields}, documents)
    before = state(server, foreign_name, queries)
    for text in ("heart attack", "chest pain"):
        server.request("POST", f"/{foreign_name}/_update/a", {"doc": {"body": text}})
        assert index.backfill(["body"], tiny_encoder).updated == 1
    count, sources, found = state(server, foreign_name, queries)
    assert (count, found) == (1, [["a"]] * len(queries)) and before[2] == found
    assert sources["a"][1] | {"body": 0} == before[1]["a"][1] | {"body": 0}


def test_passages_are_one_text_in_their_order(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    passages = [{"text": "heart attack", "n": 1}, {"text": ["chest", "pain"], "n": 2}, {"n": 3}]
    inner = {"properties": {"text": TEXT, "n": {"type": "integer"}}}
    fields = {"nested": {"type": "nested", **inner}, "list": {**inner}, "title": TEXT}
    documents = {
        "n": {"nested": passages}, "l": {"list": passages, "title": "eye"},
        "dots": {"list.text": "milk"}, "no": {"nested": [{"n": 9}], "list": []},
    }  # fmt: skip
    index = make(server, foreign_name, fields, documents)
    before = state(server, foreign_name, [{"term": {"list.n": 3}}])
    done = index.backfill(["title", "nested.text", "list.text"], tiny_encoder)
    assert (done.updated, done.without) == (3, 1)
    assert state(server, foreign_name, [{"term": {"list.n": 3}}]) == before
    texts = {document.id: document.text for document in index.documents([*documents])}
    expected = "heart attack chest pain"
    assert texts == {"n": expected, "l": f"eye {expected}", "dots": "milk", "no": ""}
    assert {hit.id for hit in index.search("chest", mode="bm25")} == {"n", "l"}
    why = index.explain("chest", "n")
    assert why.bm25_rank and why.body == expected and why.contributions


def test_the_features_may_have_a_field_of_another_name(
    server: ServerEngine,
    foreign_name: str,
    tiny_encoder: Encoder,
    request: pytest.FixtureRequest,
) -> None:
    documents = {"a": {"body": "heart attack", "splade": "theirs"}, "b": {"body": "eye"}}
    fields = {"body": TEXT, "splade": {"type": "keyword"}}
    index = make(server, foreign_name, fields, documents)
    queries: list[dict[str, Any]] = [{"term": {"splade": "theirs"}}]
    before = state(server, foreign_name, queries)
    url = request.getfixturevalue(f"{server.name}_url")
    command = ("backfill", "--index", foreign_name, "--field", "body", "--model", tiny_encoder.name)
    said = error(*command, "--field", "bodi", "--url", url)
    assert said.startswith(
        f"No document of {foreign_name!r} has text in bodi. Its fields with text"
    )
    said = error(*command, "--url", url)
    assert "already has a field 'splade'. Set --features-field to a new name." in said
    for bad in ("a.b", "_x", "splade_id", ""):
        with pytest.raises(SettingsError, match="`features_field` cannot be"):
            index.backfill(["body"], tiny_encoder, features_field=bad)
    done = run(*command, "--url", url, "--features-field", "vector", "--json")
    assert json.loads(done.stdout)["updated"] == 2
    server.request(
        "POST", f"/{foreign_name}/_update/b?refresh=true", {"doc": {"body": "heart pain"}}
    )
    assert index.backfill(["body"], tiny_encoder).updated == 1  # the index remembers the name
    assert index.backfill(["body"], tiny_encoder, features_field="vector").unchanged == 2
    with pytest.raises(IndexMismatch, match=r"are in the field 'vector'\. Leave out"):
        index.backfill(["body"], tiny_encoder, features_field="other")
    before[1]["b"][1]["body"] = "heart pain"
    count, sources, found = state(server, foreign_name, queries)
    for _, source in sources.values():
        source.pop("vector", None)
    assert (count, sources, found) == before

    plain = make(server, f"{foreign_name}-plain", {"body": TEXT}, {
        "a": {"body": "heart attack"}, "b": {"body": "heart pain"},
    })  # fmt: skip
    plain.backfill(["body"], tiny_encoder)
    ours, theirs = ([(h.id, h.score, h.contributions) for h in i.search(
        "heart pain", contributions=True)] for i in (index, plain))  # fmt: skip
    assert ours == theirs and ours
    # BM25 still counts the words of the document that was changed
    explained, expected = (i.explain("heart pain", "a")._replace(bm25=None) for i in (index, plain))
    assert explained == expected
    assert index.stats().documents == 2 and index.stats().field_type == plain.stats().field_type
    names = ["heart", "pain", "eye"]
    of = server.index(foreign_name).document_frequencies(names)
    assert of == server.index(plain.name).document_frequencies(names) and any(of)
    hit = next(hit for hit in index.search("heart") if hit.id == "a")
    (document,) = index.documents(["a"])
    assert hit.source["splade"] == document.fields["splade"] == "theirs"
    assert "vector" not in {**hit.source, **document.fields}


def test_no_ingest_pipeline_changes_a_document(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    processor: dict[str, Any] = {"set": {"field": "body", "value": "changed"}}
    if server.name == "elasticsearch":  # comes with this one alone
        processor = {"set_security_user": {"field": "user"}}
    index = products(server, foreign_name)
    try:
        server.request("PUT", f"/_ingest/pipeline/{foreign_name}", {"processors": [processor]})
    except SpladeEsError:
        pytest.skip("this server comes without ingest processors")
    pipelines = {"default_pipeline": foreign_name, "final_pipeline": foreign_name}
    try:
        server.request("PUT", f"/{foreign_name}/_settings", pipelines)
        for text in ("heart attack", "chest pain"):
            lines: list[Any] = [{"update": {"_id": "a"}}, {"doc": {"body": text}}]
            server.request("POST", f"/{foreign_name}/_bulk?refresh=true", *lines)
            before = state(server, foreign_name, FOUND)
            assert index.backfill(["body"], tiny_encoder).rejected == 0
            assert state(server, foreign_name, FOUND) == before
        assert features(index, "a")
    finally:
        server.request("PUT", f"/{foreign_name}/_settings", dict.fromkeys(pipelines))
        server.request("DELETE", f"/_ingest/pipeline/{foreign_name}")


def test_an_index_that_is_made_again_under_a_backfill_is_noticed(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    documents = {str(n): {"body": "heart attack"} for n in range(3)}
    index = make(server, foreign_name, {"body": TEXT}, documents)
    steps = index.backfill_steps(["body"], tiny_encoder)
    while not next(steps).updated:
        pass
    server.request("DELETE", f"/{foreign_name}")
    make(server, foreign_name, {"body": TEXT}, documents, dynamic="strict")
    # the latter between two passes
    with pytest.raises((IndexReplaced, IndexMismatch)):
        list(steps)
    assert whole(server, foreign_name)[1][foreign_name]["mappings"]["properties"] == {"body": TEXT}


def test_two_models_at_a_time_are_noticed(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    documents = {str(n): {"body": "heart attack"} for n in range(3)}
    index = make(server, foreign_name, {"body": TEXT}, documents)
    steps = index.backfill_steps(["body"], tiny_encoder)
    while not next(steps).updated:
        pass
    # as a second backfill does, that has looked before the first one began
    other = replace(index.meta(), fingerprint="other")
    meta = server.request("GET", f"/{foreign_name}/_mapping")[foreign_name]["mappings"]["_meta"]
    meta["splade_es"] = other.to_dict()
    server.request("PUT", f"/{foreign_name}/_mapping", {"_meta": meta})
    with pytest.raises(IndexMismatch, match="was made with another model"):
        list(steps)
