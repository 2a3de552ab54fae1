"""Encoding on several devices, or machines, in input order.

Each worker is a process with an `Encoder` of its own. Windows of texts go round among them, no more
under way than keeps them busy, and come back in order: what follows cannot tell them from one.
"""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import signal
import socket
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeAlias

import torch

from splade_es.encoders.base import Precision, TextEncoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import ModelError, SettingsError
from splade_es.records import SparseRow

# Texts sent to a worker at once: some batches, so that sorting them by length pays.
_WINDOW = 256
# Windows of each worker under way: one that it encodes, one that it finds when it is done.
_AHEAD = 2

#: Waits for the rows of a window.
Answer: TypeAlias = Callable[[], list[SparseRow]]


class ModelSpec(NamedTuple):
    """What a worker needs to know to load its encoder."""

    name: str
    max_length: int | None
    precision: Precision


class Workers(Protocol):
    """Several processes that encode."""

    count: int

    @abstractmethod
    def submit(self, texts: list[str]) -> Answer:
        """Give a window to one of them. The answer raises ModelError."""

    @abstractmethod
    def close(self) -> None: ...


class ParallelEncoder(TextEncoder):
    """A TextEncoder whose work is done by others. Close it at the end.

    start: makes the workers, given the model. Raises ModelError.
    """

    def __init__(self, model: ModelSpec, start: Callable[[ModelSpec], Workers]) -> None:
        self._one = Encoder.load(
            model.name, model.max_length, device=torch.device("cpu"), precision="fp32"
        )
        self.name = self._one.name
        self.max_length = self._one.max_length
        self.pooling = self._one.pooling
        self.vocabulary = self._one.vocabulary
        self._workers = start(model._replace(name=self.name))
        try:  # a model that does not load there must be known before an index is touched
            self._workers.submit(["a"])()
        except BaseException:
            self._workers.close()
            raise

    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        """One row for each text, in order; here always without sources."""
        answers: deque[Answer] = deque()
        window: list[str] = []
        for text in texts:
            window.append(text)
            if len(window) == _WINDOW:
                answers.append(self._workers.submit(window))
                window = []
                if len(answers) > _AHEAD * self._workers.count:
                    yield from answers.popleft()()
        if window:
            answers.append(self._workers.submit(window))
        for answer in answers:
            yield from answer()

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return self._one.token_spans(text)

    def close(self) -> None:
        self._workers.close()


class DeviceWorkers:
    """A process for each device of this machine, such as cuda:0 and cuda:1."""

    def __init__(self, model: ModelSpec, devices: Sequence[str]) -> None:
        self.count = len(devices)
        context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
        free = context.Queue()
        for device in devices:
            free.put(device)
        threads = max(1, (os.cpu_count() or 1) // self.count)
        self._pool = ProcessPoolExecutor(self.count, context, _start, (model, free, threads))

    def submit(self, texts: list[str]) -> Answer:
        with _whole_pool():
            future = self._pool.submit(_encode, texts)

        def answer() -> list[SparseRow]:
            with _whole_pool():
                return future.result()

        return answer

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)


@contextmanager
def _whole_pool() -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool as error:
        raise ModelError(
            "A process that encodes has ended before its time",
            "Look above for its reason; if there is none, the memory may have run out.",
        ) from error


# The encoder of this process, where it is a worker of DeviceWorkers.
_encoder: Encoder | None = None
_failure: ModelError | None = None


def _start(model: ModelSpec, free: Any, threads: int) -> None:
    global _encoder, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C is for the process that gives the work
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    device = torch.device(free.get())
    if device.type == "cuda":
        torch.cuda.set_device(device)  # what asks for no particular one stays on it
    try:
        _encoder = Encoder.load(
            model.name, model.max_length, device=device, precision=model.precision
        )
    except ModelError as error:  # raised here, it would only break the pool
        _failure = error


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work, and hold its memory, for ever."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)


def _encode(texts: list[str]) -> list[SparseRow]:
    if _encoder is None:
        assert _failure is not None
        raise _failure
    return list(_encoder.encode(texts))


def named_devices(text: str) -> list[str]:
    """The devices of a list such as "cuda:0,cuda:2", or "all" GPUs. Raises SettingsError."""
    if text == "all":
        if not torch.cuda.is_available():
            raise SettingsError(
                "`devices` is all, but there is no GPU", 'Leave it out, or set it to "cpu".'
            )
        return [f"cuda:{n}" for n in range(torch.cuda.device_count())]
    devices = [name.strip() for name in text.split(",")]
    for name in devices:
        try:
            torch.empty(0, device=name)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).partition("\n")[0]
            raise SettingsError(f"`devices`: {name!r} does not exist here ({reason})") from error
    return devices


class RayWorkers:
    """Actors of a Ray cluster (https://docs.ray.io), restarted with their work if they die.

    address: of the cluster, or "local" to start one here. count: of actors; by default one for
    each GPU of the cluster, or one for each machine if there is none. The model's directory, if it
    is no hub name, and splade-es must be found on each machine. Raises ModelError.
    """

    def __init__(self, model: ModelSpec, address: str, count: int | None = None) -> None:
        try:
            ray: Any = importlib.import_module("ray")  # an extra, and half typed
        except ImportError as error:
            raise ModelError(
                "Encoding on a Ray cluster needs ray", "Install it: pip install 'splade-es[ray]'"
            ) from error
        try:
            host, colon, port = address.removeprefix("ray://").rpartition(":")
            if colon:  # ray itself would knock for minutes
                socket.create_connection((host, int(port)), timeout=5).close()
            with _signals_kept():
                ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
        except (OSError, ValueError, RuntimeError) as error:
            raise ModelError(
                f"There is no Ray cluster at {address}",
                "Check the address; `ray status` on one of its machines knows it.",
            ) from error
        self._ray = ray
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        cpus = [int(node.get("CPU", 0)) for node in nodes if node.get("CPU", 0) >= 1]
        gpus = sum(int(node.get("GPU", 0)) for node in nodes)
        most = gpus or sum(cpus)
        self.count = count or gpus or len(cpus)
        if not 1 <= self.count <= most:  # the others would be waited for without end
            ray.shutdown()
            raise ModelError(
                f"The Ray cluster has {gpus} GPUs and {sum(cpus)} CPUs, too few for "
                f"{self.count} encoders",
                f"Give --ray-workers {most}, or start more machines." if most else "Start more.",
            )
        # A CPU each is what they must find; the threads are all they would have, spread evenly.
        actor = ray.remote(_Actor).options(
            num_gpus=1 if gpus else 0,
            num_cpus=1,
            scheduling_strategy="SPREAD",
            max_restarts=-1,
            max_task_retries=-1,
        )
        threads = max(1, sum(cpus) // self.count)
        self._actors = deque(actor.remote(model, threads) for _ in range(self.count))

    def submit(self, texts: list[str]) -> Answer:
        self._actors.rotate(-1)
        reference = self._actors[0].encode.remote(texts)

        def answer() -> list[SparseRow]:
            try:
                rows: list[SparseRow] = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ModelError):
                    raise error.cause from error
                raise
            except self._ray.exceptions.RayError as error:
                raise ModelError(
                    f"The Ray cluster has lost a worker ({type(error).__name__})",
                    "Look into its dashboard, and go on with --resume.",
                ) from error
            return rows

        return answer

    def close(self) -> None:
        self._ray.shutdown()


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Ray would have SIGTERM for itself, and keep it when it is shut down."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


class _Actor:
    def __init__(self, model: ModelSpec, threads: int) -> None:
        torch.set_num_threads(threads)
        self._model = model
        self._encoder: Encoder | None = None

    def encode(self, texts: list[str]) -> list[SparseRow]:
        if self._encoder is None:  # not while the actor is made, where an error would be its death
            self._encoder = Encoder.load(
                self._model.name, self._model.max_length, precision=self._model.precision
            )
        return list(self._encoder.encode(texts))
