"""The files of the local engine: shared with other processes, on a full disk, and damaged."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import any_engine
from any_engine import META
from splade_es.engines.local import LocalEngine
from splade_es.errors import EngineError, Unavailable
from splade_es.records import Action, Clause

HEART = [Clause("heart", 1.0)]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[LocalEngine]:
    engine = LocalEngine(tmp_path / "indices")
    engine.index("x").create(META)
    yield engine
    engine.close()


def actions(start: int, count: int = 50) -> list[Action]:
    return [
        any_engine.action(f"d{n}", {"splade": {"heart": n % 500 + 1, f"t{n % 700}": 2}})
        for n in range(start, start + count)
    ]


# Other processes

# Uses an index as commands do that last for a moment, until it is told to stop.
OTHERS = """
import sys
from pathlib import Path
from splade_es.engines.local import LocalEngine
from splade_es.errors import SpladeEsError, Unavailable
from splade_es.index_meta import IndexMeta
from splade_es.records import Clause

where, meta = sys.argv[1], IndexMeta(*eval(sys.argv[2]))
print("ready", flush=True)
for how in sys.stdin:
    engine = LocalEngine(Path(where), wait=0.05)
    index, other = engine.index("x"), engine.index("other")
    try:
        if how.strip() == "replace":
            if not other.exists():
                other.create(meta)
            index.replace_with(other)
        else:
            {
                "search": lambda: index.search([Clause("heart", 1.0)], 10),
                "explain": lambda: index.explain([Clause("heart", 1.0)], "d1"),
                "info": lambda: index.stats(),
                "load": lambda: index.bulk([]),
                "delete": index.delete,
                "create": lambda: index.create(meta),
            }[how.strip()]()
        print("done", flush=True)
    except SpladeEsError as error:
        print(type(error).__name__, flush=True)
    finally:
        engine.close()
"""


class Other(NamedTuple):
    """Another process."""

    process: subprocess.Popen[str]

    def does(self, how: str) -> str:
        """What comes of a use of the index there."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(how + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Other]:
    fields = repr(tuple(META.to_dict().values()))
    command = [sys.executable, "-c", OTHERS, str(tmp_path / "indices"), fields]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline() == "ready\n"
        yield Other(process)
        assert process.stdin
        process.stdin.close()


def test_who_loads_never_notices_who_else_uses_the_index(engine: LocalEngine, other: Other) -> None:
    """Edge repairs its files when it opens them, also those that another process is writing."""
    index = engine.index("x")
    index.bulk(actions(0))
    sent, failures = [50], []
    end = threading.Event()

    def load() -> None:
        try:
            while not end.is_set():
                index.bulk(actions(sent[0]))
                sent[0] += 50
        except BaseException as error:
            failures.append(error)

    loader = threading.Thread(target=load)
    loader.start()
    for _ in range(3):
        for how in ("search", "info", "explain", "load", "delete", "replace"):
            assert other.does(how) == "Unavailable", how
        assert other.does("create") == "IndexExists"
    end.set()
    loader.join()
    assert not failures
    assert index.count() == sent[0]
    engine.close()
    assert other.does("search") == "done"  # it was in use, and is not damaged
    assert index.count() == sent[0]
    assert sorted(index.ids()) == sorted(f"d{n}" for n in range(sent[0]))


def test_who_meets_an_index_in_use_waits_for_it(engine: LocalEngine, other: Other) -> None:
    engine.index("x").bulk(actions(0))
    patient = LocalEngine(Path(engine.where), wait=30)
    threading.Timer(0.5, engine.close).start()
    assert patient.index("x").count() == 50
    assert other.does("search") == "Unavailable"
    patient.close()
    assert other.does("search") == "done"


def test_the_lock_goes_with_the_process(engine: LocalEngine, other: Other) -> None:
    assert engine.index("x").count() == 0
    assert other.does("search") == "Unavailable"
    engine.close()
    assert other.does("replace") == "done"
    assert other.does("delete") == "done"
    assert other.does("search") == "IndexMissing"
    assert other.does("create") == "done"
    assert engine.index("x").count() == 0
    with pytest.raises(EngineError, match="already exists"):
        engine.index("x").create(META)


def test_an_index_that_does_not_exist_leaves_no_trace(tmp_path: Path) -> None:
    engine = LocalEngine(tmp_path / "indices")
    for act in (engine.index("x").count, engine.index("x").delete):
        with pytest.raises(EngineError, match="There is no index 'x'"):
            act()
    assert not (tmp_path / "indices").exists()


def test_another_connection_of_this_process_is_refused_too(engine: LocalEngine) -> None:
    engine.index("x").bulk(actions(0))
    with pytest.raises(Unavailable, match="or another connection of this one"):
        LocalEngine(Path(engine.where), wait=0.1).index("x").count()


# A full disk


def free(monkeypatch: pytest.MonkeyPatch, megabytes: float) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=int(megabytes * 1e6)))


def test_a_full_disk_is_one_line_and_takes_nothing(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = engine.index("x")
    index.bulk(actions(0))
    free(monkeypatch, 20)
    full = r"The disk of .* is full: 20.0 MB are free, and 32.* MB are needed\. Make room on it\."
    with pytest.raises(EngineError, match=full):
        index.bulk(actions(50))
    with pytest.raises(EngineError, match=full):
        engine.index("new").create(META)
    assert engine.indices() == ["x"]
    assert index.count() == 50 and len(index.search(HEART, 100)) == 50
    engine.close()
    assert index.count() == 50  # there is still room to open it
    engine.close()
    free(monkeypatch, 1)
    with pytest.raises(EngineError, match=r"1\.0 MB are free, and 8\.0 MB are needed"):
        index.search(HEART, 10)
    free(monkeypatch, 100)
    index.bulk(actions(50))
    assert index.count() == 100
    engine.close()
    free(monkeypatch, 0)
    index.delete()  # which makes room
    assert engine.indices() == []


def test_a_large_request_needs_more_room(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    free(monkeypatch, 40)
    large = [any_engine.action("a", {"splade": {"heart": 1}, "text": "x" * 4_000_000})]
    with pytest.raises(EngineError, match=r"40\.0 MB are free, and 44\.0 MB are needed"):
        engine.index("x").bulk(large)
    engine.index("x").bulk(actions(0))


# Damaged files


def cut(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[:-1]))


def cut_within(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-2])


def permute(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))


def lose(file: Path) -> None:
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:1], *lines[2:]]))


def change(file: Path) -> None:
    file.write_bytes(file.read_bytes().replace(b"1", b"2"))


def empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "harm"),
    [
        *(("features.jsonl", harm) for harm in (cut, cut_within, permute, lose)),
        *(
            (name, harm)
            for name in ("features.jsonl", "features.json", "splade-es.json")
            for harm in (change, empty, Path.unlink)
        ),
    ],
)
def test_a_damaged_file_is_refused_and_not_answered_from(
    engine: LocalEngine, name: str, harm: Callable[[Path], Any]
) -> None:
    index = engine.index("x")
    index.bulk(actions(0))
    engine.close()
    file = Path(engine.where, "x", name)
    before = file.read_bytes()
    harm(file)
    assert not file.exists() or file.read_bytes() != before
    for act in (index.count, lambda: index.search(HEART, 10), lambda: index.bulk(actions(50))):
        with pytest.raises(EngineError, match="damaged"):
            act()
    file.write_bytes(before)
    assert index.count() == 50


def test_what_a_crash_left_behind_the_features_in_use_is_forgotten(engine: LocalEngine) -> None:
    index = engine.index("x")
    index.bulk(actions(0))
    engine.close()
    with Path(engine.where, "x", "features.jsonl").open("ab") as file:
        file.write(b'"lost"\n"cu')
    assert len(index.search(HEART, 100)) == 50
    index.bulk(actions(50))
    engine.close()
    assert len(index.search([Clause("t60", 1.0)], 100)) == 1
    assert b"lost" not in Path(engine.where, "x", "features.jsonl").read_bytes()


def test_the_scale_of_an_index_cannot_be_edited(engine: LocalEngine) -> None:
    file = Path(engine.where, "x", "splade-es.json")
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "scale": 10.0}))
    with pytest.raises(EngineError, match=r"its file splade-es\.json is damaged"):
        engine.index("x").meta()


def test_documents_that_its_files_have_lost_are_noticed(engine: LocalEngine) -> None:
    index = engine.index("x")
    index.bulk(actions(0))
    engine.close()
    before = shutil.copytree(Path(engine.where, "x"), Path(engine.where, ".copy"))
    shard = Path(engine.where, "x", "shard")
    for lost in [*shard.rglob("mutable_id_tracker.mappings"), *shard.glob("wal/*")]:
        lost.unlink()
    for act in (index.count, lambda: index.search(HEART, 10), lambda: index.bulk(actions(50))):
        with pytest.raises(EngineError, match="is damaged: it has 0 documents, not as many as"):
            act()
    shutil.rmtree(Path(engine.where, "x"))
    before.rename(Path(engine.where, "x"))
    assert index.count() == 50
    index.bulk([Action("d1", None)])
    engine.close()
    assert index.count() == 49


def test_a_write_that_failed_leaves_no_number_of_documents(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = engine.index("x")
    index.bulk(actions(0))
    engine.close()
    assert Path(engine.where, "x", "documents.json").exists()
    assert index.count() == 50
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        with pytest.raises(EngineError, match=r"cannot be used \(No space left on device\)"):
            index.bulk(actions(1000))
    index.bulk(actions(100))
    engine.close()
    assert not Path(engine.where, "x", "documents.json").exists()
    assert index.count() == 100


def refuse(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("renames", [1, 2])
def test_a_replacement_that_was_cut_short_leaves_an_index_under_the_name(
    engine: LocalEngine, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    engine.index("x").bulk(actions(0))
    engine.index("y").create(META)
    engine.index("y").bulk([*actions(0), *actions(100)])
    rename, left = Path.rename, [renames]

    def killed(self: Path, target: Path) -> Path:
        if not left[0]:
            raise OSError("killed")
        left[0] -= 1
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(EngineError, match="killed"):
            engine.index("x").replace_with(engine.index("y"))
    assert engine.index("x").exists() and engine.index("x").meta() == META
    assert engine.index("x").count() == (50 if renames == 1 else 100)
    if renames == 1:
        engine.index("x").replace_with(engine.index("y"))
    assert engine.index("x").count() == 100
    assert engine.indices() == ["x"] and not engine.index("y").exists()
    assert not [*Path(engine.where).glob(".replaced-*")]
