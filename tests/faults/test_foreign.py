"""Indices that others made: nothing of theirs is lost, replaced or deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foreign import TEXT, features, make, products, whole
from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines.server import ServerEngine
from splade_es.errors import EngineError, IndexMismatch, SettingsError
from splade_es.index_handle import Index

pytestmark = pytest.mark.usefixtures("home")


def test_a_later_run_that_names_a_wrong_field_changes_nothing(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    index = make(server, foreign_name, {
        "description": {"type": "text", "copy_to": "all", "fields": {"raw": {"type": "keyword"}}},
        "all": TEXT, "views": {"type": "integer"}, "tags": {"type": "keyword"},
        "short": {"type": "alias", "path": "description"}, "maker": {"properties": {"name": TEXT}},
    }, {"a": {"description": "heart attack", "views": 1}})  # fmt: skip
    wrong = {
        "descripton": "No document of .* has text in descripton. Its .* are 'description'.",
        "views": "The field 'views' .* is of type integer, not text. Its fields with text are ",
        "tags": "No document of .* has text in tags",
        "all": "No document of .* has text in all. Its fields with text are 'description'",
        "short": "only shows 'description'. Name 'description'.",
        "description.raw": "only shows 'description'. Name 'description'.",
        "maker": "of type object, not text. Its fields with text are 'maker.name'.",
    }
    for _ in range(2):
        before = whole(server, foreign_name)
        for field, says in wrong.items():
            with pytest.raises(EngineError, match=says):
                index.backfill(["description", field], tiny_encoder)
        with pytest.raises(SettingsError, match="`fields` is empty"):
            index.backfill([], tiny_encoder)
        with pytest.raises(EngineError, match=r"None of the first 1 texts .* gets a term"):
            index.backfill(["description"], tiny_encoder, threshold=100.0)
        assert whole(server, foreign_name) == before
        index.backfill(["description"], tiny_encoder)
        assert features(index, "a")


@pytest.mark.parametrize(
    ("source", "lost"),
    [
        ({"excludes": ["sec*", "views"]}, "'secret.word', 'views'"),
        ({"includes": ["body", "views"]}, "'secret.word'"),
        ({"enabled": False}, "'body', 'secret.word', 'views'"),
    ],
)
def test_what_an_update_would_lose_is_refused(
    server: ServerEngine,
    foreign_name: str,
    tiny_encoder: Encoder,
    source: dict[str, Any],
    lost: str,
) -> None:
    fields = {"body": TEXT, "secret": {"properties": {"word": TEXT}}, "views": {"type": "integer"}}
    document = {"body": "heart", "secret": {"word": "x"}, "views": 3}
    index = make(server, foreign_name, fields, {"a": document}, _source=source)
    before = whole(server, foreign_name)
    with pytest.raises(EngineError, match=f"is without {lost}, which an update"):
        index.backfill(["body"], tiny_encoder)
    assert whole(server, foreign_name) == before


@pytest.mark.parametrize("source", [{"includes": ["body"]}, {"excludes": ["splade*"]}])
def test_a_source_without_our_fields_alone_is_no_loss(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder, source: dict[str, Any]
) -> None:
    index = make(
        server,
        foreign_name,
        {"body": TEXT},
        {"a": {"body": "heart attack"}},
        _source=source,
    )
    assert index.backfill(["body"], tiny_encoder).updated == 1  # and it ends
    assert index.backfill(["body"], tiny_encoder).unchanged == 1
    assert features(index, "a")


@pytest.mark.parametrize("marked", [False, True])
def test_documents_of_others_are_not_loaded_over_or_deleted(
    server: ServerEngine,
    foreign_name: str,
    tiny_encoder: Encoder,
    tmp_path: Path,
    marked: bool,
) -> None:
    alias = f"{foreign_name}-live"
    index = products(server, foreign_name, aliases={alias: {}})
    if marked:
        index.backfill(["body"], tiny_encoder)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "a", "text": "vitamin"}\n')
    before = whole(server, foreign_name)
    says = "Others made the index" if marked else "splade-es did not make the index"
    settings: list[dict[str, Any]] = [
        {}, {"recreate": True}, {"delete_missing": True, "max_shrink": 1.0}, {"resume": True},
    ]  # fmt: skip
    for handle in (index, Index(server, alias)):
        for given in settings:
            with pytest.raises(IndexMismatch, match=f"{says} .* backfill"):
                handle.load(corpus, tiny_encoder, **given)
        with pytest.raises(IndexMismatch, match=says):
            handle.delete()
        with pytest.raises(IndexMismatch, match=says):
            server.index(handle.name).replace_with(server.index("any"))
    with pytest.raises(IndexMismatch, match=f"{foreign_name!r} .* the alias {alias!r} points"):
        Index(server, alias).load(corpus, tiny_encoder, alias=True)
    assert whole(server, foreign_name) == before
    assert [i for i in server.request("GET", "/_mapping") if i.startswith(foreign_name)] == [
        foreign_name
    ]
    assert server.index(alias).alias.targets() == [foreign_name]  # type: ignore[union-attr]
    assert not [*tmp_path.glob("*.journal")]


def test_no_way_back_leads_to_an_index_of_others(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text('{"_id": "a", "text": "vitamin"}\n')
    alias = Index(server, foreign_name)
    first, second = (alias.load(corpus, tiny_encoder, alias=True).index for _ in range(2))
    server.index(first).delete()
    products(server, first)  # by the same name
    with pytest.raises(IndexMismatch, match="splade-es did not make the index"):
        alias.rollback()
    assert server.index(foreign_name).alias.targets() == [second]  # type: ignore[union-attr]


def test_a_field_that_only_documents_know_is_not_overwritten(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    documents = {"a": {"body": "heart", "splade_n": 3}, "b": {"body": "pain"}}
    index = make(server, foreign_name, {"body": TEXT}, documents, dynamic=False)
    before = whole(server, foreign_name)
    with pytest.raises(IndexMismatch, match="already has a field 'splade_n'"):
        index.backfill(["body"], tiny_encoder)
    assert whole(server, foreign_name) == before


def test_what_takes_no_updates_is_refused(
    server: ServerEngine, foreign_name: str, tiny_encoder: Encoder
) -> None:
    names = {what: f"{foreign_name}-{what}" for what in ("routed", "read", "both", "good")}
    aliases = {
        names["routed"]: {"routing": "7"}, names["read"]: {"is_write_index": False},
        names["both"]: {}, names["good"]: {"filter": {"exists": {"field": "body"}}},
    }  # fmt: skip
    products(server, foreign_name, aliases=aliases)
    make(server, f"{foreign_name}-2", {"body": TEXT}, {}, aliases={names["both"]: {}})
    before = whole(server, foreign_name)
    routes = (
        f"is an alias that routes its documents or takes none. Name the index '{foreign_name}'."
    )
    for what, says in {
        "routed": routes,
        "read": routes,
        "both": "stands for 2 indices .* Name one of them.",
    }.items():
        with pytest.raises(EngineError, match=says):
            Index(server, names[what]).backfill(["body"], tiny_encoder)
    assert whole(server, foreign_name) == before
    assert Index(server, names["good"]).backfill(["body"], tiny_encoder).updated == 2
    if server.name == "elasticsearch":
        # the one that the tests start has no data streams, and OpenSearch no time series
        tags = {"type": "keyword", "time_series_dimension": True}
        server.request("PUT", f"/{foreign_name}-3", {
            "settings": {"mode": "time_series", "routing_path": ["tags"]},
            "mappings": {"properties": {"body": TEXT, "tags": tags}},
        })  # fmt: skip
        with pytest.raises(EngineError, match="is a time series, whose documents cannot be"):
            Index(server, f"{foreign_name}-3").backfill(["body"], tiny_encoder)
        return
    stream = f"stream-{foreign_name}"
    template = {"index_patterns": [stream], "data_stream": {}, "priority": 500}
    server.request("PUT", f"/_index_template/{stream}", template)
    try:
        line = {"@timestamp": "2026-01-01", "body": "heart"}
        server.request("POST", f"/{stream}/_doc?refresh=true", line)
        for _ in range(2):
            with pytest.raises(EngineError, match="is a data stream, whose documents cannot be"):
                Index(server, stream).backfill(["body"], tiny_encoder)
            server.request("POST", f"/{stream}/_rollover")
    finally:
        server.request("DELETE", f"/_data_stream/{stream}")
        server.request("DELETE", f"/_index_template/{stream}")
