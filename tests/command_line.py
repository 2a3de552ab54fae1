"""Commands as a person types them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from splade_es.cli.main import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A local engine of its own, and no settings of the person who runs the tests."""
    for name in [name for name in os.environ if name.startswith("SPLADE_ES_")]:
        if not name.startswith("SPLADE_ES_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("SPLADE_ES_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def run(*args: object, stdin: str | None = None) -> Result:
    """What a command does, in this process."""
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def error(*args: object, code: int = 1, stdin: str | None = None) -> str:
    """The one line of a command that must fail; after wrong usage there is a hint before it."""
    result = run(*args, stdin=stdin)
    assert result.exit_code == code, result.output
    lines = [line for line in result.stderr.splitlines() if not line.startswith("Local engine")]
    if code == 2:
        usage, hint, empty, *lines = lines
        assert usage.startswith(f"Usage: main {args[0]} [OPTIONS]") and not empty, result.stderr
        assert hint.startswith(f"Try 'main {args[0]} ")
    assert len(lines) == 1 and lines[0].startswith("Error: "), result.stderr
    return lines[0].removeprefix("Error: ")


def interrupted(tmp_path: Path, *args: object, wait_for: Callable[[], bool]) -> tuple[int, str]:
    """Exit code and stderr of a command in a process of its own, which gets Ctrl-C.

    wait_for: it gets it as soon as this is true.
    """
    # a shell lets what it starts in the background ignore the signal, and children inherit that
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from splade_es.cli.main import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, args)],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    )
    deadline = time.monotonic() + 120
    while not wait_for() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    return process.returncode, stderr


@pytest.fixture
def loaded(home: Path, corpus_file: Path, tiny_model: str) -> str:
    """The name of an index of TEXTS."""
    result = run("index", corpus_file, "--model", tiny_model, "--index", "texts")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith(
        "texts: 5 read, 5 indexed (0 replaced an earlier one, 0 without any term), 0 rejected; "
    )
    return "texts"
