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
from splade_es.cli.main import main

ROOT = Path(__file__).parents[1]
PYPROJECT = (ROOT / "pyproject.toml").read_text()
LINKED = ("cli", "training", "mappings")


def test_every_package_folder_is_listed() -> None:
    """Packages are listed by hand, because three of them are mapped from folders of the root."""
    listed = set(re.findall(r'"([\w.]+)"', re.search(r"packages = \[(.*)\]", PYPROJECT)[1]))  # type: ignore[index]
    folders = [ROOT / "splade_es", *(ROOT / name for name in LINKED)]
    found = {
        ".".join(["splade_es" if folder.name != "splade_es" else "", *path.parent.parts]).strip(".")
        for folder in folders
        for path in (
            init.relative_to(ROOT)
            for init in folder.rglob("__init__.py")
            if not any(part.is_symlink() for part in init.parents)
        )
    }
    assert found == listed
    with_code = {path.parent for folder in folders for path in folder.rglob("*.py")}
    assert all((folder / "__init__.py").is_file() for folder in with_code)


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_to_the_folders_of_the_root(name: str) -> None:
    link = ROOT / "splade_es" / name
    assert link.is_symlink() and link.readlink() == Path("..", name)
    assert link.resolve() == ROOT / name


def test_index_body_is_installed_as_json() -> None:
    text = importlib.resources.files("splade_es.mappings").joinpath("index.json").read_text()
    assert "mappings" in json.loads(text)


def test_versions_agree() -> None:
    assert f'version = "{splade_es.__version__}"' in PYPROJECT
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[([\d.]+)\]", changelog, re.MULTILINE)[1] == splade_es.__version__  # type: ignore[index]


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys\nfrom splade_es.cli.main import main\n"
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


@pytest.mark.parametrize("name", [None, *sorted(main.commands)])
def test_help_says_what_it_is_and_ends_with_an_example(name: str | None) -> None:
    command: click.Command = main.commands[name] if name else main
    assert command.help
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
