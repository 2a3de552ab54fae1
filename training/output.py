"""The output directory of a run: the model, a report of its training, and a model card."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from splade_es.data.files import atomic_file
from splade_es.errors import TrainingError
from splade_es.models.pair import EncoderPair
from splade_es.training.config import TrainConfig
from splade_es.version import __version__

_REPORTS = REPORT, CARD = "training.json", "README.md"


def prepare_output(output: Path, checkpoint: str, resume: bool) -> None:
    """Make the directory, and raise now what a save would raise after an hour of training.

    checkpoint: the name of its file. Raises TrainingError for a directory that cannot be written,
    or that is not empty, unless a run in it is resumed.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=output):
            pass
        names = os.listdir(output)
    except OSError as error:
        raise TrainingError(
            f"{output}: cannot be written ({error.strerror})", "Choose another `output`."
        ) from error
    if resume:  # a run that was killed while it saved has left its unfinished files
        for part in output.glob(".part*"):
            shutil.rmtree(part, ignore_errors=True)
        for name in (checkpoint, *_REPORTS):
            for file in output.glob(f".{name}.*.tmp"):
                file.unlink(missing_ok=True)
    elif names:
        raise TrainingError(
            f"{output}: the output directory is not empty",
            "Continue the interrupted run in it with `resume`, or choose another `output`."
            if checkpoint in names
            else "Choose another `output`.",
        )


def save_model(
    output: Path,
    config: TrainConfig,
    model: EncoderPair,
    history: Sequence[Mapping[str, Any]],
) -> None:
    """Write the model, `training.json` and a model card. Raises TrainingError.

    history: the evaluations so far; the last one is that of this model.
    """
    report = {"toolkit": __version__, **dataclasses.asdict(config), "history": history}
    with saving(output):
        model.save(output)
    with atomic_file(output / REPORT, TrainingError) as file:
        file.write(json.dumps(report, indent=2) + "\n")
    with atomic_file(output / CARD, TrainingError) as file:
        file.write(_model_card(config, model, history[-1]))


@contextmanager
def saving(output: Path) -> Iterator[None]:
    """What torch, safetensors and the file system raise on a full disk becomes TrainingError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"{output}: cannot be written ({error})", "Free some space, and continue with `resume`."
        ) from error


def _model_card(config: TrainConfig, model: EncoderPair, last: Mapping[str, Any]) -> str:
    """A model card (https://huggingface.co/docs/hub/model-cards) with what is known, no more."""
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

The dev measures are those of a part of the corpus: use them to compare checkpoints, nothing else.

```sh
splade-es index corpus.jsonl --model THIS_DIRECTORY --index NAME
splade-es search "query" --index NAME
```
"""
