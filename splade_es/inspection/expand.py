"""Which tokens stand for a text, and which of its words caused each."""

from __future__ import annotations

import re
from typing import NamedTuple

from splade_es.encoders.base import TextEncoder, check_text
from splade_es.errors import QueryError
from splade_es.quantize import Quantizer
from splade_es.records import SparseRow

# Thai to Khmer, kana, and the characters of Chinese: written without spaces.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
    "\U00020000-\U0003ffff]"
)


class Expansion(NamedTuple):
    """One token of a sparse vector.

    Attributes
    ----------
    token : str
        The token, as in the vocabulary.
    weight : float
        As the model gives it.
    stored : int or None
        The integer in an index; None for a query.
    word : str
        The word of the text that caused it, or that adds most where the model sums over the text;
        "" where a special token caused it.
    start, end : int
        Characters of that word in the text.
    """

    token: str
    weight: float
    stored: int | None
    word: str
    start: int
    end: int


def expand(encoder: TextEncoder, text: str, quantizer: Quantizer | None) -> list[Expansion]:
    """The tokens of a text, the strongest first.

    quantizer: as for a document of an index; None for a query. Raises QueryError for a text without
    any term or not UTF-8.
    """
    check_text(text)
    (row,) = encoder.encode([text], with_sources=True)
    if not len(row.ids):
        raise QueryError(f"The model finds no term in {text[:60]!r}", "Use other words.")
    return expansions(encoder, text, row, quantizer)


def expansions(
    encoder: TextEncoder, text: str, row: SparseRow, quantizer: Quantizer | None
) -> list[Expansion]:
    """The tokens of a row of a text that was encoded with its sources; see `expand`."""
    assert row.sources is not None
    stored: dict[int, int] = {}
    if quantizer:
        quantized = quantizer.quantize(row)
        stored = dict(zip(quantized.ids.tolist(), quantized.values.tolist(), strict=True))
    spans = encoder.token_spans(text)
    tokens = []
    for id, weight, source in zip(
        row.ids.tolist(), row.weights.tolist(), row.sources.tolist(), strict=True
    ):
        if quantizer and id not in stored:
            continue
        start, end = spans[source]
        while 0 < start < end and _one_word(text[start - 1 : start + 1]):
            start -= 1  # a token is often part of a word: show the whole word
        while start < end < len(text) and _one_word(text[end - 1 : end + 1]):
            end += 1
        tokens.append(
            Expansion(encoder.vocabulary[id], weight, stored.get(id), text[start:end], start, end)
        )
    return sorted(tokens, key=lambda token: (-token.weight, token.token))


def _one_word(pair: str) -> bool:
    """Whether two neighbouring characters belong to one word."""
    return pair[0].isalnum() and pair[1].isalnum() and not _UNSPACED.search(pair)
