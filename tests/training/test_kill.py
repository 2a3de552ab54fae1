"""A long run, killed at any moment without a warning, goes on as if nothing had been."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from splade_es.training.checkpoint import CHECKPOINT

PAIRS = 14_000


@pytest.mark.slow
def test_three_epochs_killed_twice_end_with_the_weights_of_an_undisturbed_run(
    tmp_path: Path, tiny_model: str
) -> None:
    draw = random.Random(0)
    words = Path(__file__).read_text(encoding="utf-8").split()
    pairs = tmp_path / "pairs.jsonl"
    with pairs.open("w", encoding="utf-8") as file:
        for number in range(PAIRS):
            text = draw.choices(words, k=12)
            row = {"query": f"{number} {' '.join(text[:4])}", "positive": " ".join(text)}
            file.write(json.dumps(row) + "\n")

    def run(output: Path, *resume: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [str(Path(sys.executable).with_name("splade-es")), "train", str(pairs),
             "--model", tiny_model, "--output", str(output), "--epochs", "3", "--batch-size", "32",
             "--save-every", "100", "--query-length", "16", "--doc-length", "16",
             "--lr", "1e-3", "--doc-terms", "20", *resume]
        )  # fmt: skip

    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    assert run(undisturbed).wait() == 0
    checkpoint = killed / CHECKPOINT
    steps = []
    process = run(killed)
    for after in (300, 800):  # steps, of 1313
        while not (checkpoint.exists() and _step(checkpoint) >= after):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(draw.random())
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        steps.append(_step(checkpoint))
        process = run(killed, "--resume")
    assert process.wait() == 0
    assert 300 <= steps[0] < steps[1] < 1313

    whole, resumed = (load_file(o / "model.safetensors") for o in (undisturbed, killed))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    report = json.loads((killed / "training.json").read_text())
    assert report["history"][-1]["step"] == 1313


def _step(checkpoint: Path) -> int:
    step: int = torch.load(checkpoint, weights_only=True)["step"]
    return step
