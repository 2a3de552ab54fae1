"""Training on a card: like on a CPU, resumed, and by two processes that share the card."""

import json
import os
import random
import shutil
import socket
import subprocess
import sys
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from models import WORDS
from splade_es.errors import TrainingError
from splade_es.training.config import TrainConfig
from splade_es.training.loop import train_steps


@pytest.fixture
def config(tiny_model: str, tmp_path: Path) -> TrainConfig:
    """A run whose only random part is the order: its model drops nothing."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)
    settings = json.loads((model / "config.json").read_text())
    settings |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (model / "config.json").write_text(json.dumps(settings))
    pairs = tmp_path / "pairs.jsonl"
    drawn = random.Random(0)
    with pairs.open("w") as file:
        for _ in range(64):
            words = drawn.sample(WORDS, 6)
            line = {"query": " ".join(words[:2]), "positive": " ".join(words)}
            file.write(json.dumps(line) + "\n")
    return TrainConfig(
        data=str(pairs), model=str(model), output=str(tmp_path / "out"), steps=8, batch_size=16,
        lr=1e-3, query_length=32, doc_length=32, ramp=2, log_every=1, save_every=4, doc_terms=20,
        precision="fp32",
    )  # fmt: skip


def changes(config: TrainConfig) -> torch.Tensor:
    """What a run has changed in the weights, all together."""
    after = load_file(Path(config.output) / "model.safetensors")
    before = load_file(Path(config.model) / "model.safetensors")
    return torch.cat([(after[name] - before[name]).flatten() for name in before])


def same(a: TrainConfig, b: TrainConfig) -> None:
    """Where a gradient is almost nothing, rounding decides the direction of an Adam step."""
    left, right = changes(a), changes(b)
    assert left.norm() > 0.1
    assert torch.cosine_similarity(left, right, dim=0) > 0.95


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("tokens", [None, 64])
def test_it_learns_in_every_format_and_with_gradient_caching(
    config: TrainConfig, precision: Literal["fp32", "bf16", "fp16"], tokens: int | None
) -> None:
    changed = replace(config, precision=precision, mini_batch_tokens=tokens, steps=60)
    losses = [progress.ranking_loss for progress in train_steps(changed)]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5]), losses


def test_a_resumed_run_ends_where_the_whole_one_does(config: TrainConfig, tmp_path: Path) -> None:
    list(train_steps(config))
    stopped = replace(config, output=str(tmp_path / "stopped"))
    with closing(train_steps(stopped)) as log:
        for progress in log:
            if progress.step == 4:
                break
    list(train_steps(stopped, resume=True))
    same(config, stopped)


def test_a_loss_that_is_not_finite_ends_the_run(config: TrainConfig) -> None:
    with pytest.raises(TrainingError, match=r"is (nan|inf) at step .*, so training stopped"):
        list(train_steps(replace(config, lr=1e30, log_every=8)))


_PROCESS = """
import sys, torch
sys.path.insert(0, sys.argv[2])
from dataclasses import replace
from splade_es.training.config import TrainConfig
from splade_es.training.loop import train_steps
if __name__ == "__main__":
    import json
    list(train_steps(TrainConfig(**json.loads(sys.argv[1]))))
"""


def test_two_processes_on_one_card_do_what_one_does(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, doc_terms=None, doc_lambda=1e-3)
    list(train_steps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = replace(config, output=str(tmp_path / "shared"))
    given = {
        field.name: getattr(shared, field.name)
        for field in fields(shared)
        if getattr(shared, field.name) != field.default
    }
    script = tmp_path / "process.py"
    script.write_text(_PROCESS)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}  # fmt: skip
    running = [
        subprocess.Popen(
            [sys.executable, str(script), json.dumps(given), root],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=180)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    same(config, shared)
