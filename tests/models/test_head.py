"""The fused head against the plain dense formula: values and gradients."""

import pytest
import torch
from torch import Tensor

from splade_es.models.files import Pooling
from splade_es.models.head import argmax_positions, splade_head


def dense_head(hidden: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, pooling: str) -> Tensor:
    """The formula as the papers print it, with all B x L x V logits."""
    logits = hidden.float() @ weight.to(hidden.dtype).float().T + bias  # [B, L, V]
    active = torch.log1p(torch.relu(logits)) * mask.unsqueeze(-1)
    return active.sum(dim=1) if pooling == "sum" else active.amax(dim=1)


def case(
    batch: int, length: int, dim: int, size: int, dtype: torch.dtype, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(batch, length, dim, generator=g).to(dtype).requires_grad_()
    weight = torch.randn(size, dim, generator=g).requires_grad_()
    bias = (torch.randn(size, generator=g) - dim**0.5).requires_grad_()
    lengths = torch.randint(1, length + 1, (batch,), generator=g)
    mask = (torch.arange(length) < lengths.unsqueeze(1)).long()
    return hidden, mask, weight, bias


@pytest.mark.parametrize("pooling", ["max", "sum"])
@pytest.mark.parametrize(
    "shape", [(3, 7, 16, 1100), (1, 1, 5, 1), (5, 33, 24, 511), (2, 4, 8, 513)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_values_and_gradients_are_those_of_the_dense_formula(
    pooling: Pooling, shape: tuple[int, int, int, int], dtype: torch.dtype
) -> None:
    hidden, mask, weight, bias = case(*shape, dtype)
    ours = splade_head(hidden, mask, weight, bias, pooling)
    theirs = dense_head(hidden, mask, weight, bias, pooling)
    assert ours.dtype == torch.float32
    # bf16 keeps 8 bits of a logit, and logits here reach about 3 x sqrt(d)
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    if pooling == "max" and shape[-1] > 1:
        assert 0 < (ours > 0).sum() < ours.numel()

    upstream = torch.rand(ours.shape, generator=torch.Generator().manual_seed(1))
    # rounding may move an entry across the threshold
    upstream = upstream * ((ours > 0) == (theirs > 0))
    inputs = (hidden, weight, bias)
    for gradient, b in zip(
        torch.autograd.grad((ours * upstream).sum(), inputs),
        torch.autograd.grad((theirs * upstream).sum(), inputs),
        strict=True,
    ):
        a = gradient.to_dense()
        # In bf16 two positions can tie after rounding; the gradient then goes to either one, so
        # compare the direction of the whole gradient instead of each entry.
        if dtype == torch.float32:
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)
        elif a.abs().sum() > 0:
            cosine = torch.cosine_similarity(a.float().flatten(), b.float().flatten(), dim=0)
            assert cosine > 0.99


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_masked_tokens_have_no_say_and_no_gradient(pooling: Pooling) -> None:
    hidden, mask, weight, bias = case(4, 9, 8, 40, torch.float32)
    loud = torch.where(mask.bool().unsqueeze(-1), hidden, 1e4).detach().requires_grad_()
    torch.testing.assert_close(
        splade_head(loud, mask, weight, bias, pooling),
        splade_head(hidden, mask, weight, bias, pooling),
    )
    (grad,) = torch.autograd.grad(splade_head(loud, mask, weight, bias, pooling).sum(), loud)
    assert grad[~mask.bool()].abs().sum() == 0


@pytest.mark.parametrize("pooling", ["max", "sum"])
def test_a_row_without_tokens_is_zero_and_trains_nothing(pooling: Pooling) -> None:
    hidden, mask, weight, bias = case(3, 5, 8, 40, torch.float32)
    mask[1] = 0
    rows = splade_head(hidden, mask, weight, bias, pooling)
    assert rows[1].abs().sum() == 0
    grads = torch.autograd.grad(rows.sum(), (hidden, weight, bias))
    assert all(bool(torch.isfinite(g.to_dense()).all()) for g in grads)
    assert grads[0][1].abs().sum() == 0


def test_padding_on_the_left_changes_nothing() -> None:
    hidden, mask, weight, bias = case(2, 6, 8, 40, torch.float32)
    torch.testing.assert_close(
        splade_head(hidden.flip(1), mask.flip(1), weight, bias),
        splade_head(hidden, mask, weight, bias),
    )


def test_the_argmax_position_is_the_token_that_made_the_weight() -> None:
    hidden, _, weight, _ = case(1, 9, 8, 40, torch.float32)
    ids = torch.tensor([3, 17, 39])
    logits = hidden[0] @ weight.T  # [L, V]
    assert argmax_positions(hidden[0], weight, ids).tolist() == logits[:, ids].argmax(0).tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_with_the_kernel_too_they_are_those_of_the_dense_formula(dtype: torch.dtype) -> None:
    pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
    device = "cuda" if torch.cuda.is_available() else "cpu"  # in Triton's interpreter
    hidden, mask, weight, bias = (t.detach().to(device) for t in case(4, 9, 16, 300, dtype))
    mask[2] = 0
    for leaf in (hidden, weight, bias):
        leaf.requires_grad_()
    inputs = (hidden, weight, bias)
    ours = splade_head(hidden, mask, weight, bias, kernel=True)  # [B, V]
    theirs = dense_head(hidden, mask, weight, bias, "max")
    tolerance = 1e-5 if dtype == torch.float32 else 0.05
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)
    assert (ours > 0).sum() > 100
    upstream = torch.rand(ours.shape, device=device) * ((ours > 0) == (theirs > 0))
    for a, b in zip(
        torch.autograd.grad((ours * upstream).sum(), inputs),
        torch.autograd.grad((theirs * upstream).sum(), inputs),
        strict=True,
    ):
        if dtype == torch.float32:
            torch.testing.assert_close(a.to_dense(), b, atol=1e-4, rtol=1e-4)
        else:  # two positions may tie after rounding
            flat = a.to_dense().float().flatten(), b.float().flatten()
            assert torch.cosine_similarity(*flat, dim=0) > 0.99
