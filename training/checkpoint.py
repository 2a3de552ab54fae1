"""The state of a run: one record, which is the checkpoint that a run is resumed from."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import torch

from splade_es.data.files import atomic_file
from splade_es.errors import TrainingError
from splade_es.training.config import TrainConfig
from splade_es.training.dev_set import BEST_BY
from splade_es.training.log import Means
from splade_es.training.output import saving
from splade_es.training.step import StepperState

CHECKPOINT = "checkpoint.pt"
#: Settings that may change when a run is resumed: they do not change what is computed.
_FREE = ("log_every", "tensorboard", "output")


class Evaluation(TypedDict):
    """A model that was saved or evaluated. dev: measures on the dev set, {} without one."""

    step: int
    seconds: float
    query_terms: float
    doc_terms: float
    dev: dict[str, float]


@dataclass
class RunState:
    """All that a run needs to continue where it is; its fields are the keys of a checkpoint.

    Attributes
    ----------
    config : dict
        The settings of the run.
    examples : int
        Number of training examples: a sign that the data is the same.
    step : int
        Optimizer steps so far.
    seconds : float
        Duration of these steps, without evaluations and checkpoints.
    best : float
        The best figure so far: of the first measure on the dev set, or without one the step.
    improved : bool
        Whether the model of this step is the best so far, so that the output must hold it.
    unimproved : int
        Evaluations since the best one.
    history : list of Evaluation
        Evaluations so far; without a dev set the models that were saved.
    stepper : StepperState or None
        Weights, optimizer and regularizers. In a checkpoint only: during the run these are in the
        `Stepper`.
    """

    config: dict[str, Any]
    examples: int
    step: int = 0
    seconds: float = 0.0
    best: float = float("-inf")
    improved: bool = False
    unimproved: int = 0
    history: list[Evaluation] = field(default_factory=list)
    stepper: StepperState | None = None

    def advance(self, step: int, means: Means, dev: dict[str, float], *, saved: bool) -> None:
        """Move on to a step that is logged.

        means: of the steps since the last one; dev: measures, {} without an evaluation; saved:
        whether a checkpoint of this step will be written.
        """
        self.step = step
        self.seconds += means.seconds
        # without a dev set the last model is the best one
        compared = bool(dev) or (saved and not self.config["dev"])
        figure = dev.get(BEST_BY, float(step))
        self.improved = compared and figure > self.best
        if compared:
            self.unimproved = 0 if self.improved else self.unimproved + 1
            self.best = max(self.best, figure)
            self.history.append(
                {
                    "step": step,
                    "seconds": self.seconds,
                    "query_terms": means.query_terms,
                    "doc_terms": means.document_terms,
                    "dev": dev,
                }
            )


def write_checkpoint(output: Path, state: RunState, stepper: StepperState) -> None:
    """Write a checkpoint to its place, whole or not at all. Raises TrainingError."""
    record = {**vars(state), "stepper": stepper}
    with saving(output), atomic_file(output / CHECKPOINT, TrainingError, "wb", sync=True) as file:
        torch.save(record, file)


def read_checkpoint(output: Path, config: TrainConfig) -> RunState:
    """Read the checkpoint in a directory.

    Raises TrainingError if there is none, if it is damaged, or if its run had other settings.
    """
    path = output / CHECKPOINT
    if not path.is_file():
        raise TrainingError(f"{output}: there is no interrupted run", "Leave out `resume`.")
    try:
        state = RunState(**torch.load(path, map_location="cpu", weights_only=True))
        kinds: dict[str, Any] = {
            "config": dict, "examples": int, "step": int, "seconds": float, "best": float,
            "improved": bool, "unimproved": int, "history": list, "stepper": dict,
        }  # fmt: skip
        if not all(isinstance(getattr(state, name), kind) for name, kind in kinds.items()):
            raise TypeError("it is no state of a run")
    except Exception as error:  # those of zipfile, pickle and torch; TypeError: other fields
        raise TrainingError(
            f"{path}: the checkpoint is damaged", "Start again in another `output`."
        ) from error
    now = dataclasses.asdict(config)
    changed = [
        str(name)
        for name in {**now, **state.config}
        if now.get(name) != state.config.get(name) and name not in _FREE
    ]
    if changed:
        raise TrainingError(
            f"{path}: the interrupted run had other settings ({', '.join(changed)})",
            "Give the same ones, or start again in another `output`.",
        )
    state.config = now
    return state
