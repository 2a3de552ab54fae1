"""What a killed load leaves of a new index that is built beside the live one."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import splade_es
from any_engine import SERVERS, write_corpus
from splade_es.indexing.journal import Journal
from words import LOAD, WORDS, WordEncoder, contents

pytestmark = pytest.mark.usefixtures("home")

TEXTS = {f"d{n}": "heart attack pain chest " * 3 for n in range(60)}


@pytest.fixture(params=["local", "opensearch", "elasticsearch"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[splade_es.Engine]:
    url = f"local:{tmp_path / 'indices'}"
    if request.param != "local":
        url = request.getfixturevalue(SERVERS[request.param])
    with splade_es.connect(url) as engine:
        yield engine


@pytest.fixture
def index(engine: splade_es.Engine) -> Iterator[splade_es.Index]:
    name = f"resumed-{uuid.uuid4().hex[:8]}"
    yield engine.index(name)
    for other in engine.indices():
        if other.startswith(name):
            engine.index(other).delete()


def begin(index: splade_es.Index, corpus: Path, encoder: WordEncoder, **settings: Any) -> None:
    """A load that is killed after some requests."""
    steps = index.load_steps(corpus, encoder, request_bytes=1500, **settings)
    until = time.monotonic() + 10
    for _ in range(4):
        next(steps)
    (journal,) = corpus.parent.glob("*.journal")
    while len(journal.read_bytes().splitlines()) < 3:
        assert time.monotonic() < until
        time.sleep(0.01)
    steps.close()


def ids(engine: splade_es.Engine, index: splade_es.Index) -> set[str]:
    return {*engine._engine.index(index.name).ids()}


def test_what_a_killed_run_sent_of_edited_lines_is_not_published(
    engine: splade_es.Engine, index: splade_es.Index, tiny_model: str, tmp_path: Path
) -> None:
    encoder, corpus = WordEncoder(tiny_model), write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    index.load(corpus, encoder)
    begin(index, corpus, encoder, recreate=True)
    (journal,) = tmp_path.glob("*.journal")
    *lines, lost = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines))  # acknowledged, and not in the journal yet
    number = json.loads(lost)["numbers"][0][0]
    edited = {("new" if n == number else id): t for n, (id, t) in enumerate(TEXTS.items(), 1)}
    write_corpus(corpus, edited)
    done = index.load(corpus, encoder, resume=True)
    assert done.index == index.name and done.resumed
    assert ids(engine, index) == {*edited}


def test_a_load_is_resumed_as_what_it_was_begun(
    engine: splade_es.Engine, index: splade_es.Index, tiny_model: str, tmp_path: Path
) -> None:
    """Without its alias it would replace what `rollback` goes back to."""
    if engine.name == "local":
        pytest.skip("the local engine has no aliases")
    encoder, corpus = WordEncoder(tiny_model), write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    first = index.load(corpus, encoder, alias=True).index
    begin(index, corpus, encoder, alias=True)
    with pytest.raises(splade_es.CorpusError, match="this load was begun with another alias"):
        index.load(corpus, encoder, resume=True)
    assert engine.index(first).count() == len(TEXTS)
    assert index.load(corpus, encoder, resume=True, alias=True).previous == (first,)
    assert index.rollback().index == first


@pytest.mark.parametrize("since", ["another load", "rollback"])
def test_what_was_published_and_replaced_does_not_come_back(
    engine: splade_es.Engine,
    index: splade_es.Index,
    tiny_model: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    since: str,
) -> None:
    if engine.name == "local":
        pytest.skip("the local engine has no aliases")
    encoder, corpus = WordEncoder(tiny_model), write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    first = index.load(corpus, encoder, alias=True).index

    def killed(self: Journal) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            index.load(corpus, encoder, alias=True)
    other = write_corpus(tmp_path / "other.jsonl", {**TEXTS, "more": "heart"})
    if since == "rollback":
        live = index.rollback().index
        assert live == first
    else:
        live = index.load(other, encoder, alias=True).index
    with pytest.raises(splade_es.NotPublished, match="was published before, and") as caught:
        index.load(corpus, encoder, alias=True, resume=True)
    assert "Delete the journal" in str(caught.value)
    alias = engine._engine.index(index.name).alias
    assert alias is not None and alias.targets() == [live]


@pytest.mark.parametrize("how", ["recreate", "alias"])
def test_a_load_that_was_killed_after_its_swap_is_resumed(
    engine: splade_es.Engine,
    index: splade_es.Index,
    tiny_model: str,
    tmp_path: Path,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if engine.name == "local" and how == "alias":
        pytest.skip("the local engine has no aliases")
    encoder, corpus = WordEncoder(tiny_model), write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    settings: dict[str, Any] = {how: True}
    index.load(corpus, encoder, **settings)
    write_corpus(corpus, {f"new{n}": text for n, text in enumerate(TEXTS.values())})

    def killed(journal: Journal) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "finish", killed)
        with pytest.raises(KeyboardInterrupt):
            index.load(corpus, encoder, **settings)
    assert ids(engine, index) == {f"new{n}" for n in range(60)}
    # the name is in use, and what others add to it stays
    index.load(write_corpus(tmp_path / "more.jsonl", {"more": "heart"}), encoder)
    done = index.load(corpus, encoder, resume=True, alias=how == "alias")
    assert (done.indexed, done.resumed) == (60, 60)
    assert ids(engine, index) == {"more", *(f"new{n}" for n in range(60))}
    assert not [*tmp_path.glob("*.journal")]
    if how == "alias":
        index.rollback()
        assert ids(engine, index) == {*TEXTS}


def test_a_new_index_is_published_though_the_old_one_was_deleted_meanwhile(
    engine: splade_es.Engine, index: splade_es.Index, tiny_model: str, tmp_path: Path
) -> None:
    encoder, corpus = WordEncoder(tiny_model), write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    index.load(corpus, encoder)
    begin(index, corpus, encoder, recreate=True)
    index.delete()
    assert index.load(corpus, encoder, resume=True).indexed == 60
    assert ids(engine, index) == {*TEXTS}


def test_a_name_that_another_load_took_meanwhile_is_passed_over(
    engine: splade_es.Engine, index: splade_es.Index, tiny_model: str, tmp_path: Path
) -> None:
    """As where the request of a load that was killed creates its index only now."""
    encoder, corpus = WordEncoder(tiny_model), write_corpus(tmp_path / "corpus.jsonl", TEXTS)
    index.load(corpus, encoder)
    handles = engine._engine.index
    taken: list[str] = []

    def take(name: str, *, retry: bool = False) -> Any:
        handle = handles(name, retry=retry)
        if retry and name != index.name and not taken:
            taken.append(name)
            handles(name).create(handles(index.name).meta())
        return handle

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine._engine, "index", take)
        index.load(corpus, encoder, recreate=True)
    assert taken and engine.index(taken[0]).count() == 0
    assert ids(engine, index) == {*TEXTS}


@pytest.mark.slow
def test_a_local_load_is_killed_again_and_again(tiny_model: str, tmp_path: Path) -> None:
    url, encoder, draw = f"local:{tmp_path / 'indices'}", WordEncoder(tiny_model), random.Random(7)
    corpus = tmp_path / "corpus.jsonl"
    texts = {f"d{n}": " ".join(draw.choices(WORDS, k=20)) for n in range(2000)}
    with splade_es.connect(url) as engine:
        index, below = engine.index("x"), engine._engine.index("x")
        begun = time.monotonic()
        index.load(write_corpus(corpus, texts), encoder, request_bytes=20_000)
        duration = time.monotonic() - begun
        ends = {"killed": 0, "resumed": 0, "swapped at the kill": 0}
        for round in range(20):
            old = dict(texts)
            for id in draw.sample(sorted(texts), 600):
                texts[id] = " ".join(draw.choices(WORDS, k=20))
            texts[f"new{round}"] = "heart"
            write_corpus(corpus, texts)
            how = draw.choice(["plain", "recreate"])
            settings = {"recreate": how == "recreate", "request_bytes": 20_000}
            engine.close()  # so that another process can open the index
            command = [sys.executable, "-c", LOAD, url, "x", str(corpus), tiny_model]
            with subprocess.Popen(
                [*command, json.dumps(settings)], cwd=tmp_path, stdout=subprocess.PIPE
            ) as process:
                assert process.stdout and process.stdout.readline()
                time.sleep(duration * draw.uniform(0, 1.1))
                ends["killed"] += process.poll() is None
                process.kill()
            found = contents(below)
            assert found is not None
            if how == "recreate":
                assert found in (old, texts)
                ends["swapped at the kill"] += found == texts
            else:
                assert old.keys() <= found.keys()
                assert all(text in (old.get(id), texts[id]) for id, text in found.items())
            journal = next(tmp_path.glob("*.journal"), None)
            resume = bool(journal and journal.stat().st_size)
            ends["resumed"] += resume
            index.load(corpus, encoder, resume=resume, recreate=how == "recreate" and not resume)
            assert contents(below) == texts
            assert not [*tmp_path.glob("*.journal")]
        print(ends)
