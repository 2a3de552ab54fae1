"""What is installed, what a command loads, and what the help says."""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

import splade_es
from splade_es.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
LINKED = ("cli", "training", "mappings")


def test_every_package_folder_is_listed() -> None:
    """Packages are listed by hand, because three of them are mapped from folders of the root."""
    [listing] = re.findall(r"^packages = \[(.*)\]", PYPROJECT, re.MULTILINE)
    with_code = {  # rglob follows no links, so that every folder is met once
        path.parent.relative_to(ROOT)
        for name in ("splade_es", *LINKED)
        for path in (ROOT / name).rglob("*.py")
    }
    assert all((ROOT / folder / "__init__.py").is_file() for folder in with_code)
    names = {".".join(folder.parts) for folder in with_code}
    assert set(re.findall(r'"([\w.]+)"', listing)) == {
        f"splade_es.{name}" if name.split(".")[0] in LINKED else name for name in names
    }


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_to_the_folders_of_the_root(name: str) -> None:
    link = ROOT / "splade_es" / name
    assert link.is_symlink() and link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


def test_index_body_is_installed_as_json() -> None:
    text = importlib.resources.files("splade_es.mappings").joinpath("index.json").read_text()
    assert "mappings" in json.loads(text)


def test_versions_agree() -> None:
    versions = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == splade_es.__version__
    assert re.findall(r'^version = "(.*)"', PYPROJECT, re.MULTILINE) == versions[:1]


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom splade_es.cli.main import COMMANDS, main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'numpy', 'elasticsearch', 'opensearchpy', "
        "'qdrant_edge', 'rich', 'ir_measures'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        seconds.append(time.perf_counter() - started)
        assert done.stdout.splitlines()[-1] == "loaded: []", done.stderr
    assert min(seconds) < 0.5


@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_says_what_it_is_and_ends_with_an_example(name: str | None) -> None:
    command = main.get_command(click.Context(main), name) if name else main
    assert command and command.help
    first, *_, example = command.help.strip().split("\n\n")
    assert first.strip().split("\n")[0][0].isupper()
    lines = [line.strip() for line in example.strip("\b\n ").splitlines()]
    assert lines[0] == "Example:"
    assert all(line.startswith("splade-es ") for line in lines[1:]) and len(lines) > 1


def test_nothing_large_is_tracked() -> None:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listing.returncode:
        pytest.skip("no git checkout")
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        assert not path.is_file() or path.stat().st_size < 1_000_000, name
