"""What was typed before an option had its present name still works, and no help shows it."""

from __future__ import annotations

from typing import Any

import click
import pytest

from command_line import run
from splade_es.cli.reference import contexts

BACKFILL = ("--field", "text", "--model", "m")
TRAIN = ("pairs", "--model", "m", "--output", "o")


CONTEXTS = {context.command_path.partition(" ")[2]: context for context in contexts()}


def parsed(name: str, *args: str) -> dict[str, Any]:
    """The arguments that a command is called with."""
    context = CONTEXTS[name]
    return context.command.make_context(name, list(args), parent=context.parent).params


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("index", ("c", "--max-length", "9"), ("c", "--doc-length", "9")),
        ("encode", ("c", "--model", "m", "--output", "o", "--max-length", "9"),
         ("c", "--model", "m", "--output", "o", "--doc-length", "9")),
        ("bench encode", ("c", "--model", "m", "--max-length", "9"),
         ("c", "--model", "m", "--doc-length", "9")),
        ("backfill", ("products", *BACKFILL), ("--index", "products", *BACKFILL)),
        ("backfill", (*BACKFILL, "--max-length", "9", "products"),
         ("--index", "products", *BACKFILL, "--doc-length", "9")),
        ("rollback", ("live", "--json"), ("--alias", "live", "--json")),
        ("evaluate", ("d", "--index", "x", "--run", "r"), ("d", "--index", "x", "--output", "r")),
        ("expand", ("text", "--model", "m", "-k", "5"), ("text", "--model", "m", "--tokens", "5")),
        ("mine", ("d", "--index", "x", "--output", "o", "--with", "model"),
         ("d", "--index", "x", "--output", "o", "--mode", "splade")),
        ("mine", ("d", "--index", "x", "--output", "o", "--with", "bm25"),
         ("d", "--index", "x", "--output", "o", "--mode", "bm25")),
        ("score", ("l", "--teacher", "a", "--teacher", "b", "--output", "o", "--scale", "2"),
         ("l", "--teacher", "a", "--teacher", "b", "--output", "o", "--teacher-scale", "2")),
        ("demo", ("--directory", "d"), ("--output", "d")),
    ],
)  # fmt: skip
def test_the_old_name_does_the_same(name: str, old: tuple[str, ...], new: tuple[str, ...]) -> None:
    assert parsed(name, *old) == parsed(name, *new)


def test_settings_of_a_configuration_file_are_options_too() -> None:
    given = parsed("train", *TRAIN, "--query-threshold", "3", "--doc-threshold", "4", "--clip", "2")
    assert (given["query_threshold"], given["doc_threshold"], given["clip"]) == (3, 4, 2.0)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("index", "c", "--max-length", "9", "--doc-length", "8"),
         "--max-length is the old name of --doc-length: give one."),
        (("backfill", "a", "--index", "b", *BACKFILL),
         "INDEX is the old name of --index: give one."),
        (("backfill", *BACKFILL), "Missing option '--index'."),
        (("rollback",), "Missing option '--alias'."),
        (("expand", "text", "--model", "m", "-k", "0"), "Invalid value for '--tokens': 0 is not"),
        (("mine", "d", "--index", "x", "--output", "o", "--with", "luck"),
         "Invalid value for '--mode': 'luck' is not one of 'splade', 'bm25', 'hybrid'."),
    ],
)  # fmt: skip
def test_errors_say_the_new_name(args: tuple[str, ...], said: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"Error: {said}")


@pytest.mark.parametrize("context", CONTEXTS.values(), ids=lambda context: context.command_path)
def test_no_help_shows_old_names(context: click.Context) -> None:
    said = context.get_help().split()
    for param in context.command.params:
        if isinstance(param, click.Option) and param.hidden:
            assert not {*param.opts} & {*said}
    assert not {"[INDEX]", "[ALIAS]"} & {*said}
