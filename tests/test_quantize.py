"""Model weights -> stored integers."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from splade_es.errors import ModelError
from splade_es.limits import MAX_WEIGHT
from splade_es.quantize import Quantizer
from splade_es.records import Quantized, SparseRow


def row(weights: dict[int, float]) -> SparseRow:
    ids = sorted(weights)
    return SparseRow(
        np.array(ids, np.int32), np.array([weights[id] for id in ids], dtype=np.float32)
    )


def quantized(quantizer: Quantizer, weights: dict[int, float]) -> dict[int, int]:
    result = quantizer.quantize(row(weights))
    return dict(zip(result.ids.tolist(), result.values.tolist(), strict=True))


weights = st.dictionaries(
    st.integers(0, 30_521),
    st.floats(np.float32(0).item(), np.float32(6).item(), width=32),
    max_size=40,
)


def lucene(value: float) -> float:
    """A weight as Lucene's FeatureField keeps it: the float32 without its lower 15 bits."""
    (bits,) = struct.unpack("<I", struct.pack("<f", value))
    (kept,) = struct.unpack("<f", struct.pack("<I", bits >> 15 << 15))
    return float(kept)


def test_lucene_keeps_every_stored_integer_and_not_the_next() -> None:
    assert [lucene(n) for n in range(1, MAX_WEIGHT + 1)] == list(range(1, MAX_WEIGHT + 1))
    assert lucene(MAX_WEIGHT + 1) == MAX_WEIGHT


@given(weights, st.floats(1, 500))
def test_the_error_is_half_a_step_at_most(weights: dict[int, float], scale: float) -> None:
    result = quantized(Quantizer(scale), weights)
    for id, weight in weights.items():
        value = result.get(id, 0)
        if weight * scale < MAX_WEIGHT:
            assert abs(value / scale - weight) <= 0.5 / scale * (1 + 1e-9)
        else:
            assert value == MAX_WEIGHT


@given(weights)
def test_the_order_of_weights_is_kept(weights: dict[int, float]) -> None:
    result = quantized(Quantizer(), weights)
    by_weight = [result.get(id, 0) for id in sorted(weights, key=lambda id: weights[id])]
    assert by_weight == sorted(by_weight)


@given(weights, st.none() | st.integers(1, 50), st.floats(0, 2))
def test_the_result_is_as_an_engine_needs_it(
    weights: dict[int, float], top_k: int | None, threshold: float
) -> None:
    result = Quantizer(100.0, top_k, threshold).quantize(row(weights))
    assert result.ids.dtype == result.values.dtype == np.int32
    assert (np.diff(result.ids) > 0).all()
    assert ((result.values >= 1) & (result.values <= MAX_WEIGHT)).all()
    assert len(result.ids) == len(result.values) <= (top_k or len(weights))


@given(weights, st.integers(1, 10))
def test_top_k_keeps_the_strongest_and_of_equals_the_smaller_id(
    weights: dict[int, float], top_k: int
) -> None:
    alive = [id for id, weight in weights.items() if weight > 0.0051]  # or it may round to 0
    strongest = sorted(alive, key=lambda id: (-weights[id], id))[:top_k]
    kept = quantized(Quantizer(top_k=top_k), {id: weights[id] for id in alive})
    assert list(kept) == sorted(strongest)


def by_hand(quantizer: Quantizer, weights: dict[int, float]) -> dict[int, int] | None:
    """One weight after the other; None for a row that has a weight which is none."""
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()):
        return None
    exact = {id: round(weight * quantizer.scale) for id, weight in weights.items()}
    alive = [id for id, n in exact.items() if n > 0 and weights[id] >= quantizer.threshold]
    strongest = sorted(alive, key=lambda id: (-weights[id], id))[: quantizer.top_k]
    return {id: min(exact[id], MAX_WEIGHT) for id in sorted(strongest)}


# few distinct weights make many ties, and some are no weights
odd = st.sampled_from([0.0, 0.004, 0.5, 1.0, 5.5, 3e38, -1.0, math.nan, math.inf])


@given(
    st.lists(weights | st.dictionaries(st.integers(0, 99), odd, max_size=9), max_size=9),
    st.none() | st.integers(1, 6),
    st.floats(0, 2),
)
def test_many_rows_at_once_are_as_each_by_itself(
    rows: list[dict[int, float]], top_k: int | None, threshold: float
) -> None:
    quantizer = Quantizer(100.0, top_k, threshold)
    results = quantizer.quantize_all([row(weights) for weights in rows])
    for result, weights in zip(results, rows, strict=True):
        expected = by_hand(quantizer, weights)
        if expected is None:
            with pytest.raises(ModelError) as caught:
                quantizer.quantize(row(weights))
            assert isinstance(result, ModelError) and str(result) == str(caught.value)
        else:
            assert isinstance(result, Quantized)
            assert result.ids.dtype == result.values.dtype == np.int32
            assert dict(zip(result.ids.tolist(), result.values.tolist(), strict=True)) == expected
            assert list(expected) == result.ids.tolist()
            clipped = quantizer.quantize(row(weights)).saturated
            assert result.saturated == clipped


def test_equal_weights_at_the_bound() -> None:
    assert quantized(Quantizer(top_k=2), {9: 1.0, 4: 1.0, 7: 1.0}) == {4: 100, 7: 100}


def test_the_threshold_is_in_the_unit_of_the_model_and_keeps_what_equals_it() -> None:
    assert quantized(Quantizer(10.0, threshold=0.5), {1: 0.49, 2: 0.5, 3: 0.75}) == {2: 5, 3: 8}


def test_what_rounds_to_nothing_is_dropped() -> None:
    assert quantized(Quantizer(), {1: 0.004, 2: 0.006, 3: 0.0}) == {2: 1}
    assert quantized(Quantizer(), {}) == {}


def test_what_is_clipped_is_counted() -> None:
    weights = {1: 5.12, 2: 5.13, 3: 3e38, 4: 1.0}
    assert quantized(Quantizer(), weights) == {1: 512, 2: 512, 3: 512, 4: 100}
    assert Quantizer().quantize(row(weights)).saturated == 2
    assert Quantizer(top_k=1).quantize(row(weights)).saturated == 1  # of what is kept


@pytest.mark.parametrize(
    ("weight", "shown"),
    [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf"), (-1.5, r"-1\.5")],
)
def test_a_weight_that_is_none_is_refused(weight: float, shown: str) -> None:
    with pytest.raises(ModelError, match=rf"The model gives token 7 the weight {shown}\. Its"):
        Quantizer().quantize(row({3: 1.0, 7: weight, 9: weight}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0.0}, "The scale of stored weights is 0.0"),
        ({"scale": -1.0}, "The scale of stored weights is -1.0"),
        ({"scale": float("nan")}, "The scale of stored weights is nan"),
        ({"scale": float("inf")}, "The scale of stored weights is inf"),
        ({"top_k": 0}, "top_k is 0"),
        ({"threshold": -0.1}, "The threshold of weights is -0.1"),
        ({"threshold": float("nan")}, "The threshold of weights is nan"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        Quantizer(**settings)
    assert caught.value.message == message
    assert caught.value.hint
