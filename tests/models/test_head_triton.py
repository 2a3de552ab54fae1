"""The CUDA kernels of the head: on a GPU, otherwise in Triton's interpreter (see conftest.py)."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
from splade_es.models.head_triton import gradients, max_of_logits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("lengths", "dim", "size"),
    [
        ([3, 0, 130, 1], 24, 515),
        ([5, 7], 17, 32),
        ([0], 8, 40),
        ([1, 64, 65], 70, 129),
        ([300, 2], 64, 33),
        ([*range(1, 12)], 16, 200),  # more texts than a block has
        ([33, 0, 40], 96, 130),
    ],
)
def test_max_and_argmax_are_those_of_all_logits(
    lengths: list[int], dim: int, size: int, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(0)
    longest = max(1, *lengths)
    hidden = torch.randn(len(lengths), longest, dim, generator=g).to(DEVICE, dtype)
    weight = torch.randn(size, dim, generator=g).to(DEVICE, dtype)
    mask = (torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)).long().to(DEVICE)
    best, argmax = max_of_logits(hidden, mask, weight)
    assert best.dtype == torch.float32
    assert argmax is not None and argmax.dtype == torch.int32
    alone, nothing = max_of_logits(hidden, mask, weight, with_argmax=False)
    assert nothing is None
    torch.testing.assert_close(alone, best)
    for row, length in enumerate(lengths):
        if length:
            top, at = (hidden[row, :length].float() @ weight.float().T).max(dim=0)
            torch.testing.assert_close(best[row], top, atol=1e-4, rtol=1e-5)
            assert torch.equal(argmax[row].long(), at)
        else:
            assert torch.isneginf(best[row]).all()


def test_a_mask_with_holes() -> None:
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 90, 16, generator=g).to(DEVICE)
    weight = torch.randn(70, 16, generator=g).to(DEVICE)
    mask = (torch.rand(2, 90, generator=g) < 0.3).to(DEVICE)
    best, argmax = max_of_logits(hidden, mask, weight)
    logits = (hidden @ weight.T).masked_fill(~mask.unsqueeze(2), float("-inf"))  # [2, 90, 70]
    top, at = logits.max(dim=1)
    assert argmax is not None
    torch.testing.assert_close(best, top, atol=1e-4, rtol=1e-5)
    assert torch.equal(argmax.long(), at)


def test_the_first_of_equal_logits_wins() -> None:
    hidden = torch.ones(2, 150, 8, device=DEVICE)  # more than one block of them
    mask = torch.ones(2, 150, device=DEVICE)
    mask[1, :50] = 0
    _, argmax = max_of_logits(hidden, mask, torch.ones(3, 8, device=DEVICE))
    assert argmax is not None and argmax.tolist() == [[0] * 3, [50] * 3]


def test_nan_is_not_lost_unless_it_is_padding() -> None:
    hidden, weight = torch.ones(2, 150, 8, device=DEVICE), torch.ones(3, 8, device=DEVICE)
    hidden[0, 7, 2] = hidden[1, 120, 2] = float("nan")
    mask = torch.ones(2, 150, device=DEVICE)
    mask[1, 100:] = 0
    best, _ = max_of_logits(hidden, mask, weight)
    assert best[0].isnan().all() and (best[1] == 8).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gradient_reaches_the_token_with_the_largest_logit(dtype: torch.dtype) -> None:
    g = torch.Generator().manual_seed(0)
    batch, length, dim, size = 3, 40, 300, 90
    hidden = torch.randn(batch, length, dim, generator=g).to(DEVICE, dtype)
    weight = torch.randn(size, dim, generator=g).to(DEVICE)
    # all but a few entries at one token, more than the kernel takes at once
    argmax = torch.full((batch, size), 5, dtype=torch.int32)
    argmax[:, :9] = torch.randint(0, length, (batch, 9), generator=g).int()
    argmax = argmax.to(DEVICE)
    grad = torch.randn(batch, size, generator=g) * (torch.rand(batch, size, generator=g) < 0.6)
    grad[:, 20] = 0
    grad = grad.to(DEVICE)
    of_hidden, active, of_rows = gradients(grad, argmax, hidden, weight)

    assert of_hidden.dtype == dtype
    assert 20 not in active.tolist()
    expected = torch.zeros(batch, length, dim, device=DEVICE)
    of_weight = torch.zeros(size, dim, device=DEVICE)
    for row in range(batch):
        expected[row].index_add_(0, argmax[row], grad[row].unsqueeze(1) * weight)
        of_weight += grad[row].unsqueeze(1) * hidden[row, argmax[row].long()].float()
    tolerance = 1e-4 if dtype == torch.float32 else 0.2
    torch.testing.assert_close(of_hidden.float(), expected, atol=tolerance, rtol=1e-2)
    dense = torch.zeros(size, dim, device=DEVICE).index_copy_(0, active, of_rows)
    torch.testing.assert_close(dense, of_weight, atol=1e-3, rtol=1e-3)
    again = gradients(grad, argmax, hidden, weight)[0]
    assert torch.equal(of_hidden, again)


def test_no_gradient_at_all() -> None:
    hidden, weight = torch.ones(2, 5, 8, device=DEVICE), torch.ones(3, 8, device=DEVICE)
    argmax = torch.zeros(2, 3, dtype=torch.int32, device=DEVICE)
    of_hidden, active, _ = gradients(torch.zeros(2, 3, device=DEVICE), argmax, hidden, weight)
    assert len(active) == 0 and not of_hidden.any()


@pytest.mark.slow
def test_a_vocabulary_of_xlm_r() -> None:
    hidden = torch.randn(1, 20, 16, device=DEVICE).half()
    weight = torch.randn(250_002, 16, device=DEVICE).half()
    best, _ = max_of_logits(hidden, torch.ones(1, 20, device=DEVICE), weight)
    torch.testing.assert_close(best[0], (hidden[0].float() @ weight.float().T).amax(0))
