"""What cannot be undone waits until the corpus is good, and counts are what the index holds."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import splade_es
from any_engine import SERVERS
from models import TEXTS
from splade_es.engines.server import ServerEngine
from splade_es.indexing.aliases import publish

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(params=["local", "opensearch", "elasticsearch"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[splade_es.Engine]:
    url = f"local:{tmp_path / 'indices'}"
    if request.param != "local":
        url = request.getfixturevalue(SERVERS[request.param])
    with splade_es.connect(url) as engine:
        yield engine


@pytest.fixture
def server(engine: splade_es.Engine) -> ServerEngine:
    """The connection below, where the engine is a server."""
    if engine.name == "local":
        pytest.skip("what is tested here only servers have")
    assert isinstance(engine._engine, ServerEngine)
    return engine._engine


@pytest.fixture
def name(engine: splade_es.Engine) -> Iterator[str]:
    name = f"gate-{uuid.uuid4().hex[:8]}"
    yield name
    for index in engine.indices():
        if index.startswith(name):
            engine.index(index).delete()


def corpus(folder: Path, lines: list[dict[str, Any]], file: str = "corpus.jsonl") -> Path:
    path = folder / file
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


GOOD = [{"_id": id, "text": text} for id, text in TEXTS.items()]
BAD = {
    "the wrong key": ([{"_id": "a", "body": "heart"}], "1 of 1 lines were rejected, the first at"),
    "texts without terms": (
        [{"_id": str(n), "text": ""} for n in range(5)],
        "5 of its 5 documents",
    ),
    "far fewer documents": (GOOD[:2], "it has 2 documents instead of 5; `max_shrink` is 0.1"),
    "one line too many": ([*GOOD, {"_id": "x"}], "1 of 6 lines were rejected, the first at"),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("how", ["alias", "recreate"])
def test_a_bad_corpus_leaves_what_is_live_as_it_is(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path, what: str, how: str
) -> None:
    if engine.name == "local" and how == "alias":
        pytest.skip("the local engine has no aliases")
    live = engine.index(name)
    settings: dict[str, Any] = {how: True}
    live.load(corpus(tmp_path, GOOD), tiny_model, **settings)
    lines, reason = BAD[what]
    bad = corpus(tmp_path, lines, "bad.jsonl")
    with pytest.raises(splade_es.NotPublished) as caught:
        live.load(bad, tiny_model, **settings)
    assert f"'{name}' stays as it is, and the new index '{name}-" in str(caught.value)
    assert reason in str(caught.value) and "Mend the corpus, or raise" in str(caught.value)
    assert live.count() == 5 and live.search("heart attack")
    # the remedy that the message names
    accepted: dict[str, Any] = {"max_rejected": 9, "max_empty": 1.0, "max_shrink": 1.0}
    if what != "the wrong key":  # of which nothing can be made
        if how == "alias":
            settings["resume"] = True
        done = live.load(bad, tiny_model, **settings, **accepted)
        assert live.count() == done.indexed


def test_recreate_replaces_in_one_step_and_again(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    live = engine.index(name)
    for round in range(3):
        lines = [{"_id": f"{round}-{n}", "text": f"heart {text}"} for n, text in enumerate(TEXTS)]
        done = live.load(corpus(tmp_path, lines), tiny_model, recreate=True)
        assert (done.index, done.indexed, live.count()) == (name, 5, 5)
        assert {hit.id[0] for hit in live.search("heart")} == {str(round)}
        assert len([index for index in engine.indices() if index.startswith(name)]) == 1
    live.delete()
    assert not live.exists()


def test_a_corpus_that_lacks_much_deletes_nothing(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    index = engine.index(name)
    index.load(corpus(tmp_path, GOOD), tiny_model)
    fewer = corpus(tmp_path, GOOD[:4])
    with pytest.raises(splade_es.NotPublished, match="lacks 1 of the 5 documents"):
        index.load(fewer, tiny_model, delete_missing=True)
    assert index.count() == 5
    done = index.load(fewer, tiny_model, delete_missing=True, max_shrink=0.2, resume=True)
    assert done.deleted == 1 and index.count() == 4


def test_a_publication_that_is_repeated_keeps_the_way_back(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path, server: ServerEngine
) -> None:
    alias = engine.index(name)
    path = corpus(tmp_path, GOOD)
    first = alias.load(path, tiny_model, alias=True)
    second = alias.load(path, tiny_model, alias=True)
    # as a load does that was killed between the swap and its end, and is resumed
    again = publish(server.index(name), server.index(second.index))
    assert again == [first.index]
    assert alias.rollback().index == first.index


def test_an_index_that_is_created_again_under_a_load_is_noticed(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    lines = [{"_id": str(n), "text": "heart " * 20} for n in range(3000)]
    steps = engine.index(name).load_steps(corpus(tmp_path, lines), tiny_model)
    while not next(steps).indexed:
        pass
    meta = engine._engine.index(name).meta()
    engine._engine.index(name).delete()
    engine._engine.index(name).create(meta)
    # IndexMissing: a request that came between the two
    with pytest.raises((splade_es.IndexReplaced, splade_es.IndexMissing)):
        list(steps)


def test_a_vector_that_an_update_lost_is_made_again(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path, server: ServerEngine
) -> None:
    index = engine.index(name)
    path = corpus(tmp_path, GOOD)
    index.load(path, tiny_model, source="no-vectors")
    server.request("POST", f"/{name}/_update/heart?refresh=true", {"doc": {"seen": True}})
    assert "heart" not in {hit.id for hit in index.search("heart attack")}
    done = index.load(path, tiny_model)
    assert (done.indexed, done.unchanged) == (1, 4)
    assert "heart" in {hit.id for hit in index.search("heart attack")}


def test_an_edit_of_what_was_left_out_is_noticed_on_resume(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    index = engine.index(name)
    old = [{"_id": f"old{n}", "text": "heart attack"} for n in range(600)]
    new = [{"_id": f"new{n}", "text": "vitamin milk " * 20} for n in range(3000)]
    index.load(corpus(tmp_path, old), tiny_model)

    def stop(progress: splade_es.LoadProgress) -> None:
        if progress.indexed > 1000:
            raise KeyboardInterrupt

    with pytest.raises(splade_es.Interrupted):
        index.load(corpus(tmp_path, old + new), tiny_model, progress=stop)
    old[3]["text"] = "edited"
    with pytest.raises(splade_es.CorpusError, match="has changed since"):
        index.load(corpus(tmp_path, old + new), tiny_model, resume=True)


def test_an_index_that_takes_no_documents_ends_the_load_at_once(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path, server: ServerEngine
) -> None:
    index = engine.index(name)
    index.load(corpus(tmp_path, GOOD), tiny_model)
    lines = [{"_id": f"new{n}", "text": "vitamin milk"} for n in range(300)]
    path, rejects = corpus(tmp_path, lines, "new.jsonl"), tmp_path / "rejects"
    for method, at, body in (
        ("POST", "_close", ()), ("PUT", "_settings", [{"index.blocks.write": True}]),
    ):  # fmt: skip
        server.request(method, f"/{name}/{at}", *body)
        with pytest.raises(splade_es.EngineError, match="takes no documents") as caught:
            index.load(path, tiny_model, rejects=str(rejects))
        assert "Open the index, or lift its block." in str(caught.value)
        assert not rejects.exists() or not rejects.read_text()
        if at == "_close":
            server.request("POST", f"/{name}/_open")
    assert "continue with `resume`" in str(caught.value)
    server.request("PUT", f"/{name}/_settings", {"index.blocks.write": False})
    assert index.load(path, tiny_model, rejects=str(rejects), resume=True).indexed == 300
    assert index.count() == 305
