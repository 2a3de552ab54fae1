"""Encoding: order, batches, bounds, what never becomes a feature."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from models import TEXTS, WORDS
from splade_es.encoders.load import load_query_encoder
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import ModelError, QueryError, SettingsError
from splade_es.inspection.expand import expand, expansions
from splade_es.quantize import Quantizer


@pytest.fixture(scope="module")
def encoder(tiny_model: str) -> Encoder:
    return Encoder.load(tiny_model, precision="fp32")  # whatever this machine is fast with


def test_wrong_arguments_are_named_at_the_call(tiny_model: str, encoder: Encoder) -> None:
    with pytest.raises(TypeError, match=r"^texts must be Iterable, not str$"):
        encoder.encode("heart attack")
    with pytest.raises(TypeError, match=r"^name must be str or a path, not int$"):
        Encoder.load(7)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^model must be SpladeModel, not str$"):
        Encoder(tiny_model)  # type: ignore[arg-type]
    for settings, message in (
        ({"precision": "fp8"}, "`precision` is 'fp8'. Choose one of auto, fp32, bf16, fp16, int8."),
        ({"side": "title"}, "`side` is 'title'. Choose one of document, query."),
    ):
        with pytest.raises(SettingsError) as caught:
            Encoder.load(tiny_model, **settings)  # type: ignore[arg-type]
        assert str(caught.value) == message
    with pytest.raises(SettingsError, match=r"^`device`: 'abacus' does not exist here"):
        Encoder.load(Path(tiny_model), device="abacus")


def test_a_path_is_a_name(tiny_model: str, encoder: Encoder) -> None:
    assert Encoder.load(Path(tiny_model)).name == encoder.name == tiny_model
    assert load_query_encoder(Path(tiny_model), 20, interactive=True).name == tiny_model


def test_tokens_are_the_strongest_first(encoder: Encoder) -> None:
    (row,) = encoder.encode(["heart attack"])
    tokens = encoder.tokens(row)
    assert list(tokens.values()) == sorted(tokens.values(), reverse=True)
    ids = {encoder.vocabulary[id]: weight for id, weight in zip(row.ids, row.weights, strict=True)}
    assert tokens == ids


def test_rows_come_in_input_order_whatever_the_batches(encoder: Encoder) -> None:
    texts = [" ".join(WORDS[i % 40 : i % 40 + i % 17 + 1]) for i in range(300)]
    alone = [next(encoder.encode([text])) for text in texts[:40]]
    for budget in (1, 64, 4096):
        rows = list(encoder.encode(texts, batch_tokens=budget))
        assert len(rows) == len(texts)
        for row, single in zip(rows, alone, strict=False):
            np.testing.assert_array_equal(row.ids, single.ids)
            np.testing.assert_allclose(row.weights, single.weights, rtol=1e-4, atol=1e-5)


def test_texts_are_streamed(encoder: Encoder) -> None:
    asked = 0

    def endless() -> Iterator[str]:
        nonlocal asked
        while True:
            asked += 1
            yield "heart attack"

    rows = encoder.encode(endless(), batch_tokens=128)
    next(rows)
    assert asked < 100  # some batches ahead, not all there is


def test_ids_ascend_and_weights_are_positive_and_finite(encoder: Encoder) -> None:
    for row in encoder.encode(TEXTS.values()):
        assert (np.diff(row.ids) > 0).all()
        assert (row.weights > 0).all() and np.isfinite(row.weights).all()
        assert row.ids.dtype == np.int32 and row.weights.dtype == np.float32


@pytest.mark.parametrize("text", ["", "   ", "☃ ☃", "[CLS] [SEP]", "[MASK]"])
def test_a_text_of_no_tokens_or_special_ones_has_no_features(encoder: Encoder, text: str) -> None:
    first, row, last = encoder.encode(["heart", text, "bone"])
    assert len(row.ids) == len(row.weights) == 0
    assert len(first.ids) and len(last.ids)


def test_special_tokens_are_never_features(encoder: Encoder) -> None:
    rows = encoder.encode([*TEXTS.values(), "heart [MASK] ☃ [SEP] bone"])
    assert all(row.ids.min() >= 5 for row in rows)


def test_a_huge_text_gives_what_its_beginning_gives(encoder: Encoder) -> None:
    long = "heart attack and pain in the chest. " * 300_000  # 10 MB
    short = long[: 64 * 36]
    for huge in (long, " " * 100_000 + short, "x" * 5_000 + " " + short):
        (row,), (expected,) = encoder.encode([huge]), encoder.encode([huge.strip()[: 64 * 200]])
        np.testing.assert_array_equal(row.ids, expected.ids)


def test_expansion_names_the_word_that_caused_each_token(encoder: Encoder) -> None:
    text = "Heart attacks, vitamin"
    tokens = expand(encoder, text, None)
    assert [t.weight for t in tokens] == sorted((t.weight for t in tokens), reverse=True)
    assert {t.word for t in tokens} <= {"Heart", "attacks", ",", "vitamin", ""}
    assert {"Heart", "attacks", "vitamin"} & {t.word for t in tokens}
    assert all(t.stored is None for t in tokens)
    (row,) = encoder.encode([text])
    assert len(tokens) == len(row.ids)


def test_expansion_of_a_document_shows_what_is_stored(encoder: Encoder) -> None:
    for token in expand(encoder, "vitamin milk", Quantizer(scale=10)):
        assert token.stored == round(token.weight * 10) > 0


def test_a_word_ends_where_scripts_without_spaces_do(encoder: Encoder) -> None:
    row = next(iter(encoder.encode(["heart"], with_sources=True)))

    class Spans:
        vocabulary = encoder.vocabulary

        def __init__(self, span: tuple[int, int]) -> None:
            self.span = span

        def token_spans(self, text: str) -> list[tuple[int, int]]:
            return [self.span] * 64

    for text, span, word in (
        ("心臓発作の治療", (0, 2), "心臓"),
        ("a headache again", (2, 6), "headache"),
        ("ein Herzinfarkt", (8, 15), "Herzinfarkt"),
        ("ห้องน้ำ", (0, 4), "ห้อง"),
    ):
        found = expansions(Spans(span), text, row, None)  # type: ignore[arg-type]
        assert {token.word for token in found} == {word}


def test_expansion_of_nothing(encoder: Encoder) -> None:
    with pytest.raises(QueryError) as caught:
        expand(encoder, "☃", None)
    assert str(caught.value) == "The model finds no term in '☃'. Use other words."


def test_a_batch_is_halved_until_the_memory_suffices(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = Encoder.load(tiny_model, device="cpu", precision="fp32")
    expected = list(encoder.encode(TEXTS.values()))
    sizes = []
    hidden = encoder.model.hidden

    def small(**inputs: torch.Tensor) -> torch.Tensor:
        sizes.append(len(inputs["input_ids"]))
        if sizes[-1] > 2:
            raise torch.OutOfMemoryError
        return hidden(**inputs)

    monkeypatch.setattr(encoder.model, "hidden", small)
    rows = list(encoder.encode(TEXTS.values(), batch_tokens=64))
    for row, before in zip(rows, expected, strict=True):
        assert row.ids.tolist() == before.ids.tolist()
    assert max(sizes) > 2 and sizes[-1] <= 2  # it has learnt what fits
    list(encoder.encode(TEXTS.values(), batch_tokens=64))
    assert sizes[-1] <= 2

    def none(**inputs: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(encoder.model, "hidden", none)
    with pytest.raises(ModelError, match=r"memory of cpu is too small for a text of \d+ tokens"):
        list(encoder.encode(["heart"]))
