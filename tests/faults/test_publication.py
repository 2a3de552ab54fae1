"""A name that is replaced, killed at any moment or by two at once, stands for one whole corpus."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import splade_es
from any_engine import SERVERS
from splade_es.engines.server import ServerEngine
from words import LOAD, WORDS, WordEncoder

pytestmark = pytest.mark.usefixtures("home")

LENIENT: dict[str, Any] = {"max_shrink": 1.0}


@pytest.fixture(params=["opensearch", pytest.param("elasticsearch", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest) -> str:
    url: str = request.getfixturevalue(SERVERS[request.param])
    return url


@pytest.fixture
def engine(url: str) -> Iterator[splade_es.Engine]:
    with splade_es.connect(url) as engine:
        yield engine


@pytest.fixture
def name(engine: splade_es.Engine) -> Iterator[str]:
    name = f"published-{uuid.uuid4().hex[:8]}"
    yield name
    for index in engine.indices():
        if index.startswith(name):
            engine.index(index).delete()


def server_of(engine: splade_es.Engine) -> ServerEngine:
    assert isinstance(engine._engine, ServerEngine)
    return engine._engine


def corpus_of(folder: Path, round: int, size: int) -> Path:
    """Documents whose ids begin with the round, each round with a number of its own."""
    path, draw = folder / f"round{round}.jsonl", random.Random(round)
    with path.open("w") as file:
        for n in range(size + round):
            text = " ".join(draw.choices(WORDS, k=20))
            file.write(json.dumps({"_id": f"r{round:03}-{n}", "text": text}) + "\n")
    return path


class Poller:
    """Asks every few milliseconds what a name stands for, in a thread of its own.

    allowed: round -> documents that a whole answer has. plain: whether the name is that of an
    index, not of an alias: the search that a server answers while that index goes is refused.
    """

    def __init__(self, url: str, name: str) -> None:
        self.allowed: dict[int, int] = {}
        self.plain = False
        self.asked = 0
        self.wrong: list[str] = []
        self._url, self._name = url, name
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Poller:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        with splade_es.connect(self._url) as engine:
            while not self._end.wait(0.004):
                allowed = dict(self.allowed)
                if not allowed:
                    continue
                try:
                    found = rounds(server_of(engine), self._name, allowed)
                except splade_es.EngineError as error:
                    if not (self.plain and isinstance(error, splade_es.Unavailable)):
                        self.wrong.append(str(error))
                    continue
                self.asked += 1
                allowed |= self.allowed  # it may have changed meanwhile
                if found not in [{round: count} for round, count in allowed.items()]:
                    self.wrong.append(f"{found} of {allowed}")


def rounds(engine: ServerEngine, name: str, asked: dict[int, int]) -> dict[int, int]:
    """How many documents a name has of each round, those of others as -1. One request."""
    filters = {str(round): {"prefix": {"splade_id": f"r{round:03}-"}} for round in asked}
    body = {
        "size": 0, "track_total_hits": True, "aggs": {"rounds": {"filters": {"filters": filters}}},
    }  # fmt: skip
    action = f"/{name}/_search?allow_partial_search_results=false"
    answer = engine.request("POST", action, body)
    buckets = answer["aggregations"]["rounds"]["buckets"].items()
    found = {int(round): b["doc_count"] for round, b in buckets if b["doc_count"]}
    if others := answer["hits"]["total"]["value"] - sum(found.values()):
        found[-1] = others
    return found


@pytest.mark.parametrize("how", ["alias", "recreate"])
@pytest.mark.parametrize(
    ("kills", "size"), [(2, 100), pytest.param(20, 1000, marks=pytest.mark.slow)]
)
def test_a_kill_at_any_moment_leaves_a_whole_index(
    engine: splade_es.Engine,
    url: str,
    name: str,
    tiny_model: str,
    tmp_path: Path,
    how: str,
    kills: int,
    size: int,
) -> None:
    index, draw, encoder = engine.index(name), random.Random(how), WordEncoder(tiny_model)
    server = server_of(engine)
    begun = time.monotonic()
    anew: dict[str, Any] = {"request_bytes": 30_000, how: True}
    index.load(corpus_of(tmp_path, 0, size), encoder, **anew)
    duration = time.monotonic() - begun
    ends = {"killed": 0, "ended before the kill": 0, "resumed": 0, "swapped at the kill": 0}
    with Poller(url, name) as poller:
        poller.allowed = {0: size}
        round = 0
        while ends["killed"] < kills:
            round += 1
            before = server.index(name).alias
            assert before
            earlier = before.targets()
            corpus = corpus_of(tmp_path, round, size)
            poller.plain = not earlier
            poller.allowed = {round - 1: size + round - 1, round: size + round}
            command = [sys.executable, "-c", LOAD, url, name, str(corpus), tiny_model]
            with subprocess.Popen(
                [*command, json.dumps(anew)], cwd=tmp_path, stdout=subprocess.PIPE
            ) as process:
                assert process.stdout and process.stdout.readline()
                # half of them about the swap, which is near the end
                time.sleep(duration * draw.choice([draw.random(), draw.uniform(0.7, 1.2)]))
                ended = process.poll() is not None
                process.kill()
            ends["ended before the kill" if ended else "killed"] += 1
            if ended:  # the first load, from which the time is known, was slower than these
                duration *= 0.8
            (answers,) = rounds(server, name, poller.allowed).items()
            assert answers in poller.allowed.items()
            ends["swapped at the kill"] += answers[0] == round and not ended
            settings = anew
            journal = tmp_path / f"{corpus.name}.{name}.journal"
            if journal.exists() and journal.stat().st_size:
                ends["resumed"] += 1
                settings = {"resume": True, "alias": how == "alias"}
            if answers[0] != round or journal.exists():  # otherwise only its end was killed
                index.load(corpus, encoder, **LENIENT, **settings)
            assert not journal.exists()
            assert rounds(server, name, poller.allowed) == {round: size + round}
            (present,) = before.targets()
            if how == "alias":
                back = index.rollback()
                assert [back.index] == earlier and back.previous == present
                assert rounds(server, name, poller.allowed) == {round - 1: size + round - 1}
                before.move([back.index], present)
            poller.allowed = {round: size + round}
        assert poller.asked > 20 * kills
    print(how, ends, f"asked {poller.asked} times")
    assert not poller.wrong, poller.wrong[:5]


@pytest.mark.parametrize("how", ["alias", "recreate"])
@pytest.mark.parametrize("first", [True, False])
def test_two_that_publish_at_once_leave_one_whole_corpus(
    engine: splade_es.Engine,
    url: str,
    name: str,
    tiny_model: str,
    tmp_path: Path,
    how: str,
    first: bool,
) -> None:
    server, together = server_of(engine), threading.Barrier(2)
    settings: dict[str, Any] = {how: True, "max_shrink": 1.0}
    if not first:
        engine.index(name).load(corpus_of(tmp_path, 0, 20), WordEncoder(tiny_model), **settings)
    errors: dict[int, splade_es.SpladeEsError] = {}

    def publish(round: int) -> None:
        waited = False

        def wait(_: splade_es.LoadProgress) -> None:
            nonlocal waited
            if not waited:
                waited = True
                with suppress(threading.BrokenBarrierError):  # the other one has ended
                    together.wait(60)

        with splade_es.connect(url) as mine:
            try:
                corpus = corpus_of(tmp_path, round, 20)
                encoder = WordEncoder(tiny_model)
                mine.index(name).load(corpus, encoder, progress=wait, **settings)
            except splade_es.SpladeEsError as error:
                errors[round] = error
                together.abort()

    threads = [threading.Thread(target=publish, args=(round,)) for round in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sizes = {0: 20, 1: 21, 2: 22}
    found = rounds(server, name, sizes)
    assert found in [{1: 21}, {2: 22}], (found, errors)
    alias = server.index(name).alias
    assert alias and len(alias.targets()) <= 1
    print(how, first, {round: str(error) for round, error in errors.items()})
    for error in errors.values():
        assert isinstance(error, (splade_es.NotPublished, splade_es.IndexExists)), error


def test_an_alias_never_points_to_two_indices(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    """Two loads saw that there is no such alias yet."""
    server = server_of(engine)
    for n in (1, 2):
        engine.index(f"{name}-{n}").load(corpus_of(tmp_path, n, 5), WordEncoder(tiny_model))
    alias = server.index(name).alias
    assert alias
    alias.move([], f"{name}-1")
    with pytest.raises(splade_es.NotPublished, match="Another load has moved") as caught:
        alias.move([], f"{name}-2")
    assert f"'{name}-2' is kept; publish it with `resume`" in str(caught.value)
    assert alias.targets() == [f"{name}-1"]
    with pytest.raises(splade_es.NotPublished):
        alias.move([f"{name}-2"], f"{name}-2")
    alias.move([], f"{name}-1")  # again, as after an answer that was lost
    assert alias.targets() == [f"{name}-1"]


def test_a_replacement_that_was_killed_half_way_is_ended(
    engine: splade_es.Engine, name: str, tiny_model: str, tmp_path: Path
) -> None:
    """The name stands for the new index already, and the old one is not deleted yet."""
    server, encoder = server_of(engine), WordEncoder(tiny_model)
    index, live = engine.index(name), server.index(name)
    for round in (0, 1):
        index.load(corpus_of(tmp_path, round, 5), encoder, recreate=True, max_shrink=1.0)
    assert live.alias
    (old,) = live.alias.targets()
    engine.index(f"{name}-new").load(corpus_of(tmp_path, 2, 5), encoder)
    new = server.index(f"{name}-new")
    refused = server.request

    def killed(method: str, path: str, *lines: Any, **options: Any) -> Any:
        if method == "DELETE":
            raise KeyboardInterrupt
        return refused(method, path, *lines, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server, "request", killed)
        with pytest.raises(KeyboardInterrupt):
            live.replace_with(new)
    assert engine.index(old).exists() and live.alias.targets() == [new.name]
    live.replace_with(new)
    assert not engine.index(old).exists() and live.alias.targets() == [new.name]
    live.replace_with(new)
    assert rounds(server, name, {0: 5, 1: 6, 2: 7}) == {2: 7}
