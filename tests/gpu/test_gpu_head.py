"""The kernels of the head, compiled: real sizes, all number formats, gradients, memory."""

import itertools
import os

import pytest
import torch
from torch import Tensor

from splade_es.models.head import splade_head
from splade_es.models.head_triton import max_of_logits

HALVES = [torch.bfloat16, torch.float16]


def batch(
    size: int, length: int, dim: int, entries: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """hidden [B, L, d], mask [B, L] with texts of any length, and weight [V, d]."""
    g = torch.Generator("cuda").manual_seed(size + length + entries)
    hidden = torch.randn(size, length, dim, generator=g, device="cuda").to(dtype)
    weight = torch.randn(entries, dim, generator=g, device="cuda").to(dtype)
    lengths = torch.randint(0, length + 1, (size, 1), generator=g, device="cuda")
    lengths[0] = length
    return hidden, (torch.arange(length, device="cuda") < lengths).long(), weight


def reference(hidden: Tensor, mask: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Max and argmax [B, V] in float64, a text at a time."""
    tops, places = [], []
    for states, inside in zip(hidden.double(), mask.bool(), strict=True):
        logits = states @ weight.double().T  # [L, V]
        top, at = logits.masked_fill(~inside.unsqueeze(1), float("-inf")).max(dim=0)
        tops.append(top)
        places.append(at)
    return torch.stack(tops), torch.stack(places)


def test_the_kernel_is_compiled() -> None:
    assert os.environ.get("TRITON_INTERPRET") != "1"


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("entries", [32, 515, 30_522, 250_002])
@pytest.mark.parametrize("length", [1, 7, 33, 100, 129, 300])
def test_max_and_argmax(dtype: torch.dtype, entries: int, length: int) -> None:
    dim = 384 if entries > 1000 else 72  # the latter is no multiple of a block
    hidden, mask, weight = batch(5, length, dim, entries, dtype)
    best, argmax = max_of_logits(hidden, mask, weight)
    top, at = reference(hidden, mask, weight)
    torch.testing.assert_close(best.double(), top, atol=1e-3, rtol=1e-5)
    assert argmax is not None
    some = mask.any(dim=1)
    # two logits may be closer than float32 can tell
    assert (argmax[some].long() == at[some]).float().mean() > 0.999
    alone, _ = max_of_logits(hidden, mask, weight, with_argmax=False)
    torch.testing.assert_close(alone, best, atol=1e-4, rtol=1e-6)


@pytest.mark.parametrize("dtype", HALVES)
def test_nan_is_not_lost_unless_it_is_padding(dtype: torch.dtype) -> None:
    hidden = torch.ones(2, 150, 64, device="cuda", dtype=dtype)
    hidden[0, 7, 2] = hidden[1, 120, 2] = float("nan")
    mask = torch.ones(2, 150, device="cuda")
    mask[1, 100:] = 0
    best, _ = max_of_logits(hidden, mask, torch.ones(40, 64, device="cuda", dtype=dtype))
    assert best[0].isnan().all() and (best[1] == 64).all()


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_gradients_are_those_of_the_dense_formula(dtype: torch.dtype) -> None:
    hidden, mask, weight = batch(6, 90, 128, 3000, dtype)
    weight = (0.1 * weight).float()
    bias = torch.full((3000,), -2.5, device="cuda")
    leaves = [leaf.requires_grad_() for leaf in (hidden, weight, bias)]
    ours = splade_head(hidden, mask, weight, bias, kernel=True)
    logits = hidden @ weight.to(dtype).T + bias  # [B, L, V]
    theirs = (torch.log1p(torch.relu(logits.float())) * mask.unsqueeze(-1)).amax(dim=1)
    assert 0.01 < (ours > 0).float().mean() < 0.9
    upstream = torch.rand_like(ours) * ((ours > 0) == (theirs > 0))
    for a, b in zip(
        torch.autograd.grad((ours * upstream).sum(), leaves),
        torch.autograd.grad((theirs * upstream).sum(), leaves),
        strict=True,
    ):
        flat = a.to_dense().double().flatten(), b.double().flatten()
        # in 16 bits the dense logits are rounded, and then others win
        limit = 0.999999 if dtype == torch.float32 else 0.98
        assert torch.cosine_similarity(*flat, dim=0) > limit


def test_a_gradient_is_the_same_to_the_bit_each_time() -> None:
    hidden, mask, weight = batch(32, 128, 384, 30_522, torch.bfloat16)
    bias = torch.full((30_522,), -60.0, device="cuda")
    found = []
    for _ in range(3):
        leaf, w = hidden.clone().requires_grad_(), weight.float().requires_grad_()
        splade_head(leaf, mask, w, bias).square().sum().backward()
        assert leaf.grad is not None and w.grad is not None
        found.append((leaf.grad, w.grad.to_dense()))
    for (a, b), (c, d) in itertools.pairwise(found):
        assert torch.equal(a, c) and torch.equal(b, d)


def test_the_logits_never_exist() -> None:
    hidden, mask, weight = batch(64, 256, 384, 30_522, torch.bfloat16)
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    max_of_logits(hidden, mask, weight)
    grown = torch.cuda.max_memory_allocated() - before
    assert grown < 64 * 256 * 30_522 * 2 / 20  # bytes of the logits in bfloat16
