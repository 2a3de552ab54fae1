"""`mine` and `score` as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import run
from models import TEXTS

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def loaded(corpus_file: Path, tiny_model: str) -> str:
    assert run("index", corpus_file, "--model", tiny_model, "--index", "texts").exit_code == 0
    return "texts"


def test_mine_a_folder_and_score_it(
    loaded: str, beir_folder: Path, tiny_model: str, tmp_path: Path, home: Path
) -> None:
    args = ("mine", beir_folder, "--split", "dev", "--index", loaded, "--skip-top", 1)
    result = run(*args, "--negatives", 2, "--output", "mined.jsonl")
    assert result.exit_code == 0, result.output
    assert result.stdout == (
        "mined.jsonl: 2 lines of 2 queries, with 2.0 negatives on average (0 without any)\n"
    )
    assert result.stderr == (
        f"Local engine in {home} (--url names a server).\n"
        "Next: splade-es score mined.jsonl --teacher CROSS_ENCODER --output scored.jsonl, "
        "or splade-es train mined.jsonl --model MODEL --output DIR\n"
    )
    lines = [json.loads(line) for line in (tmp_path / "mined.jsonl").read_text().splitlines()]
    assert [line["positive_id"] for line in lines] == ["heart", "bone"]
    assert [line["positive"] for line in lines] == [TEXTS["heart"], TEXTS["bone"]]

    result = run("score", "mined.jsonl", "--teacher", tiny_model, "--output", "s.jsonl", "--json")
    record = json.loads(result.stdout)
    assert record.pop("seconds") > 0
    assert record == {
        "output": "s.jsonl", "teachers": [tiny_model], "total": 2, "lines": 2, "pairs": 6, "bare": 0
    }  # fmt: skip
    following = "Next: splade-es train s.jsonl --loss margin_mse --model MODEL --output DIR\n"
    assert result.stderr == following
    result = run("score", "mined.jsonl", "--teacher", tiny_model, "--output", "s.jsonl")
    assert result.stdout.startswith("s.jsonl: 2 lines with 6 scores (0 lines without negatives); ")
    assert result.stderr == following
    scored = [json.loads(line) for line in (tmp_path / "s.jsonl").read_text().splitlines()]
    assert [len(line["scores"]) for line in scored] == [3, 3]


def test_mine_with_bm25_needs_no_model(loaded: str, beir_folder: Path, tmp_path: Path) -> None:
    args = ("mine", beir_folder, "--split", "dev", "--index", loaded, "--mode", "bm25")
    result = run(*args, "--skip-top", 0, "--output", "mined.jsonl", "--json")
    assert json.loads(result.stdout) == {
        "index": "texts", "output": "mined.jsonl", "total": 2, "queries": 2, "lines": 2,
        "negatives": 0, "bare": 2,
    }  # fmt: skip  # their words are in the right text only
    result = run(*args, "--skip-top", 0, "--output", "mined.jsonl")
    assert "with 0.0 negatives on average (2 without any)" in result.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("mine", "p", "--mode", "bm25", "--model", "m"), "bm25 searches without a --model"),
        (("mine", "p", "--depth", 3, "--skip-top", 3), "--skip-top 3 leaves nothing of --depth 3"),
        (("mine", "p", "--depth", 0), "0 is not in the range 1<=x<=10000"),
        (("score", "l", "--teacher", "m", "--teacher-scale", 2), "--teacher-scale is for several"),
        (("score", "l", "--teacher", "m", "--teacher-scale", 0), "0.0 is not in the range x>0"),
        (("score", "l"), "Missing option '--teacher'"),
    ],
)
def test_wrong_usage(args: tuple[object, ...], said: str) -> None:
    index = ("--index", "x") if args[0] == "mine" else ()
    result = run(*args, *index, "--output", "o")
    assert result.exit_code == 2 and said in result.stderr


def test_errors_are_one_line(loaded: str, beir_folder: Path, tmp_path: Path) -> None:
    for args, said in (
        (("mine", "none.jsonl", "--index", loaded), "none.jsonl: no such file. Check the path."),
        (("mine", beir_folder, "--index", loaded), f'{beir_folder}: no judgements for split "tra'),
        (("mine", beir_folder, "--index", "none"), "There is no index 'none' on local"),
        (("score", "none.jsonl", "--teacher", "/none"), "none.jsonl: no such file. Check the pa"),
    ):
        result = run(*args, "--output", "o.jsonl")
        lines = [x for x in result.stderr.splitlines() if not x.startswith("Local engine")]
        assert result.exit_code == 1 and len(lines) == 1, result.stderr
        assert lines[0].startswith(f"Error: {said}")
        assert not (tmp_path / "o.jsonl").exists()
