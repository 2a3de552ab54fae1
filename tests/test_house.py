"""Rules that hold for every file of the product; `make check` holds the arrows between them."""

from __future__ import annotations

import ast
import doctest
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import splade_es

ROOT = Path(__file__).parents[1]
FOLDERS = ("splade_es", "cli", "training", "mappings")
LIBRARY = ("splade_es", "training", "mappings")
#: A flag of a command: two hyphens and a word, with neither a word nor a hyphen before it.
FLAG = re.compile(r"(?<![\w-])--[a-z][\w-]*")
#: What nobody pays for who only imports the face.
HEAVY = {"torch", "transformers", "elasticsearch", "elastic_transport", "opensearchpy", "numpy"}
IMPORT_SECONDS = 0.05


def sources(*folders: str, suffixes: tuple[str, ...] = (".py",)) -> list[Path]:
    # rglob follows no links, so that every file is met once
    return sorted(p for f in folders for p in (ROOT / f).rglob("*") if p.suffix in suffixes)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def functions(path: Path) -> Iterator[tuple[ast.FunctionDef | ast.AsyncFunctionDef, str]]:
    """The functions of a file, each with the comment that stands directly above it."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            comment: list[str] = []
            while first > 0 and (line := lines[first - 1].strip()).startswith("#"):
                comment.insert(0, line.lstrip("# "))
                first -= 1
            yield node, " ".join(comment)


def docstring(node: ast.AST) -> ast.Constant | None:
    """The literal that is the docstring of a module, a class or a function."""
    match node:
        case (
            ast.Module(body=[ast.Expr(value=ast.Constant(value=str()) as literal), *_])
            | ast.ClassDef(body=[ast.Expr(value=ast.Constant(value=str()) as literal), *_])
            | ast.FunctionDef(body=[ast.Expr(value=ast.Constant(value=str()) as literal), *_])
            | ast.AsyncFunctionDef(body=[ast.Expr(value=ast.Constant(value=str()) as literal), *_])
        ):
            return literal
    return None


def test_no_file_is_longer_than_one_sitting() -> None:
    long = {
        name(path): count
        for path in sources(*FOLDERS, suffixes=(".py", ".js", ".css", ".html"))
        if (count := len(path.read_text().splitlines())) > 300
    }
    assert long == {}


def test_long_functions_say_why() -> None:
    """60 lines, without the docstring, which has to say what it says."""
    long = {}
    for path in sources(*FOLDERS):
        for function, comment in functions(path):
            said = docstring(function)
            count = (function.end_lineno or 0) - function.lineno + 1
            if said:
                count -= (said.end_lineno or 0) - said.lineno + 1
            if count > 60 and "Long because" not in comment:
                long[f"{name(path)}:{function.lineno} {function.name}"] = count
    assert long == {}


def test_functions_with_many_parameters_say_why() -> None:
    many = {}
    for path in sources(*FOLDERS):
        for function, comment in functions(path):
            arguments = function.args
            count = len([*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs])
            count += (arguments.vararg is not None) + (arguments.kwarg is not None)
            count -= bool(arguments.args) and arguments.args[0].arg in ("self", "cls")
            if count > 12 and "Many parameters because" not in comment:
                many[f"{name(path)}:{function.lineno} {function.name}"] = count
    assert many == {}


def test_the_library_names_settings_and_no_flags() -> None:
    """The boundary in cli/main.py turns a setting's name into the flag of the running command.

    A whole command line may be shown, as the card of a saved model does.
    """
    found = []
    for path in sources(*LIBRARY):
        tree = ast.parse(path.read_text())
        docstrings = {id(docstring(node)) for node in ast.walk(tree)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                lines = [x for x in node.value.splitlines() if not x.startswith("splade-es ")]
                if id(node) not in docstrings and FLAG.search("\n".join(lines)):
                    found.append(f"{name(path)}:{node.lineno} {FLAG.findall(node.value)}")
    assert found == []


def test_the_face_is_sorted_and_complete() -> None:
    assert splade_es.__all__ == sorted(splade_es.__all__)
    tree = ast.parse((ROOT / "splade_es/__init__.py").read_text())
    [guarded] = [node for node in tree.body if isinstance(node, ast.If)]
    assert ast.unparse(guarded.test) == "TYPE_CHECKING"
    declared = [
        (alias.asname or alias.name, f"{node.module}")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(["__version__", *(public for public, _ in declared)]) == splade_es.__all__
    for public, module in declared:  # what type checkers see is what is imported
        assert getattr(splade_es, public) is getattr(importlib.import_module(module), public)
    assert set(splade_es.__all__) <= set(dir(splade_es))
    with pytest.raises(AttributeError, match="module 'splade_es' has no attribute 'nothing'"):
        splade_es.nothing  # noqa: B018


def test_importing_the_face_is_quick_and_loads_nothing_heavy() -> None:
    script = (
        "import sys, time\nstarted = time.perf_counter()\nimport splade_es\n"
        "print(time.perf_counter() - started, *sys.modules)"
    )
    seconds = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
        took, *modules = done.stdout.split()
        assert not HEAVY & set(modules), done.stderr
        seconds.append(float(took))
    assert min(seconds) < IMPORT_SECONDS


def test_it_runs_as_a_module() -> None:
    command = [sys.executable, "-m", "splade_es", "--version"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout == f"splade-es, version {splade_es.__version__}\n", done.stderr


def with_examples() -> list[str]:
    """The modules that have examples in their docstrings."""
    modules = []
    for path in sources(*FOLDERS):
        if re.search(r"^\s*>>> ", path.read_text(), re.MULTILINE):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if parts[0] == "splade_es" else ("splade_es", *parts)
            modules.append(".".join(parts).removesuffix(".__init__"))
    return modules


@pytest.mark.parametrize("module", with_examples())
def test_examples_in_docstrings_are_true(module: str) -> None:
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted and not result.failed
