"""Texts into the batches that the encoder computes: windows, token ids, padding."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from splade_es.models.model import SpladeModel
from splade_es.records import SparseRow

# A window closes at this number of characters too, so that huge texts cannot fill the memory.
_WINDOW_CHARACTERS = 8_000_000
# A text longer than this many characters for each token that is kept is first cut there.
_CHARACTERS_PER_TOKEN = 12


def windows(texts: Iterable[str], size: int, first: int) -> Iterator[list[str]]:
    """Yield the texts in order, `first` at a time, and with each window more, up to `size`."""
    window: list[str] = []
    characters = 0
    for text in texts:
        window.append(text)
        characters += len(text)
        if len(window) == first or characters >= _WINDOW_CHARACTERS:
            yield window
            window, characters = [], 0
            first = min(size, 2 * first)
    if window:
        yield window


class TokenizedTexts:
    """The token ids of some texts, special tokens included.

    Attributes
    ----------
    lengths : list of int
        Tokens of each text.
    truncated : list of bool
        Whether each text had more tokens, which were cut.
    """

    def __init__(self, encodings: Sequence[Any], truncated: list[bool]) -> None:
        # of the tokenizers library, or lists of ids
        self._encodings = encodings
        self.lengths = [len(encoding) for encoding in encodings]
        self.truncated = truncated

    def ids(self, text: int) -> NDArray[np.int32]:
        """Return the token ids of one text."""
        encoding = self._encodings[text]
        return np.array(encoding if isinstance(encoding, list) else encoding.ids, np.int32)

    def all_ids(self) -> list[NDArray[np.int32]]:
        """Return the token ids of each text."""
        return [self.ids(text) for text in range(len(self.lengths))]


class BatchTokenizer:
    """The tokenizer of a model for many texts at a time. Several threads may use it.

    What transformers makes of the tokens of a text, such as lists of ones, takes longer than
    tokenising it. So its tokenizer is asked once how it is set, and the one below, which is written
    in Rust and uses all processors, does the work.

    Parameters
    ----------
    model : SpladeModel
        Its tokenizer is used.
    max_length : int
        Tokens of a text, special ones included; further ones are cut.
    """

    def __init__(self, model: SpladeModel, max_length: int) -> None:
        from transformers import PreTrainedTokenizerFast

        self._tokenizer, self._length = model.tokenizer, max_length
        self._lock = threading.Lock()  # truncation is a state that threads would share
        self._fast: Any = None
        kind = type(self._tokenizer)
        if (
            issubclass(kind, PreTrainedTokenizerFast)
            # a subclass may do more
            and kind._encode_plus is PreTrainedTokenizerFast._encode_plus
            and kind.__call__ is PreTrainedTokenizerFast.__call__
        ):
            backend = self._tokenizer.backend_tokenizer
            self._fast = type(backend).from_str(backend.to_str())
            self._fast.no_padding()
            self._fast.enable_truncation(self._length, direction=self._tokenizer.truncation_side)
            self._fast.encode_special_tokens = self._tokenizer.split_special_tokens

    def __call__(self, texts: list[str]) -> TokenizedTexts:
        """Return the token ids of texts.

        The fast tokenizer reads a text to its end before it truncates: a text of 10 MB costs
        seconds for 256 tokens. So a long text is cut first, and read whole only if the cut left too
        few tokens.
        """
        limit = self._length * _CHARACTERS_PER_TOKEN
        # Cut between words only: then a row that is full has the tokens it would have without.
        cuts = [
            text if len(text) <= limit else " ".join(text[:limit].rsplit(None, 1)[:1])
            for text in texts
        ]
        encodings, truncated = self._encode(cuts)
        short = []
        for i, text in enumerate(texts):
            if len(text) > limit:
                if len(encodings[i]) < self._length:
                    short.append(i)
                elif not truncated[i]:
                    truncated[i] = bool(text[len(cuts[i]) :].strip())
        if short:
            of_short = zip(*self._encode([texts[i] for i in short]), strict=True)
            for i, (whole, more) in zip(short, of_short, strict=True):
                encodings[i], truncated[i] = whole, more
        return TokenizedTexts(encodings, truncated)

    def _encode(self, texts: list[str]) -> tuple[list[Any], list[bool]]:
        """Return the tokens of each text, and whether it had more."""
        if self._fast is not None:
            encodings = self._fast.encode_batch_fast(texts)
            # what was cut is asked for only where it may be: it is copied from Rust
            return encodings, [len(e) == self._length and bool(e.overflowing) for e in encodings]
        if not texts:  # the share of a process may be none, and transformers takes no empty list
            return [], []
        with self._lock:
            if self._tokenizer.is_fast:
                encoded = self._tokenizer(texts, truncation=True, max_length=self._length)
                return encoded["input_ids"], [bool(e.overflowing) for e in encoded.encodings]
            # one written in Python tells what it cut only of a single text, and takes as long
            alone = [
                self._tokenizer(
                    text, truncation=True, max_length=self._length, return_overflowing_tokens=True
                )
                for text in texts
            ]
        return [one["input_ids"] for one in alone], ["overflowing_tokens" in one for one in alone]


class Window:
    """Texts that are sorted by length, and their rows as far as they are known."""

    def __init__(self, tokens: TokenizedTexts) -> None:
        lengths = tokens.lengths
        self.tokens = tokens
        self.rows = [SparseRow(np.empty(0, np.int32), np.empty(0, np.float32))] * len(lengths)
        # a text without any token, not even a special one, is not computed
        self._order = [i for i in range(len(lengths)) if lengths[i]]
        self._order.sort(key=lengths.__getitem__, reverse=True)
        self.missing = len(self._order)

    def take(self, budget: int) -> list[int]:
        """Take the texts of the next batch, at most `budget` tokens with padding, at least one."""
        if not self._order:
            return []
        size = max(1, budget // self.tokens.lengths[self._order[0]])
        batch, self._order = self._order[:size], self._order[size:]
        return batch

    def put(self, texts: list[int], rows: list[SparseRow]) -> None:
        """Take in the rows of a batch."""
        for i, row in zip(texts, rows, strict=True):
            self.rows[i] = replace(row, truncated=True) if self.tokens.truncated[i] else row
        self.missing -= len(texts)


def pad(
    model: SpladeModel, ids: Sequence[Sequence[int] | NDArray[np.int32]], device: torch.device
) -> dict[str, torch.Tensor]:
    """Return token ids of several texts as the model's inputs [B, L], padded to the longest."""
    lengths = np.array([len(row) for row in ids])  # [B]
    inside = np.arange(lengths.max()) < lengths[:, None]  # [B, L]
    if model.tokenizer.padding_side == "left":
        inside = np.ascontiguousarray(inside[:, ::-1])
    inputs = np.empty((2, *inside.shape), np.int32)  # [2, B, L]
    inputs[0] = model.tokenizer.pad_token_id or 0
    inputs[0, inside] = np.concatenate(ids)
    inputs[1] = inside
    tensor = torch.from_numpy(inputs)
    if device.type == "cuda":  # from such memory a copy need not be waited for
        tensor = tensor.pin_memory()
    input_ids, attention_mask = tensor.to(device, non_blocking=True).long()
    return {"input_ids": input_ids, "attention_mask": attention_mask}
