"""`splade-es train` as a person types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import error, interrupted, run

pytestmark = pytest.mark.usefixtures("home")


def test_train_writes_a_model_that_indexes(
    corpus_file: Path, tiny_model: str, tmp_path: Path
) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"query": "chest", "positive": "heart"}\n{"query": "bone", "positive": "milk"}\n'
    )
    (tmp_path / "c.yaml").write_text("steps: 2\nlr: 1e-3\ndoc_length: 16\n")
    out = tmp_path / "model"
    args = ("train", pairs, "--model", tiny_model, "--output", out, "--config", tmp_path / "c.yaml")
    result = run(*args, "--steps", 3)
    assert result.exit_code == 0 and result.stdout == f"Trained {out}.\n"
    assert "step 3/3  loss " in result.stderr and "steps/s" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("Next: splade-es index CORPUS --model ")
    settings = json.loads((out / "training.json").read_text())
    assert (settings["steps"], settings["lr"], settings["doc_length"]) == (3, 1e-3, 16)
    assert run("index", corpus_file, "--model", out, "--index", "own").exit_code == 0
    assert error(*args) == (f"{out}: the output directory is not empty. Choose another --output.")
    assert error("train", pairs, "--model", tiny_model, "--output", pairs) == (
        f"{pairs}: cannot be written (File exists). Choose another --output."
    )
    assert run("train", pairs, "--model", tiny_model).exit_code == 2  # wrong usage


def test_ctrl_c_while_training_saves_the_run(tiny_model: str, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        '{"query": "chest", "positive": "heart"}\n{"query": "bone", "positive": "milk"}\n'
    )
    out = tmp_path / "model"
    args = ["train", pairs, "--model", tiny_model, "--output", out, "--steps", 10**6]
    code, stderr = interrupted(
        tmp_path,
        *args,
        *("--save-every", 1, "--doc-length", 16),
        wait_for=(out / "training.json").exists,
    )
    assert code == 130, stderr
    assert stderr.splitlines()[-1].endswith(
        f" of 1000000; the run is saved in {out}. Continue with the same settings and --resume."
    )
    assert "Traceback" not in stderr and (out / "checkpoint.pt").is_file()
    assert run("expand", "heart", "--model", out).exit_code in (0, 1)  # it loads
