"""Results go to stdout and everything else to stderr; with --json, stdout is lines of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from command_line import run
from splade_es.cli.main import COMMANDS, main
from splade_es.cli.reference import contexts

pytestmark = pytest.mark.usefixtures("home")


def records(*args: object) -> list[dict[str, Any]]:
    """The lines of JSON that a command prints."""
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    lines: list[dict[str, Any]] = [json.loads(line) for line in result.stdout.splitlines()]
    assert lines and all(isinstance(line, dict) for line in lines)
    return lines


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"bench", "demo", "serve"}))
def test_what_has_a_result_has_json(name: str) -> None:
    command = main.get_command(click.Context(main), name)
    assert command and "--json" in [flag for param in command.params for flag in param.opts]


def test_one_meaning_for_a_name() -> None:
    """Options of the same name have the same Python name and, where they are shared, one help."""
    names: dict[str, set[str]] = {}
    helps: dict[str, set[str]] = {}
    for context in contexts():
        for param in context.command.params:
            if isinstance(param, click.Option) and not param.hidden:
                names.setdefault(param.opts[0], set()).add(str(param.name))
                helps.setdefault(param.opts[0], set()).add(str(param.help).partition("  ")[0])
    del names["--doc-length"]  # which the library calls max_length, and training doc_length
    assert {flag: found for flag, found in names.items() if len(found) > 1} == {}
    for flag in ("-k", "--url", "--json", "--mode", "--query-threshold", "--scale", "--tokens"):
        assert len(helps[flag]) == 1, flag
    for said in helps["--model"]:
        assert said.startswith("Model: a directory or a hub name. "), said


def test_an_index_from_its_first_day_to_its_last(
    beir_folder: Path, tiny_model: str, tmp_path: Path, home: Path
) -> None:
    to, local = ("--index", "texts"), f"Local engine in {home} (--url names a server).\n"
    (loaded,) = records("index", beir_folder, "--model", tiny_model, *to)
    assert (loaded["index"], loaded["indexed"], loaded["first_rejected"]) == ("texts", 5, None)
    assert records("info")[0]["indices"] == ["texts"]
    assert records("info", *to)[0]["documents"] == 5
    assert [hit["rank"] for hit in records("search", "heart", *to, "-k", 2)] == [1, 2]
    why = records("explain", "heart attack", "heart", *to)[0]
    assert why["contributions"][0]["token"] and "body" not in why
    for mode in ("splade", "bm25", "hybrid"):
        assert records("search", "heart attack", *to, "--mode", mode)[0]["id"]
        (measured,) = records("evaluate", beir_folder, *to, "--mode", mode)
        assert (measured["mode"], measured["queries"]) == (mode, 2)
    both = records("evaluate", beir_folder, *to, "--mode", "bm25", "--baseline", "bm25")[0]
    assert both["measures"] == both["bm25"] and set(both["p_values"].values()) == {1.0}

    (mined,) = records("mine", beir_folder, "--split", "dev", *to, "--output", "m.jsonl")
    assert (mined["output"], mined["lines"]) == ("m.jsonl", 2)
    (scored,) = records("score", "m.jsonl", "--teacher", tiny_model, "--output", "s.jsonl")
    assert (scored["output"], scored["lines"], scored["teachers"]) == ("s.jsonl", 2, [tiny_model])
    logs = records("train", "m.jsonl", "--model", tiny_model, "--output", "trained",
                   "--steps", 2, "--query-length", 16, "--doc-length", 16)  # fmt: skip
    assert [log["step"] for log in logs] == [1, 2] and logs[-1]["output"] == "trained"

    (encoded,) = records("encode", beir_folder, "--model", tiny_model, "--output", "v")
    assert (encoded["output"], encoded["documents"], encoded["rejected"]) == ("v", 5, 0)
    (exported,) = records("export", "v", "--format", "jsonl", "--output", "v.jsonl")
    assert exported == {"output": "v.jsonl", "format": "jsonl", "documents": 5}
    assert records("expand", "heart", "--model", tiny_model)[0]["token"]
    assert records("diff", tiny_model, tiny_model, "heart")[0].keys() == {
        "token", "before", "after"
    }  # fmt: skip
    assert records("diff", "texts", "texts")[0]["documents"] == [5, 5]
    assert records("dashboards", *to, "--output", "d.ndjson")[0]["output"] == "d.ndjson"
    assert len(records("dashboards", *to, "--output", "-")) > 2

    refused = run("delete", *to, "--json")
    assert (refused.exit_code, refused.stdout) == (2, "")
    deleted = run("delete", *to, "--yes", "--json")
    assert json.loads(deleted.stdout) == {"deleted": "texts", "documents": 5}
    assert deleted.stderr == local


def test_bad_lines_do_not_cost_the_result(tmp_path: Path, tiny_model: str) -> None:
    corpus = tmp_path / "c.jsonl"
    corpus.write_text('{"_id": "1", "text": "heart"}\n{"_id": "2"}\n')
    for args in (("index", corpus, "--index", "x"), ("encode", corpus, "--output", "v")):
        result = run(*args, "--model", tiny_model, "--json")
        assert result.exit_code == 1
        record = json.loads(result.stdout)
        assert record["rejected"] == 1 and record["rejects"] == "c.jsonl.rejects.jsonl"
        assert record["first_rejected"]["place"] == f"{corpus}:2"
        assert result.stderr.splitlines()[-1].startswith("Error: 1 of 2 lines were rejected")
