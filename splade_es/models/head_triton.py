"""The max of the SPLADE head as one Triton kernel (Triton comes with torch on Linux).

The logits of a text are in registers, a block of tokens times a block of the vocabulary at a time.
Only their maximum and its position are written: neither the B x L x V tensor nor a tile of it ever
exists, and padding is not computed. Sparton (2603.25011) does the same.
"""

from __future__ import annotations

import os

import torch
import triton
import triton.language as tl
from torch import Tensor


def max_of_logits(tokens: Tensor, weight: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Take the max and the argmax of tokens @ weight.T over the tokens of each text.

    Parameters
    ----------
    tokens : Tensor [T, d]
        The texts one after the other.
    weight : Tensor [V, d]
        In the dtype of `tokens`.
    lengths : list of int
        Tokens of each of the B texts.

    Returns
    -------
    Tensor [B, V]
        float32; -inf for a text without tokens.
    Tensor [B, V]
        int32: rows of `tokens`, of equal ones the first.
    """
    size, dim = weight.shape
    tokens, weight = tokens.contiguous(), weight.contiguous()
    starts = torch.tensor([0, *lengths], device=tokens.device).cumsum(0)  # [B + 1]
    best = torch.empty(len(lengths), size, device=tokens.device, dtype=torch.float32)
    argmax = torch.empty(len(lengths), size, device=tokens.device, dtype=torch.int32)
    # Products of 16 bits go to the tensor cores, which need large blocks. Those of float32 are
    # computed exactly, and their blocks must leave registers for the operands.
    half = tokens.dtype != torch.float32
    block_l, block_v, block_d = (128, 128, 64) if half else (64, 64, 32)
    # the texts are the fast axis, so that programs that run together share a vocabulary block
    grid = (len(lengths), triton.cdiv(size, block_v))
    # Triton starts a kernel on the current device, not on that of its arguments
    with torch.cuda.device_of(tokens):
        _kernel[grid](
            tokens, weight, starts, best, argmax, size, dim,
            BLOCK_L=block_l, BLOCK_V=block_v, BLOCK_D=block_d,
            # Triton's interpreter, with which the kernel is tested without a GPU, has no bfloat16
            UPCAST=os.environ.get("TRITON_INTERPRET") == "1" and tokens.dtype == torch.bfloat16,
            num_warps=8 if half else 4, num_stages=3,
        )  # fmt: skip
    return best, argmax


@triton.jit  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]
    tokens,  # [T, dim]
    weight,  # [size, dim]
    starts,  # [B + 1]
    best_out,  # [B, size]
    argmax_out,  # [B, size]
    size,
    dim,
    BLOCK_L: tl.constexpr,
    BLOCK_V: tl.constexpr,
    BLOCK_D: tl.constexpr,
    UPCAST: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1).to(tl.int64) * BLOCK_V + tl.arange(0, BLOCK_V)  # [BLOCK_V]
    first = tl.load(starts + row)
    end = tl.load(starts + row + 1)
    best = tl.full([BLOCK_V], float("-inf"), tl.float32)
    argmax = tl.zeros([BLOCK_V], tl.int32)
    for start in range(first, end, BLOCK_L):
        places = start + tl.arange(0, BLOCK_L)  # [BLOCK_L]
        logits = tl.zeros([BLOCK_L, BLOCK_V], tl.float32)
        for k in range(0, dim, BLOCK_D):
            d = k + tl.arange(0, BLOCK_D)  # [BLOCK_D]
            h = tl.load(
                tokens + places[:, None] * dim + d[None, :],
                mask=(places[:, None] < end) & (d[None, :] < dim),
                other=0.0,
            )  # [BLOCK_L, BLOCK_D]
            w = tl.load(
                weight + columns[None, :] * dim + d[:, None],
                mask=(columns[None, :] < size) & (d[:, None] < dim),
                other=0.0,
            )  # [BLOCK_D, BLOCK_V]
            if UPCAST:
                h, w = h.to(tl.float32), w.to(tl.float32)
            logits = tl.dot(h, w, logits, input_precision="ieee")
        logits = tl.where(places[:, None] < end, logits, float("-inf"))
        top, at = tl.max(logits, axis=0, return_indices=True)  # [BLOCK_V], [BLOCK_V]
        better = top > best
        argmax = tl.where(better, (start + at).to(tl.int32), argmax)
        best = tl.where(better, top, best)
        # tl.max ignores NaN, which must not get lost
        broken = tl.max((logits != logits).to(tl.int32), axis=0) > 0
        best = tl.where(broken, float("nan"), best)
    inside = columns < size
    tl.store(best_out + row * size + columns, best, mask=inside)
    tl.store(argmax_out + row * size + columns, argmax, mask=inside)
