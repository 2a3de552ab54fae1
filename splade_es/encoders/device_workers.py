"""A process for each device of this machine, see `ParallelEncoder`."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
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


class DeviceWorkers:
    """A process for each device of this machine, such as cuda:0 and cuda:1.

    Parameters
    ----------
    model : ModelSpec
        What each process loads.
    devices : sequence of str
        Names of torch devices; the same name twice means two processes.
    """

    def __init__(self, model: ModelSpec, devices: Sequence[str]) -> None:
        self.count = len(devices)
        on_gpu = any(device.startswith("cuda") for device in devices)
        self.window = GPU_WINDOW if on_gpu else CPU_WINDOW
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        free = context.Queue()
        for device in devices:
            free.put(device)
        threads = max(1, (os.cpu_count() or 1) // self.count)
        self._pool = ProcessPoolExecutor(self.count, context, _start, (model, free, threads))

    def submit(self, texts: list[str], with_sources: bool = False) -> PendingRows:
        """Give a window of texts to a process. See `Workers.submit`."""
        with _broken_pool_as_model_error():
            future = self._pool.submit(_encode, texts, with_sources)

        def wait() -> list[SparseRow]:
            with _broken_pool_as_model_error():
                return future.result().rows()

        return wait

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _broken_pool_as_model_error() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise ModelError(
            "A process that encodes has ended unexpectedly",
            "Its reason may be printed above; if it is not, the memory may have run out.",
        ) from error


# The encoder of this process, if it is a worker of DeviceWorkers.
_encoder: Encoder | None = None
_failure: SpladeEsError | None = None


def _start(model: ModelSpec, free: Any, threads: int) -> None:
    global _encoder, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is handled by the parent
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    keep_freed_memory()
    device = torch.device(free.get())
    if device.type == "cuda":
        torch.cuda.set_device(device)  # for everything that names no device
    try:
        _encoder = Encoder.load(
            model.name, model.max_length, device=device, precision=model.precision
        )
    except SpladeEsError as error:  # raised here, it would break the pool and get lost
        _failure = error


def _end_with_parent() -> None:
    """End this process when its parent is killed: otherwise it would wait for work for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _encode(texts: list[str], with_sources: bool) -> PackedRows:
    if _encoder is None:
        assert _failure is not None
        raise _failure
    return PackedRows.of(list(_encoder.encode(texts, with_sources=with_sources)))
