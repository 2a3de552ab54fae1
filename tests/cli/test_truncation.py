"""Documents that are longer than the encoder reads are cut, counted, and told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import splade_es
from any_engine import write_corpus
from command_line import run
from models import TEXTS, tiny_tokenizer
from splade_es.encoders.load import load_document_encoder
from splade_es.engines.server import ServerEngine
from splade_es.vectors.parquet import META

pytestmark = pytest.mark.usefixtures("home")

LONG = {"long": "heart " * 200, "fits": "heart " * 62, "spaces": f"heart{' ' * 5000}"}
# 64 tokens, [CLS] and [SEP] among them
SAID = (
    "1 of 8 documents are longer than 64 tokens and were cut: "
    "split them, or encode with a larger --doc-length.\n"
)


def test_commands_say_how_many_documents_were_cut(tiny_model: str, tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", {**TEXTS, **LONG})
    for args in (
        ("index", corpus, "--model", tiny_model, "--index", "x"),
        ("encode", corpus, "--model", tiny_model, "--output", "v"),
        ("index", "v", "--index", "y"),
    ):
        result = run(*args, "--json")
        assert result.exit_code == 0 and result.stderr.endswith(SAID), result.output
        record = json.loads(result.stdout)
        assert (record["truncated"], record["max_length"]) == (1, 64)
    again = run("index", corpus, "--model", tiny_model, "--index", "x")
    assert "8 unchanged" in again.stdout and "cut" not in again.stderr  # nothing is encoded
    assert json.loads((tmp_path / "v" / META).read_text())["documents"] == 8


def test_a_load_that_is_resumed_knows_what_was_cut(
    tiny_model: str, tmp_path: Path, home: Path
) -> None:
    corpus = write_corpus(tmp_path / "c.jsonl", {str(n): "heart " * 200 for n in range(3000)})

    def stop(counts: splade_es.LoadProgress) -> None:
        if counts.indexed > 500:
            raise KeyboardInterrupt

    with splade_es.connect() as engine:
        index = engine.index("x")
        with pytest.raises(splade_es.Interrupted):
            index.load(corpus, tiny_model, max_length=8, progress=stop)
        done = index.load(corpus, tiny_model, max_length=8, resume=True)
    assert done.resumed and (done.indexed, done.truncated, done.max_length) == (3000, 3000, 8)


@pytest.mark.parametrize("interactive", [False, True], ids=["torch", "numpy"])
def test_a_row_knows_that_its_text_was_cut(tiny_model: str, interactive: bool) -> None:
    encoder = load_document_encoder(tiny_model, 16, interactive=interactive)
    tokenizer = tiny_tokenizer()
    texts = [" ".join(["heart"] * n) for n in range(30)]
    # what is cut by characters before it is tokenised, at a word and within one
    texts += ["heart " * 33, f"{'heart ' * 14}{' ' * 900}", f"{'heart ' * 14}{' ' * 900}heart"]
    texts += ["x" * 5000, f"{'x' * 5000} heart", f"{'☃' * 5000}"]
    expected = [len(tokenizer(text)["input_ids"]) > 16 for text in texts]
    assert [row.truncated for row in encoder.encode(texts)] == expected
    assert True in expected and False in expected


def test_a_backfill_counts_what_was_cut(tiny_model: str, opensearch_url: str) -> None:
    with splade_es.connect(opensearch_url) as engine:
        server = engine._engine
        assert isinstance(server, ServerEngine)
        lines = [({"index": {"_id": id}}, {"body": text}) for id, text in LONG.items()]
        server.request(
            "POST", "/cut-backfill/_bulk?refresh=true", *(x for pair in lines for x in pair)
        )
        try:
            done = engine.index("cut-backfill").backfill(["body"], tiny_model)
        finally:
            server.request("DELETE", "/cut-backfill")
    assert (done.updated, done.truncated, done.max_length) == (3, 1, 64)
