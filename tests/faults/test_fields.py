"""Whatever a corpus has beside its texts is kept and can be compared, and refuses no document."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import splade_es
from any_engine import META, SERVERS
from models import TEXTS
from splade_es.engines.server import ServerEngine
from splade_es.mappings import IndexDesign, index_body

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(params=["local", "opensearch", "elasticsearch"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[splade_es.Engine]:
    url = f"local:{tmp_path / 'indices'}"
    if request.param != "local":
        url = request.getfixturevalue(SERVERS[request.param])
    with splade_es.connect(url) as engine:
        yield engine


@pytest.fixture
def name(engine: splade_es.Engine) -> Iterator[str]:
    name = f"fields-{uuid.uuid4().hex[:8]}"
    yield name
    for index in engine.indices():
        if index.startswith(name):
            engine.index(index).delete()


def server(engine: splade_es.Engine) -> ServerEngine:
    if engine.name == "local":
        pytest.skip("what is tested here only servers have")
    assert isinstance(engine._engine, ServerEngine)
    return engine._engine


def corpus(folder: Path, fields: list[dict[str, Any]]) -> Path:
    path = folder / "corpus.jsonl"
    lines = [{"_id": str(n), "text": "heart attack", **own} for n, own in enumerate(fields)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def nested(depth: int, value: Any, *, in_lists: bool = False) -> Any:
    for _ in range(depth):
        value = [value] if in_lists else {"d": value}
    return value


def test_no_field_refuses_a_document(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    odd = [
        {"mixed": [1, "a", {"x": 1}, [None, True]]},
        {"meta": {"size": 5}},
        {"meta": {"size": "large"}},
        {"meta": "none"},
        {"meta": [{"size": 1}, 2]},
        {"site": "cdc"},
        {"site": {"name": "cdc"}},
        {f"key{n}": n for n in range(3000)},
        nested(200, 7),
        {"deep": nested(200, 7, in_lists=True)},
        {"long": "x" * 100_000},
        {"when": "2020-01-01"},
        {"when": "never"},
        {"big": 12345678901234567890123},
        {"dotted.name": 1, "dotted": {"name": 2}},
        {"a=b": "c", "equal=sign": 10**15},
    ]
    done = engine.index(name).load(corpus(tmp_path, odd), tiny_model)
    assert (done.indexed, done.rejected) == (len(odd), 0)
    kept = engine.index(name).documents([str(n) for n in range(len(odd))])
    assert [dict(document.fields) for document in kept] == odd
    filters: dict[str, tuple[Any, list[str]]] = {
        "mixed": (1, ["0"]), "meta.size": (["large", 1], ["2", "4"]), "site": ("cdc", ["5"]),
        "site.name": ("cdc", ["6"]), "key2999": (2999, ["7"]), "deep": (7, ["9"]),
        "when": ("never", ["12"]), "big": (12345678901234567890123, ["13"]),
        "dotted.name": (2, ["14"]), "meta": (2, ["4"]), "a": ("b=c", []),
        "equal=sign": (1e15, ["15"]),
    }  # fmt: skip
    for field, (value, expected) in filters.items():
        hits = engine.index(name).search("heart", 20, filter={field: value})
        assert {hit.id for hit in hits} == set(expected), field
        assert not hits or "splade_fields" not in hits[0].source
        words = engine.index(name).search("heart", 20, mode="bm25", filter={field: value})
        assert {hit.id for hit in words} == set(expected), field
    if engine.name != "local":
        mapping = server(engine).request("GET", f"/{name}/_mapping")[name]["mappings"]
        assert {*mapping["properties"]} <= {"title", "text"} | {
            field for field in mapping["properties"] if field.startswith("splade")
        }


def test_a_mapping_and_settings_of_the_user(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    path = corpus(tmp_path, [{"year": 2019}, {"year": 2021}, {"year": "unknown"}])
    own: Any = {
        "mapping": {
            "properties": {
                "year": {"type": "integer"},
                "text": {"fields": {"whole": {"type": "keyword"}}},
            }
        },
        "settings": {"index.refresh_interval": "7s", "analysis": {"analyzer": {"plain": {
            "type": "custom", "tokenizer": "standard"}}}},
        "shards": 2, "replicas": 0, "analyzer": "plain",
    }  # fmt: skip
    if engine.name == "local":
        with pytest.raises(splade_es.EngineError, match="The local engine has no analyzer"):
            engine.index(name).load(path, tiny_model, **own)
        return
    assert engine.index(name).load(path, tiny_model, **own).indexed == 3
    query = {"query": {"range": {"year": {"gte": 2020}}}}
    found = server(engine).request("POST", f"/{name}/_search", query)["hits"]["hits"]
    assert [hit["_id"] for hit in found] == ["1"]
    assert {h.id for h in engine.index(name).search("heart", filter={"year": 2019})} == {"0"}
    settings = server(engine).request("GET", f"/{name}/_settings")[name]["settings"]["index"]
    assert settings["refresh_interval"] == "7s"
    assert (settings["number_of_shards"], settings["number_of_replicas"]) == ("2", "0")
    mapping = server(engine).request("GET", f"/{name}/_mapping")[name]["mappings"]["properties"]
    assert mapping["text"]["analyzer"] == mapping["title"]["analyzer"] == "plain"
    assert mapping["text"]["fields"]["whole"]["type"] == "keyword"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mapping": {"properties": {"splade": {"type": "keyword"}}}}, "changes 'splade'"),
        ({"mapping": {"_source": {"enabled": False}}}, "changes '_source'"),
        ({"mapping": {"properties": []}}, "properties that are no object"),
        ({"shards": 0}, "one or more `shards`"),
        ({"settings": {"index": 5}}, "an `index`, or in it a `mapping`, that is no object"),
        ({"settings": {"mapping": None}}, "an `index`, or in it a `mapping`, that is no object"),
    ],
)
def test_what_may_not_be_chosen(
    opensearch_url: str, settings: Any, said: str, tiny_model: str, tmp_path: Path
) -> None:
    with (
        splade_es.connect(opensearch_url) as engine,
        pytest.raises(splade_es.SettingsError, match=said),
    ):
        engine.index("never-made").load(corpus(tmp_path, [{}]), tiny_model, **settings)


def test_settings_may_be_spelled_in_every_way() -> None:
    given = {
        "index": {"analysis": {"analyzer": {"a": {"type": "stop"}}}},
        "analysis.filter.f": {"type": "stop"}, "index.number_of_replicas": 2,
    }  # fmt: skip
    body = index_body(META, {"type": "rank_features"}, IndexDesign(settings=given))
    settings = body["settings"]["index"]
    assert {"default", "a"} == settings["analysis"]["analyzer"].keys()
    assert settings["analysis"]["filter"] == {"f": {"type": "stop"}}
    assert settings["number_of_replicas"] == 2 and "auto_expand_replicas" not in settings


def test_shards_change_no_score(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    server(engine)
    words = " ".join(TEXTS.values()).split()
    path = tmp_path / "corpus.jsonl"
    texts = [" ".join(words[n % 7 : n % 7 + 3 + n % 11]) for n in range(120)]
    path.write_text(
        "".join(json.dumps({"_id": str(n), "text": text}) + "\n" for n, text in enumerate(texts))
    )
    queries = ["heart attack", "vision loss of the eye", "vitamin"]
    scores: list[Any] = []
    for shards in (1, 2, 5, 10):
        index = engine.index(f"{name}-{shards}")
        assert index.load(path, tiny_model, shards=shards).indexed == 120
        scores.append(
            {
                (mode, query): {hit.id: hit.score for hit in index.search(query, 200, mode=mode)}
                for mode in ("splade", "bm25")
                for query in queries
            }
        )
    assert all(scores[0].values())
    assert scores[1] == scores[0] and scores[2] == scores[0] and scores[3] == scores[0]
