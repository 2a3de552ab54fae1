"""Queries encoded without torch: the vectors of the full encoder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForMaskedLM

from command_line import run
from models import TEXTS, tiny_tokenizer
from splade_es.encoders.activations import gelu
from splade_es.encoders.load import load_query_encoder
from splade_es.encoders.numpy_encoder import NumpyEncoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.models.files import Activation, Pooling, read_sides
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair

QUERIES = [
    "heart attack",
    "what is the treatment for pain in the chest?",
    "☃",
    "",
    "[SEP] bone",
    "a",
]


def load(name: str) -> NumpyEncoder | None:
    """The query side."""
    return NumpyEncoder.load(name, read_sides(name).query, 20)


def same(name: str) -> None:
    encoder, full = load(name), Encoder.load(name, 20, precision="fp32")
    assert encoder is not None
    assert (encoder.name, encoder.vocabulary, encoder.max_length, encoder.pooling) == (
        full.name, full.vocabulary, full.max_length, full.pooling,
    )  # fmt: skip
    texts = [*QUERIES, *TEXTS.values()]
    for text, ours, theirs in zip(texts, encoder.encode(texts), full.encode(texts), strict=True):
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert ours.ids.dtype == np.int32 and ours.weights.dtype == np.float32
        assert ours.weights == pytest.approx(theirs.weights, rel=1e-4, abs=1e-5)
        assert encoder.token_spans(text) == full.token_spans(text)
    assert any(len(row.ids) for row in encoder.encode(texts))


def make(kind: str, path: Path, **settings: Any) -> str:
    sizes: dict[str, Any] = {"dim": 32, "hidden_dim": 64, "n_layers": 2, "n_heads": 4}
    if kind != "distilbert":
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
                 "num_attention_heads": 4}  # fmt: skip
    tokenizer = tiny_tokenizer()
    config = AutoConfig.for_model(
        kind, vocab_size=len(tokenizer), max_position_embeddings=70, pad_token_id=0,
        bos_token_id=2, cls_token_id=2, eos_token_id=3, sep_token_id=3, initializer_range=0.5,
        **sizes, **settings,
    )  # fmt: skip
    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(config)
    with torch.no_grad():  # what initialises to zeros and ones would not be tested
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter += 0.3 * torch.randn(parameter.shape)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return str(path)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("bert", {}),
        ("bert", {"hidden_act": "gelu_new", "layer_norm_eps": 0.1}),
        ("bert", {"hidden_act": "relu", "tie_word_embeddings": False}),
        ("distilbert", {}),
        ("distilbert", {"activation": "relu"}),
        ("roberta", {}),
        ("xlm-roberta", {"hidden_act": "relu"}),
        ("camembert", {"type_vocab_size": 1}),
    ],
)
def test_vectors_are_those_of_the_full_encoder(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    same(make(kind, tmp_path, **settings))


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_pooling_activation_and_expansion_are_the_models(
    tiny_model: str, tmp_path: Path, pooling: Pooling, activation: Activation
) -> None:
    model = SpladeModel.load(tiny_model)
    model.pooling, model.activation, model.lexical = pooling, activation, pooling == "max"
    EncoderPair(model, model).save(tmp_path / "model")
    same(str(tmp_path / "model"))


def test_the_query_side_of_a_model_with_two_encoders(tiny_model: str, tmp_path: Path) -> None:
    documents, queries = SpladeModel.load(tiny_model), SpladeModel.load(tiny_model)
    with torch.no_grad():
        queries.decoder.bias.add_(0.2)
    EncoderPair(documents, queries).save(tmp_path)
    encoder = load(str(tmp_path))
    assert encoder is not None
    (ours,), (theirs,) = (
        either.encode(["heart attack"])
        for either in (encoder, Encoder.load(tmp_path, 20, side="query", precision="fp32"))
    )
    assert ours.weights == pytest.approx(theirs.weights, rel=1e-4)


def test_sources_are_the_winning_tokens(tiny_model: str) -> None:
    encoder = load(tiny_model)
    assert encoder is not None
    text = "heart attack"
    (ours,) = encoder.encode([text], with_sources=True)
    full = Encoder.load(tiny_model, 20, precision="fp32")
    (theirs,) = full.encode([text], with_sources=True)
    assert ours.sources is not None and theirs.sources is not None
    assert ours.sources.tolist() == theirs.sources.tolist()


@pytest.mark.parametrize("kind", ["electra", "modernbert"])
def test_another_architecture_is_left_to_torch(kind: str, tmp_path: Path) -> None:
    name = make(kind, tmp_path)
    assert load(name) is None
    assert isinstance(load_query_encoder(name, 20, interactive=True), Encoder)


def test_whatever_is_wrong_is_left_to_torch(tiny_model: str, tmp_path: Path) -> None:
    def broken(**config: object) -> NumpyEncoder | None:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(tiny_model, path)
        settings = json.loads((path / "config.json").read_text()) | config
        (path / "config.json").write_text(json.dumps(settings))
        return load(str(path))

    assert broken() is not None
    assert broken(hidden_act="silu") is None
    assert broken(position_embedding_type="relative_key") is None
    assert broken(model_type="gpt2") is None
    assert load(str(tmp_path)) is None


def test_a_tokenizer_that_transformers_would_rebuild_otherwise_is_left_to_torch(
    tiny_model: str, tmp_path: Path
) -> None:
    def saved(**config: object) -> NumpyEncoder | None:
        path = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(tiny_model, path)
        (path / "tokenizer_config.json").write_text(json.dumps(config))
        return load(str(path))

    assert saved(tokenizer_class="PreTrainedTokenizerFast") is not None
    assert saved(tokenizer_class="BertTokenizer") is not None
    assert saved() is not None  # then it is the class of the model
    assert saved(tokenizer_class="BertTokenizerFast", do_lower_case=False) is None
    assert saved(tokenizer_class="BertTokenizer", strip_accents=False) is None
    assert saved(tokenizer_class="XLMRobertaTokenizer") is None


def test_a_checkpoint_of_old_names_is_left_to_torch(tiny_model: str, tmp_path: Path) -> None:
    path = tmp_path / "old"
    shutil.copytree(tiny_model, path)
    weights = load_file(path / "model.safetensors")
    old = {name.replace("LayerNorm.weight", "LayerNorm.gamma"): w for name, w in weights.items()}
    save_file(old, path / "model.safetensors")
    assert load(str(path)) is None


def test_half_precision_is_left_to_torch(tiny_model: str, tmp_path: Path) -> None:
    AutoModelForMaskedLM.from_pretrained(tiny_model).half().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    assert load(str(tmp_path)) is None


def test_gelu_is_that_of_torch() -> None:
    x = np.linspace(-12, 12, 100_001, dtype=np.float32)
    # in float64: its float32 form is less exact than ours on some processors
    theirs = torch.nn.functional.gelu(torch.from_numpy(x).double()).numpy()
    np.testing.assert_allclose(gelu(x), theirs, atol=1e-6)


def test_a_search_imports_neither_torch_nor_transformers(
    tiny_model: str, corpus_file: Path, home: Path
) -> None:
    assert run("index", corpus_file, "--model", tiny_model, "--index", "texts").exit_code == 0
    code = (
        "import sys; from splade_es.cli.main import main\n"
        "main(['search', 'heart attack', '--index', 'texts', '--json'], standalone_mode=False)\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, timeout=60
    )
    assert result.returncode == 0, result.stderr
    hits = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(hits) == 5
