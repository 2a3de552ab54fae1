"""The CUDA kernel of the head: on a GPU, otherwise in Triton's interpreter (see conftest.py)."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
from splade_es.models.head_triton import max_of_logits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    ("lengths", "dim", "size"),
    [([3, 0, 130, 1], 24, 515), ([5, 7], 17, 32), ([0], 8, 40), ([1, 64, 65], 70, 129)],
)
def test_max_and_argmax_are_those_of_all_logits(
    lengths: list[int], dim: int, size: int, dtype: torch.dtype
) -> None:
    g = torch.Generator().manual_seed(0)
    tokens = torch.randn(sum(lengths), dim, generator=g).to(DEVICE, dtype)
    weight = torch.randn(size, dim, generator=g).to(DEVICE, dtype)
    best, argmax = max_of_logits(tokens, weight, lengths)
    assert best.dtype == torch.float32 and argmax.dtype == torch.int32
    start = 0
    for row, part in enumerate(tokens.split(lengths)):
        if len(part):
            top, at = (part.float() @ weight.float().T).max(dim=0)
            torch.testing.assert_close(best[row], top, atol=1e-4, rtol=1e-5)
            assert torch.equal(argmax[row].long(), start + at)
        else:
            assert torch.isneginf(best[row]).all()
        start += len(part)


def test_the_first_of_equal_logits_wins() -> None:
    tokens = torch.ones(200, 8, device=DEVICE)  # more than one block of them
    _, argmax = max_of_logits(tokens, torch.ones(3, 8, device=DEVICE), [150, 50])
    assert argmax.tolist() == [[0] * 3, [150] * 3]


def test_nan_is_not_lost() -> None:
    tokens, weight = torch.ones(200, 8, device=DEVICE), torch.ones(3, 8, device=DEVICE)
    tokens[7, 2] = float("nan")
    best, _ = max_of_logits(tokens, weight, [150, 50])
    assert best[0].isnan().all() and (best[1] == 8).all()


@pytest.mark.slow
def test_a_vocabulary_of_xlm_r() -> None:
    tokens, weight = (
        torch.randn(20, 16, device=DEVICE).half(),
        torch.randn(250_002, 16, device=DEVICE).half(),
    )
    best, _ = max_of_logits(tokens, weight, [20])
    torch.testing.assert_close(best[0], (tokens.float() @ weight.float().T).amax(0))
