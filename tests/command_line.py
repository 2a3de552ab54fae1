"""Commands as a person types them, in this process."""

import os
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
    result = CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result
