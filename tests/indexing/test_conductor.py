"""From corpus to index to hits, on every engine; and what a load does when an engine falters."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import pytest

from any_engine import MemorySource
from models import TEXTS
from splade_es.data.corpus import read_documents
from splade_es.encoders.torch_encoder import Encoder
from splade_es.engines.base import Engine, EngineIndex
from splade_es.engines.local import LocalEngine
from splade_es.engines.local_index import LocalIndex
from splade_es.errors import CorpusError, EngineError, IndexMismatch, RequestTooLarge, Unavailable
from splade_es.features import token_of
from splade_es.indexing.load import Load
from splade_es.indexing.settings import LoadSettings
from splade_es.progress import LoadProgress, follow
from splade_es.quantize import Quantizer
from splade_es.records import Action, Document, ItemResult, Query, Rejected
from splade_es.search.searcher import Searcher


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model)


def load(
    items: Iterable[Document | Rejected],
    encoder: Encoder,
    engine: Engine,
    index: str,
    rejects: Path,
    fail_fast: bool = False,
) -> LoadProgress:
    settings: LoadSettings = {"rejects": str(rejects), "fail_fast": fail_fast}
    return follow(Load(engine.index(index), MemorySource(items, encoder), settings).steps(), None)


def test_the_walk_from_corpus_to_hits(
    engine: Engine, encoder: Encoder, corpus_file: Path, tmp_path: Path
) -> None:
    """Indexed by one process and searched by the model the index remembers: the same scores as the
    integers and the query's weights give by hand."""
    index = f"walk-{tmp_path.name[:20].strip('_').replace('_', '-')}"
    summary = load(read_documents(str(corpus_file)), encoder, engine, index, tmp_path / "rejects")
    assert (summary.read, summary.indexed, summary.replaced) == (5, 5, 0)
    assert not (tmp_path / "rejects").exists()

    searcher = Searcher(engine.index(index))
    query = "heart pain and vitamin"
    (row,) = encoder.encode([query])
    weights = dict(zip(row.ids.tolist(), row.weights.tolist(), strict=True))
    expected = {}
    for id, vector in zip(TEXTS, encoder.encode(TEXTS.values()), strict=True):
        stored = Quantizer().quantize(vector)
        expected[id] = sum(
            weights.get(term, 0) / 100 * value
            for term, value in zip(stored.ids.tolist(), stored.values.tolist(), strict=True)
        )
    hits = searcher.search(query, 5)
    assert {hit.id: hit.score for hit in hits} == pytest.approx(expected, rel=1e-6)
    run = searcher.run([Query("q", query), Query("nothing", "☃")], 5)
    assert run["q"] == pytest.approx(expected, rel=1e-6) and run["nothing"] == {}

    (hit,) = [hit for hit in hits if hit.id == "heart"]
    top = hit.source["splade_top"]
    assert hit.source["text"] == TEXTS["heart"] and "splade" not in hit.source
    assert 0 < len(top) <= 20 and hit.source["splade_n"] >= len(top)
    assert not {"heart", "attack", "chest"} & set(hit.source["splade_new"])
    view = dict(item.rsplit(":", 1) for item in hit.source["splade_view"].split())
    assert (
        list(view)[: len(top)] == top and max(map(int, view.values())) == hit.source["splade_max"]
    )
    explained = engine.index(index).explain([*searcher.clauses(row)], "heart")
    assert sum(explained.values()) == pytest.approx(expected["heart"], rel=1e-6)
    assert {token_of(feature) for feature in explained} <= set(view)
    engine.index(index).delete()


def test_what_the_engine_refuses_is_set_aside_with_its_reason(
    engine: Engine, encoder: Encoder, tmp_path: Path
) -> None:
    index = f"refused-{uuid.uuid4().hex}"
    documents = [
        Document("good", "heart", place="c:1"),
        # no server takes such a name; the local engine keeps any
        Document("bad", "bone", fields={".": 1}, place="c:2"),
        Document("last", "milk", place="c:3"),
    ]
    summary = load(documents, encoder, engine, index, tmp_path / "rejects.jsonl")
    if engine.name == "local":
        assert summary.indexed == 3
        engine.index(index).delete()
        return
    assert (summary.read, summary.indexed, summary.rejected) == (3, 2, 1)
    (reject,) = [json.loads(x) for x in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert reject["place"] == "c:2" and "refused it (400)" in reject["reason"]
    assert json.loads(reject["line"])["_id"] == "bad"
    assert engine.index(index).count() == 2
    engine.index(index).delete()


class Faltering(LocalEngine):
    """A real engine, to which some requests never get through, or whose answer gets lost."""

    def __init__(self, directory: Path, faults: Sequence[Fault | None]) -> None:
        super().__init__(directory)
        self.faults = iter(faults)
        self.requests: list[list[str]] = []

    def index(self, name: str, *, retry: bool = False) -> EngineIndex:
        return FalteringIndex(self, self._store, name)


class FalteringIndex(LocalIndex):
    def bulk(self, actions: Sequence[Action]) -> list[ItemResult]:
        assert isinstance(self.engine, Faltering)
        self.engine.requests.append([action.id for action in actions])
        fault = next(self.engine.faults, None)
        return fault(super().bulk, actions) if fault else super().bulk(actions)


Bulk: TypeAlias = Callable[[Sequence[Action]], list[ItemResult]]
Fault: TypeAlias = Callable[[Bulk, Sequence[Action]], list[ItemResult]]


def down(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
    raise Unavailable("the server is down")


def answer_lost(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
    bulk(actions)
    raise Unavailable("timed out")


def half_429(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
    taken = bulk(actions[::2])
    return [
        taken[n // 2] if n % 2 == 0 else ItemResult(429, "queue full") for n in range(len(actions))
    ]


def too_large(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
    raise RequestTooLarge("413")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting between attempts."""
    monkeypatch.setattr(random, "uniform", lambda a, b: 0.001)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        ([down, down], [list("abcd")] * 3),
        ([answer_lost], [list("abcd")] * 2),
        ([half_429, half_429], [list("abcd"), list("bd"), ["d"]]),
        ([too_large, too_large], [list("abcd"), list("ab"), ["a"], ["b"], list("cd")]),
    ],
)
def test_what_passes_later_is_sent_again_and_nothing_is_lost(
    encoder: Encoder,
    tmp_path: Path,
    faults: list[Fault],
    requests: list[list[str]],
) -> None:
    engine = Faltering(tmp_path, faults)
    documents = [Document(id, "heart attack") for id in "abcd"]
    summary = load(documents, encoder, engine, "x", tmp_path / "rejects")
    assert engine.requests == requests
    assert (summary.indexed, summary.rejected) == (4, 0) and engine.index("x").count() == 4
    engine.close()


NO_MEMORY = "circuit_breaking_exception: Data too large"


def full(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
    return [ItemResult(429, NO_MEMORY)] * len(actions)


@pytest.mark.usefixtures("quick")
def test_a_document_too_large_for_the_server_is_set_aside(encoder: Encoder, tmp_path: Path) -> None:
    def too_much_for_b(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
        return full(bulk, actions) if actions[0].id == "b" else bulk(actions)

    engine = Faltering(tmp_path, [too_much_for_b] * 11)
    texts = {"a": "heart", "b": "heart " * 700_000, "c": "bone", "d": "milk"}
    documents = [Document(id, text) for id, text in texts.items()]
    summary = load(documents, encoder, engine, "x", tmp_path / "rejects")
    assert sorted(engine.requests) == [["a"], *[["b"]] * 9, ["c", "d"]]
    assert (summary.indexed, summary.rejected) == (3, 1) and engine.index("x").count() == 3
    (reject,) = [json.loads(line) for line in (tmp_path / "rejects").read_text().splitlines()]
    assert reject["reason"] == f"local refused it (429): {NO_MEMORY}"
    engine.close()


@pytest.mark.usefixtures("quick")
def test_a_disk_that_stays_full_sets_no_document_aside(encoder: Encoder, tmp_path: Path) -> None:
    blocked = "cluster_block_exception: index [x] blocked by: [TOO_MANY_REQUESTS/12/disk usage]"

    def flooded(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
        return [ItemResult(429, blocked)] * len(actions)

    engine = Faltering(tmp_path, [flooded] * 9)
    with pytest.raises(Unavailable) as caught:
        load([Document("a", "heart " * 700_000)], encoder, engine, "x", tmp_path / "rejects")
    assert str(caught.value) == (
        f"local at {tmp_path} is overloaded (429: {blocked}). Try again later."
    )
    engine.close()


@pytest.mark.usefixtures("quick")
def test_a_server_that_stays_full_ends_the_load(encoder: Encoder, tmp_path: Path) -> None:
    engine = Faltering(tmp_path, [full] * 9)
    documents = [Document(id, "heart attack") for id in "abcd"]
    with pytest.raises(Unavailable) as caught:
        load(documents, encoder, engine, "x", tmp_path / "rejects")
    assert str(caught.value) == (
        f"local at {tmp_path} is overloaded (429: {NO_MEMORY}). Try again later."
    )
    engine.close()


@pytest.mark.usefixtures("quick")
def test_the_last_of_an_id_wins_even_if_the_first_is_sent_again(
    encoder: Encoder, tmp_path: Path
) -> None:
    def first_later(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
        return [ItemResult(429), *bulk(actions[1:])]

    engine = Faltering(tmp_path, [first_later])
    documents = [Document("a", "bone"), Document("b", "milk"), Document("a", "heart")]
    summary = load(documents, encoder, engine, "x", tmp_path / "rejects")
    assert (summary.indexed, summary.replaced) == (3, 1)
    found = {hit.id: hit.source["text"] for hit in Searcher(engine.index("x")).search("heart")}
    assert found["a"] == "heart"
    assert engine.requests == [["a", "b"], ["a"], ["a"]]
    engine.close()
    engine.close()


@pytest.mark.usefixtures("quick")
def test_a_single_document_too_large_is_rejected(encoder: Encoder, tmp_path: Path) -> None:
    engine = Faltering(tmp_path, [too_large])
    summary = load([Document("a", "heart", place="c:1")], encoder, engine, "x", tmp_path / "r")
    assert summary.first_rejected and summary.first_rejected.reason.startswith(
        "local refused it (413)"
    )
    engine.close()


@pytest.mark.usefixtures("quick")
def test_an_engine_that_stays_down_ends_the_load(encoder: Encoder, tmp_path: Path) -> None:
    engine = Faltering(tmp_path, [down] * 99)
    with pytest.raises(Unavailable, match="the server is down"):
        load([Document(str(n), "heart") for n in range(5000)], encoder, engine, "x", tmp_path / "r")
    assert len(engine.requests) == 9
    engine.close()


def test_documents_that_vanish_are_noticed(encoder: Encoder, tmp_path: Path) -> None:
    def swallow(bulk: Bulk, actions: Sequence[Action]) -> list[ItemResult]:
        return [ItemResult(201) for _ in actions]

    engine = Faltering(tmp_path, [swallow])
    with pytest.raises(EngineError, match="has 0 documents where 1 were acknowledged"):
        load([Document("a", "heart")], encoder, engine, "x", tmp_path / "r")
    engine.close()


def test_fail_fast_stops_at_the_first_bad_line(encoder: Encoder, tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    items: list[Document | Rejected] = [
        Document("a", "heart"),
        Rejected("c:2", "no text", "{}"),
        Document("b", "bone"),
    ]
    with pytest.raises(CorpusError, match=r"^c:2: no text\. Reading stopped there\.$"):
        load(items, encoder, engine, "x", tmp_path / "r", fail_fast=True)
    assert not (tmp_path / "r").exists()
    engine.close()


def test_an_index_of_other_settings_is_not_added_to(encoder: Encoder, tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    load([], encoder, engine, "x", tmp_path / "r")
    load([], encoder, engine, "x", tmp_path / "r")
    other = MemorySource([], encoder, Quantizer(scale=50))
    with pytest.raises(IndexMismatch, match=r"The index 'x' was made with scale 100.0 \("):
        follow(Load(engine.index("x"), other, {"rejects": str(tmp_path / "r")}).steps(), None)
    engine.close()
