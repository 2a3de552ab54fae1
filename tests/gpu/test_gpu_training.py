"""Training on a card: like on a CPU, resumed, and by two processes that share the card."""

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
import torch
from safetensors.torch import load_file

from models import TEXTS
from splade_es.errors import TrainingError
from splade_es.training.config import TrainConfig
from splade_es.training.loop import train_steps


@pytest.fixture
def config(tiny_model: str, tmp_path: Path) -> TrainConfig:
    pairs = tmp_path / "pairs.jsonl"
    lines = [{"query": text, "positive": f"{text} {id}"} for id, text in TEXTS.items()]
    pairs.write_text("".join(json.dumps(line) + "\n" for line in lines * 4))
    return TrainConfig(
        data=pairs, model=tiny_model, output=tmp_path / "out", steps=8, batch_size=8, lr=1e-3,
        query_length=32, doc_length=32, ramp=2, log_every=1, save_every=4, doc_terms=20,
    )  # fmt: skip


def weights(config: TrainConfig) -> dict[str, torch.Tensor]:
    return load_file(Path(config.output) / "model.safetensors")


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("tokens", [None, 64])
def test_it_learns_in_every_format_and_with_gradient_caching(
    config: TrainConfig, precision: Literal["fp32", "bf16", "fp16"], tokens: int | None
) -> None:
    log = list(
        train_steps(replace(config, precision=precision, mini_batch_tokens=tokens, steps=30))
    )
    assert log[-1].ranking_loss < 0.8 * log[0].ranking_loss


def test_a_resumed_run_ends_where_the_whole_one_does(config: TrainConfig, tmp_path: Path) -> None:
    config = replace(config, precision="fp32")
    list(train_steps(config))
    stopped = replace(config, output=tmp_path / "stopped")
    for progress in train_steps(stopped):
        if progress.step == 4:
            break
    list(train_steps(stopped, resume=True))
    whole, resumed = weights(config), weights(stopped)
    for name, weight in whole.items():
        torch.testing.assert_close(weight, resumed[name], rtol=1e-3, atol=1e-4)


def test_a_loss_that_is_not_finite_ends_the_run(config: TrainConfig) -> None:
    with pytest.raises(TrainingError, match=r"is (nan|inf) at step .*, so training stopped"):
        list(train_steps(replace(config, lr=1e30, precision="fp32", log_every=8)))


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
    config = replace(config, precision="fp32", steps=4, doc_terms=None, doc_lambda=1e-3)
    list(train_steps(config))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = replace(config, output=tmp_path / "shared")
    settings = {"data": str(shared.data), "model": str(shared.model), "output": str(shared.output)}
    for name in ("steps", "batch_size", "lr", "query_length", "doc_length", "ramp", "save_every",
                 "doc_lambda", "precision"):  # fmt: skip
        settings[name] = getattr(shared, name)
    script = tmp_path / "process.py"
    script.write_text(_PROCESS)
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                   "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}  # fmt: skip
    running = [
        subprocess.Popen(
            [sys.executable, str(script), json.dumps(settings), root],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=180)[1] for process in running]
    assert [process.returncode for process in running] == [0, 0], errors
    one, two = weights(config), weights(shared)
    for name, weight in one.items():
        # the models have dropout, and the processes draw other masks
        assert torch.cosine_similarity(weight.flatten(), two[name].flatten(), dim=0) > 0.98, name
