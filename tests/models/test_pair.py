"""Every kind of model: saved, loaded, searched, and held against sentence-transformers."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from models import TEXTS, tiny_tokenizer
from splade_es.encoders.base import TextEncoder, make_index_meta
from splade_es.encoders.load import load_query_encoder
from splade_es.encoders.table_encoder import TableEncoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import ModelError, SettingsError
from splade_es.inspection.expand import expand
from splade_es.models import files as model_files
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair, QueryTable
from splade_es.vectors.settings import check_encoding

QUERIES = ["heart attack", "Is vitamin milk for the bone?", "the the heart"]
DOCUMENTS = list(TEXTS.values())
KINDS = ["splade", "separate", "doc", "idf", "lexical"]


def make(kind: str, make_masked_lm: Callable[..., str]) -> EncoderPair:
    documents = SpladeModel.load(make_masked_lm())
    queries: SpladeModel | QueryTable = documents
    size = len(documents.decoder.weight)
    if kind == "separate":
        queries = SpladeModel.load(make_masked_lm(seed=1), max_length=8)
    elif kind == "doc":
        queries = QueryTable(torch.ones(size), documents.suppressed)
    elif kind == "idf":
        queries = QueryTable(torch.linspace(3, -0.5, size), documents.suppressed, learn=True)
    documents.lexical = kind == "lexical"
    return EncoderPair(documents, queries)


def query_encoder(name: str | Path) -> TextEncoder:
    encoder = load_query_encoder(name)
    if isinstance(encoder, TableEncoder):
        return encoder
    return Encoder.load(name, side="query", precision="fp32")  # whatever this machine is fast with


def document_encoder(name: str | Path) -> Encoder:
    return Encoder.load(name, precision="fp32")


def dense(encoder: TextEncoder, texts: list[str]) -> torch.Tensor:
    rows = torch.zeros(len(texts), len(encoder.vocabulary))
    for i, row in enumerate(encoder.encode(texts)):
        rows[i, row.ids] = torch.from_numpy(row.weights)
    return rows


@pytest.mark.parametrize("kind", KINDS)
def test_an_encoder_of_queries_encodes_no_corpus_of_a_model_with_two_sides(
    kind: str, make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    make(kind, make_masked_lm).save(tmp_path)
    for encoder in (query_encoder(tmp_path), load_query_encoder(tmp_path, 20, interactive=True)):
        if kind in ("splade", "lexical"):
            assert check_encoding(encoder, {}) is encoder
        else:
            with pytest.raises(SettingsError, match="`model` is an encoder of queries"):
                check_encoding(encoder, {})
    documents = document_encoder(tmp_path)
    assert check_encoding(documents, {}) is documents


@pytest.mark.parametrize("kind", KINDS)
def test_both_sides_are_those_of_sentence_transformers(
    kind: str, make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    sparse_encoder = pytest.importorskip("sentence_transformers").SparseEncoder
    make(kind, make_masked_lm).save(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    theirs = sparse_encoder(saved, device="cpu")
    torch.testing.assert_close(
        dense(query_encoder(saved), QUERIES),
        theirs.encode_query(QUERIES, convert_to_sparse_tensor=False).cpu().float(),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    torch.testing.assert_close(
        dense(document_encoder(saved), DOCUMENTS),
        theirs.encode_document(DOCUMENTS, convert_to_sparse_tensor=False).cpu().float(),
        atol=1e-4, rtol=1e-4,
    )  # fmt: skip
    # and what it saves of that, in folders of its own choice, loads here
    theirs.save_pretrained(str(tmp_path / "theirs"))
    again = str(tmp_path / "theirs")
    assert torch.equal(
        dense(document_encoder(again), DOCUMENTS), dense(document_encoder(saved), DOCUMENTS)
    )
    assert torch.equal(dense(query_encoder(again), QUERIES), dense(query_encoder(saved), QUERIES))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_in_training_are_rows_of_the_saved_model(
    kind: str, make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    pair = make(kind, make_masked_lm).eval()
    pair.save(tmp_path)
    tokenizer = pair.documents.tokenizer
    length = 8 if kind == "separate" else 64
    with torch.no_grad():
        inputs = tokenizer(
            QUERIES, truncation=True, max_length=length, padding=True, return_tensors="pt"
        )
        rows = pair.queries(**inputs)
    saved = dense(query_encoder(str(tmp_path)), QUERIES)
    torch.testing.assert_close(rows[:, : saved.shape[1]], saved, atol=1e-4, rtol=1e-4)


def test_a_document_query_is_its_own_tokens_once_each(
    make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    make("doc", make_masked_lm).save(tmp_path)
    encoder = load_query_encoder(str(tmp_path))
    assert isinstance(encoder, TableEncoder)
    (row,) = encoder.encode(["the the heart [CLS]"])
    assert [encoder.vocabulary[id] for id in row.ids] == ["heart", "the"]
    assert row.weights.tolist() == [1.0, 1.0]
    tokens = expand(encoder, "the the Heart", None)
    assert [(t.token, t.word) for t in tokens] == [("heart", "Heart"), ("the", "the")]


def test_a_lexical_model_adds_no_token(make_masked_lm: Callable[..., str], tmp_path: Path) -> None:
    make("lexical", make_masked_lm).save(tmp_path)
    encoder = Encoder.load(str(tmp_path))
    for text, row in zip(DOCUMENTS, encoder.encode(DOCUMENTS), strict=True):
        own = set(tiny_tokenizer()(text)["input_ids"])
        assert len(row.ids) > 0 and set(row.ids.tolist()) <= own


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_the_double_logarithm(
    pooling: model_files.Pooling, make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    sparse_encoder = pytest.importorskip("sentence_transformers").SparseEncoder
    model = SpladeModel.load(make_masked_lm())
    model.activation, model.pooling = "log1p_relu", pooling
    EncoderPair(model, model).save(tmp_path)
    ours = dense(document_encoder(str(tmp_path)), DOCUMENTS)
    theirs = sparse_encoder(str(tmp_path), device="cpu").encode(
        DOCUMENTS, convert_to_sparse_tensor=False
    )
    torch.testing.assert_close(ours, theirs.cpu(), atol=1e-4, rtol=1e-4)
    assert make_index_meta(Encoder.load(str(tmp_path)), 100.0).pooling == f"{pooling} log1p_relu"


def test_a_new_query_side_searches_the_old_index(
    make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    """Vectors of documents are what an index was made of, and they are the same."""
    pair = make("idf", make_masked_lm)
    pair.save(tmp_path / "a")
    assert isinstance(pair.queries, QueryTable)
    with torch.no_grad():
        pair.queries.weight.mul_(2.0)
    pair.save(tmp_path / "b")
    metas = [
        make_index_meta(load_query_encoder(str(tmp_path / name)), 100.0) for name in ("a", "b")
    ]
    assert metas[0].fingerprint == metas[1].fingerprint
    assert (
        metas[0].fingerprint
        == make_index_meta(Encoder.load(str(tmp_path / "a")), 100.0).fingerprint
    )


def test_a_search_with_a_table_imports_no_torch(
    make_masked_lm: Callable[..., str], tmp_path: Path, corpus_file: Path
) -> None:
    make("idf", make_masked_lm).save(tmp_path / "model")
    engine = tmp_path / "engine"
    command = [str(Path(sys.executable).with_name("splade-es"))]
    environment = {"SPLADE_ES_HOME": str(engine), "PATH": ""}
    subprocess.run(
        [*command, "index", str(corpus_file), "--model", str(tmp_path / "model"), "--index", "i"],
        env=environment, cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    script = (
        "import sys; from splade_es.cli.main import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules, 'transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "search", "heart attack", "--index", "i"],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].startswith("  1. ")
    assert done.stdout.splitlines()[-1] == "False False"


def message(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        load_query_encoder(str(path))
    return str(caught.value)


def test_files_that_do_not_fit(make_masked_lm: Callable[..., str], tmp_path: Path) -> None:
    make("idf", make_masked_lm).save(tmp_path)
    table = tmp_path / model_files.QUERY_TABLE
    weights = (table / "model.safetensors").read_bytes()
    (table / "model.safetensors").write_bytes(weights[:-8])
    assert message(tmp_path).startswith(
        f"{table}/model.safetensors: cannot read the table of query weights ("
    )
    (table / "tokenizer.json").write_text("{}")
    assert message(tmp_path).startswith(f"{table}: tokenizer.json is missing or invalid (")
    (tmp_path / model_files.ROUTER).write_text(json.dumps({"types": {}, "structure": {}}))
    assert message(tmp_path) == (
        f"{tmp_path}: router_config.json does not say how queries and documents are encoded. "
        "Save or download the model again."
    )
    (tmp_path / model_files.MODULES).write_text('[{"path": "", "type": "x.Dense"}]')
    assert message(tmp_path).startswith(f"{tmp_path}: a model made of Dense is not a SPLADE model.")


def test_an_empty_query_has_an_empty_row(
    make_masked_lm: Callable[..., str], tmp_path: Path
) -> None:
    make("idf", make_masked_lm).save(tmp_path)
    (row,) = load_query_encoder(str(tmp_path)).encode([""])
    assert row.ids.dtype == np.int32 and len(row.ids) == len(row.weights) == 0
