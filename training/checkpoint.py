"""What a run leaves on disk: checkpoints to resume from, the model, and how it came about."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from splade_es.errors import TrainingError
from splade_es.models.pair import EncoderPair
from splade_es.training.config import TrainConfig
from splade_es.version import __version__

CHECKPOINT = "checkpoint.pt"
#: Settings that may change when a run is resumed: they say what is shown, not what is done.
_FREE = ("log_every", "tensorboard", "output")


def check_output(output: Path, resume: bool) -> None:
    """Make the directory, and raise now what a save would raise after an hour of work."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
        names = os.listdir(output)
    except OSError as error:
        raise TrainingError(
            f"{output}: cannot be written ({error.strerror})", "Choose another --output."
        ) from error
    if resume:  # what a kill in the middle of a save left
        for part in output.glob(".part*"):
            shutil.rmtree(part, ignore_errors=True)
    elif names:
        raise TrainingError(
            f"{output}: the output directory is not empty",
            "Go on with the interrupted run in it with --resume, or choose another --output."
            if CHECKPOINT in names
            else "Choose another --output.",
        )


def save_model(
    output: Path, config: TrainConfig, model: EncoderPair, history: list[dict[str, Any]]
) -> None:
    """The model, `training.json` and a model card. history: the evaluations, the last the best."""
    report = {"toolkit": __version__, **dataclasses.asdict(config), "history": history}
    with _saving(output):
        model.save(output)
        (output / "training.json").write_text(json.dumps(report, indent=2) + "\n")
        (output / "README.md").write_text(_card(config, model, history))


def write_checkpoint(output: Path, config: TrainConfig, state: dict[str, Any]) -> None:
    """All that resuming needs, written beside its place and renamed."""
    part = output / f".{CHECKPOINT}"
    try:
        with _saving(output), part.open("wb") as file:
            torch.save({**state, "config": dataclasses.asdict(config)}, file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, output / CHECKPOINT)
    finally:
        part.unlink(missing_ok=True)


def read_checkpoint(output: Path, config: TrainConfig) -> dict[str, Any]:
    """Raises TrainingError for a damaged one, or one of a run with other settings."""
    path = output / CHECKPOINT
    if not path.is_file():
        raise TrainingError(f"{output}: no interrupted run here", "Leave out --resume.")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # zipfile's, pickle's and torch's own
        raise TrainingError(
            f"{path}: the checkpoint is damaged", "Start anew in another --output."
        ) from error
    now = dataclasses.asdict(config)
    changed = [
        name
        for name, value in state["config"].items()
        if now.get(name) != value and name not in _FREE
    ]
    if changed:
        raise TrainingError(
            f"{path}: the interrupted run had other settings ({', '.join(changed)})",
            "Give the same ones, or start anew in another --output.",
        )
    return state


def no_number(what: str, output: Path) -> TrainingError:
    """The error that stops a run whose numbers went bad; what was saved before is untouched."""
    kept = "there is no checkpoint yet"
    if (output / CHECKPOINT).is_file():
        step = torch.load(output / CHECKPOINT, weights_only=True, mmap=True)["step"]
        kept = f"the checkpoint of step {step} is in {output}"
    return TrainingError(
        f"{what}, so training stopped; {kept}", "Lower --lr, or train with --precision fp32."
    )


@contextmanager
def _saving(output: Path) -> Iterator[None]:
    """Turns what torch, safetensors and the file system raise on a full disk into TrainingError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"{output}: cannot be written ({error})", "Free some space, and go on with --resume."
        ) from error


def _card(config: TrainConfig, model: EncoderPair, history: list[dict[str, Any]]) -> str:
    """A model card (https://huggingface.co/docs/hub/model-cards) of what is known, and no more."""
    last = history[-1]
    rows = [
        ("kind", config.kind),
        ("started from", config.model),
        ("training data", config.data),
        ("loss", config.loss),
        ("steps", last["step"]),
        ("seconds", round(last["seconds"])),
        ("tokens of a document", config.doc_length),
        ("pooling", f"{model.documents.pooling}, {model.documents.activation}"),
        *((name, f"{value:.4f}") for name, value in last["dev"].items()),
    ]
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""---
pipeline_tag: feature-extraction
library_name: splade-es
tags: [splade, sparse-encoder, learned-sparse-retrieval, sentence-transformers]
---
# A SPLADE model

Trained with splade-es {__version__}. All settings and evaluations are in `training.json`.

| | |
|---|---|
{table}

The dev measures are those of a part of the corpus, fit for comparing checkpoints only.

```sh
splade-es index corpus.jsonl --model THIS_DIRECTORY --index NAME
splade-es search "query" --index NAME
```
"""
