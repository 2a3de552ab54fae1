"""The fingerprint of a model's weights, and its cache."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from splade_es.encoders.load import load_query_encoder
from splade_es.errors import ModelError
from splade_es.models import files
from splade_es.models.model import SpladeModel
from splade_es.models.pair import EncoderPair, QueryTable

fingerprint = partial(files.fingerprint, cache_from_bytes=1)


@pytest.fixture
def weights(home: Path, tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    path = tmp_path / "model" / "model.safetensors"
    path.write_bytes(b"one")
    return path


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_it_is_computed_once(weights: Path, home: Path) -> None:
    assert fingerprint(str(weights.parent)) == sha(b"one")
    (cache,) = home.iterdir()
    kept = json.loads(cache.read_text())
    assert list(kept.values()) == [sha(b"one")]
    cache.write_text(json.dumps(dict.fromkeys(kept, "kept")))  # what a second hash would not give
    assert fingerprint(str(weights.parent)) == "kept"


def test_other_weights_of_the_same_size_and_time_are_noticed(weights: Path) -> None:
    times = weights.stat()
    assert fingerprint(str(weights.parent)) == sha(b"one")
    weights.write_bytes(b"two")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(str(weights.parent)) == sha(b"two")


@pytest.mark.parametrize("cache", ["{", "[1]", '"x"', "null"])
def test_a_broken_cache_is_replaced(weights: Path, home: Path, cache: str) -> None:
    home.mkdir()
    (home / "fingerprints.json").write_text(cache)
    assert fingerprint(str(weights.parent)) == sha(b"one")
    assert sha(b"one") in (home / "fingerprints.json").read_text()


def test_a_home_that_cannot_be_written_does_no_harm(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SPLADE_ES_HOME", str(tmp_path / "file"))
    assert fingerprint(str(weights.parent)) == sha(b"one")


def test_small_models_are_hashed_each_time(weights: Path, home: Path) -> None:
    assert files.fingerprint(str(weights.parent)) == sha(b"one")
    assert not home.exists()


@pytest.mark.parametrize(
    "modules",
    [
        "5",
        "[1]",
        "[[]]",
        '{"type": "Router"}',
        '[{"type": "a.Router"}]',
        '[{"type": "a.Router", "path": {}}]',
        '[{"type": "a.MLMTransformer", "path": ""}, {"type": "a.SpladePooling", "path": 7}]',
        '[{"type": "a.SparseStaticEmbedding", "path": "\\u0000"}]',
        "[" * 100_000,
    ],
)
def test_a_damaged_layout_is_one_line(tmp_path: Path, modules: str) -> None:
    (tmp_path / "modules.json").write_text(modules)
    with pytest.raises(ModelError) as caught:
        load_query_encoder(tmp_path, 9, interactive=True)
    assert str(caught.value).startswith(f"{tmp_path}")
    assert "Save or download the model again." in str(caught.value)


@pytest.mark.parametrize("config", ["[1]", '"max"', '{"pooling_strategy": ["max"]}'])
def test_a_damaged_pooling_is_one_line(tmp_path: Path, config: str) -> None:
    kinds = [("", "MLMTransformer"), ("1_SpladePooling", "SpladePooling")]
    modules = [{"type": f"a.{kind}", "path": path} for path, kind in kinds]
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    (tmp_path / "1_SpladePooling").mkdir()
    (tmp_path / "1_SpladePooling" / "config.json").write_text(config)
    with pytest.raises(ModelError, match=f"^{tmp_path}: "):
        files.read_sides(str(tmp_path))


def test_a_tokenizer_with_ids_of_another_model_is_one_line(tiny_model: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    parts = json.loads((model / "tokenizer.json").read_text())
    parts["post_processor"]["special_tokens"]["[CLS]"]["ids"] = [2**31]
    (model / "tokenizer.json").write_text(json.dumps(parts))
    with pytest.raises(ModelError, match=f"^{model}"):
        load_query_encoder(model, 9, interactive=True)


@pytest.mark.parametrize("panics", [False, True])
@pytest.mark.parametrize("table", [False, True])
def test_a_tokenizer_whose_parts_do_not_fit_is_one_line(
    tiny_model: str, tmp_path: Path, table: bool, panics: bool
) -> None:
    """panics: its template names a token that it does not describe, which nobody checks."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    if table:
        documents = SpladeModel.load(tiny_model)
        ones = QueryTable(torch.ones(len(documents.suppressed)), documents.suppressed)
        EncoderPair(documents, ones).save(model)
    for path in model.rglob("tokenizer.json"):
        parts = json.loads(path.read_text())
        if panics:
            del parts["post_processor"]["special_tokens"]["[CLS]"]
        else:
            parts["model"]["unk_token"] = "[NONE]"
        path.write_text(json.dumps(parts))
    with pytest.raises(ModelError, match=f"^{model}"):
        load_query_encoder(model, 9, interactive=True)


def test_weights_that_do_not_fit_together_are_one_line(tiny_model: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    weights = load_file(model / "model.safetensors")
    bias = next(name for name in weights if name.endswith("predictions.bias"))
    save_file({**weights, bias: weights[bias][:-1].clone()}, model / "model.safetensors")
    with pytest.raises(ModelError, match=f"^{model}: "):
        load_query_encoder(model, 9, interactive=True)
