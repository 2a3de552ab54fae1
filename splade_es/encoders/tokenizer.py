"""Tokenizers without transformers: the tokenizer.json of a model, read by `tokenizers`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from splade_es.errors import ModelError


def load_tokenizer(folder: Path, max_length: int) -> Any:
    """The tokenizer of a folder, which truncates at max_length tokens. Raises ModelError."""
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # tokenizers raises Exception itself
        raise ModelError(
            f"{folder}: tokenizer.json is missing or invalid ({error})",
            "Save or download the model again.",
        ) from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    return tokenizer
