"""What is built, installed and imported, what a command loads, and what the help says."""

from __future__ import annotations

import ast
import importlib.resources
import itertools
import json
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import click
import pytest

import splade_es
from splade_es.cli.main import COMMANDS, main

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
LINKED = ("cli", "training", "mappings")
#: Beside the packages, what a source distribution has.
WITH_SOURCES = ("compose", "tests")
FILES = (
    "CHANGELOG.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "SECURITY.md",
    "constraints.txt", "pyproject.toml",
)  # fmt: skip


def name_of(folder: Path) -> str:
    """The package in a folder, which is relative to the root."""
    name = ".".join(folder.parts)
    return f"splade_es.{name}" if folder.parts[0] in LINKED else name


def product_files() -> list[Path]:
    # rglob follows no links, so that every folder is met once
    paths = [p for name in ("splade_es", *LINKED) for p in (ROOT / name).rglob("*")]
    return [p for p in paths if p.is_file() and not p.is_symlink() and p.suffix != ".pyc"]


def test_every_package_folder_is_listed() -> None:
    """Packages are listed by hand, because three of them are mapped from folders of the root."""
    with_code = {p.parent.relative_to(ROOT) for p in product_files() if p.suffix == ".py"}
    assert all((ROOT / folder / "__init__.py").is_file() for folder in with_code)
    assert SETUPTOOLS["packages"] == sorted(map(name_of, with_code))
    assert SETUPTOOLS["package-dir"] == {
        name_of(folder): folder.as_posix() for folder in with_code if folder.parts[0] in LINKED
    }


def test_every_file_beside_the_code_is_listed() -> None:
    listed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in (ROOT / package_folder(package)).glob(pattern)
    }
    others = {
        path
        for path in product_files()
        if path.suffix != ".py" and path.name not in ("README.md", *LINKED)  # or links as text
    }
    assert listed == others


def package_folder(package: str) -> str:
    mapped: str | None = SETUPTOOLS["package-dir"].get(package)
    return mapped or package.replace(".", "/")


def test_what_the_code_imports_is_declared() -> None:
    project = PYPROJECT["project"]
    extras = project["optional-dependencies"].values()
    declared = [*project["dependencies"], *itertools.chain.from_iterable(extras)]
    known = {re.split(r"[^\w-]", requirement)[0].lower() for requirement in declared}
    distributions = packages_distributions()
    modules: set[str] = set()
    for path in product_files():
        if path.suffix == ".py":
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    modules.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module:
                    modules.add(node.module.split(".")[0])
    foreign = modules - sys.stdlib_module_names - {"splade_es"}
    # typing_extensions is for type checkers alone, and torch brings triton where there is one
    for module in foreign - {"typing_extensions", "triton"}:
        names = {n.lower().replace("_", "-") for n in distributions.get(module, [])}
        assert names & known, f"{module} is imported, and {names or 'no package'} not declared"


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_to_the_folders_of_the_root(name: str) -> None:
    link = ROOT / "splade_es" / name
    if link.is_symlink():
        assert link.readlink() == Path("..", name)
        assert link.resolve() == ROOT / name
    else:  # a checkout without symbolic links, or a source distribution
        assert not link.exists() or link.read_text() == f"../{name}"


def test_without_links_it_builds_the_same_and_imports(tmp_path: Path) -> None:
    """As on Windows, where a checkout has small text files in place of the three links. The source
    distribution has none at all, and all files; its tests run."""
    checkout = tmp_path / "checkout"
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".env")
    for folder in ("splade_es", *LINKED, *WITH_SOURCES):
        shutil.copytree(ROOT / folder, checkout / folder, ignore=ignored, symlinks=True)
    for file in FILES:
        shutil.copy(ROOT / file, checkout)
    for name in LINKED:
        (checkout / "splade_es" / name).unlink(missing_ok=True)
    expected = {p.relative_to(checkout) for p in checkout.rglob("*") if p.is_file()}
    for name in LINKED:
        (checkout / "splade_es" / name).write_text(f"../{name}")

    editable, wheel = build(checkout, "editable"), build(checkout, "wheel")
    with tarfile.open(build(checkout, "sdist")) as archive:
        archive.extractall(tmp_path / "unpacked", filter="data")
    (unpacked,) = (tmp_path / "unpacked").iterdir()
    assert expected <= {p.relative_to(unpacked) for p in unpacked.rglob("*")}
    assert contents(build(unpacked, "wheel")) == contents(wheel)

    imports = "import splade_es.cli.main, splade_es.training.formats, splade_es.mappings as m; "
    imports += "print(m.__file__)"
    assert run(imports, editable) == f"{checkout / 'mappings' / '__init__.py'}\n"
    assert run(imports, wheel) == f"{wheel.with_suffix('') / 'splade_es/mappings/__init__.py'}\n"
    tests = "import pytest; raise SystemExit(pytest.main(['-q', 'tests/test_features.py']))"
    assert "passed" in run(tests, wheel, unpacked)


def build(checkout: Path, kind: str) -> Path:
    """A distribution of a checkout, by the setuptools of this environment."""
    script = "import sys, setuptools.build_meta as b; getattr(b, 'build_' + sys.argv[1])('made')"
    command = [sys.executable, "-c", script, kind]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    (made,) = (checkout / "made").iterdir()
    target = checkout.parent / f"{checkout.name}-{kind}"
    target.mkdir()
    return made.rename(target / made.name)


def contents(wheel: Path) -> dict[str, int]:
    """What is in a wheel, without its own list of that."""
    with zipfile.ZipFile(wheel) as archive:
        return {m.filename: m.CRC for m in archive.infolist() if not m.filename.endswith("RECORD")}


def run(script: str, wheel: Path, folder: Path | None = None) -> str:
    """The output of a script for which a wheel is installed, and this checkout is not."""
    site = wheel.with_suffix("")
    if not site.exists():
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    begin = (
        f"import site, sys; sys.path.pop(0); site.addsitedir({str(site)!r}); "
        f"sys.path.append({str(Path(pytest.__file__).parents[1])!r}); "
    )
    command = [sys.executable, "-S", "-c", begin + script]
    done = subprocess.run(command, cwd=folder or wheel.parent, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_index_body_is_installed_as_json() -> None:
    text = importlib.resources.files("splade_es.mappings").joinpath("index.json").read_text()
    assert "mappings" in json.loads(text)


def test_versions_agree() -> None:
    versions = re.findall(r"^## \[([\d.]+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert versions[0] == splade_es.__version__
    assert PYPROJECT["project"]["version"] == versions[0]


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
    assert min(seconds) < 1


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
