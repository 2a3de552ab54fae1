"""The training loop, top to bottom."""

from __future__ import annotations

import math
import os
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splade_es.encoders.torch_encoder import Encoder, pick_device
from splade_es.engines.base import Engine, EngineIndex
from splade_es.errors import Interrupted, TrainingError
from splade_es.features import feature_names
from splade_es.models.pair import EncoderPair
from splade_es.progress import TrainProgress
from splade_es.training.batches import batches
from splade_es.training.checkpoint import (
    CHECKPOINT,
    check_output,
    no_number,
    read_checkpoint,
    save_model,
    write_checkpoint,
)
from splade_es.training.config import DISTILLING, TrainConfig
from splade_es.training.data import read_examples
from splade_es.training.dev_set import MEASURES, DevSet
from splade_es.training.diagnostics import alarms
from splade_es.training.distributed import open_world
from splade_es.training.initial_model import corpus_texts, start
from splade_es.training.step import Outcome, Stepper


def train_steps(
    config: TrainConfig,
    *,
    resume: bool = False,
    engine: Engine | None = None,
    stop: threading.Event | None = None,
) -> Generator[TrainProgress, None, None]:
    """Train a SPLADE model and leave it in config.output. Yields a log line now and then.

    With a dev set the output holds the model of the best checkpoint, else the last. Every
    `save_every` steps all there is to the run goes to `checkpoint.pt` beside the model; with
    `resume` it goes on from there and ends where it would have ended, on a CPU bit for bit.
    At the first SIGINT or SIGTERM the step is finished, a checkpoint written and Interrupted
    raised. Started by torchrun, the processes share each batch; the first one saves and yields.
    Raises TrainingError (also for a loss that is no number), ModelError and CorpusError.
    """
    if config.df_index and engine is None:
        raise TrainingError("`df_index` needs the engine of that index", "Connect to it first.")
    device = pick_device()
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(device)
    output = Path(config.output)
    state = read_checkpoint(output, config) if resume else None
    with ExitStack() as stack:
        world = stack.enter_context(open_world(device))
        leads = world.rank == 0
        if leads:
            check_output(output, resume)
        examples = stack.enter_context(
            read_examples(
                config.data,
                format=config.format,
                corpus=config.corpus,
                needs_scores=not DISTILLING.isdisjoint(config.losses)
                or config.false_negative_margin is not None,
            )
        )
        if "infonce" in config.losses and len(examples) < 2:
            raise TrainingError(
                f"{config.data}: one line only, and infonce compares texts", "Add training lines."
            )
        dev = None
        if config.dev and leads:
            dev = DevSet(config.dev, config.dev_split, config.dev_documents)
        writer = _tensorboard(config.tensorboard, state) if config.tensorboard and leads else None

        torch.manual_seed(config.seed)
        model = start(config, examples)
        steps = config.steps or 1000
        if config.epochs is not None:
            size = min(config.batch_size, len(examples)) * config.accumulate
            steps = math.ceil(config.epochs * len(examples) / size)
        if config.ramp_delay + config.ramp > steps:
            raise TrainingError(
                f"A ramp that ends at step {config.ramp_delay + config.ramp:,} of a run of "
                f"{steps:,} would never reach its weights",
                "Give a ramp, or a ramp_delay, to fit.",
            )
        stepper = Stepper(config, model, world, device, steps)
        vocabulary = model.documents.vocabulary
        first, best, seconds, unimproved = 0, float("-inf"), 0.0, 0
        history: list[dict[str, Any]] = []
        if state:
            if state["examples"] != len(examples):
                raise TrainingError(
                    f"{config.data}: {len(examples):,} examples, but the interrupted run had "
                    f"{state['examples']:,}",
                    "Give the same data, or start anew in another --output.",
                )
            try:
                stepper.restore(state["stepper"])
            except (RuntimeError, ValueError, KeyError) as error:  # torch's, of other shapes
                raise TrainingError(
                    f"{output}: the checkpoint is of another model than {config.model} is now",
                    "Give the model the run started from, or start anew in another --output.",
                ) from error
            first, best, seconds = state["step"], state["best"], state["seconds"]
            history, unimproved = state["history"], state["unimproved"]
            if state["better"] and leads:  # a kill may have come between checkpoint and model
                save_model(output, config, model, history)

        stream = batches(
            examples,
            config.batch_size,
            config.seed,
            first * config.accumulate,
            config.negatives,
            config.false_negative_margin,
        )
        window: list[Outcome] = []
        started = time.perf_counter()
        for step in range(first + 1, steps + 1):
            if stepper.objective.wants_frequencies and (step - 1) % config.df_every == 0:
                if config.df_index and engine:
                    share = _shares_of_index(engine.index(config.df_index), vocabulary)
                else:
                    texts = corpus_texts(config, examples, config.df_documents)
                    share = _shares_of_texts(model, texts, device)
                stepper.objective.set_frequencies(share)
            try:
                window.append(stepper.step(step, stream))
            except ArithmeticError as error:
                raise no_number(str(error), output) from error
            asked = bool(world.agree(stop is not None and stop.is_set()))
            due = step % config.save_every == 0 or step == steps
            saving = asked or due
            if not (saving or step % config.log_every == 0 or step == first + 1):
                continue

            if saving and not all(p.isfinite().all() for p in model.parameters()):
                raise no_number(f"a weight is no finite number at step {step}", output)
            loss, ranking, query_terms, doc_terms = (
                torch.stack([outcome.sums for outcome in window]).mean(dim=0).tolist()
            )
            elapsed = time.perf_counter() - started
            seconds += elapsed
            measures = dev.measure(model) if dev and due else {}
            figure = measures.get(MEASURES.split()[0], float(step))  # no dev set: the last is best
            better = bool(saving and (measures or not config.dev) and figure > best)
            if measures or better:
                unimproved = 0 if better else unimproved + 1
                best = max(best, figure)
                history.append(
                    {"step": step, "seconds": seconds, "query_terms": query_terms,
                     "doc_terms": doc_terms, "dev": measures}
                )  # fmt: skip
            if saving and leads:
                # the model after it, so that resuming finds or mends whatever a kill left
                write_checkpoint(
                    output,
                    config,
                    {
                        "step": step,
                        "examples": len(examples),
                        "best": best,
                        "better": better,
                        "seconds": seconds,
                        "history": history,
                        "unimproved": unimproved,
                        "stepper": stepper.state(),
                    },
                )
                if better:
                    save_model(output, config, model, history)
            progress = TrainProgress(
                step=step,
                steps=steps,
                loss=loss,
                ranking_loss=ranking,
                query_terms=query_terms,
                doc_terms=doc_terms,
                query_lambda=stepper.objective.weight("query", step),
                doc_lambda=stepper.objective.weight("doc", step),
                lr=stepper.lr,
                steps_per_second=len(window) / elapsed,
                warnings=tuple(alarms(query_terms, doc_terms, window, vocabulary)),
                dev=measures,
                best=better,
                output=config.output,
            )
            if writer:
                _write_scalars(writer, progress)
            if leads:
                yield progress
            if asked:
                raise Interrupted(
                    f"Stopped at step {step} of {steps}; the run is saved in {output}",
                    "Go on with the same command and --resume.",
                )
            if world.agree(config.patience is not None and unimproved >= config.patience):
                break
            window.clear()
            started = time.perf_counter()
        if leads:
            (output / CHECKPOINT).unlink()


@torch.no_grad()
def _shares_of_texts(model: EncoderPair, texts: list[str], device: torch.device) -> Tensor:
    """Share of the texts in which each token is active, [V]. The model goes on in its own mode."""
    training = model.documents.training
    counts = torch.zeros(len(model.documents.decoder.weight), device=device)
    try:
        for row in Encoder(model.documents, device).encode(texts):
            counts[torch.from_numpy(row.ids).to(device, torch.long)] += 1
    finally:
        model.documents.train(training)
    return counts / max(1, len(texts))


def _shares_of_index(index: EngineIndex, vocabulary: list[str]) -> Tensor:
    """The same of the documents of an index."""
    counts = index.document_frequencies(feature_names(vocabulary))
    return torch.tensor(counts, dtype=torch.float32) / max(1, index.count())


def _tensorboard(directory: str, state: dict[str, Any] | None) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise TrainingError(
            "TensorBoard is not installed", "pip install 'splade-es[tensorboard]'"
        ) from error
    # what was written past the checkpoint that a run goes on from will be written again
    return SummaryWriter(directory, purge_step=state["step"] + 1 if state else None)


def _write_scalars(writer: Any, progress: TrainProgress) -> None:
    for name, value in (asdict(progress) | dict(progress.dev)).items():
        if isinstance(value, int | float) and name not in ("step", "steps", "best", "output"):
            group = "dev" if name in progress.dev else "train"
            writer.add_scalar(f"{group}/{name}", value, progress.step)
    writer.flush()
