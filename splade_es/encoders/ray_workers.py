"""Actors of a Ray cluster that encode, see `ParallelEncoder`."""

from __future__ import annotations

import importlib
import logging
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from splade_es.encoders.allocator import keep_freed_memory
from splade_es.encoders.torch_encoder import Encoder
from splade_es.encoders.workers import (
    CPU_WINDOW,
    GPU_WINDOW,
    ModelSpec,
    PackedRows,
    PendingRows,
)
from splade_es.errors import ModelError, SpladeEsError
from splade_es.records import SparseRow


class RayWorkers:
    """Actors of a Ray cluster (https://docs.ray.io). If one dies it is restarted with its work.

    splade-es must be installed on each machine, and a model directory must exist there.

    Parameters
    ----------
    model : ModelSpec
        What each actor loads.
    address : str
        Of the cluster, or "local" to start one here.
    count : int, optional
        Number of actors. By default one for each GPU of the cluster, or one for each machine if
        there are no GPUs.

    Raises
    ------
    ModelError
        Ray is not installed, there is no such cluster, or it is too small.
    """

    def __init__(self, model: ModelSpec, address: str, count: int | None = None) -> None:
        try:
            ray: Any = importlib.import_module("ray")  # an extra, and only partly typed
        except ImportError as error:
            raise ModelError(
                "Encoding on a Ray cluster needs ray", "Install it: pip install 'splade-es[ray]'"
            ) from error
        try:
            host, colon, port = address.removeprefix("ray://").rpartition(":")
            if colon:  # ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=5).close()
            with _keep_sigterm():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"There is no Ray cluster at {address}",
                "Check the address: the command `ray status` on one of its machines shows it.",
            ) from error
        self._ray = ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        most = gpus or sum(cpus)
        self.count = count or gpus or len(cpus)
        self.window = GPU_WINDOW if gpus else CPU_WINDOW
        if not 1 <= self.count <= most:  # Ray would wait for the others without end
            ray.shutdown()
            raise ModelError(
                f"The Ray cluster has {gpus} GPUs and {sum(cpus)} CPUs, too few for "
                f"{self.count} encoders",
                f"Set `ray_workers` to at most {most}, or start more machines."
                if most
                else "Start more machines.",
            )
        # Each actor needs one CPU to start; its threads are its even share of all CPUs.
        actor = ray.remote(_Actor).options(
            num_gpus=1 if gpus else 0,
            num_cpus=1,
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=-1,
        )
        threads = max(1, sum(cpus) // self.count)
        self._actors = deque(actor.remote(model, threads) for _ in range(self.count))

    def submit(self, texts: list[str], with_sources: bool = False) -> PendingRows:
        """Give a window of texts to an actor. See `Workers.submit`."""
        self._actors.rotate(-1)
        reference = self._actors[0].encode.remote(texts, with_sources)

        def wait() -> list[SparseRow]:
            try:
                packed: PackedRows = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, SpladeEsError):
                    raise error.cause from error
                raise
            except self._ray.exceptions.RayError as error:
                raise ModelError(
                    f"The Ray cluster has lost a worker ({type(error).__name__})",
                    "Look at its dashboard, then continue with `resume`.",
                ) from error
            return packed.rows()

        return wait

    def close(self) -> None:
        """Disconnect from the cluster, which ends the actors."""
        self._ray.shutdown()


@contextmanager
def _keep_sigterm() -> Iterator[None]:
    """Restore the handler of SIGTERM: Ray sets its own, and keeps it after its shutdown."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Actor:
    def __init__(self, model: ModelSpec, threads: int) -> None:
        torch.set_num_threads(threads)
        keep_freed_memory()
        self._model = model
        self._encoder: Encoder | None = None

    def encode(self, texts: list[str], with_sources: bool) -> PackedRows:
        if self._encoder is None:  # not in the constructor, where an error would end the actor
            self._encoder = Encoder.load(
                self._model.name, self._model.max_length, precision=self._model.precision
            )
        return PackedRows.of(list(self._encoder.encode(texts, with_sources=with_sources)))
