"""A run, opened: the data, the model and everything else that the loop works with."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from splade_es.engines.base import Engine
from splade_es.errors import TrainingError
from splade_es.progress import TrainProgress
from splade_es.training.batches import batches, one_ahead
from splade_es.training.checkpoint import (
    CHECKPOINT,
    RunState,
    read_checkpoint,
    write_checkpoint,
)
from splade_es.training.config import TrainConfig
from splade_es.training.config_rules import DISTILLING
from splade_es.training.data import Examples, ReadCallback, read_examples
from splade_es.training.dev_set import DevSet
from splade_es.training.distributed import World, is_first_process, open_world, training_device
from splade_es.training.formats import check_path, open_source
from splade_es.training.frequencies import shares_of_index, shares_of_texts
from splade_es.training.initial_model import corpus_texts, load_initial_model
from splade_es.training.log import Means, TensorBoard, Window, open_tensorboard
from splade_es.training.output import prepare_output, save_model
from splade_es.training.problems import find_problems
from splade_es.training.step import Stepper, TokenizedBatch


@dataclass
class Run:
    """An open run. `state` says where it is, `steps` is where it ends."""

    config: TrainConfig
    device: torch.device
    world: World
    engine: Engine | None
    examples: Examples
    dev: DevSet | None
    board: TensorBoard | None
    stepper: Stepper
    state: RunState
    steps: int

    @property
    def output(self) -> Path:
        """The output directory."""
        return Path(self.config.output)

    def batches(self) -> Generator[TokenizedBatch, None, None]:
        """The batches from the next step on, without an end; close it before the run."""
        config = self.config
        drawn = batches(
            self.examples,
            config.batch_size,
            config.seed,
            self.state.step * config.accumulate,
            config.negatives,
            config.false_negative_margin,
        )
        return one_ahead(drawn, self.stepper.tokenize)

    def count_frequencies(self) -> None:
        """Count document frequencies for df_flops, in the index or with the model as it is now."""
        config, model = self.config, self.stepper.model.documents
        if config.df_index is not None and self.engine is not None:
            share = shares_of_index(self.engine.index(config.df_index), model.vocabulary)
        else:
            texts = corpus_texts(config, self.examples, config.df_documents)
            share = shares_of_texts(model, texts, self.device)  # [V]
        self.stepper.objective.set_frequencies(share)

    def check_weights(self, step: int) -> None:
        """Raise ArithmeticError for a weight that is not finite."""
        if not all(p.isfinite().all() for p in self.stepper.model.parameters()):
            raise ArithmeticError(f"a weight is not finite at step {step}")

    def save(self) -> None:
        """Write a checkpoint, and the model if it is the best so far.

        The model comes second: a run that is resumed after a kill between the two writes it.
        """
        write_checkpoint(self.output, self.state, self.stepper.state())
        if self.state.improved:
            save_model(self.output, self.config, self.stepper.model, self.state.history)

    def progress(self, window: Window, means: Means, dev: dict[str, float]) -> TrainProgress:
        """The log line of the present step; also written to TensorBoard."""
        step, objective = self.state.step, self.stepper.objective
        progress = TrainProgress(
            step=step,
            steps=self.steps,
            loss=means.loss,
            ranking_loss=means.ranking_loss,
            query_terms=means.query_terms,
            doc_terms=means.document_terms,
            query_lambda=float(objective.query.weight(step)),
            doc_lambda=float(objective.doc.weight(step)),
            lr=self.stepper.lr,
            steps_per_second=len(window.results) / means.seconds,
            warnings=tuple(
                find_problems(
                    means.query_terms,
                    means.document_terms,
                    window.results,
                    self.stepper.model.documents.vocabulary,
                )
            ),
            dev=dev,
            best=self.state.improved,
            output=os.fspath(self.config.output),
        )
        if self.board is not None:
            self.board.write(progress)
        return progress

    def last(self) -> TrainProgress:
        """The result of a process that logs nothing, or of a run that was finished already."""
        unknown = float("nan")
        return TrainProgress(
            step=self.state.step, steps=self.steps, loss=unknown, ranking_loss=unknown,
            query_terms=unknown, doc_terms=unknown, query_lambda=unknown, doc_lambda=unknown,
            lr=unknown, steps_per_second=unknown, warnings=(), dev={},
            best=self.state.improved, output=os.fspath(self.config.output),
        )  # fmt: skip

    def not_finite(self, what: str) -> TrainingError:
        """The error that ends a run whose numbers are not finite any more."""
        saved = "there is no checkpoint yet"
        if (self.output / CHECKPOINT).is_file():
            path = self.output / CHECKPOINT
            step = torch.load(path, weights_only=True, mmap=True)["step"]
            saved = f"the checkpoint of step {step} is in {self.output}"
        return TrainingError(
            f"{what}, so training stopped; {saved}", "Lower `lr`, or set `precision` to fp32."
        )


def check_run(config: TrainConfig, resume: bool, engine: Engine | None) -> RunState | None:
    """Raise what can be known before anything is loaded; prepare the output directory.

    Returns the state to resume from.
    """
    if config.df_index is not None:
        if engine is None:
            raise TrainingError(
                "`df_index` needs the engine that has this index", "Give the `engine`."
            )
        engine.index(config.df_index).count()  # raises IndexMissing
    data = os.fspath(config.data)
    check_path(data)
    if data != "-":  # a file of another kind is named before anything is made
        corpus = None if config.corpus is None else os.fspath(config.corpus)
        open_source(data, config.format, corpus)
    output = Path(config.output)
    state = read_checkpoint(output, config) if resume else None
    if is_first_process():
        prepare_output(output, CHECKPOINT, resume)
    return state


@contextmanager
def open_run(
    config: TrainConfig,
    state: RunState | None,
    engine: Engine | None,
    reading: ReadCallback | None,
) -> Iterator[Run]:
    """Open a run, from its start or from a state; closed at the end of the block.

    Raises TrainingError, ModelError and CorpusError.
    """
    device = training_device()
    with ExitStack() as stack:
        world = stack.enter_context(open_world(device))
        examples = stack.enter_context(_read_data(config, reading))
        dev = None
        if config.dev and world.leads:
            dev = DevSet(os.fspath(config.dev), config.dev_split, config.dev_documents)
        board = stack.enter_context(
            open_tensorboard(
                config.tensorboard if world.leads else None, 0 if state is None else state.step
            )
        )
        torch.manual_seed(config.seed)
        model = load_initial_model(config, examples)
        steps = _count_steps(config, len(examples))
        stepper = Stepper(config, model, world, device, steps)
        started = RunState(dataclasses.asdict(config), len(examples))
        run = Run(
            config, device, world, engine, examples, dev, board, stepper, state or started, steps
        )
        if state is not None:
            _restore(run)
        yield run


def _read_data(config: TrainConfig, reading: ReadCallback | None) -> Examples:
    examples = read_examples(
        os.fspath(config.data),
        format=config.format,
        corpus=None if config.corpus is None else os.fspath(config.corpus),
        needs_scores=not DISTILLING.isdisjoint(config.losses)
        or config.false_negative_margin is not None,
        reading=reading,
    )
    if "infonce" in config.losses and len(examples) < 2:
        examples.close()
        raise TrainingError(
            f"{config.data}: there is only one line, and infonce compares texts",
            "Add training lines.",
        )
    return examples


def _count_steps(config: TrainConfig, examples: int) -> int:
    steps = config.steps or 1000
    if config.epochs is not None:
        size = min(config.batch_size, examples) * config.accumulate
        steps = math.ceil(config.epochs * examples / size)
    if config.ramp_delay + config.ramp > steps:
        raise TrainingError(
            f"A ramp that ends at step {config.ramp_delay + config.ramp:,} of a run of {steps:,} "
            "would never reach its weights",
            "Shorten `ramp` or `ramp_delay`.",
        )
    return steps


def _restore(run: Run) -> None:
    """Continue from the run's state. Raises TrainingError if data or model are others now."""
    config, state = run.config, run.state
    if state.examples != len(run.examples):
        raise TrainingError(
            f"{config.data}: {len(run.examples):,} examples, but the interrupted run had "
            f"{state.examples:,}",
            "Give the same data, or start again in another `output`.",
        )
    assert state.stepper is not None  # it was read from a checkpoint
    try:
        run.stepper.restore(state.stepper)
    except (RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:  # of torch
        raise TrainingError(
            f"{run.output}: the checkpoint is of another model than {config.model} is now",
            "Give the model that the run started from, or start again in another `output`.",
        ) from error
    state.stepper = None  # from now on it is in the stepper
    if state.improved and run.world.leads:  # it was killed between the checkpoint and the model
        save_model(run.output, config, run.stepper.model, state.history)
