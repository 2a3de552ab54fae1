"""Why a document matches, on every engine and as the commands show it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from command_line import run
from models import TEXTS, WORDS
from splade_es.encoders.load import load_document_encoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import QueryError
from splade_es.features import token_of
from splade_es.inspection.explain import explain
from splade_es.search.searcher import Searcher


def test_contributions_of_200_pairs_add_up_to_the_score(searcher: Searcher) -> None:
    draw = random.Random(1)
    pairs = 0
    for _ in range(20):
        query = " ".join(draw.choices(WORDS, k=6))
        clauses = searcher.query(query)
        hits = searcher.search(query, 1000, contributions=True)
        plain = searcher.search(query, 1000)
        assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in plain]
        for hit in draw.sample(hits, 10):
            added = sum(np.float32(score) for score in hit.contributions.values())
            assert added == pytest.approx(hit.score, rel=1e-6)
            assert searcher.index.explain(clauses, hit.id) == hit.contributions
            pairs += 1
    assert pairs == 200


def test_an_explanation_names_the_words(searcher: Searcher, tiny_model: str) -> None:
    query = "heart pain and vitamin"
    full, light = (
        load_document_encoder(tiny_model, searcher.meta.max_length, interactive=interactive)
        for interactive in (False, True)
    )
    assert isinstance(full, Encoder) and not isinstance(light, Encoder)
    (hit,) = [hit for hit in searcher.search(query, 300, contributions=True) if hit.id == "heart"]
    found = explain(searcher, full, query, "heart")
    assert found == explain(searcher, light, query, "heart")
    assert found.score == pytest.approx(hit.score, rel=1e-6)
    parts = {token_of(feature): score for feature, score in hit.contributions.items()}
    assert {part.token: part.score for part in found.contributions} == parts
    assert [part.score for part in found.contributions] == sorted(parts.values(), reverse=True)
    stored = dict(item.rsplit(":", 1) for item in hit.source["splade_view"].split())
    for part in found.contributions:
        assert part.stored == int(stored[part.token])
        assert part.score == pytest.approx(part.query_weight * part.stored / 100, rel=1e-5)
        assert part.query_word in {*query.split(), ""}
        assert part.document_word in {*TEXTS["heart"].replace(".", " .").split(), ""}
    assert len(found.contributions) + len(found.unmatched) == len(searcher.query(query))
    assert not {token.token for token in found.unmatched} & stored.keys()
    (bm25,) = searcher.index.search_bm25([query], 1000)
    assert bm25[found.bm25_rank - 1] == ("heart", found.bm25)  # type: ignore[operator]


def test_explanation_of_what_does_not_match(searcher: Searcher, tiny_model: str) -> None:
    encoder = Encoder.load(tiny_model, searcher.meta.max_length)
    found = explain(searcher, encoder, "heart", "empty")
    assert (found.score, found.contributions, found.bm25, found.bm25_rank) == (0, [], None, None)
    assert found.unmatched
    with pytest.raises(QueryError, match="There is no document 'nowhere' in the index"):
        explain(searcher, encoder, "heart", "nowhere")


@pytest.mark.usefixtures("home")
def test_the_commands_explain(corpus_file: Path, tiny_model: str) -> None:
    assert run("index", corpus_file, "--model", tiny_model, "--index", "texts").exit_code == 0
    hits = [
        json.loads(line)
        for line in run(
            "search", "heart pain", "--index", "texts", "--explain", "--json"
        ).stdout.splitlines()
    ]
    for hit in hits:
        assert sum(hit["contributions"].values()) == pytest.approx(hit["score"], rel=1e-6)
    (heart,) = [hit for hit in hits if hit["id"] == "heart"]
    args = ("explain", "heart pain", "heart", "--index", "texts")
    found = json.loads(run(*args, "--json").stdout)
    parts = {part["token"]: part["score"] for part in found["contributions"]}
    assert parts == heart["contributions"]
    assert found["bm25_rank"] == 1

    token, score = next(iter(hits[0]["contributions"].items()))
    lines = run("search", "heart pain", "--index", "texts", "--explain").stdout.splitlines()
    assert lines[2].split(" + ")[0].strip() == f"{token} {score:.3f}"
    shown = run(*args).stdout
    assert f"score {found['score']:.3f}, of {len(parts)} tokens" in shown
    assert f"BM25: {found['bm25']:.3f}, place 1" in shown
    missing = run("explain", "heart", "nowhere", "--index", "texts")
    assert missing.exit_code == 1 and "There is no document 'nowhere'" in missing.stderr


def test_a_pruned_index_of_an_inference_free_model(
    tiny_model: str, tmp_path: Path, home: Path
) -> None:
    """Query tokens from a table; and only what is stored is explained."""
    from splade_es.models.model import SpladeModel
    from splade_es.models.pair import EncoderPair, QueryTable

    model = SpladeModel.load(tiny_model)
    table = QueryTable(torch.ones(len(model.tokenizer)), model.suppressed[: len(model.tokenizer)])
    saved = str(tmp_path / "idf")
    EncoderPair(model, table).save(saved)
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(
        "".join(json.dumps({"_id": id, "text": text}) + "\n" for id, text in TEXTS.items())
    )
    to = ("--model", saved, "--index", "idf", "--top-k", 6)
    assert run("index", corpus, *to).exit_code == 0
    for id in TEXTS:
        result = run("explain", TEXTS[id], id, "--index", "idf", "--json")
        found = json.loads(result.stdout)
        (view,) = [
            hit["source"]["splade_view"]
            for hit in map(
                json.loads,
                run("search", TEXTS[id], "--index", "idf", "--json").stdout.splitlines(),
            )
            if hit["id"] == id
        ] or [""]
        stored = dict(item.rsplit(":", 1) for item in view.split())
        assert len(stored) <= 6
        for part in found["contributions"]:
            assert (part["query_weight"], str(part["stored"])) == (1.0, stored[part["token"]])
            assert part["query_word"].lower() == part["token"]
