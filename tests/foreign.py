"""Indices as others make them, on both servers, and what is looked at in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines.connect import connect_engine
from splade_es.engines.server import ServerEngine
from splade_es.index_handle import Index

TEXT = {"type": "text"}
DOCUMENTS: dict[str, Any] = {
    "a": {"body": "heart attack", "views": 1, "splade_year": 1999},
    "b": {"body": "chest pain", "views": 2, "splade_year": 2001},
    "no": {"views": 7},
}
FOUND: list[dict[str, Any]] = [{"term": {"splade_year": 1999}}, {"term": {"views": 7}}]


@pytest.fixture(params=["opensearch_url", "elasticsearch_url"])
def server(request: pytest.FixtureRequest) -> Iterator[ServerEngine]:
    engine = connect_engine(request.getfixturevalue(request.param))
    assert isinstance(engine, ServerEngine)
    yield engine
    engine.close()


@pytest.fixture
def foreign_name(server: ServerEngine) -> Iterator[str]:
    name = f"foreign-{uuid.uuid4().hex[:8]}"
    yield name
    for index in [*server.request("GET", "/_mapping")]:
        if index.startswith(name):
            server.request("DELETE", f"/{index}")


@pytest.fixture(scope="session")
def tiny_encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model)


def make(
    engine: ServerEngine,
    name: str,
    properties: Mapping[str, Any],
    documents: Mapping[str, Any],
    aliases: Mapping[str, Any] | None = None,
    **mapping: Any,
) -> Index:
    """An index as somebody else makes it, of two shards."""
    engine.request("PUT", f"/{name}", {
        "settings": {"number_of_shards": 2},
        "aliases": aliases or {},
        "mappings": {"properties": properties, **mapping},
    })  # fmt: skip
    for id, document in documents.items():
        engine.request("PUT", f"/{name}/_doc/{id}", document)
    index = engine.index(name)
    index.refresh()
    return Index(engine, name)


def products(engine: ServerEngine, name: str, **mapping: Any) -> Index:
    return make(engine, name, {"body": TEXT, "views": {"type": "integer"}}, DOCUMENTS, **mapping)


def state(engine: ServerEngine, name: str, queries: list[dict[str, Any]]) -> Any:
    """The fields of the others, the routings, what their queries find, and their mapping."""
    engine.index(name).refresh()
    hits = engine.request("POST", f"/{name}/_search", {"size": 100})["hits"]["hits"]
    sources = {
        hit["_id"]: (
            hit.get("_routing"),
            {k: v for k, v in hit.get("_source", {}).items()
             if not k.startswith("splade_") or k == "splade_year"},
        )
        for hit in hits
    }  # fmt: skip
    for _, source in sources.values():
        if not isinstance(source.get("splade"), str):
            source.pop("splade", None)
    found = [
        sorted(
            hit["_id"]
            for hit in engine.request("POST", f"/{name}/_search", {"query": q})["hits"]["hits"]
        )
        for q in queries
    ]
    return len(hits), sources, found


def whole(engine: ServerEngine, name: str) -> Any:
    """Everything an index has: each document, with its version, and the mapping."""
    engine.index(name).refresh()
    body = {"size": 100, "seq_no_primary_term": True}
    hits = engine.request("POST", f"/{name}/_search", body)["hits"]["hits"]
    return sorted(hits, key=lambda hit: hit["_id"]), engine.request("GET", f"/{name}/_mapping")


def features(index: Index, id: str) -> set[str]:
    """The tokens that the index found in a document, by any query."""
    query = "heart attack chest pain liver"
    return {part.token for part in index.explain(query, id).contributions}
