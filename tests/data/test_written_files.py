"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from splade_es.data.files import atomic_file, replacing_files
from splade_es.data.rejects import rejects_file
from splade_es.errors import CorpusError
from splade_es.records import Rejected


def names(directory: Path) -> list[str]:
    return sorted(str(path.relative_to(directory)) for path in directory.rglob("*"))


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with atomic_file(path, CorpusError, sync=True) as file:
        file.write("new")
        assert not path.exists()
    assert path.read_text() == "new" and names(tmp_path) == ["run"]
    with pytest.raises(ZeroDivisionError), atomic_file(path, CorpusError, "wb") as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "new" and names(tmp_path) == ["run"]


def test_files_are_replaced_together_the_named_one_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "table.bin").write_text("old")
    (tmp_path / "other").write_text("of somebody else")
    moved: list[str] = []
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        moved.append(str(target.relative_to(tmp_path)))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    with replacing_files(tmp_path, last=".bin") as part:
        for name in ("table.bin", "config", "query/table.bin", "query/config"):
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_text("new")
        assert (tmp_path / "table.bin").read_text() == "old"
    assert moved == ["query/config", "query/table.bin", "config", "table.bin"]
    assert names(tmp_path) == sorted([*moved, "query", "other"])
    assert {(tmp_path / name).read_text() for name in moved} == {"new"}


def test_after_an_error_nothing_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("old")
    with pytest.raises(ZeroDivisionError), replacing_files(tmp_path, last=".bin") as part:
        (part / "config").write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "config").read_text() == "old" and names(tmp_path) == ["config"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no limit that is like a full disk")
def test_bad_lines_on_a_full_disk_are_whole(tmp_path: Path) -> None:
    import resource

    path, limits = tmp_path / "rejects", resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(CorpusError, match="File too large"), rejects_file(path) as rejects:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
        try:
            for n in range(999):
                rejects.add(Rejected(f"c:{n}", "it is bad", "☃" * n))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    lines = path.read_text("utf-8").splitlines()
    assert [json.loads(line)["place"] for line in lines] == [f"c:{n}" for n in range(rejects.count)]


WRITERS = {
    "file": "file = atomic_file('target[1]', CorpusError); file.__enter__().write('half')",
    "rejects": "file = rejects_file(Path('target[1]')); file.__enter__()",
    "directory": "file = replacing_files('.', last='.bin'); "
    "(file.__enter__() / 'config').write_text('half')",
}


@contextmanager
def writing(kind: str, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that has begun to write."""
    code = (
        "from pathlib import Path; from splade_es.errors import CorpusError; "
        "from splade_es.data.files import atomic_file, replacing_files; "
        "from splade_es.data.rejects import rejects_file; "
        f"{WRITERS[kind]}; print(flush=True); input(); file.__exit__(None, None, None)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with process:
        assert process.stdout and process.stdout.readline()
        yield process


def write(kind: str, folder: Path) -> None:
    with writing(kind, folder) as process:
        process.communicate("\n", timeout=60)
    assert process.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="there is nothing that holds a directory")
@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_killed_process_has_left_is_removed_and_nothing_else(
    kind: str, tmp_path: Path
) -> None:
    (tmp_path / ".target[1].of-somebody-else.tmp").write_text("kept")
    with writing(kind, tmp_path) as killed:
        killed.kill()
    (left,) = [name for name in names(tmp_path) if "else" not in name and "/" not in name]
    with writing(kind, tmp_path) as living:
        (held,) = [name for name in names(tmp_path) if "else" not in name and "/" not in name]
        assert held != left
        write(kind, tmp_path)
        assert held in names(tmp_path)
        living.communicate("\n", timeout=60)
    assert living.returncode == 0
    written = {"file": ["target[1]"], "rejects": [], "directory": ["config"]}[kind]
    assert names(tmp_path) == [".target[1].of-somebody-else.tmp", *written]
