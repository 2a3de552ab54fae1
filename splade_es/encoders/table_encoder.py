"""Encoding queries with a table of weights, which needs a tokenizer and numpy, but not torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from splade_es.arguments import checked
from splade_es.encoders.base import TextEncoder
from splade_es.encoders.tokenizer import load_tokenizer
from splade_es.errors import ModelError
from splade_es.models.files import loading, read_sides
from splade_es.records import SparseRow

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Tokens of a query where the caller does not say. Tables saved by other tools name lengths far
# above that of any query.
_MAX_LENGTH = 512


class TableEncoder(TextEncoder):
    """The query side of a model that has a table: a query is its own tokens with these weights.

    Parameters
    ----------
    name : str
        Directory or hub name.
    max_length : int, optional
        Tokens of a query; 512 by default.

    Raises
    ------
    ModelError
        The tokenizer or the table cannot be read, or the length is below 1.
    """

    pooling = "max"
    side = "query"

    def __init__(self, name: str, max_length: int | None) -> None:
        self.name = os.path.abspath(name) if os.path.isdir(name) else name
        self.max_length = _MAX_LENGTH if max_length is None else max_length
        if self.max_length < 1:
            raise ModelError(
                f"max_length must be 1 or more for {name}, not {max_length}",
                "Choose another length.",
            )
        with loading(name):
            folder = Path(read_sides(name).query.path)
            self._tokenizer = load_tokenizer(folder, self.max_length)
            size = self._tokenizer.get_vocab_size()
            tokens = [self._tokenizer.id_to_token(id) for id in range(size)]
            if None in tokens:
                raise ModelError(
                    f"{name}: id {tokens.index(None)} of the tokenizer has no token",
                    "Repair the tokenizer of this model, or use another model.",
                )
            self.vocabulary = [str(token) for token in tokens]
            self._weights = _load_weights(folder, self._tokenizer)  # [V]

    @checked
    def encode(self, texts: Iterable[str], *, with_sources: bool = False) -> Iterator[SparseRow]:
        """Encode texts, in order. See `TextEncoder.encode`."""
        for text in texts:
            encoding = self._tokenizer.encode(text, add_special_tokens=False)
            ids, first = np.unique(
                np.asarray(encoding.ids, np.int32), return_index=True
            )  # [n], [n]
            weights = self._weights[ids]
            kept = weights > 0
            yield SparseRow(
                ids[kept],
                weights[kept],
                first[kept].astype(np.int32) if with_sources else None,
                bool(encoding.overflowing),
            )

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return (start, end) characters of each token. See `TextEncoder.token_spans`."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return list(encoding.offsets)


def _load_weights(folder: Path, tokenizer: Tokenizer) -> NDArray[np.float32]:
    """Load the table, float32 [V]. The weight of special tokens is 0."""
    from safetensors import SafetensorError, safe_open

    path = folder / "model.safetensors"
    try:
        with safe_open(path, framework="numpy") as file:
            weights: NDArray[np.float32] = file.get_tensor("weight").astype(np.float32)
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path}: cannot read the table of query weights ({error})",
            "Save or download the model again.",
        ) from error
    size = tokenizer.get_vocab_size()
    if weights.shape != (size,):
        raise ModelError(
            f"{path}: {list(weights.shape)} weights for {size:,} tokens",
            "Use a model with the tokenizer it was trained with.",
        )
    special = [id for id, t in tokenizer.get_added_tokens_decoder().items() if t.special]
    weights[special] = 0.0
    return weights
