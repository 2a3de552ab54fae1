"""Encoding in torch: texts in, sparse rows out, in bounded memory and in input order.

A window of texts is tokenised and sorted by length, so that a batch has texts of similar length and
little padding. Batches are filled up to a number of tokens, not of texts. The non-zero entries are
selected on the device, and only they are copied from it. Meanwhile the next window is tokenised.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splade_es.arguments import checked
from splade_es.encoders.base import Precision, TextEncoder
from splade_es.encoders.batches import pad, tokenize, windows
from splade_es.encoders.devices import compute_dtype, named_device, pick_device
from splade_es.errors import ModelError
from splade_es.models import int8
from splade_es.models.head import activate, argmax_positions
from splade_es.models.model import SpladeModel
from splade_es.records import SparseRow

# A window is several batches of the longest texts, so that sorting it by length has an effect.
_WINDOW_BATCHES = 8
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 65536
# With fewer tokens, those of a query, or a smaller decoder, the candidate filter costs more than it
# saves.
_FILTER_TOKENS, _FILTER_WEIGHTS = 512, 2**21


class Encoder(TextEncoder):
    """A SPLADE model ready to encode. `Encoder.load` makes one. Several threads may use it.

    Parameters
    ----------
    model : SpladeModel
        The model. It is moved to the device and changed by int8 in place.
    device : str or torch.device, optional
        By default CUDA if there is a GPU, otherwise Apple's GPU, otherwise the CPU.
    precision : {"auto", "fp32", "bf16", "fp16", "int8"}
        Number format of the products. auto is bf16 where the hardware multiplies it faster than
        float32, otherwise fp32. int8, for x86 CPUs, uses 8 bits inside the encoder, which is faster
        and not exact; the head stays in float32.

    Attributes
    ----------
    name : str
        Absolute directory, or hub name.
    vocabulary : list of str
        The token of each vocabulary id, [V]. Special tokens are in it, but never in a row.
    max_length : int
        Tokens of a text, special tokens included; a longer text is cut.
    pooling : {"max", "sum"}
        Over the tokens of a text.
    model : SpladeModel
        The model, on `device`.
    device, precision
        As above.

    Raises
    ------
    ModelError
        There are no int8 products on this device.
    SettingsError
        The device does not exist, or the precision is unknown.

    Notes
    -----
    The weight of vocabulary entry v is log1p(relu(max over tokens l of h_l . W_v + b_v)) with max
    pooling (SPLADE v2, https://arxiv.org/abs/2109.10086), and with sum pooling the sum over the
    tokens of log1p(relu(...)) (SPLADE, https://arxiv.org/abs/2107.05720). Models trained with a
    double logarithm (https://arxiv.org/abs/2504.14839) apply log1p once more.
    """

    @checked
    def __init__(
        self,
        model: SpladeModel,
        device: str | torch.device | None = None,
        precision: Precision = "auto",
    ) -> None:
        self.device = pick_device() if device is None else named_device(device)
        self._dtype = compute_dtype(precision, self.device)
        self.model = model.to(self.device).eval()
        if precision == "int8":
            if self.device.type != "cpu" or not int8.available():
                raise ModelError(
                    f"There are no 8-bit products for {self.device.type} on this machine",
                    "Leave the precision to splade-es, or use an x86 CPU.",
                )
            int8.quantize_linear(model.mlm.base_model)
        self._filters = (
            self.device.type == "cpu"
            and self._dtype == torch.float32
            and int8.available()
            and model.decoder.weight.numel() >= _FILTER_WEIGHTS
            and model.pooling == "max"
            and not model.lexical
        )
        self._filter: int8.CandidateFilter | None = None
        self._tokenizing = threading.Lock()  # truncation is a state that threads would share
        self._share = 1.0  # of the tokens of a batch; halved each time the memory is too small
        self.name = model.name
        self.max_length = model.max_length
        self.pooling = model.pooling
        self.precision = precision
        self.vocabulary = model.vocabulary
        self._special = frozenset(model.tokenizer.all_special_ids)

    @classmethod
    @checked
    def load(
        cls,
        name: str | os.PathLike[str],
        max_length: int | None = None,
        side: Literal["document", "query"] = "document",
        device: str | torch.device | None = None,
        precision: Precision = "auto",
    ) -> Encoder:
        """Load a trained SPLADE model.

        Parameters
        ----------
        name : str or path
            Directory or hub name.
        max_length : int, optional
            Tokens of a text, from 3 to the number of positions of the model. By default what the
            tokenizer says if that is below 512, otherwise 256.
        side : {"document", "query"}
            Which encoder, where a model has two.
        device, precision
            See `Encoder`.

        Returns
        -------
        Encoder
            On the device.

        Raises
        ------
        ModelError
            The model does not exist, is not a masked language model, or its masked-LM head was
            never trained; or there are no int8 products on this device.
        SettingsError
            The device does not exist, or the side or the precision is unknown.
        """
        model = SpladeModel.load(name, max_length, side)
        name = model.name
        if model.fresh_head:
            raise ModelError(
                f"{name}: this is an encoder without a trained masked-LM head, not a SPLADE model",
                "Train it first: splade-es train.",
            )
        # a directory must also be found from another working directory
        model.name = os.path.abspath(name) if os.path.isdir(name) else name
        encoder = cls(model, device, precision)
        encoder.side = side
        return encoder

    @checked
    def encode(
        self,
        texts: Iterable[str],
        *,
        with_sources: bool = False,
        batch_tokens: int | None = None,
    ) -> Iterator[SparseRow]:
        """Encode texts, in order.

        Parameters
        ----------
        texts : iterable of str
            May be endless: they are read as rows are taken, some batches ahead.
        with_sources : bool
            Also tell which input token has the largest logit for each weight, see `SparseRow`.
        batch_tokens : int, optional
            Tokens of a batch, padding included; by default 2,048 on a CPU and 65,536 on a GPU.

        Yields
        ------
        SparseRow
            One for each text: ids int32 [n], weights float32 [n] > 0. A text without any token of
            its own gives an empty row.

        Raises
        ------
        TypeError, ModelError
            See `TextEncoder.encode`.
        """
        budget = batch_tokens or (
            _CPU_BATCH_TOKENS if self.device.type == "cpu" else _GPU_BATCH_TOKENS
        )
        waiting: deque[Future[list[list[int]]]] = deque()  # token ids of each text of a window
        with ThreadPoolExecutor(1) as tokenizing:
            for window in windows(texts, _WINDOW_BATCHES * max(1, budget // self.max_length)):
                waiting.append(tokenizing.submit(self._tokenize, window))
                if len(waiting) > 1:
                    yield from self._encode_window(waiting.popleft().result(), budget, with_sources)
            for future in waiting:
                yield from self._encode_window(future.result(), budget, with_sources)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) characters of each token. See `TextEncoder.token_spans`.

        A tokenizer written in Python (that of MeCab) does not record them. Then each token is
        searched in the text, and has no characters where it is not found.
        """
        tokenizer = self.model.tokenizer
        if tokenizer.is_fast:
            with self._tokenizing:
                encoding = tokenizer(
                    text, truncation=True, max_length=self.max_length, return_offsets_mapping=True
                )
            return cast("list[tuple[int, int]]", encoding["offset_mapping"])
        spans = []
        end = 0
        (ids,) = self._tokenize([text])
        for token in tokenizer.convert_ids_to_tokens(ids):
            surface = token.removeprefix("##")
            start = text.find(surface, end)
            spans.append((start, start + len(surface)) if start >= 0 else (end, end))
            end = spans[-1][1]
        return spans

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        with self._tokenizing:
            return tokenize(self.model, texts)

    def _encode_window(
        self, ids: list[list[int]], budget: int, with_sources: bool
    ) -> list[SparseRow]:
        rows = [SparseRow(np.empty(0, np.int32), np.empty(0, np.float32)) for _ in ids]
        # Special tokens alone would give a vector too, the same for each such text.
        order = [i for i, row in enumerate(ids) if not self._special.issuperset(row)]
        order.sort(key=lambda i: len(ids[i]), reverse=True)
        while order:
            longest = max(1, len(ids[order[0]]))
            batch = order[: max(1, int(self._share * budget) // longest)]
            try:
                encoded = self._encode_batch([ids[i] for i in batch], with_sources)
            except torch.OutOfMemoryError as error:
                if len(batch) == 1:
                    raise ModelError(
                        f"The memory of {self.device} is too small for a text of {longest} tokens",
                        "Free some of it, or choose a smaller `max_length`.",
                    ) from error
                self._share /= 2
                continue
            for i, row in zip(batch, encoded, strict=True):
                rows[i] = row
            order = order[len(batch) :]
        return rows

    @torch.inference_mode()
    def _encode_batch(self, ids: list[list[int]], with_sources: bool) -> list[SparseRow]:
        inputs = pad(self.model, ids, self.device)
        with torch.autocast(self.device.type, self._dtype, enabled=self._dtype != torch.float32):
            hidden = self.model.hidden(**inputs)  # [B, L, d]
            rows, columns, weights = self._active(hidden, inputs)  # [N] each
        counts = torch.bincount(rows, minlength=len(ids)).cpu()
        ends = counts.cumsum(0).tolist()
        all_ids = columns.to(torch.int32).cpu().numpy()
        all_weights = weights.cpu().numpy()
        encoded = []
        for row, (start, end) in enumerate(zip([0, *ends[:-1]], ends, strict=True)):
            sources: NDArray[np.int32] | None = None
            if with_sources:
                positions = argmax_positions(
                    hidden[row, : len(ids[row])], self.model.decoder.weight, columns[start:end]
                )
                sources = positions.to(torch.int32).cpu().numpy()
            encoded.append(SparseRow(all_ids[start:end], all_weights[start:end], sources))
        return encoded

    def _active(self, hidden: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Return text [N], id [N] and float32 weight [N] of the active entries, by text and id."""
        mask = inputs["attention_mask"].bool()  # [B, L]
        if self._filters and int(mask.sum()) >= _FILTER_TOKENS:
            tokens = hidden[mask]  # [T, d]
            if self._filter is None:
                decoder = self.model.decoder.weight
                self._filter = int8.CandidateFilter(decoder, self.model.bias, tokens)
            if self._filter.worthwhile:
                lengths = mask.sum(dim=1).tolist()
                rows, columns, logits = self._filter.active_entries(tokens, lengths)
                return rows, columns, activate(logits, self.model.activation)
        weights = self.model.weights(hidden, inputs)  # [B, V]
        rows, columns = weights.nonzero(as_tuple=True)
        return rows, columns, weights[rows, columns]
