"""The training loop, top to bottom."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack, closing

from splade_es.arguments import check_type
from splade_es.engines.base import Engine
from splade_es.errors import Interrupted
from splade_es.progress import TrainProgress
from splade_es.training.checkpoint import CHECKPOINT, RunState
from splade_es.training.config import TrainConfig
from splade_es.training.data import ReadCallback
from splade_es.training.log import Window
from splade_es.training.run import check_run, open_run


def train_steps(
    config: TrainConfig,
    *,
    resume: bool = False,
    engine: Engine | None = None,
    stop: threading.Event | None = None,
    reading: ReadCallback | None = None,
) -> Generator[TrainProgress, None, None]:
    """Train a SPLADE model and leave it in `config.output`; an iterator of log lines.

    With a dev set the output holds the model of the best evaluation, otherwise that of the last
    step. Every `save_every` steps the state of the run is written to `checkpoint.pt` beside the
    model. With `resume` the run continues from there and ends where it would have ended, on a CPU
    bit for bit. Processes that torchrun started share each batch; the first one saves and logs.

    Parameters
    ----------
    config : TrainConfig
        All settings.
    resume : bool
        Continue the interrupted run in `config.output`.
    engine : Engine, optional
        Has the index `config.df_index`.
    stop : threading.Event, optional
        When it is set, the step is finished, a checkpoint written and Interrupted raised.
    reading : callable, optional
        Called while the training data is read, see `read_examples`.

    Raises
    ------
    TypeError, TrainingError, IndexMissing
        At the call: an argument, the output directory or the checkpoint is invalid.
    TrainingError, CorpusError, ModelError
        While it runs: the data or the model is invalid, or the loss is not finite.
    Interrupted
        `stop` was set.
    """
    check_type("config", config, TrainConfig)
    return _train(config, check_run(config, resume, engine), engine, stop, reading)


def _train(
    config: TrainConfig,
    state: RunState | None,
    engine: Engine | None,
    stop: threading.Event | None,
    reading: ReadCallback | None,
) -> Generator[TrainProgress, None, None]:
    with ExitStack() as stack:
        run = stack.enter_context(open_run(config, state, engine, reading))
        first, window = run.state.step + 1, Window()
        batches = stack.enter_context(closing(run.batches()))
        for step in range(first, run.steps + 1):
            if run.stepper.objective.needs_frequencies and (step - 1) % config.df_every == 0:
                run.count_frequencies()
            try:
                window.add(run.stepper.step(step, batches))
                stopping = bool(run.world.broadcast(stop is not None and stop.is_set()))
                due = step % config.save_every == 0 or step == run.steps
                if not (stopping or due or step % config.log_every == 0 or step == first):
                    continue
                run.stepper.check_finite()
                if stopping or due:
                    run.check_weights(step)
            except ArithmeticError as error:
                raise run.not_finite(str(error)) from error

            means = window.means()
            dev = run.dev.measure(run.stepper.model) if run.dev and due else {}
            run.state.advance(step, means, dev, saved=stopping or due)
            if run.world.leads:
                if stopping or due:
                    run.save()
                yield run.progress(window, means, dev)
            if stopping:
                raise Interrupted(
                    f"Stopped at step {step} of {run.steps}; the run is saved in {run.output}",
                    "Continue with the same settings and `resume`.",
                )
            impatient = config.patience is not None and run.state.unimproved >= config.patience
            if run.world.broadcast(impatient):
                break
            window = Window()
        if run.world.leads:
            (run.output / CHECKPOINT).unlink()
        if first > run.steps or not run.world.leads:  # of a run that was finished, or of others
            yield run.last()
