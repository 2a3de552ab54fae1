"""How much is sent at once, and in which order."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from any_engine import META, action
from splade_es.engines.local import LocalEngine
from splade_es.engines.local_index import LocalIndex
from splade_es.engines.local_store import LocalStore
from splade_es.errors import Unavailable
from splade_es.indexing.bulk_sender import BulkSender, Pace
from splade_es.records import Action, ItemResult


class Request(NamedTuple):
    """Documents that are sent together."""

    made: list[Action]
    size: int

    @property
    def ids(self) -> list[str]:
        return [action.id for action in self.made]

    def actions(self) -> list[Action]:
        return self.made


def paced(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> Pace:
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    return Pace()


def simulate(pace: Pace, clock: list[float], most: int, requests: int = 200) -> None:
    """A server that takes 10 MB a second from `most` connections, with 0.1 s for each request."""
    for _ in range(requests):
        used = min(pace.connections, most)
        clock[0] += (pace.size / 10e6 + 0.1) / used
        pace.sent(pace.size, waiting=True)


def test_it_grows_while_that_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    for most in (1, 2, 4):
        clock = [0.0]
        pace = paced(clock, monkeypatch)
        simulate(pace, clock, most)
        assert most <= pace.connections <= max(2, most + 1)
        assert pace.size == 4_000_000  # it halves what each request costs beside its bytes


def test_a_slow_encoder_is_no_reason_to_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    pace = paced(clock, monkeypatch)
    for _ in range(200):
        clock[0] += 1
        pace.sent(1000, waiting=False)
    assert (pace.connections, pace.size) == (2, 1_000_000)


def test_it_shrinks_when_the_server_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    pace = paced(clock, monkeypatch)
    simulate(pace, clock, 4)
    before = pace.connections
    pace.overloaded()
    assert pace.connections == (before + 1) // 2
    for _ in range(20):
        pace.overloaded()
    assert (pace.connections, pace.size) == (1, 64_000)
    simulate(pace, clock, 2)
    assert pace.connections >= 2 and pace.size > 1_000_000
    pace.too_large(800_000)
    simulate(pace, clock, 2)
    assert pace.size <= 400_000  # the server will not change its mind


class Asks(LocalIndex):
    """Refuses the first request and says when to come again."""

    times: list[float]

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        self.times.append(time.monotonic())
        if len(self.times) == 1:
            raise Unavailable("busy", status=429, retry_after=1.5)
        return super().bulk(actions)


def test_retry_after_is_honoured(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    index = Asks(LocalEngine(tmp_path), store, "x")
    index.times = []
    index.create(META)
    sender: BulkSender[Request] = BulkSender(index, lambda request, results: None, Pace())
    sender.put(Request([action("a", {"splade": {"heart": 1}, "text": ""})], 1))
    sender.finish()
    sender.stop()
    assert index.times[1] - index.times[0] >= 1.5
    store.close()


class Small(LocalIndex):
    """Its memory is for two documents at once: more are refused as a whole, however often."""

    requests: list[str]

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        self.requests.append("".join(action.id for action in actions))
        if len(actions) > 2:
            raise Unavailable("no memory", status=429)
        return super().bulk(actions)


def test_what_is_refused_as_a_whole_is_sent_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda a, b: 0.001)
    store = LocalStore(tmp_path)
    index = Small(LocalEngine(tmp_path), store, "x")
    index.requests = []
    index.create(META)
    statuses: list[int] = []
    sender: BulkSender[Request] = BulkSender(
        index, lambda _, results: statuses.extend(r.status for r in results), Pace()
    )
    actions = [action(id, {"splade": {"heart": 1}, "text": ""}) for id in "abcdefgh"]
    sender.put(Request(actions, 1_000_000))
    sender.finish()
    sender.stop()
    # fewer connections first, then less at once
    assert index.requests == ["abcdefgh"] * 2 + ["abcd", "ab", "cd", "efgh", "ef", "gh"]
    assert statuses == [201] * 8 and index.count() == 8
    store.close()


class Slow(LocalIndex):
    """Takes the longer, the earlier a document comes."""

    together: int
    most: int
    lock: threading.Lock

    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        with self.lock:
            self.together += 1
            self.most = max(self.most, self.together)
        time.sleep(0.02)
        with self.lock:
            self.together -= 1
        return super().bulk(actions)


def test_an_id_is_never_under_way_twice(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    index = Slow(LocalEngine(tmp_path), store, "x")
    index.together, index.most, index.lock = 0, 0, threading.Lock()
    index.create(META)
    order: list[int] = []  # the number of each request is its size
    pace = Pace()
    pace.connections = 4
    sender: BulkSender[Request] = BulkSender(index, lambda r, _: order.append(r.size), pace)
    for n in range(40):
        id = "same" if n % 2 else f"d{n}"
        sender.put(Request([action(id, {"splade": {"heart": 1}, "text": str(n)})], n))
    sender.finish()
    sender.stop()
    assert index.most > 1
    same = [n for n in order if n % 2]
    assert same == sorted(same) and len(order) == 40
    (last,) = index.documents(["same"])
    assert last.text == "39"
    store.close()
