"""Batches on a device: token ids in, sparse rows out.

Two steps, so that a GPU need not wait: `Computer.start` launches a batch, and `Computer.rows`,
which waits, is called when the next one is launched.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splade_es.encoders.batches import pad
from splade_es.encoders.devices import attention_without_plans
from splade_es.errors import ModelError
from splade_es.models import int8
from splade_es.models.head import activate, argmax_positions
from splade_es.models.model import SpladeModel
from splade_es.records import SparseRow

# With fewer tokens, those of a query, or a smaller decoder, the candidate filter costs more than it
# saves.
_FILTER_TOKENS, _FILTER_WEIGHTS = 512, 2**21


class Batch(NamedTuple):
    """What a device computes, or on a CPU has computed.

    ids: tokens of each of B texts; hidden: [B, L, d], where sources are wanted; weights: [B, V], or
    found: text, id and weight of each active entry, [N] each; done: when they are there; rows: of a
    batch that was computed in parts.
    """

    ids: list[NDArray[np.int32]]
    hidden: Tensor | None = None
    weights: Tensor | None = None
    found: tuple[Tensor, Tensor, Tensor] | None = None
    done: torch.cuda.Event | None = None
    rows: list[SparseRow] | None = None


class Computer:
    """Computes the vectors of a batch of texts.

    Parameters
    ----------
    model : SpladeModel
        On the device.
    device : torch.device
        That computes.
    dtype : torch.dtype
        Number format of the products.

    Attributes
    ----------
    share : float
        Of the tokens that a batch should have: halved each time the memory was too small.
    """

    def __init__(self, model: SpladeModel, device: torch.device, dtype: torch.dtype) -> None:
        self.share = 1.0
        self._model, self._device, self._dtype = model, device, dtype
        self._filters = (
            device.type == "cpu"
            and dtype == torch.float32
            and int8.available()
            and model.decoder.weight.numel() >= _FILTER_WEIGHTS
            and model.pooling == "max"
            and not model.lexical
        )
        self._filter: int8.CandidateFilter | None = None
        # bool [V]: whether a token says something about the text
        self._real = np.ones(len(model.decoder.weight), dtype=bool)
        self._real[model.tokenizer.all_special_ids] = False

    def start(self, ids: list[NDArray[np.int32]], with_sources: bool) -> Batch:
        """Let the device compute a batch. On a GPU this does not wait until it has.

        Where the memory is too small, the batch is computed at once, in parts.
        """
        try:
            return self._compute(ids, with_sources)
        except torch.OutOfMemoryError:
            return Batch(ids, rows=self._in_parts(ids, with_sources))

    def rows(self, batch: Batch, stream: torch.cuda.Stream | None) -> list[SparseRow]:
        """Wait for a batch, and return its rows."""
        if batch.rows is not None:
            return batch.rows
        try:
            return self._fetch(batch, stream)
        except torch.OutOfMemoryError:
            return self._in_parts(batch.ids, batch.hidden is not None)

    def _in_parts(self, ids: list[NDArray[np.int32]], with_sources: bool) -> list[SparseRow]:
        """Encode texts for which the memory was too small together. Later batches are smaller."""
        rows: list[SparseRow] = []
        size = self._fewer(ids)
        while len(rows) < len(ids):
            part = ids[len(rows) : len(rows) + size]
            try:
                rows += self._fetch(self._compute(part, with_sources), None)
            except torch.OutOfMemoryError:
                size = self._fewer(part)
        return rows

    def _fewer(self, ids: list[NDArray[np.int32]]) -> int:
        """How many texts to try instead of these."""
        if len(ids) == 1:
            raise ModelError(
                f"The memory of {self._device} is too small for a text of {len(ids[0])} tokens",
                "Free some of it, or choose a smaller `max_length`.",
            )
        self.share /= 2
        return len(ids) // 2

    @torch.inference_mode()
    def _compute(self, ids: list[NDArray[np.int32]], with_sources: bool) -> Batch:
        inputs = pad(self._model, ids, self._device)
        kind, dtype = self._device.type, self._dtype
        mixed = dtype != self._model.decoder.weight.dtype
        with attention_without_plans(self._device), torch.autocast(kind, dtype, enabled=mixed):
            hidden = self._model.hidden(**inputs)  # [B, L, d]
            found = self._filtered(hidden, inputs)
            weights = None if found else self._model.weights(hidden, inputs)  # [B, V]
        done = None
        if kind == "cuda":
            done = torch.cuda.Event()
            done.record(torch.cuda.current_stream(self._device))
        return Batch(ids, hidden if with_sources else None, weights, found, done)

    @torch.inference_mode()
    def _fetch(self, batch: Batch, stream: torch.cuda.Stream | None) -> list[SparseRow]:
        # in a stream of its own, so that it does not wait for the batch that is computed now
        with torch.cuda.stream(stream) if stream else nullcontext():
            if stream and batch.done:
                stream.wait_event(batch.done)
            if batch.weights is not None:
                places = batch.weights.nonzero(as_tuple=True)
                rows, columns, weights = *places, batch.weights[places]  # [N] each
            else:
                assert batch.found is not None
                rows, columns, weights = batch.found
            counts = torch.bincount(rows, minlength=len(batch.ids)).cpu()
            all_ids = columns.to(torch.int32).cpu().numpy()
            all_weights = weights.cpu().numpy()
        # Special tokens alone would give a vector too, the same for each such text.
        firsts = np.cumsum([0, *(len(text) for text in batch.ids[:-1])])  # [B]
        real = np.logical_or.reduceat(self._real[np.concatenate(batch.ids)], firsts)  # [B]
        ends = counts.cumsum(0).tolist()
        encoded = []
        for row, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            end = end if real[row] else start
            sources: NDArray[np.int32] | None = None
            if batch.hidden is not None:
                positions = argmax_positions(
                    batch.hidden[row, : len(batch.ids[row])],
                    self._model.decoder.weight,
                    columns[start:end],
                )
                sources = positions.to(torch.int32).cpu().numpy()
            encoded.append(SparseRow(all_ids[start:end], all_weights[start:end], sources))
        return encoded

    def _filtered(
        self, hidden: Tensor, inputs: dict[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor] | None:
        """Return text [N], id [N] and float32 weight [N] of the active entries, by text and id.

        None where all logits are to be computed.
        """
        if not self._filters:
            return None
        mask = inputs["attention_mask"].bool()  # [B, L]
        if int(mask.sum()) < _FILTER_TOKENS:
            return None
        tokens = hidden[mask]  # [T, d]
        if self._filter is None:
            decoder = self._model.decoder.weight
            self._filter = int8.CandidateFilter(decoder, self._model.bias, tokens)
        if not self._filter.worthwhile:
            return None
        lengths = mask.sum(dim=1).tolist()
        rows, columns, logits = self._filter.active_entries(tokens, lengths)
        return rows, columns, activate(logits, self._model.activation)
