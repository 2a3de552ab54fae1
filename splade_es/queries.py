"""Encoding some texts with whatever a model has for them, and no more than that needs.

A query side that is a table of weights needs a tokenizer and numpy, and torch is never imported.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from splade_es.errors import ModelError, QueryError
from splade_es.layout import read_layout
from splade_es.records import SparseRow

# A query longer than this is cut; the tables of other tools say more than any query has.
_MAX_LENGTH = 512


class TextEncoder(Protocol):
    """Texts in, sparse rows out: `Encoder`, or `TableEncoder`.

    name: of the whole model, a directory or hub name; vocabulary: the token of each id;
    max_length: tokens of a text; pooling: over the tokens of a text.
    """

    name: str
    vocabulary: list[str]
    max_length: int

    @property
    def pooling(self) -> str: ...

    def encode(
        self, texts: Iterable[str], *, with_sources: bool = False
    ) -> Iterator[SparseRow]: ...

    def token_spans(self, text: str) -> list[tuple[int, int]]: ...


def load_text_encoder(
    name: str,
    max_length: int | None = None,
    *,
    side: Literal["query", "document"] = "query",
    few: bool = False,
) -> TextEncoder:
    """One side of a model. Raises ModelError.

    few: only some texts will come, so one that starts in an instant is better than a fast one.
    """
    if side == "query" and read_layout(name).query.table:
        return TableEncoder(name, max_length)
    if few and max_length is not None:
        from splade_es.light import LightEncoder

        if light := LightEncoder.load(name, max_length, side):
            return light
    from splade_es.encoder import Encoder

    return Encoder.load(name, max_length, side=side)


class TableEncoder:
    """A query is its own tokens, each with the weight the model's table has for it.

    Raises ModelError for files that cannot be read.
    """

    pooling = "max"

    def __init__(self, name: str, max_length: int | None = None) -> None:
        self.name = os.path.abspath(name) if os.path.isdir(name) else name
        self.max_length = max_length or _MAX_LENGTH
        folder = Path(read_layout(name).query.path)
        self._tokenizer = load_tokenizer(folder, self.max_length)
        size = self._tokenizer.get_vocab_size()
        self.vocabulary = [self._tokenizer.id_to_token(id) for id in range(size)]
        self._weights = _load_weights(folder, self._tokenizer)  # [V]

    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        """One row for each text, in order. with_sources: also say which token it was."""
        for text in texts:
            ids, first = np.unique(
                np.asarray(self._tokenizer.encode(text, add_special_tokens=False).ids, np.int32),
                return_index=True,
            )  # [n], [n]
            weights = self._weights[ids]
            kept = weights > 0
            yield SparseRow(
                ids[kept], weights[kept], first[kept].astype(np.int32) if with_sources else None
            )

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """(start, end) characters of each token of the text: what SparseRow.sources points into."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return list(encoding.offsets)


def check_text(text: str) -> None:
    """Raises QueryError for what Python makes of an argument that is not UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise QueryError(
            f"The text is not UTF-8 at character {error.start + 1}",
            "Set the terminal, or the script, to UTF-8.",
        ) from error


def load_tokenizer(folder: Path, max_length: int) -> Any:
    """The tokenizer.json of a folder, cutting at max_length tokens. Raises ModelError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises Exception itself
        raise ModelError(
            f"{folder}: no tokenizer.json that can be read ({error})",
            "Save or download the model again.",
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer


def _load_weights(folder: Path, tokenizer: Any) -> NDArray[np.float32]:
    """The table float32 [V], from safetensors; special tokens weigh nothing."""
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            weights: NDArray[np.float32] = file.get_tensor("weight").astype(np.float32)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: no table of query weights ({error})", "Save or download the model again."
        ) from error
    size = tokenizer.get_vocab_size()
    if weights.shape != (size,):
        raise ModelError(
            f"{path}: {list(weights.shape)} weights for {size:,} tokens",
            "Give a model with the tokenizer it was trained with.",
        )
    special = [id for id, t in tokenizer.get_added_tokens_decoder().items() if t.special]
    weights[special] = 0.0
    return weights
