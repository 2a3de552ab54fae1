"""What changes from one model, or one index, to another."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from command_line import run
from models import TEXTS
from splade_es.encoders.torch_encoder import Encoder
from splade_es.quantize import Quantizer

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture
def other_model(make_masked_lm: Callable[..., str]) -> str:
    return make_masked_lm(seed=1)


def vectors(model: str, texts: list[str], stored: bool = False) -> list[dict[str, float]]:
    encoder = Encoder.load(model)
    found = []
    for row in encoder.encode(texts):
        ids, weights = Quantizer().quantize(row)[:2] if stored else (row.ids, row.weights)
        pairs = zip(ids.tolist(), weights.tolist(), strict=True)
        found.append({encoder.vocabulary[id]: weight for id, weight in pairs})
    return found


def records(*args: object) -> list[Any]:
    result = run(*args, "--json")
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_two_models_on_a_text(tiny_model: str, other_model: str) -> None:
    text = "heart attack"
    (old,), (new,) = vectors(tiny_model, [text]), vectors(other_model, [text])
    changes = records("diff", tiny_model, other_model, text)
    assert {c["token"]: c["before"] for c in changes if c["before"]} == pytest.approx(old)
    assert {c["token"]: c["after"] for c in changes if c["after"]} == pytest.approx(new)
    strongest = [max(c["before"], c["after"]) for c in changes]
    assert strongest == sorted(strongest, reverse=True)
    shown = run("diff", tiny_model, other_model, text).stdout
    assert shown.splitlines()[-1] == (
        f"{len(old.keys() & new.keys())} tokens in both, {len(new.keys() - old.keys())} gained, "
        f"{len(old.keys() - new.keys())} lost"
    )
    same = run("diff", tiny_model, tiny_model, text, "--query").stdout
    assert "0 gained, 0 lost" in same and "+0.000" in same


def test_two_models_on_a_corpus(tiny_model: str, other_model: str, corpus_file: Path) -> None:
    old, new = (vectors(model, [*TEXTS.values()], True) for model in (tiny_model, other_model))
    (change,) = records("diff", tiny_model, other_model, corpus_file)
    assert change["documents"] == [5, 5]
    assert change["active"] == [sum(map(len, old)) / 5, sum(map(len, new)) / 5]
    seen = [Counter(token for vector in found for token in vector) for found in (old, new)]
    assert {t["token"]: (t["before"], t["after"]) for t in change["tokens"]} == {
        token: (seen[0][token], seen[1][token])
        for token in seen[0] | seen[1]
        if seen[0][token] != seen[1][token]
    }

    def norm(vector: dict[str, float]) -> float:
        return math.sqrt(sum(weight**2 for weight in vector.values()))

    alike = {
        id: sum(w * b.get(token, 0) for token, w in a.items()) / norm(a) / norm(b)
        for id, a, b in zip(TEXTS, old, new, strict=True)
    }
    moved = {item["id"]: item["alike"] for item in change["moved"]}
    assert moved == pytest.approx(alike) and list(moved) == sorted(alike, key=alike.__getitem__)
    assert change["alike"] == pytest.approx(sum(alike.values()) / 5)
    shown = run("diff", tiny_model, other_model, corpus_file).stdout
    assert "Documents that change most" in shown and "In fewer documents" in shown


def test_two_indices(tiny_model: str, other_model: str, beir_folder: Path, home: Path) -> None:
    for name, model in (("old", tiny_model), ("new", other_model)):
        assert run("index", beir_folder, "--model", model, "--index", name).exit_code == 0
    (change,) = records("diff", "old", "new", "--queries", beir_folder / "queries.jsonl", "-k", 2)
    (models,) = records("diff", tiny_model, other_model, beir_folder)
    assert change["documents"] == [5, 5] and change["tokens"] == models["tokens"]
    assert change["active"] == models["active"]
    expected = {}
    for query in ("q1", "q2"):
        found = [
            {hit["id"] for hit in records("search", text, "--index", name, "-k", 2)}
            for name in ("old", "new")
            for text in [{"q1": "heart attack", "q2": "vitamin milk"}[query]]
        ]
        expected[query] = len(found[0] & found[1]) / 2
    assert {item["id"]: item["alike"] for item in change["moved"]} == {
        query: share for query, share in expected.items() if share < 1
    }
    assert change["alike"] == sum(expected.values()) / 2
    same = run("diff", "old", "old", "--queries", beir_folder / "queries.jsonl").stdout
    assert "mean of all" in same and "In more documents" not in same


def test_what_cannot_be_compared(tiny_model: str, tmp_path: Path) -> None:
    assert run("diff", tiny_model, tiny_model, "text", "--queries", "q.jsonl").exit_code == 2
    assert run("diff", "a", "b", "--query").exit_code == 2
    missing = run("diff", "a", "b")
    assert missing.exit_code == 1 and "There is no index 'a'" in missing.stderr
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"_id": "a", "text": "heart"}\n{broken\n')
    refused = run("diff", tiny_model, tiny_model, bad)
    assert refused.exit_code == 1 and f"{bad}:2: " in refused.stderr
