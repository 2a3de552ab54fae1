"""The training loop, top to bottom."""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from torch import Tensor

from splade_es.encoder import fast_dtype, pick_device
from splade_es.errors import TrainingError
from splade_es.model import SpladeModel
from splade_es.training.calibrate import calibrate
from splade_es.training.config import TrainConfig
from splade_es.training.data import batches, read_examples
from splade_es.training.dev import MEASURES, DevSet
from splade_es.training.losses import infonce, kl, margin_mse
from splade_es.training.regularizers import flops, l1, ramp

CHECKPOINT = "checkpoint.pt"
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Progress(NamedTuple):
    """One log line. Means over the steps since the last one; terms are active ones of a text."""

    step: int
    loss: float
    ranking_loss: float
    query_terms: float
    document_terms: float
    lr: float
    steps_per_second: float
    dev: dict[str, float]  # empty but at a checkpoint of a run with a dev set
    best: bool  # this step's model is the one in the output directory


def train(config: TrainConfig, resume: bool = False) -> Generator[Progress, None, None]:
    """Train a SPLADE model and leave it in config.output. Yields a log line now and then.

    With a dev set the output holds the model of the best checkpoint, else the last. Every
    `save_every` steps all there is to the run goes to `checkpoint.pt` beside the model; with
    `resume` it goes on from there and ends where it would have ended, bit for bit on one device.
    Raises TrainingError (also for a loss that is no number), ModelError and CorpusError.
    """
    output = Path(config.output)
    state = _read_checkpoint(output, config) if resume else None
    _check_output(output, resume)
    device = pick_device()
    examples = read_examples(config.data, needs_scores=config.loss != "infonce")
    if config.loss == "infonce" and len(examples) < 2:
        raise TrainingError(
            f"{config.data}: one line only, and infonce compares texts", "Add training lines."
        )
    dev = DevSet(config.dev, config.dev_split, config.dev_documents) if config.dev else None

    torch.manual_seed(config.seed)
    model = SpladeModel.load(config.model, max(config.query_length, config.document_length))
    model.max_length = config.document_length
    model.silence_special_tokens()
    calibrate(model, [e.documents[0] for e in examples[:64]])
    model.to(device).train()

    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if p.dim() > 1]},
        {"params": [p for p in model.parameters() if p.dim() <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay)
    dtype = fast_dtype(device) if config.precision == "auto" else _DTYPES[config.precision]
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    first, best = 0, float("-inf")
    if state:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scaler.load_state_dict(state["scaler"])
        first, best = state["step"], state["best"]
        if state["better"]:  # a kill may have come between this checkpoint and its model
            _save_model(output, config, model, first, state["measures"])
        torch.set_rng_state(state["random"])
        if device.type == "cuda" and state["random_cuda"] is not None:
            torch.cuda.set_rng_state(state["random_cuda"])

    def encode(texts: list[str], length: int) -> Tensor:
        inputs = model.tokenizer(
            texts, truncation=True, max_length=length, padding=True, return_tensors="pt"
        ).to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            weights: Tensor = model(**inputs)  # [len(texts), V]
        return weights

    stream = batches(examples, config.batch_size, config.seed, start=first * config.accumulate)
    sums = torch.zeros(4, device=device)  # loss, ranking loss, query terms, document terms
    since, started = first, time.perf_counter()
    for step in range(first + 1, config.steps + 1):
        rise = step / max(1.0, config.warmup * config.steps)
        fall = (config.steps - step + 1) / max(1.0, (1 - config.warmup) * config.steps)
        lr = config.lr * min(rise, fall, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = lr
        strength = ramp(step, config.ramp)

        optimizer.zero_grad(set_to_none=True)
        for _ in range(config.accumulate):
            batch = next(stream)
            queries = encode([e.query for e in batch], config.query_length)  # [B, V]
            texts = [text for e in batch for text in e.documents]
            rows = encode(texts, config.document_length)  # [B * (1 + n), V]
            documents = rows.view(len(batch), -1, rows.shape[1])  # [B, 1 + n, V]
            if config.loss == "infonce":
                ranking = infonce(queries, documents, [e.key for e in batch], config.temperature)
            else:
                teacher = torch.tensor([e.scores for e in batch], device=device)  # [B, 1 + n]
                if config.loss == "margin_mse":
                    ranking = margin_mse(queries, documents, teacher)
                else:
                    ranking = kl(queries, documents, teacher, config.temperature)
            query_penalty = (flops if config.query_regularizer == "flops" else l1)(queries)
            sparsity = config.document_flops * flops(rows) + config.query_flops * query_penalty
            loss = ranking + strength * sparsity
            if not torch.isfinite(loss):
                raise _no_number(f"the loss is {loss.item()} at step {step}", output)
            scaler.scale(loss / config.accumulate).backward()
            with torch.no_grad():
                terms = [(r > 0).sum(dim=1).float().mean() for r in (queries, rows)]
                sums += torch.stack([loss, ranking, *terms]) / config.accumulate
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip)
        if not (scaler.is_enabled() or torch.isfinite(norm)):  # a scaler skips such a step itself
            raise _no_number(f"the gradient is {norm.item()} at step {step}", output)
        scaler.step(optimizer)
        scaler.update()

        saving = step % config.save_every == 0 or step == config.steps
        if saving and not all(p.isfinite().all() for p in model.parameters()):
            raise _no_number(f"a weight is no finite number at step {step}", output)
        if saving or step % config.log_every == 0 or step == first + 1:
            total, rank, query_terms, document_terms = (sums / (step - since)).tolist()
            rate = (step - since) / (time.perf_counter() - started)
            measures = dev.measure(model) if dev and saving else {}
            now = measures.get(MEASURES.split()[0], float(step))  # no dev set: the last is best
            better = saving and now > best
            best = max(best, now) if saving else best
            if saving:
                # the model after it, so that resuming finds or mends whatever a kill left
                _write_checkpoint(
                    output,
                    {
                        "config": dataclasses.asdict(config),
                        "step": step,
                        "best": best,
                        "better": better,
                        "measures": measures,
                        "model": model.state_dict(),
                        "optimizer": optimizer.state_dict(),
                        "scaler": scaler.state_dict(),
                    },
                )
            if better:
                _save_model(output, config, model, step, measures)
            yield Progress(
                step, total, rank, query_terms, document_terms, lr, rate, measures, better
            )
            sums.zero_()
            since, started = step, time.perf_counter()
    (output / CHECKPOINT).unlink()


def _check_output(output: Path, resume: bool) -> None:
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
    if names and not resume:
        raise TrainingError(
            f"{output}: the output directory is not empty",
            "Go on with the interrupted run in it with --resume, or choose another --output."
            if CHECKPOINT in names
            else "Choose another --output.",
        )


def _save_model(
    output: Path, config: TrainConfig, model: SpladeModel, step: int, measures: dict[str, float]
) -> None:
    report = {**dataclasses.asdict(config), "best_step": step, "dev_measures": measures}
    with _saving(output):
        model.save(output)
        (output / "training.json").write_text(json.dumps(report, indent=2) + "\n")


def _write_checkpoint(output: Path, state: dict[str, Any]) -> None:
    """All that resuming needs, written beside its place and renamed."""
    state["random"] = torch.get_rng_state()
    state["random_cuda"] = torch.cuda.get_rng_state() if torch.cuda.is_available() else None
    part = output / f".{CHECKPOINT}"
    try:
        with _saving(output), part.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, output / CHECKPOINT)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _saving(output: Path) -> Iterator[None]:
    """Turns what torch, safetensors and the file system raise on a full disk into TrainingError."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TrainingError(
            f"{output}: cannot be written ({error})", "Free some space, and go on with --resume."
        ) from error


def _read_checkpoint(output: Path, config: TrainConfig) -> dict[str, Any]:
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
    if changed := [name for name, value in state["config"].items() if now[name] != value]:
        raise TrainingError(
            f"{path}: the interrupted run had other settings ({', '.join(changed)})",
            "Give the same ones, or start anew in another --output.",
        )
    return state


def _no_number(what: str, output: Path) -> TrainingError:
    """The error that stops a run whose numbers went bad; what was saved before is untouched."""
    kept = "there is no checkpoint yet"
    if (output / CHECKPOINT).is_file():
        step = torch.load(output / CHECKPOINT, weights_only=True, mmap=True)["step"]
        kept = f"the checkpoint of step {step} is in {output}"
    return TrainingError(
        f"{what}, so training stopped; {kept}", "Lower --lr, or train with --precision fp32."
    )
