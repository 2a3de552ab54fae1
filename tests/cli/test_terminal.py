"""Whatever is behind the streams of a command: what it says is whole, or one line says why not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from command_line import error, run
from stub import Stub

pytestmark = pytest.mark.usefixtures("home")


def in_shell(command: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """A command with redirections, as a shell runs it; $splade is the program."""
    program = f"{sys.executable} -m splade_es"
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env={**os.environ, "splade": program, **environment},
        capture_output=True,
        timeout=120,
        check=False,
    )


FULL = b"Error: The results cannot be written (No space left on device)."
LOCAL = b"Local engine in %b (--url names a server)."


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("--help > /dev/full", 1, [FULL]),
        ("info > /dev/full", 1, [LOCAL, FULL]),
        ("info > >(exec true)", 1, [LOCAL]),  # a pipe that nobody reads
        ("info >&-", 0, [LOCAL]),
        ("info 2>&-", 0, []),
        ("info 2> /dev/full", 0, []),
        ("info <&- >&- 2>&-", 0, []),
        (
            "index - --index x --model m <&-",
            1,
            [LOCAL, b"Error: -: no documents in it. Check the file."],
        ),
    ],
)
def test_closed_and_full_streams(command: str, code: int, said: list[bytes], home: Path) -> None:
    done = in_shell(f"$splade {command}")
    assert done.stderr.splitlines() == [line.replace(b"%b", bytes(home)) for line in said]
    assert done.returncode == code


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf8(encoding: str, loaded: str) -> None:
    table = in_shell(f"$splade explain heart heart --index {loaded}", PYTHONIOENCODING=encoding)
    assert table.returncode == 0, table.stderr
    assert (b"\xe2\x96\x88" in table.stdout) == (encoding == "ascii")  # a bar, in UTF-8
    assert (b"?" in table.stdout) == (encoding == "latin-1")


def test_json_is_whole_in_any_encoding(loaded: str, tmp_path: Path, tiny_model: str) -> None:
    corpus = tmp_path / "more.jsonl"
    corpus.write_text('{"_id": "caf\\u00e9", "text": "virus \\u2603"}\n')
    assert run("index", corpus, "--model", tiny_model, "--index", loaded).exit_code == 0
    command = f"$splade search virus --index {loaded} --json"
    wide, narrow = (in_shell(command, PYTHONIOENCODING=name) for name in ("utf-8", "latin-1"))
    assert narrow.returncode == 0, narrow.stderr
    shown = [json.loads(line) for line in narrow.stdout.splitlines()]
    assert shown == [json.loads(line) for line in wide.stdout.splitlines()]
    assert "virus ☃" in [hit["source"]["text"] for hit in shown]


def test_files_that_are_none(tmp_path: Path, tiny_model: str) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"_id": "1", "text": "heart"}\n{"_id": "2"}\n')
    load = ("index", corpus, "--model", tiny_model, "--index", "x")
    assert error(*load, "--rejects", "/dev/full").startswith(
        f"{corpus}:2: this bad line cannot be written to /dev/full (No space left on device). "
    )
    for device in ("/dev/null", "/dev/full"):
        said = f"{device}: not a journal of splade-es. Name another file with --journal."
        assert error(*load, "--journal", device) == said
    name = "x" * 300
    assert error(*load, "--rejects", name).startswith(
        f"{name}: cannot be written (File name too long)"
    )


def test_warnings_of_clients_are_not_shown(stub: Stub) -> None:
    stub.says(200, {"version": {"number": "9.0.0"}, "tagline": "You Know, for Search"})
    stub.further["warning"] = '299 Elasticsearch-9.0.0 "this is deprecated"'
    done = in_shell(f"$splade info --url {stub.url}")
    assert (done.returncode, done.stderr) == (0, b"")
    done = in_shell(f"$splade info --url {stub.url}", PYTHONWARNINGS="default")
    assert b"this is deprecated" in done.stderr  # for who asks for them


def test_an_error_of_a_server_moves_no_cursor(stub: Stub) -> None:
    stub.says(500, {"error": "\x1bcgone\r\n"})
    assert "\x1b" not in error("info", "--url", stub.url)
