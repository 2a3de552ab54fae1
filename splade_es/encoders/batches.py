"""Texts into the batches that the encoder computes: windows, token ids, padding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import cast

import torch

from splade_es.models.model import SpladeModel

# A window closes at this number of characters too, so that huge texts cannot fill the memory.
_WINDOW_CHARACTERS = 8_000_000
# A text longer than this many characters for each token that is kept is first cut there.
_CHARACTERS_PER_TOKEN = 32


def windows(texts: Iterable[str], size: int) -> Iterator[list[str]]:
    """Yield the texts in order, at most `size` at a time."""
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


def tokenize(model: SpladeModel, texts: list[str]) -> list[list[int]]:
    """Return the token ids of each text, special tokens included, at most max_length of them.

    The fast tokenizer reads a text to its end before it truncates: a text of 10 MB costs seconds
    for 256 tokens. So a long text is cut first, and read whole only if the cut left too few tokens.
    """
    length = model.max_length
    limit = length * _CHARACTERS_PER_TOKEN
    # Cut between words only: then a row that is full has the tokens it would have without the cut.
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


def pad(model: SpladeModel, ids: list[list[int]], device: torch.device) -> dict[str, torch.Tensor]:
    """Return token ids of several texts as the model's inputs [B, L], padded to the longest."""
    inputs = model.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(device)
    return cast("dict[str, torch.Tensor]", inputs)
