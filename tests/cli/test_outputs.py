"""Files that a command writes never take the place of what somebody else has written."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from command_line import error, run
from splade_es.cli.demo_data import Example, write_demo

pytestmark = pytest.mark.usefixtures("home")


FOREIGN = {
    "bulk requests": '{"index": {"_id": "a"}}\n{"text": "x"}\n',
    "compact bulk requests": '{"index":{"_id":"a"}}\n{"text":"x"}\n',
    "an index of a book": '{"index":"A","model":"T","documents":3,"uuid of the index":"u"}\n',
    "one line without an end": '{"index":{"_id":"a"}}',
    "text": "years of work",
    "nothing but lines": "\n\n",
}


@pytest.mark.parametrize("content", FOREIGN.values(), ids=FOREIGN)
@pytest.mark.parametrize("flag", [None, "--recreate", "--resume"])
def test_a_file_that_is_no_journal_is_never_written(
    corpus_file: Path, tmp_path: Path, tiny_model: str, content: str, flag: str | None
) -> None:
    path = tmp_path / "bulk.ndjson"
    path.write_text(content)
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x", "--journal", path)
    assert error(*args, *([flag] if flag else [])) == (
        f"{path}: not a journal of splade-es. Name another file with --journal."
    )
    assert path.read_text() == content
    assert json.loads(run("info", "--json").stdout)["indices"] == []


@pytest.mark.parametrize("flag", [None, "--recreate"])
def test_a_pipe_or_a_device_is_no_journal(
    corpus_file: Path, tmp_path: Path, tiny_model: str, flag: str | None
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to("/dev/null")
    for path in (tmp_path / "pipe", tmp_path / "null"):
        args = ("index", corpus_file, "--model", tiny_model, "--index", "x", "--journal", path)
        assert error(*args, *([flag] if flag else [])) == (
            f"{path}: not a journal of splade-es. Name another file with --journal."
        )
        assert path.exists()
    assert Path("/dev/null").exists()


@pytest.mark.parametrize(
    "command", ["index", "encode"], ids=["while an index is loaded", "while vectors are written"]
)
def test_only_a_file_of_rejects_is_replaced_by_one(
    corpus_file: Path, tmp_path: Path, tiny_model: str, command: str
) -> None:
    path = tmp_path / "thesis.txt"
    path.write_text("years of work")
    corpus_file.write_text(corpus_file.read_text() + "{}\n")
    where = {"index": ("--index", "x"), "encode": ("--output", "v")}[command]
    args = (command, corpus_file, "--model", tiny_model, *where)
    assert error(*args, "--rejects", path, code=2) == (
        f"--rejects would overwrite {path}, which is not a file of rejects. Name another file."
    )
    assert path.read_text() == "years of work" and not (tmp_path / "v").exists()
    rejects = tmp_path / "rejects"
    rejects.write_text('{"place": "c:1", "reason": "of an earlier load", "line": "{}"}\n')
    assert run(*args, "--rejects", rejects).exit_code == 1
    assert json.loads(rejects.read_text())["place"] == f"{corpus_file}:6"


def test_journal_and_rejects_are_two_files(corpus_file: Path, tiny_model: str) -> None:
    args = ("index", corpus_file, "--model", tiny_model, "--index", "x", "--journal", "j")
    assert error(*args, "--rejects", corpus_file.parent / "j", code=2) == (
        "--journal and --rejects name the same file. Name another file."
    )


def test_export_does_not_overwrite_the_vectors(
    corpus_file: Path, tmp_path: Path, tiny_model: str
) -> None:
    assert run("encode", corpus_file, "--model", tiny_model, "--output", "v").exit_code == 0
    part = tmp_path / "v" / "part-00000.parquet"
    (tmp_path / "link").symlink_to(part)
    before = part.read_bytes()
    for output in (part, tmp_path / "link"):
        assert error("export", "v", "--format", "jsonl", "--output", output, code=2) == (
            f"--output would overwrite the input {output}. Name another file."
        )
    assert part.read_bytes() == before


def test_the_demo_overwrites_nobody_elses_data(tmp_path: Path) -> None:
    mine = tmp_path / "data" / "corpus.jsonl"
    mine.parent.mkdir()
    mine.write_text("mine")
    assert error("demo", "--output", ".") == (
        "data: has data that is not that of the demo. Choose another --output."
    )
    assert mine.read_text() == "mine"
    found = [Example("a", "Why?", "So.")] * 3
    for _ in range(2):  # its own it writes again
        write_demo(str(tmp_path / "demo"), found, test_questions=1, dev_questions=1)


def test_a_run_does_not_overwrite_what_it_is_measured_by(loaded: str, beir_folder: Path) -> None:
    queries = beir_folder / "queries.jsonl"
    before = queries.read_text()
    assert error("evaluate", beir_folder, "--index", loaded, "--output", queries, code=2) == (
        f"--output would overwrite the input {queries}. Name another file."
    )
    assert queries.read_text() == before
