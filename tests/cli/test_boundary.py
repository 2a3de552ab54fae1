"""Errors of the library become one line, an exit code, and options in place of settings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from command_line import error, run
from splade_es.cli.output import name_options
from splade_es.cli.reference import contexts
from splade_es.errors import Interrupted, SettingsError, SpladeEsError

pytestmark = pytest.mark.usefixtures("home")


COMMANDS = {context.command_path.partition(" ")[2]: context.command for context in contexts()}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("index", "`recreate` and not `delete_missing`", "--recreate and not --delete-missing"),
        ("index", "made with `max_length` 9", "made with --doc-length 9"),
        ("index", "choose another `index`", "choose another --index"),
        ("index", "`corpus`: no such file", "CORPUS: no such file"),
        ("search", "lower `query_top_k`, or `k`.", "lower --query-top-k, or -k."),
        ("search", "index again with `recreate`", "index again with recreate"),
        ("evaluate", "`collection`, `output`", "BEIR_DIR, --output"),
        ("score", "`teachers` and `teacher_scale`", "--teacher and --teacher-scale"),
        ("backfill", "`fields`", "--field"),
        ("bench search", "`k`", "-k"),
        ("train", "`data`, `doc_terms`", "PAIRS, --doc-terms"),
        ("train", "set `anti_zero` to 1", "set anti_zero to 1"),  # in a file of settings only
        ("train", "lines like `name: value`", "lines like `name: value`"),
    ],
)
def test_settings_are_named_as_the_options_of_the_command(name: str, text: str, said: str) -> None:
    assert name_options(text, COMMANDS[name]) == said


def everything_below(kind: type[SpladeEsError]) -> Iterator[type[SpladeEsError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from everything_below(inner)


@pytest.mark.parametrize("kind", [*everything_below(SpladeEsError)])
def test_exit_codes(kind: type[SpladeEsError], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(url: str | None) -> None:
        raise kind("It failed", "Lower `k`.")

    monkeypatch.setattr("splade_es.handles.connect", fail)
    result = run("search", "heart", "--index", "x")
    usage = "Usage: main search [OPTIONS] QUERY\nTry 'main search --help' for help.\n\n"
    code, before = 1, "Error: "
    if kind is SettingsError:
        code, before = 2, f"{usage}Error: "
    if kind is Interrupted:
        code, before = 130, ""
    assert (result.exit_code, result.stdout) == (code, "")
    assert result.stderr == f"{before}It failed. Lower -k.\n"


def test_ctrl_c_and_bugs(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(url: str | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("splade_es.handles.connect", stop)
    result = run("info")
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "Interrupted.\n")

    def crash(url: str | None) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("splade_es.handles.connect", crash)
    with pytest.raises(ZeroDivisionError):
        run("info")


def test_a_command_of_a_group_names_its_own_options(
    beir_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(url: str | None) -> None:
        raise SettingsError("`k` is above `count`")

    monkeypatch.setattr("splade_es.handles.connect", fail)
    result = run("bench", "search", beir_folder / "queries.jsonl", "--index", "x")
    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: main bench search [OPTIONS] QUERIES\n")
    assert result.stderr.endswith("\nError: -k is above --count\n")


def test_settings_that_do_not_go_together(corpus_file: Path, tiny_model: str) -> None:
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x")
    assert error(*args, "--recreate", "--resume", code=2) == (
        "--recreate starts over: leave out --resume and --alias"
    )
    assert error("index", corpus_file, "--index", "x", code=2) == (
        "--model is missing. Name a directory or a hub model."
    )
