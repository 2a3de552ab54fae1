"""splade-es bench: figures of the right shape; what they are is the machine's business."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from command_line import run
from models import TEXTS
from splade_es.models import int8

pytestmark = pytest.mark.usefixtures("home")


def test_encoding(corpus_file: Path, tiny_model: str) -> None:
    result = run("bench", "encode", corpus_file, "--model", tiny_model, "--json")
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["precision"] for row in rows][:1] == ["fp32"]
    if rows[0]["device"] == "cpu" and int8.available():
        assert [row["precision"] for row in rows] == ["fp32", "int8"]
    for row in rows:
        assert row["documents_per_second"] > 0 and row["terms_per_document"] > 1
        assert row["hours_per_million"] == pytest.approx(1e6 / row["documents_per_second"] / 3600)
    table = run("bench", "encode", corpus_file, "--model", tiny_model).stdout
    assert "documents per second" in table and "fp32" in table


def test_training(tmp_path: Path, tiny_model: str) -> None:
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"query": id, "positive": text} for id, text in TEXTS.items()]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines))
    recipe = tmp_path / "recipe.yaml"  # what makes a run long is not taken over
    recipe.write_text("query_length: 16\ndoc_length: 16\nepochs: 9\nramp: 100\ndev: nowhere\n")
    result = run("bench", "train", pairs, "--model", tiny_model, "--config", recipe,
                 "--batch-size", 3, "--steps", 2, "--json")  # fmt: skip
    assert result.exit_code == 0, result.output
    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert row["batch_size"] == 3 and row["peak_mb"] > 0
    assert row["pairs_per_second"] == pytest.approx(3 / row["seconds_per_step"])
    assert not list(tmp_path.glob("*/training.json"))


def test_searching(beir_folder: Path, tiny_model: str) -> None:
    assert run("index", beir_folder, "--model", tiny_model, "--index", "x").exit_code == 0
    result = run("bench", "search", beir_folder / "queries.jsonl", "--index", "x", "--json")
    assert result.exit_code == 0, result.output
    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert row["queries"] == 2
    assert all(row[name] > 0 for name in ("load_ms", "encode_ms", "search_ms", "search_p95_ms"))
