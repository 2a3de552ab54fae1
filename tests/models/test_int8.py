"""8-bit products: the filtered head is that of float32, the encoder close to it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from models import TEXTS, tiny_tokenizer
from splade_es.encoders.torch_encoder import Encoder
from splade_es.errors import ModelError
from splade_es.models import int8

if not int8.available():
    pytest.skip("torch has 8-bit products for x86 processors only", allow_module_level=True)


def decoder(size: int, dim: int, shift: float, seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    weight = torch.randn(size, dim, generator=g) * torch.rand(size, 1, generator=g)
    return weight, torch.randn(size, generator=g) - shift


@given(
    seed=st.integers(0, 10_000),
    lengths=st.lists(st.integers(0, 20), min_size=1, max_size=5),
    shift=st.sampled_from([0.0, 4.0, 30.0, 1e4]),
    outlier=st.sampled_from([1.0, 30.0, 1000.0]),
    size=st.sampled_from([1, 500, 1024, 1500]),
)
@settings(max_examples=60, deadline=None)
def test_the_filter_misses_nothing_and_adds_nothing(
    seed: int, lengths: list[int], shift: float, outlier: float, size: int
) -> None:
    weight, bias = decoder(size, 24, shift, seed)
    g = torch.Generator().manual_seed(seed + 1)
    tokens = torch.randn(sum(lengths), 24, generator=g)
    tokens[:, 3] *= outlier
    if not len(tokens):
        return
    # made from other states than those that come, as for all batches but the first
    candidates = int8.CandidateFilter(weight, bias, torch.randn(10, 24, generator=g))
    rows, ids, logits = candidates.active_entries(tokens, lengths)
    expected = torch.stack(
        [
            (part @ weight.T).amax(dim=0) + bias if len(part) else torch.full((size,), -1.0)
            for part in tokens.split(lengths)
        ]
    )  # [B, V]
    found = torch.full_like(expected, 0.0)
    found[rows, ids] = logits
    torch.testing.assert_close(found, expected.clamp(min=0), atol=2e-4, rtol=1e-5)
    assert torch.equal(rows * size + ids, (rows * size + ids).sort().values)


def test_a_filter_with_too_many_candidates_is_not_worthwhile() -> None:
    weight, bias = decoder(2000, 24, 0.0, 0)
    tokens = torch.randn(64, 24)
    many = int8.CandidateFilter(weight, bias, tokens)
    many.active_entries(tokens, [64])
    assert not many.worthwhile
    few = int8.CandidateFilter(weight, bias - 20, tokens)
    few.active_entries(tokens, [64])
    assert few.worthwhile


def test_nan_is_not_lost() -> None:
    weight, bias = decoder(100, 24, 5.0, 0)
    tokens = torch.randn(8, 24)
    candidates = int8.CandidateFilter(weight, bias, tokens)
    tokens[3, 3] = float("nan")
    _, _, logits = candidates.active_entries(tokens, [8])
    assert logits.isnan().all() and len(logits) == 100


def test_rows_of_the_filter_are_those_of_the_head(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a decoder that is large enough for the filter; most of its rows have no token."""
    wide = AutoModelForMaskedLM.from_pretrained(tiny_model)
    wide.resize_token_embeddings(2**16, mean_resizing=False)
    wide.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    texts = [text for text in TEXTS.values() for _ in range(20)]

    with monkeypatch.context() as patch:
        patch.setattr(int8, "available", lambda: False)
        plain = list(Encoder.load(tmp_path, precision="fp32").encode(texts))
    filtered = 0
    active_entries = int8.CandidateFilter.active_entries

    def counted(
        self: int8.CandidateFilter, tokens: Tensor, lengths: list[int]
    ) -> tuple[Tensor, Tensor, Tensor]:
        nonlocal filtered
        filtered += len(lengths)
        return active_entries(self, tokens, lengths)

    monkeypatch.setattr(int8.CandidateFilter, "active_entries", counted)
    for row, expected in zip(
        Encoder.load(tmp_path, precision="fp32").encode(texts), plain, strict=True
    ):
        assert len(row.ids) and row.ids.tolist() == expected.ids.tolist()
        assert row.weights == pytest.approx(expected.weights, rel=1e-5)
    assert filtered == len(texts)


@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_8_bits_is_close_and_the_same_whatever_stands_beside(bias: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(256, 100, bias=bias)
    x = torch.nn.functional.gelu(torch.randn(3, 7, 256))
    x[0, 0, 0] = 20.0  # an outlier, which should spoil the scale of its own token only
    quantized = nn.ModuleDict({"layer": layer})
    int8.quantize_linear(quantized)
    ours = quantized["layer"](x)
    error = (ours - layer(x)).norm(dim=2) / layer(x).norm(dim=2)  # [3, 7]
    assert error.flatten()[1:].max() < 0.02 and error[0, 0] < 0.2
    torch.testing.assert_close(quantized["layer"](x[1:2, 2:4]), ours[1:2, 2:4])


def test_int8_leaves_the_head_alone_and_stays_close(tiny_model: str) -> None:
    exact = Encoder.load(tiny_model, precision="fp32")
    encoder = Encoder.load(tiny_model, precision="int8")
    layers = {type(module) for module in encoder.model.mlm.base_model.modules()}
    assert nn.Linear not in layers and int8.Int8Linear in layers
    for ours, theirs in zip(
        encoder.encode(TEXTS.values()), exact.encode(TEXTS.values()), strict=True
    ):
        a, b = torch.zeros(2, len(exact.vocabulary))
        a[torch.from_numpy(ours.ids).long()] = torch.from_numpy(ours.weights)
        b[torch.from_numpy(theirs.ids).long()] = torch.from_numpy(theirs.weights)
        assert torch.cosine_similarity(a, b, dim=0) > 0.99


def test_int8_is_refused_where_there_is_none(
    tiny_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "available", lambda: False)
    with pytest.raises(ModelError, match="no 8-bit products for cpu on this machine"):
        Encoder.load(tiny_model, precision="int8")
