"""The local engine: exact, durable, alone; what it shares with the servers is in test_contract."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import any_engine
from splade_es.engines.feature_ids import FeatureIds
from splade_es.engines.local import LocalEngine
from splade_es.errors import EngineError, IndexMismatch, IndexMissing, QueryError
from splade_es.index_meta import IndexMeta
from splade_es.records import (
    Action,
    Clause,
    Features,
    Hit,
    ItemResult,
)

META = IndexMeta("0.1.0", "models/tiny", "f" * 64, "v" * 64, 1, 100.0, 256, "max")
HEART = [Clause("heart", 1.0)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(tmp_path / "indices")
    engine.index("x").create(META)
    yield engine
    engine.close()


def action(id: str, features: Any, /, **fields: Any) -> Action:
    return any_engine.action(id, {"splade": features, **fields})


def statuses(results: list[ItemResult]) -> list[int]:
    return [result.status for result in results]


def contents(engine: LocalEngine, features: list[str]) -> dict[str, Features]:
    """What is found of each document by searching for every feature."""
    found: dict[str, Features] = {}
    for feature in features:
        for hit in engine.index("x").search([Clause(feature, 1.0)], 10_000):
            found.setdefault(hit.id, {})[feature] = int(hit.score)
    return found


# Exactness


def test_the_best_are_those_of_brute_force_and_ties_come_by_id(engine: LocalEngine) -> None:
    """Few distinct weights make many ties; writing in rounds makes segments and old versions."""
    rng = np.random.default_rng(3)
    matrix = np.zeros((600, 40), dtype=np.int64)
    names = [f"t{n}" for n in range(40)]
    for round in range(4):
        rows = rng.choice(600, 250, replace=False)
        actions = []
        for row in rows.tolist():
            matrix[row] = rng.integers(1, 4, 40) * (rng.random(40) < 0.2) * (rng.random() < 0.9)
            columns = np.flatnonzero(matrix[row]).tolist()
            features = {names[c]: int(matrix[row, c]) for c in columns}
            actions.append(action(f"d{row}", features) if features else Action(f"d{row}", None))
        engine.index("x").bulk(actions)
        if round == 2:
            engine.index("x").refresh()
    assert engine.index("x").count() == int((matrix.sum(axis=1) > 0).sum())
    for k in (1, 7, 100, 10_000):
        for _ in range(20):
            boosts = rng.integers(0, 3, 40) * (rng.random(40) < 0.2)
            scores = matrix @ boosts
            order = sorted(np.flatnonzero(scores).tolist(), key=lambda r: (-scores[r], f"d{r}"))
            clauses = [Clause(names[c], float(boosts[c])) for c in np.flatnonzero(boosts)]
            expected = [(f"d{row}", float(scores[row])) for row in order[:k]]
            assert engine.index("x").search_many([clauses], k) == [expected]
            assert [(hit.id, hit.score) for hit in engine.index("x").search(clauses, k)] == expected


def test_ties_at_the_last_place_are_broken_by_id(engine: LocalEngine) -> None:
    ids = [f"{n:04}" for n in range(2000)]
    random.Random(5).shuffle(ids)
    for start in range(0, 2000, 500):
        engine.index("x").bulk([action(id, {"heart": 7}) for id in ids[start : start + 500]])
    engine.index("x").bulk([action("z", {"heart": 8})])
    assert [hit.id for hit in engine.index("x").search(HEART, 3)] == ["z", "0000", "0001"]
    (found,) = engine.index("x").search_many([HEART], 1500)
    assert [hit.id for hit in found] == ["z", *sorted(ids)[:1499]]


def test_the_sums_are_those_of_the_servers_to_rounding(engine: LocalEngine) -> None:
    rng = np.random.default_rng(4)
    matrix = rng.integers(1, 513, (200, 60))
    names = [f"t{n}" for n in range(60)]
    engine.index("x").bulk(
        [
            action(str(r), dict(zip(names, values.tolist(), strict=True)))
            for r, values in enumerate(matrix)
        ],
    )
    boosts = rng.gamma(1.0, 0.01, 60)
    expected = (matrix @ boosts.astype(np.float32).astype(float)).astype(np.float32)
    clauses = [Clause(name, boost) for name, boost in zip(names, boosts.tolist(), strict=True)]
    found = {hit.id: hit.score for hit in engine.index("x").search(clauses, 1000)}
    assert found == pytest.approx({str(r): float(s) for r, s in enumerate(expected)}, rel=1e-6)


def test_a_clause_that_comes_twice_counts_twice(engine: LocalEngine) -> None:
    engine.index("x").bulk([action("a", {"heart": 3})])
    assert engine.index("x").search_many([HEART + HEART], 1) == [[("a", 6.0)]]
    assert engine.index("x").explain(HEART + HEART, "a") == {"heart": 6.0}


# Bulk


def test_the_last_of_repeated_ids_wins(engine: LocalEngine) -> None:
    results = engine.index("x").bulk(
        [
            action("a", {"heart": 1}),
            action("a", {"heart": 2}),
            action("b", {"heart": 3}),
            Action("b", None),
            Action("b", None),
            Action("c", None),
            action("c", {"heart": 4}),
            action("a", {"heart": 0}),
        ],
    )
    assert statuses(results) == [201, 200, 201, 200, 404, 404, 201, 400]
    assert contents(engine, ["heart"]) == {"a": {"heart": 2}, "c": {"heart": 4}}
    assert engine.index("x").count() == 2


NUMBERS = "not an integer in 1 to 512"


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ({"heart": 0}, f"the weight of the feature 'heart' is 0, {NUMBERS}"),
        ({"heart": -1}, f"the weight of the feature 'heart' is -1, {NUMBERS}"),
        ({"heart": 513}, f"the weight of the feature 'heart' is 513, {NUMBERS}"),
        ({"heart": 1, "b": 2.5}, f"the weight of the feature 'b' is 2.5, {NUMBERS}"),
        ({"heart": float("nan")}, f"the weight of the feature 'heart' is nan, {NUMBERS}"),
        ({"heart": float("inf")}, f"the weight of the feature 'heart' is inf, {NUMBERS}"),
        ({"heart": True}, f"the weight of the feature 'heart' is True, {NUMBERS}"),
        ({"heart": None}, f"the weight of the feature 'heart' is None, {NUMBERS}"),
        ({"heart": "9"}, f"the weight of the feature 'heart' is '9', {NUMBERS}"),
        ({"heart": [1, 2]}, f"the weight of the feature 'heart' is [1, 2], {NUMBERS}"),
        ({"heart": 2**70}, f"the weight of the feature 'heart' is {2**70}, {NUMBERS}"),
        ([1, 2], "splade is not an object of features and weights"),
    ],
)
def test_a_poisonous_vector_is_refused_and_harms_nothing(
    engine: LocalEngine, features: Any, reason: str
) -> None:
    engine.index("x").bulk([action("bad", {"heart": 9})])
    results = engine.index("x").bulk(
        [action("a", {"heart": 1}), action("bad", features), action("c", {"heart": 3})]
    )
    assert results == [ItemResult(201), ItemResult(400, reason), ItemResult(201)]
    engine.close()  # the log is read again
    assert statuses(engine.index("x").bulk([action("d", {"heart": 4})])) == [201]
    expected = {"a": {"heart": 1}, "bad": {"heart": 9}, "c": {"heart": 3}, "d": {"heart": 4}}
    assert contents(engine, ["heart"]) == expected


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="nan"),
        pytest.param([{"a": float("-inf")}], id="infinite"),
        pytest.param("\ud800", id="half a pair"),
    ],
)
def test_a_document_that_is_no_json_is_refused(engine: LocalEngine, value: Any) -> None:
    results = engine.index("x").bulk(
        [action("a", {"heart": 1}, note=value), action("b", {"heart": 2})]
    )
    assert statuses(results) == [400, 201]
    assert results[0].reason.startswith("the document cannot be written as JSON: ")
    assert contents(engine, ["heart"]) == {"b": {"heart": 2}}


def test_odd_fields_come_back_as_they_were(engine: LocalEngine) -> None:
    fields = {
        "n": 2**80,
        "x": 1.0,
        "deep": nested(300),
        "a.b": {"c": None},
        "": "\0",
        "id": "other",
        "text": "not NaN, no Infinity",
    }
    engine.index("x").bulk([action("a", {"heart": 1}, **fields)])
    (hit,) = engine.index("x").search(HEART, 1)
    assert (hit.id, hit.source) == ("a", fields)


@pytest.mark.parametrize("id", ["", "x" * 513, "é" * 257, "\ud800"])
def test_what_is_no_id_is_refused(engine: LocalEngine, id: str) -> None:
    results = engine.index("x").bulk([action(id, {"heart": 1}), Action(id, None)])
    assert results == [ItemResult(400, "an id has 1 to 512 bytes of UTF-8")] * 2
    assert engine.index("x").count() == 0
    with pytest.raises(QueryError, match="no document"):
        engine.index("x").explain(HEART, id)


@settings(
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # each example replaces "a"
)
@given(st.dictionaries(st.text(), st.integers(1, 512), max_size=8))
def test_any_string_is_a_feature(engine: LocalEngine, features: Features) -> None:
    engine.index("x").bulk([action("a", features), action("b", {"heart": 1, "lung": 2})])
    clauses = [Clause(name, 1.0) for name in features]
    assert engine.index("x").explain(clauses, "a") == features


# Durability


def test_everything_is_there_when_opened_again(engine: LocalEngine) -> None:
    engine.index("x").bulk(
        [action(str(n), {"heart": n + 1, f"t{n}": 1}, text=f"{n}") for n in range(50)]
    )
    engine.index("x").bulk([Action("7", None), action("8", {"lung": 3}, text="new")])
    engine.close()
    again = LocalEngine(Path(engine.where))
    assert again.indices() == ["x"]
    assert again.index("x").meta() == META
    assert again.index("x").count() == 49
    assert again.index("x").search_many([HEART], 2) == [[("49", 50.0), ("48", 49.0)]]
    assert again.index("x").search([Clause("lung", 1.0)], 2) == [Hit("8", 3.0, {"text": "new"})]
    assert again.index("x").search([Clause("t7", 1.0)], 2) == []
    again.close()
    again.close()


WRITER = """
import json, random, sys
from pathlib import Path
from splade_es.engines.local import LocalEngine
from splade_es.records import Action
engine = LocalEngine(Path(sys.argv[1]))
rng = random.Random(int(sys.argv[2]))
while True:
    batch = []
    for _ in range(20):
        id, features = str(rng.randrange(150)), {f"t{rng.randrange(60)}": rng.randrange(1, 513)}
        batch.append((id, features if rng.random() < 0.8 else None))
    print(json.dumps(batch), flush=True)
    engine.index("x").bulk(
        [Action(i, None if f is None else b"{}", json.dumps(f).encode()) for i, f in batch])
    print("acknowledged", flush=True)
    if rng.random() < 0.2:
        engine.index("x").refresh()
"""


def test_what_was_acknowledged_survives_a_kill_at_any_moment(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    engine.index("x").create(META)
    expected: dict[str, Features] = {}
    names = [f"t{n}" for n in range(60)]
    rng = random.Random(11)
    batches = 0
    for seed in range(6):
        engine.close()
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(seed)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert writer.stdout
        lines = [writer.stdout.readline()]  # it is at work now
        time.sleep(rng.uniform(0.0, 0.6))
        os.kill(writer.pid, signal.SIGKILL)
        lines += writer.stdout.read().splitlines()
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        under_way: dict[str, Features | None] = {}
        for line in lines:
            if line.strip() != "acknowledged":
                under_way = dict(json.loads(line))  # the writer prints, then sends
                continue
            batches += 1
            for id, features in under_way.items():
                expected.pop(id, None)
                if features is not None:
                    expected[id] = features
            under_way = {}
        found = contents(engine, names)
        for id in expected.keys() | found.keys():
            # The request under way may be there, in part or whole, or not.
            wanted = [expected.get(id)] + ([under_way[id]] if id in under_way else [])
            assert found.get(id) in wanted, (seed, id)
        assert engine.index("x").count() == len(found)
        expected = found
    assert batches > 6
    engine.close()


def test_a_feature_cut_off_by_a_crash_is_forgotten(tmp_path: Path) -> None:
    file = tmp_path / "features.jsonl"
    FeatureIds.create(file)
    dimensions = FeatureIds(file)
    dimensions.add(["heart", "é\n", "heart"])
    with file.open("ab") as end:
        end.write(b'"lu')
    again = FeatureIds(file)
    assert again.numbers == {"heart": 0, "é\n": 1}
    again.add(["lung", "heart"])
    assert FeatureIds(file).numbers == {"heart": 0, "é\n": 1, "lung": 2}


# One process, and directories that are no index


def test_another_process_is_refused_in_one_line(engine: LocalEngine) -> None:
    engine.index("x").bulk([action("a", {"heart": 1})])
    code = f"""
from pathlib import Path
from splade_es.engines.local import LocalEngine
from splade_es.errors import EngineError
engine = LocalEngine(Path({engine.where!r}), wait=0.2)
print(engine.indices(), engine.index("x").meta().scale)
index = engine.index("x")
for act in (index.count, index.delete):
    try:
        act()
    except EngineError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    refused = (
        f"The index 'x' on local at {engine.where} is in use by another process, or "
        "another connection of this one, after a wait of 0.2 seconds. "
        "Close it there, or try again when that process has ended."
    )
    assert done.stdout.splitlines() == ["['x'] 100.0", refused, refused]
    assert engine.index("x").count() == 1


def test_a_directory_of_someone_else_is_left_alone(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "file").write_text("precious")
    assert engine.indices() == []
    index = engine.index("theirs")
    for act in (index.meta, index.count, index.delete):
        with pytest.raises(IndexMismatch, match="splade-es did not make the index 'theirs' on"):
            act()
    with pytest.raises(EngineError, match="The index 'theirs' already exists"):
        engine.index("theirs").create(META)
    assert (tmp_path / "theirs" / "file").read_text() == "precious"


@pytest.mark.parametrize("file", ["features.jsonl", "shard/edge_config.json", "splade-es.json"])
@pytest.mark.parametrize("content", ["garbage\n", None])
def test_a_damaged_index_is_one_clear_line_and_can_be_deleted(
    tmp_path: Path, file: str, content: str | None
) -> None:
    engine = LocalEngine(tmp_path)
    engine.index("x").create(META)
    engine.index("x").bulk([action("a", {"heart": 1})])
    engine.close()
    if content is None:
        (tmp_path / "x" / file).unlink()
    else:
        (tmp_path / "x" / file).write_text(content)
    try:
        assert engine.index("x").count() == 1  # what Edge can do without
    except EngineError as error:
        assert str(tmp_path) in str(error)
        assert error.hint
    engine.close()
    if file == "splade-es.json" and content is None:
        with pytest.raises(IndexMismatch):
            engine.index("x").delete()
    else:
        engine.index("x").delete()
        assert [path.name for path in tmp_path.iterdir()] == [".locks"]


def test_a_panic_of_edge_is_one_clear_line(engine: LocalEngine) -> None:
    """An operation that Edge cannot apply, in its log: what the checks of `bulk` prevent."""
    engine.close()
    shard = qdrant_edge.EdgeShard.load(str(Path(engine.where, "x", "shard")))
    poison = qdrant_edge.Point(1, {"splade": qdrant_edge.SparseVector([1, 2], [1.0])})
    with pytest.raises(BaseException, match=r"(?s).*") as caught:
        shard.update(qdrant_edge.UpdateOperation.upsert_points([poison]))
    assert not isinstance(caught.value, Exception)
    del shard
    with pytest.raises(EngineError, match=r"The index 'x' on .* is damaged, or its disk is full"):
        engine.index("x").count()
    engine.index("x").delete()
    assert engine.indices() == []


def test_a_directory_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    engine = LocalEngine(tmp_path / "file" / "below")
    assert engine.indices() == []
    assert not engine.index("x").exists()
    with pytest.raises(EngineError, match=r"The index 'x' on local at .* cannot be used \(Not a"):
        engine.index("x").create(META)
    index = LocalEngine(tmp_path).index("é" * 200)
    for act in (index.exists, index.meta, index.count, index.delete):
        with pytest.raises(EngineError, match=r"cannot be used \(File name too long\)"):
            act()


def test_a_failed_create_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = LocalEngine(tmp_path)

    def full(*_: object, **__: object) -> None:
        assert engine.indices() == []  # half made, and not seen
        assert not engine.index("x").exists()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(json, "dump", full)
    with pytest.raises(EngineError, match=r"cannot be used \(No space left on device\)"):
        engine.index("x").create(META)
    assert [path.name for path in tmp_path.iterdir()] == [".locks"]


def test_what_a_killed_delete_left_is_no_index_and_goes_with_the_next(engine: LocalEngine) -> None:
    left = Path(engine.where) / ".deleted-0"
    engine.close()
    (Path(engine.where) / "x").rename(left)
    assert engine.indices() == []
    with pytest.raises(IndexMissing):
        engine.index("x").count()
    engine.index("y").create(META)
    engine.index("y").delete()
    assert not left.exists()


def test_a_field_type_is_refused(engine: LocalEngine) -> None:
    with pytest.raises(EngineError, match="local has no field type sparse_vector"):
        engine.index("y").create(META, field_type="sparse_vector")


# BM25 and the rest


def test_bm25_sees_what_was_written_since(engine: LocalEngine) -> None:
    assert engine.index("x").search_bm25(["pump"], 10) == [[]]
    engine.index("x").bulk([action("a", {}, text="the"), action("b", {}, title=None, text=None)])
    assert engine.index("x").search_bm25(["pump", "the"], 10) == [[], []]
    engine.index("x").bulk([action("c", {}, text="pump"), action("d", {}, text="pump pump")])
    (found,) = engine.index("x").search_bm25(["pump"], 10_000)
    assert {hit.id for hit in found} == {"c", "d"}
    engine.index("x").bulk([Action("c", None)])
    (found,) = engine.index("x").search_bm25(["pump"], 1)
    assert [hit.id for hit in found] == ["d"]


def test_bm25_reads_every_page_and_prints_nothing(
    engine: LocalEngine, capfd: pytest.CaptureFixture[str]
) -> None:
    actions = [action(str(n), {}, text=f"word{n} pump", title="T") for n in range(2500)]
    engine.index("x").bulk(actions)
    found = engine.index("x").search_bm25([f"word{n}" for n in range(2500)], 5)
    assert [[hit.id for hit in hits] for hits in found] == [[str(n)] for n in range(2500)]
    assert capfd.readouterr() == ("", "")


def test_bytes_are_those_really_used(engine: LocalEngine) -> None:
    apparent = sum(f.stat().st_size for f in Path(engine.where, "x").rglob("*"))
    assert 0 < engine.index("x").stats().bytes < apparent / 10
    engine.index("x").bulk([action(str(n), {"heart": 1}, text="text " * 2000) for n in range(100)])
    assert 1_000_000 < engine.index("x").stats().bytes < 10_000_000


def test_the_module_loads_no_slow_library() -> None:
    code = "import sys, splade_es.engines.local; print({'numpy', 'bm25s'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
