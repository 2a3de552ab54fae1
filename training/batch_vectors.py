"""Vectors of the texts of a batch, and the way back for their gradient.

The loss looks at the whole batch, but no text needs another one to be encoded. So the loss is
computed on vectors that are detached from the encoder, and the gradient it leaves on them is handed
to the encoder afterwards, a few texts at a time. With gradient caching (2101.06983) the encoder
keeps nothing in between: it encodes each few texts a second time, from the same random state, so
that dropout is the same. The gradient is exact, and the memory is that of a few texts.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from splade_es.encoders.batches import pad
from splade_es.encoders.devices import attention_without_plans
from splade_es.models.model import SpladeModel
from splade_es.training.distributed import World

# Tokens that are encoded together without gradient caching. Texts of similar length go together, so
# that there is little padding.
_CPU_CHUNK_TOKENS = 512
_GPU_CHUNK_TOKENS = 32768


class BatchVectors:
    """The vectors of some texts, in their order.

    Parameters
    ----------
    side : Module
        What encodes them: an encoder, or the table of queries.
    model : SpladeModel
        Its tokenizer is used.
    ids : sequence of arrays
        Token ids of each text of this process.
    dtype : torch.dtype
        Number format of the encoder.
    mini_batch_tokens : int or None
        Use gradient caching, with this many tokens at a time.
    world : World
        All processes.
    sizes : list of int
        Number of texts of each process.
    chunk_tokens : int, optional
        Tokens that are encoded together without gradient caching.
    """

    rows: Tensor  # [N, V] of all processes, a leaf: the loss leaves its gradient here

    def __init__(
        self,
        side: nn.Module,
        model: SpladeModel,
        ids: Sequence[NDArray[np.int32]],
        dtype: torch.dtype,
        mini_batch_tokens: int | None,
        world: World,
        sizes: list[int],
        chunk_tokens: int | None = None,
    ) -> None:
        self._side, self._model, self._dtype = side, model, dtype
        self._device = model.decoder.weight.device
        self._trained = any(p.requires_grad for p in side.parameters())
        self._cached = self._trained and mini_batch_tokens is not None
        budget = (
            mini_batch_tokens
            or chunk_tokens
            or (_CPU_CHUNK_TOKENS if self._device.type == "cpu" else _GPU_CHUNK_TOKENS)
        )
        self._ids = ids
        self._chunks = _chunks(self._ids, budget)
        self._random_states: list[Tensor] = []  # as it was before each chunk
        self._graphs: list[Tensor] = []  # [c, V] of each chunk
        with torch.set_grad_enabled(self._trained and not self._cached):
            for chunk in self._chunks:
                if self._cached:
                    self._random_states.append(_random_state(self._device))
                self._graphs.append(self._forward(chunk))
        local = torch.zeros(len(ids), len(model.decoder.weight), device=self._device)  # [n, V]
        for chunk, rows in zip(self._chunks, self._graphs, strict=True):
            local[chunk] = rows.detach()
        if self._cached:
            self._graphs.clear()
        self._first = sum(sizes[: world.rank])
        self.rows = world.gather(local, sizes).requires_grad_(self._trained)

    def backward(self) -> None:
        """Hand the gradient that the loss left on `rows` to the encoder."""
        if not self._trained or self.rows.grad is None:
            return
        grad = self.rows.grad[self._first : self._first + len(self._ids)]  # [n, V]
        for number, chunk in enumerate(self._chunks):
            if self._cached:
                _set_random_state(self._device, self._random_states[number])
                self._forward(chunk).backward(grad[chunk])
            else:
                self._graphs[number].backward(grad[chunk])

    def _forward(self, chunk: list[int]) -> Tensor:
        inputs = pad(self._model, [self._ids[i] for i in chunk], self._device)  # [c, L] each
        mixed = torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32)
        with attention_without_plans(self._device), mixed:
            rows: Tensor = self._side(**inputs)  # [c, V]
        return rows


def _chunks(ids: Sequence[NDArray[np.int32]], budget: int) -> list[list[int]]:
    """Positions of texts, longest first, in parts that stay within the budget with padding."""
    order = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
    chunks = []
    while order:
        size = max(1, budget // max(1, len(ids[order[0]])))
        chunks.append(order[:size])
        order = order[size:]
    return chunks


def _random_state(device: torch.device) -> Tensor:
    if device.type == "cuda":
        return torch.cuda.get_rng_state(device)
    return torch.mps.get_rng_state() if device.type == "mps" else torch.get_rng_state()


def _set_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state)
    else:
        torch.set_rng_state(state)
