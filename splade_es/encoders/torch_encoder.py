"""Texts in, sparse rows out, in bounded memory and in input order.

A window of texts is tokenised and sorted by length, so that a batch holds texts of like length and
little padding; batches are filled up to a budget of tokens, not of texts; the non-zero entries are
picked on the device, and only they travel. The next window is tokenised meanwhile.
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

from splade_es.encoders.base import Precision, TextEncoder
from splade_es.errors import ModelError
from splade_es.models import int8
from splade_es.models.head import activate, winning_positions
from splade_es.models.model import SpladeModel
from splade_es.records import SparseRow

# A window is some batches of the longest texts, so that sorting it by length pays; it closes at a
# number of characters too, so that a window of huge texts cannot fill the memory.
_WINDOW_BATCHES = 8
_WINDOW_CHARACTERS = 8_000_000
_CPU_BATCH_TOKENS = 2048
_GPU_BATCH_TOKENS = 65536
# Fewer tokens than this, a query's, are not worth the making of a screen; and a decoder with fewer
# weights is multiplied faster than it is screened.
_SCREEN_TOKENS, _SCREEN_WEIGHTS = 512, 2**21
# A text longer than this many characters for each token asked for is first cut there.
_CHARACTERS_PER_TOKEN = 32


def pick_device() -> torch.device:
    """CUDA where there is one, else Apple's GPU, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


#: What is computed in; with int8 that is all but the products of the encoder.
DTYPES = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "int8": torch.float32,
}


def fast_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where the hardware multiplies it faster than float32, else float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float32
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.bfloat16
    return torch.float32


class Encoder(TextEncoder):
    """A SPLADE model ready to encode, by several threads too.

    precision: auto is `fast_dtype`; int8, on x86 CPUs, multiplies with 8 bits inside the encoder,
    and exactly in the head. Raises ModelError for int8 elsewhere.

    name: directory or hub name; vocabulary: the token of each id; special tokens are in it, but
    never in a row.
    """

    def __init__(
        self,
        model: SpladeModel,
        device: torch.device | None = None,
        precision: Precision = "auto",
    ) -> None:
        self.device = device or pick_device()
        self._dtype = fast_dtype(self.device) if precision == "auto" else DTYPES[precision]
        self.model = model.to(self.device).eval()
        if precision == "int8":
            if self.device.type != "cpu" or not int8.available():
                raise ModelError(
                    f"There are no 8-bit products for {self.device.type} on this machine",
                    "Leave the precision to splade-es, or use an x86 CPU.",
                )
            int8.quantize_linear(model.mlm.base_model)
        self._screens = (
            self.device.type == "cpu"
            and self._dtype == torch.float32
            and int8.available()
            and model.decoder.weight.numel() >= _SCREEN_WEIGHTS
            and model.pooling == "max"
            and not model.lexical
        )
        self._screen: int8.Screen | None = None
        self._tokenizing = threading.Lock()  # a tokenizer that is set to truncate is for one thread
        self._share = 1.0  # of the budget of tokens, halved each time the memory does not suffice
        self.name = model.name
        self.max_length = model.max_length
        self.pooling = model.pooling
        self.vocabulary = model.vocabulary
        self._special = frozenset(model.tokenizer.all_special_ids)

    @classmethod
    def load(
        cls,
        name: str,
        max_length: int | None = None,
        side: Literal["document", "query"] = "document",
        device: torch.device | None = None,
        precision: Precision = "auto",
    ) -> Encoder:
        """Load a trained SPLADE model. Raises ModelError, also for a head nobody has trained."""
        model = SpladeModel.load(name, max_length, side)
        if model.fresh_head:
            raise ModelError(
                f"{name}: this is an encoder without a trained masked-LM head, not a SPLADE model",
                f"Train it first: splade-es train PAIRS.jsonl --model {name} --output DIR",
            )
        # a hub name means the same everywhere; a directory must be found from any other one
        model.name = os.path.abspath(name) if os.path.isdir(name) else name
        return cls(model, device, precision)

    def encode(
        self,
        texts: Iterable[str],
        *,
        with_sources: bool = False,
        batch_tokens: int | None = None,
    ) -> Iterator[SparseRow]:
        """One row for each text, in order; a text without a token of its own gives an empty row.

        with_sources: also say which input token won each weight (its position in the tokenised
        text; max pooling only). batch_tokens: tokens in a batch, padding included.
        """
        budget = batch_tokens or (
            _CPU_BATCH_TOKENS if self.device.type == "cpu" else _GPU_BATCH_TOKENS
        )
        waiting: deque[Future[list[list[int]]]] = deque()
        with ThreadPoolExecutor(1) as tokenizing:
            for window in _windows(texts, _WINDOW_BATCHES * max(1, budget // self.max_length)):
                waiting.append(tokenizing.submit(self._tokenize, window))
                if len(waiting) > 1:
                    yield from self._encode_window(waiting.popleft().result(), budget, with_sources)
            for future in waiting:
                yield from self._encode_window(future.result(), budget, with_sources)

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) characters of each token of the text: what SparseRow.sources points into.

        A tokenizer written in Python (MeCab's) does not keep them: there a token is looked for in
        the text, and has no characters where it is not found.
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
            return _tokenize(self.model, texts)

    def _encode_window(
        self, ids: list[list[int]], budget: int, with_sources: bool
    ) -> list[SparseRow]:
        rows = [SparseRow(np.empty(0, np.int32), np.empty(0, np.float32)) for _ in ids]
        # Of special tokens alone a model still makes something up, the same for each such text.
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
                        f"The memory of {self.device} does not suffice for one text of {longest} "
                        "tokens",
                        "Free some of it, or choose a smaller --max-length.",
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
                winners = winning_positions(
                    hidden[row, : len(ids[row])], self.model.decoder.weight, columns[start:end]
                )
                sources = winners.to(torch.int32).cpu().numpy()
            encoded.append(SparseRow(all_ids[start:end], all_weights[start:end], sources))
        return encoded

    def _active(self, hidden: Tensor, inputs: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """text [N], id [N] and float32 weight [N] of the active entries, by text, then id."""
        mask = inputs["attention_mask"].bool()  # [B, L]
        if self._screens and int(mask.sum()) >= _SCREEN_TOKENS:
            tokens = hidden[mask]  # [T, d]
            if self._screen is None:
                self._screen = int8.Screen(self.model.decoder.weight, self.model.bias, tokens)
            if self._screen.worth:
                rows, columns, logits = self._screen.active(tokens, mask.sum(dim=1).tolist())
                return rows, columns, activate(logits, self.model.activation)
        weights = self.model.weights(hidden, inputs)  # [B, V]
        rows, columns = weights.nonzero(as_tuple=True)
        return rows, columns, weights[rows, columns]


def pad(model: SpladeModel, ids: list[list[int]], device: torch.device) -> dict[str, Tensor]:
    """Token ids of several texts as the model's inputs [B, L], padded to the longest."""
    inputs = model.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(device)
    return cast("dict[str, Tensor]", inputs)


def _windows(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    window: list[str] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text)
        if len(window) == size or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
    if window:
        yield window


def _tokenize(model: SpladeModel, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, special tokens included, at most max_length of them.

    The fast tokenizer reads a text to its end before it truncates: a 10 MB text costs seconds for
    256 tokens. So a long text is cut first, and read whole only if the cut gave too few tokens.
    """
    length = model.max_length
    limit = length * _CHARACTERS_PER_TOKEN
    # whole words only: a row that is full has the tokens it would have had without the cut
    cuts = [
        text if len(text) <= limit else " ".join(text[:limit].rsplit(None, 1)[:1]) for text in texts
    ]

    def run(batch: list[str]) -> list[list[int]]:
        encoded = model.tokenizer(batch, truncation=True, max_length=length)
        return cast("list[list[int]]", encoded["input_ids"])

    ids = run(cuts)
    short = [i for i, text in enumerate(texts) if len(text) > limit and len(ids[i]) < length]
    if short:
        for i, row in zip(short, run([texts[i] for i in short]), strict=True):
            ids[i] = row
    return ids
