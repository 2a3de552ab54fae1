"""Queries by a table of weights: tokenizer and numpy, and torch is never imported."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from splade_es.encoders.base import TextEncoder
from splade_es.encoders.tokenizer import load_tokenizer
from splade_es.errors import ModelError
from splade_es.models.files import read_sides
from splade_es.records import SparseRow

# A longer query is cut. Tables that other tools saved name a length that no query has.
_MAX_LENGTH = 512


class TableEncoder(TextEncoder):
    """A query is its own tokens, each with the weight the model's table has for it.

    Raises ModelError for files that cannot be read.
    """

    pooling = "max"

    def __init__(self, name: str, max_length: int | None) -> None:
        self.name = os.path.abspath(name) if os.path.isdir(name) else name
        self.max_length = max_length or _MAX_LENGTH
        folder = Path(read_sides(name).query.path)
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
