"""The log of a run: means over the steps since the last line, and TensorBoard."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any, NamedTuple

import torch

from splade_es.errors import TrainingError
from splade_es.progress import TrainProgress
from splade_es.training.settings import StrPath
from splade_es.training.step import StepResult


class Means(NamedTuple):
    """Means over some steps; seconds: how long these steps took together."""

    loss: float
    ranking_loss: float
    query_terms: float
    document_terms: float
    seconds: float


class Window:
    """The steps since the last log line, and the time they take."""

    def __init__(self) -> None:
        self.results: list[StepResult] = []
        self._started = time.perf_counter()

    def add(self, result: StepResult) -> None:
        """Add a step."""
        self.results.append(result)

    def means(self) -> Means:
        """The means over all steps so far; waits for the device to finish them."""
        loss, ranking_loss, query_terms, document_terms = (
            torch.stack([result.means for result in self.results]).mean(dim=0).tolist()  # [4]
        )
        seconds = time.perf_counter() - self._started
        return Means(loss, ranking_loss, query_terms, document_terms, seconds)


class TensorBoard:
    """Writes log lines to a TensorBoard directory."""

    def __init__(self, directory: StrPath, step: int) -> None:
        """step: the run continues after this one; later lines of an earlier run are dropped."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise TrainingError(
                "TensorBoard is not installed", "pip install 'splade-es[tensorboard]'"
            ) from error
        self._writer: Any = SummaryWriter(
            os.fspath(directory), purge_step=step + 1 if step else None
        )

    def write(self, progress: TrainProgress) -> None:
        """Write the numbers of a log line as scalars, those of the dev set apart."""
        for name, value in (asdict(progress) | dict(progress.dev)).items():
            if isinstance(value, int | float) and name not in ("step", "steps", "best"):
                group = "dev" if name in progress.dev else "train"
                self._writer.add_scalar(f"{group}/{name}", value, progress.step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


@contextmanager
def open_tensorboard(directory: StrPath | None, step: int) -> Iterator[TensorBoard | None]:
    """A TensorBoard log that is closed at the end; None without a directory."""
    if directory is None:
        yield None
        return
    board = TensorBoard(directory, step)
    try:
        yield board
    finally:
        board.close()
