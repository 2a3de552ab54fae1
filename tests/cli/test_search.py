"""Questions to an index as a person types them: whole outputs, errors of one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from command_line import error, run
from models import TEXTS
from splade_es.encoders.torch_encoder import Encoder
from splade_es.quantize import Quantizer

pytestmark = pytest.mark.usefixtures("home")


def test_search_ranks_by_the_dot_product_of_query_and_stored_integers(
    corpus_file: Path, tiny_model: str, home: Path
) -> None:
    # a query alone is always encoded in this precision; documents in that of the hardware
    exact = ("--model", tiny_model, "--index", "texts", "--precision", "fp32")
    assert run("index", corpus_file, *exact).exit_code == 0
    encoder = Encoder.load(tiny_model, precision="fp32")
    stored = {}
    for id, row in zip(TEXTS, encoder.encode(TEXTS.values()), strict=True):
        quantized = Quantizer(100.0).quantize(row)
        stored[id] = dict(zip(quantized.ids.tolist(), quantized.values.tolist(), strict=True))
    for text in ("heart attack", "vitamin for the eye"):
        (row,) = encoder.encode([text])
        query = list(zip(row.ids.tolist(), row.weights.tolist(), strict=True))
        expected = {
            id: sum(weight / 100 * features.get(term, 0) for term, weight in query)
            for id, features in stored.items()
        }
        result = run("search", text, "--index", "texts", "-k", 3, "--json")
        hits = [json.loads(line) for line in result.stdout.splitlines()]
        assert [hit["rank"] for hit in hits] == [1, 2, 3]
        assert [hit["id"] for hit in hits] == sorted(expected, key=lambda id: -expected[id])[:3]
        assert [hit["score"] for hit in hits] == pytest.approx(
            sorted(expected.values(), reverse=True)[:3], rel=1e-5
        )
        assert hits[0]["source"]["text"] == TEXTS[hits[0]["id"]]
        assert "splade" not in hits[0]["source"]
        assert result.stderr == f"Local engine in {home} (--url names a server).\n"


def test_search_prints_rank_score_id_and_snippet(loaded: str) -> None:
    lines = run("search", TEXTS["eye"], "--index", loaded, "-k", 1).stdout.splitlines()
    assert len(lines) == 2
    rank, score, id = lines[0].split()
    assert rank == "1." and float(score) > 0 and lines[1].strip() == TEXTS[id]


def test_evaluate_prints_measures_beside_bm25(
    loaded: str, beir_folder: Path, tmp_path: Path
) -> None:
    trec = tmp_path / "out.trec"
    args = ("evaluate", beir_folder, "--index", loaded, "--measures", "nDCG@10 RR", "-k", 10)
    result = run(*args, "--baseline", "bm25", "--output", trec, "--json")
    record = json.loads(result.stdout)
    assert record["queries"] == 2
    assert record["bm25"] == {"nDCG@10": 1.0, "RR": 1.0}  # the words are in the right text only
    assert 0 < record["measures"]["nDCG@10"] <= 1
    assert {line.split()[0] for line in trec.read_text().splitlines()} == {"q1", "q2"}
    table = run(*args, "--baseline", "bm25").stdout
    assert table.splitlines()[0].strip() == "texts, test: 2 queries"
    assert "BM25" in table and f"{record['measures']['RR']:.4f}" in table


def test_a_cutoff_needs_as_many_results(loaded: str, beir_folder: Path) -> None:
    assert error("evaluate", beir_folder, "--index", loaded, "-k", 100, code=2) == (
        "-k is 100, which is too few results for a cutoff of 1000"
    )


def test_a_damaged_index_can_be_deleted(loaded: str, home: Path) -> None:
    (home / loaded / "features.jsonl").write_text("damaged\n")
    assert "is damaged" in error("info", "--index", loaded)
    result = run("delete", "--index", loaded, "--yes")
    assert result.exit_code == 0
    assert result.stdout == "Deleted texts (documents that cannot be counted).\n"
    assert run("info").stdout.splitlines()[1:] == []


def test_expand(tiny_model: str) -> None:
    lines = run("expand", "vitamin milk", "--model", tiny_model, "--tokens", 3, "--json").stdout
    tokens = [json.loads(line) for line in lines.splitlines()]
    assert len(tokens) == 3
    assert all(token["stored"] == round(100 * token["weight"]) for token in tokens)
    table = run("expand", "vitamin milk", "--model", tiny_model, "--tokens", 3, "--query").stdout
    assert tokens[0]["token"] in table and "stored" not in table


def test_info_and_delete(loaded: str, tiny_model: str, home: Path) -> None:
    assert run("info").stdout.splitlines()[1:] == ["  texts"]
    record = json.loads(run("info", "--index", loaded, "--json").stdout)
    assert record["engine"] == "local" and record["documents"] == 5
    assert record["model"] == tiny_model and record["scale"] == 100.0 and record["bytes"] > 0
    assert "rank_features" not in record["where"]
    assert error("delete", "--index", loaded, code=2) == (
        "Nobody can be asked here: confirm with --yes."
    )
    result = run("delete", "--index", loaded, "--yes")
    assert result.stdout == "Deleted texts (5 documents).\n"
    assert error("info", "--index", loaded).startswith("There is no index 'texts' on ")


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("", "The query is empty. Give it some words."),
        ("  ", "The query is empty. Give it some words."),
        (
            "caf\udce9",
            "The text is not UTF-8 at character 4. Set the terminal, or the script, to UTF-8.",
        ),
        ("[CLS] [SEP]", "The model finds no term in the query '[CLS] [SEP]'. Use other words."),
    ],
)
def test_queries_without_words(loaded: str, query: str, said: str) -> None:
    assert error("search", query, "--index", loaded) == said


@pytest.mark.parametrize("k", [0, 20_000])
def test_k_out_of_range(loaded: str, k: int) -> None:
    assert error("search", "heart", "--index", loaded, "-k", k) == (
        f"-k is {k}. Ask for 1 to 10,000 results."
    )


def test_what_is_not_there(
    loaded: str, corpus_file: Path, beir_folder: Path, tiny_model: str, tmp_path: Path
) -> None:
    assert error("search", "heart", "--index", "none").startswith("There is no index 'none' on ")
    assert error("index", "none.jsonl", "--model", tiny_model, "--index", "x") == (
        "none.jsonl: no such file. Check the path, or use - for standard input."
    )
    assert error("index", corpus_file, "--model", tmp_path / "m", "--index", "x") == (
        f"{tmp_path / 'm'}: no such directory. Name a model directory or a hub model."
    )
    assert error("info", "--index", "x").startswith("There is no index 'x' on ")  # not half made
    assert error("evaluate", beir_folder, "--index", loaded, "--split", "train") == (
        f'{beir_folder}: no judgements for split "train". There are: dev, test.'
    )
    assert error("evaluate", beir_folder, "--index", loaded, "--measures", "nDGC@10").startswith(
        'unknown measure: "nDGC@10". Some there are: '
    )
    assert error("info", "--url", "http://127.0.0.1:9").count("\n") == 0


def test_a_model_that_has_moved(corpus_file: Path, tiny_model: str, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    shutil.copytree(tiny_model, first)
    run("index", corpus_file, "--model", first, "--index", "moved")
    first.rename(second)
    assert error("search", "heart", "--index", "moved") == (
        f"The index 'moved' was made by the model {first}, which is not on this machine. "
        "Set --model to its present place."
    )
    assert run("search", "heart", "--index", "moved", "--model", second).exit_code == 0
