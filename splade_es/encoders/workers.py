"""Encoding on several devices, or on several machines, in input order.

Each worker is a process with its own `Encoder`. Windows of texts are given to the workers in turn,
only as many at a time as keep them busy, and their rows come back in input order.
"""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from splade_es.arguments import checked
from splade_es.encoders.base import Precision, TextEncoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.records import SparseRow

#: Texts sent to a worker at once: several batches, so that sorting them by length has an effect.
CPU_WINDOW, GPU_WINDOW = 256, 2048
# Windows sent ahead to each worker: one that it encodes, and one that waits.
_AHEAD = 2

#: Called, it waits for the rows of a window and returns them.
PendingRows: TypeAlias = Callable[[], list[SparseRow]]


class ModelSpec(NamedTuple):
    """What a worker needs in order to load its encoder."""

    name: str
    max_length: int | None
    precision: Precision


class PackedRows(NamedTuple):
    """Many rows as a few arrays, which are sent to another process in a tenth of the time.

    ends: where each of D rows ends in the others, [D]; truncated: [D]; ids, weights, and sources if
    there are any: [N], of all rows one after the other.
    """

    ends: NDArray[np.int64]
    ids: NDArray[np.int32]
    weights: NDArray[np.float32]
    sources: NDArray[np.int32] | None
    truncated: NDArray[np.bool_]

    @classmethod
    def of(cls, rows: Sequence[SparseRow]) -> PackedRows:
        """Pack rows, at least one."""
        sources = [row.sources for row in rows if row.sources is not None]
        return cls(
            np.cumsum([len(row.ids) for row in rows]),
            np.concatenate([row.ids for row in rows]),
            np.concatenate([row.weights for row in rows]),
            np.concatenate(sources) if sources else None,
            np.array([row.truncated for row in rows]),
        )

    def rows(self) -> list[SparseRow]:
        """Unpack the rows."""
        found = []
        start = 0
        for end, truncated in zip(self.ends.tolist(), self.truncated.tolist(), strict=True):
            sources = None if self.sources is None else self.sources[start:end]
            weights = self.weights[start:end]
            found.append(SparseRow(self.ids[start:end], weights, sources, truncated))
            start = end
        return found


class Workers(Protocol):
    """Several processes that encode.

    Attributes
    ----------
    count : int
        Number of processes.
    window : int
        Texts that one of them is given at once.
    """

    count: int
    window: int

    @abstractmethod
    def submit(self, texts: list[str], with_sources: bool = False) -> PendingRows:
        """Give a window of texts to one of them. Waiting for its rows raises ModelError."""

    @abstractmethod
    def close(self) -> None:
        """End the processes."""


class ParallelEncoder(TextEncoder):
    """A TextEncoder that leaves the work to other processes. Close it at the end.

    Parameters
    ----------
    model : ModelSpec
        What the workers load.
    start : callable
        Starts the workers, given the model.

    Raises
    ------
    ModelError
        The model cannot be loaded, here or by a worker.
    """

    def __init__(self, model: ModelSpec, start: Callable[[ModelSpec], Workers]) -> None:
        self._local = Encoder.load(model.name, model.max_length, device="cpu", precision="fp32")
        self.name = self._local.name
        self.max_length = self._local.max_length
        self.pooling = self._local.pooling
        self.vocabulary = self._local.vocabulary
        self.precision = model.precision
        self._workers = start(model._replace(name=self.name))
        try:  # if the model does not load there, that must be known before an index is touched
            self._workers.submit(["a"])()
        except BaseException:
            self._workers.close()
            raise

    @checked
    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        """Encode texts, in order. See `TextEncoder.encode`."""
        pending: deque[PendingRows] = deque()
        remaining = iter(texts)
        while window := list(islice(remaining, self._workers.window)):
            pending.append(self._workers.submit(window, with_sources))
            if len(pending) > _AHEAD * self._workers.count:
                yield from pending.popleft()()
        for rows in pending:
            yield from rows()

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) characters of each token. See `TextEncoder.token_spans`."""
        return self._local.token_spans(text)

    def close(self) -> None:
        """End the workers. Safe to call twice."""
        self._workers.close()
