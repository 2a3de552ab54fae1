"""Vectors of a batch's texts, with a way back for their gradient.

The loss looks at the whole batch, but no text needs another one to be encoded. So the loss is taken
over rows cut off from the encoder, and their gradient is handed back to the texts afterwards. With
gradient caching (2101.06983) nothing of the encoder is kept in between: it runs a second time, a
few texts at once, from the same random state, so that dropout is the same. The result is exact, and
the memory is that of a few texts.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from splade_es.encoders.torch_encoder import pad
from splade_es.models.model import SpladeModel
from splade_es.training.distributed import World

# Tokens of texts encoded together where nothing is cached: texts of like length, little padding.
_CPU_CHUNK_TOKENS = 512
_GPU_CHUNK_TOKENS = 32768


class Encoding:
    """The rows of some texts, in the order given.

    side: the encoder, or table, of queries or documents; model: whose tokenizer it shares; dtype:
    to compute in; mini_batch_tokens: gradient caching with so many tokens at a time; sizes: how
    many texts each process of the world has, where there are several.
    """

    rows: Tensor  # [N, V] of all processes, a leaf: the loss leaves its gradient here

    def __init__(
        self,
        side: nn.Module,
        model: SpladeModel,
        texts: list[str],
        length: int,
        dtype: torch.dtype,
        mini_batch_tokens: int | None,
        world: World,
        sizes: list[int],
    ) -> None:
        self._side, self._model, self._dtype = side, model, dtype
        self._device = model.decoder.weight.device
        self._learns = any(p.requires_grad for p in side.parameters())
        self._cached = self._learns and mini_batch_tokens is not None
        budget = mini_batch_tokens or (
            _CPU_CHUNK_TOKENS if self._device.type == "cpu" else _GPU_CHUNK_TOKENS
        )
        self._ids: list[list[int]] = (
            model.tokenizer(texts, truncation=True, max_length=length)["input_ids"] if texts else []
        )
        self._chunks = _chunks(self._ids, budget)
        self._before: list[Tensor] = []  # random state before each chunk
        self._graphs: list[Tensor] = []  # [n, V] of each chunk
        with torch.set_grad_enabled(self._learns and not self._cached):
            for chunk in self._chunks:
                if self._cached:
                    self._before.append(_random_state(self._device))
                self._graphs.append(self._forward(chunk))
        local = torch.zeros(len(texts), len(model.decoder.weight), device=self._device)  # [n, V]
        for chunk, rows in zip(self._chunks, self._graphs, strict=True):
            local[chunk] = rows.detach()
        if self._cached:
            self._graphs.clear()
        self._first = sum(sizes[: world.rank])
        self.rows = world.gather(local, sizes).requires_grad_(self._learns)

    def backward(self) -> None:
        """Hand the gradient that the loss left on `rows` back to the encoder."""
        if not self._learns or self.rows.grad is None:
            return
        grad = self.rows.grad[self._first : self._first + len(self._ids)]  # [n, V]
        for number, chunk in enumerate(self._chunks):
            if self._cached:
                _set_random_state(self._device, self._before[number])
                self._forward(chunk).backward(grad[chunk])
            else:
                self._graphs[number].backward(grad[chunk])

    def _forward(self, chunk: list[int]) -> Tensor:
        inputs = pad(self._model, [self._ids[i] for i in chunk], self._device)
        with torch.autocast(self._device.type, self._dtype, enabled=self._dtype != torch.float32):
            rows: Tensor = self._side(**inputs)  # [n, V]
        return rows


def _chunks(ids: list[list[int]], budget: int) -> list[list[int]]:
    """Positions of texts, longest first, cut where padding and all would exceed the budget."""
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
