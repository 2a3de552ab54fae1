"""A refusal that is none of the documents' ends a load; one that is, is counted as one."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import splade_es
from any_engine import SERVERS
from models import TEXTS
from servers import CREATOR, USER, or_skip, running_cluster
from splade_es.engines.server import ServerEngine

pytestmark = pytest.mark.usefixtures("home")

GOOD = [{"_id": id, "text": text} for id, text in TEXTS.items()]


@pytest.fixture(params=["opensearch", "elasticsearch"])
def engine(request: pytest.FixtureRequest) -> Iterator[splade_es.Engine]:
    with splade_es.connect(request.getfixturevalue(SERVERS[request.param])) as engine:
        yield engine


@pytest.fixture
def name(engine: splade_es.Engine) -> Iterator[str]:
    name = f"refusals-{uuid.uuid4().hex[:8]}"
    yield name
    server(engine).request("DELETE", f"/{name}?ignore_unavailable=true")


def server(engine: splade_es.Engine) -> ServerEngine:
    assert isinstance(engine._engine, ServerEngine)
    return engine._engine


def corpus(folder: Path, lines: list[dict[str, Any]]) -> Path:
    path = folder / "corpus.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def journal(path: Path, name: str) -> Path:
    return path.with_name(f"{path.name}.{name}.journal")


def test_an_index_with_required_routing(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    """A template asks for it, say; no document can meet it."""
    template = {
        "index_patterns": [name],
        "template": {"mappings": {"_routing": {"required": True}}},
    }
    server(engine).request("PUT", f"/_index_template/{name}", template)
    try:
        path = corpus(tmp_path, GOOD)
        with pytest.raises(splade_es.EngineError, match="routing is required") as caught:
            engine.index(name).load(path, tiny_model, rejects=str(tmp_path / "rejects"))
    finally:
        server(engine).request("DELETE", f"/_index_template/{name}")
    assert "`_routing` is not required" in str(caught.value)
    assert journal(path, name).exists() and not (tmp_path / "rejects").exists()


def test_a_pipeline_that_does_not_exist(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    index, path = engine.index(name), corpus(tmp_path, GOOD)
    index.load(corpus(tmp_path, GOOD[:1]), tiny_model)
    settings = server(engine).index(name).settings
    assert settings is not None
    settings.write({"default_pipeline": "nowhere"})
    path = corpus(tmp_path, GOOD)
    # OpenSearch as it is started here has no node for pipelines, and says so instead
    with pytest.raises(splade_es.EngineError, match=r"nowhere\] does not exist|ingest node"):
        index.load(path, tiny_model, rejects=str(tmp_path / "rejects"))
    assert journal(path, name).exists() and not (tmp_path / "rejects").exists()
    settings.write({"default_pipeline": None})
    assert index.load(path, tiny_model, resume=True).indexed == 4


def test_a_user_who_may_create_documents_only(
    elasticsearch_url: str, tiny_model: str, tmp_path: Path
) -> None:
    name = f"books-{uuid.uuid4().hex[:8]}"
    limited_url = elasticsearch_url.replace(f"//{USER}:", f"//{CREATOR}:")
    with splade_es.connect(elasticsearch_url) as engine, splade_es.connect(limited_url) as limited:
        engine.index(name).load(corpus(tmp_path, GOOD[:1]), tiny_model)
        path = corpus(tmp_path, GOOD)
        with pytest.raises(splade_es.AccessDenied, match="unauthorized") as caught:
            limited.index(name).load(path, tiny_model, rejects=str(tmp_path / "rejects"))
        assert "continue with `resume`" in str(caught.value)
        assert journal(path, name).exists() and not (tmp_path / "rejects").exists()
        assert engine.index(name).load(path, tiny_model, resume=True).indexed == 4
        engine.index(name).delete()


def test_the_same_refusal_of_the_first_hundreds_ends_the_load(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    index, rejects = engine.index(name), tmp_path / "rejects"
    index.load(corpus(tmp_path, GOOD), tiny_model)
    year = {"year": {"type": "long", "ignore_malformed": False}}
    lenient = {"year": {"type": "long", "ignore_malformed": True}}
    server(engine).request("PUT", f"/{name}/_mapping", {"properties": year})
    lines = [{"_id": f"bad{n}", "text": "vitamin milk", "year": "MMXX"} for n in range(2000)]
    path = corpus(tmp_path, lines)
    with pytest.raises(
        splade_es.EngineError, match=r"refused the first [\d,]+ documents"
    ) as caught:
        index.load(path, tiny_model, rejects=str(rejects))
    assert re.search(r"corpus.jsonl:\d+ for example \(400: ", str(caught.value))
    assert "continue with `resume`" in str(caught.value) and not rejects.exists()

    # what a repair lets through is then loaded, because nothing counted as refused
    server(engine).request("PUT", f"/{name}/_mapping", {"properties": lenient})
    assert index.load(path, tiny_model, resume=True).indexed == 2000

    # fewer, or others between them, are bad lines as before
    server(engine).request("PUT", f"/{name}/_mapping", {"properties": year})
    few = [{"_id": f"few{n}", "text": "vitamin milk", "year": "MMXX"} for n in range(100)]
    done = index.load(corpus(tmp_path, few), tiny_model, rejects=str(rejects))
    assert (done.indexed, done.rejected) == (0, 100)
    mixed = [*lines, {"_id": "good", "text": "vitamin milk"}]
    mixed.insert(3, {"_id": "good", "text": "milk"})
    for n, line in enumerate(mixed):
        line["_id"] += f"-{n}"
    done = index.load(corpus(tmp_path, mixed), tiny_model, rejects=str(rejects))
    assert (done.indexed, done.rejected) == (2, 2000)
    # and the same corpus again sends only what was refused
    done = index.load(tmp_path / "corpus.jsonl", tiny_model, rejects=str(rejects))
    assert (done.unchanged, done.rejected) == (2, 2000)
    with pytest.raises(splade_es.CorpusError, match="refused it"):
        index.load(corpus(tmp_path, lines), tiny_model, fail_fast=True)


@pytest.fixture(scope="module")
def ingesting() -> Iterator[splade_es.Engine]:
    """OpenSearch with pipelines, which the servers of most tests come without."""
    with or_skip(), running_cluster(1) as (node,), splade_es.connect(node.url) as engine:
        yield engine


def test_what_a_pipeline_drops_is_not_counted(
    ingesting: splade_es.Engine, tiny_model: str, tmp_path: Path
) -> None:
    index, dropping = ingesting.index("dropped"), server(ingesting)
    index.load(corpus(tmp_path, GOOD[:1]), tiny_model)
    pipeline = {"processors": [{"drop": {"if": "ctx.text.contains('eye')"}}]}
    dropping.request("PUT", "/_ingest/pipeline/no-eyes", pipeline)
    settings = dropping.index("dropped").settings
    assert settings is not None
    settings.write({"default_pipeline": "no-eyes"})
    done = index.load(corpus(tmp_path, GOOD), tiny_model, rejects=str(tmp_path / "rejects"))
    assert (done.indexed, done.unchanged, done.rejected) == (3, 1, 1)
    assert done.first_rejected and "an ingest pipeline dropped it" in done.first_rejected.reason
    assert index.count() == 4
