"""A model that only an index names: loaded from this machine, never downloaded, never run."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import splade_es
from any_engine import META
from command_line import error, run
from splade_es.engines.connect import connect_engine
from splade_es.errors import ModelError
from stub import Stub

NAME = "someone/a-model"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


@pytest.fixture
def named(home: Path) -> str:
    """An index whose `_meta` names a model of the hub."""
    engine = connect_engine(f"local:{home}")
    engine.index("named").create(replace(META, model=NAME))
    engine.close()
    return "named"


def test_it_is_not_downloaded(named: str, home: Path, tmp_path: Path, stub: Stub) -> None:
    """Only a hub that is asked can be trusted to tell."""
    stub.says(404, {"error": "no such model"})
    environment = {**os.environ, "HF_ENDPOINT": stub.url, "HF_HUB_CACHE": str(tmp_path / "hub")}
    said = []
    for args in ((), ("--model", NAME)):
        command = [sys.executable, "-m", "splade_es", "search", "heart", "--index", named]
        command += ["--url", f"local:{home}", *args]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        said.append((done.returncode, done.stderr.splitlines()[-1], bool(stub.requests)))
    assert said[0] == (
        1,
        f"Error: The index 'named' was made by the model {NAME}, which is not on this machine. "
        f"Set --model to its present place; or, if you trust it, to {NAME}, which downloads it.",
        False,
    )
    assert said[1][0] == 1 and said[1][2]  # a model that a person names is asked for


def test_it_is_loaded_from_the_cache_of_the_hub(
    home: Path, cache: Path, corpus_file: Path, tiny_model: str
) -> None:
    repository = cache / f"models--{NAME.replace('/', '--')}"
    snapshot = repository / "snapshots" / "abc"
    shutil.copytree(tiny_model, snapshot)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    assert run("index", corpus_file, "--model", snapshot, "--index", "first").exit_code == 0
    engine = connect_engine(f"local:{home}")
    engine.index("x").create(replace(engine.index("first").meta(), model=NAME))
    engine.close()
    assert run("index", corpus_file, "--model", snapshot, "--index", "x").exit_code == 0
    result = run("search", "heart", "--index", "x")
    assert result.exit_code == 0 and "heart" in result.stdout
    shutil.rmtree(repository)
    assert "which is not on this machine" in error("search", "heart", "--index", "x")


class Evil:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_its_weights_are_never_unpickled(tiny_model: str, tmp_path: Path, how: str) -> None:
    model, trace = tmp_path / "model", tmp_path / "trace"
    shutil.copytree(tiny_model, model)
    (model / "model.safetensors").unlink()
    if how == "torch":
        torch.save(Evil(trace), model / "pytorch_model.bin")
    else:
        (model / "pytorch_model.bin").write_bytes(pickle.dumps(Evil(trace)))
    with pytest.raises(ModelError, match="cannot load this bert model"):
        splade_es.Encoder.load(str(model))
    assert not trace.exists()
