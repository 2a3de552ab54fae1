"""The max of the SPLADE head on a GPU, forward and backward, as Triton kernels.

Triton comes with torch on Linux. The logits of a text are in registers, a block of the vocabulary
times a block of tokens at a time. Only their maximum and its position are written: neither the
B x L x V tensor nor a tile of it ever exists. Sparton (2603.25011) does the same. Nothing waits for
the device: the lengths of the texts stay on it.

The gradient of an entry reaches the one token that has its largest logit. Entries are sorted by
vocabulary id, and by token, and a program adds up those of one row. So no two programs write to one
place, and a gradient is the same to the bit each time.
"""

from __future__ import annotations

import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from triton.tools.tensor_descriptor import TensorDescriptor

# Entries whose rows are loaded at once by the backward kernel, and numbers of each.
_ENTRIES, _ROW_BLOCK = 16, 256


def max_of_logits(
    hidden: Tensor, mask: Tensor, weight: Tensor, *, with_argmax: bool = True
) -> tuple[Tensor, Tensor | None]:
    """Take the max and the argmax of hidden @ weight.T over the tokens of each text.

    Parameters
    ----------
    hidden : Tensor [B, L, d]
        Hidden states.
    mask : Tensor [B, L]
        Non-zero where there is a token.
    weight : Tensor [V, d]
        In the dtype of `hidden`.
    with_argmax : bool
        Without it, as no gradient needs it, the kernel is faster.

    Returns
    -------
    Tensor [B, V]
        float32; -inf for a text without tokens, NaN where one of its logits is NaN.
    Tensor [B, V] or None
        int32: positions in the text, of equal logits the first.
    """
    batch, length, _ = hidden.shape
    size = len(weight)
    inside = mask.ne(0)
    # what lies behind the last token of a text is not computed
    places = torch.arange(1, length + 1, device=mask.device, dtype=torch.int32)
    ends = (inside * places).amax(dim=1)  # [B]
    best = torch.empty(batch, size, device=hidden.device, dtype=torch.float32)
    argmax = torch.empty_like(best, dtype=torch.int32) if with_argmax else None
    block_v, block_l, block_d, warps, stages = _blocks(hidden.dtype, length, with_argmax)
    # the texts are the fast axis, so that programs that run together share a vocabulary block
    grid = (batch, triton.cdiv(size, block_v))
    # Triton starts a kernel on the current device, not on that of its arguments
    with torch.cuda.device_of(hidden):
        _max_kernel[grid](
            TensorDescriptor.from_tensor(_aligned(hidden), [1, block_l, block_d]),
            TensorDescriptor.from_tensor(_aligned(weight), [block_v, block_d]),
            inside.to(torch.int8), ends, best, best if argmax is None else argmax,
            length, size, hidden.shape[2],
            BLOCK_V=block_v, BLOCK_L=block_l, BLOCK_D=block_d, ARGMAX=with_argmax,
            # Triton's interpreter, with which the kernel is tested without a GPU, has no bfloat16
            UPCAST=os.environ.get("TRITON_INTERPRET") == "1" and hidden.dtype == torch.bfloat16,
            num_warps=warps, num_stages=stages,
        )  # fmt: skip
    return best, argmax


def _blocks(dtype: torch.dtype, length: int, with_argmax: bool) -> tuple[int, int, int, int, int]:
    """Vocabulary entries, tokens and dimensions of a block, warps, and stages of the pipeline.

    The fastest of those tried on an H200.
    """
    if dtype == torch.float32:
        # exact products are no work of the tensor cores, and the operands need registers
        return 64, 64, 32, 4, 3
    if length <= 64:
        return 128, 32 if length <= 32 else 64, 64, 4, 4
    if length <= 128 or with_argmax:
        return 128, 128, 64, 4, 3
    return 128, 256, 64, 8, 3


def _aligned(matrix: Tensor) -> Tensor:
    """Return a matrix [..., d] as the hardware copies it: its rows begin at multiples of 16 bytes.

    Zeros are added to rows of another length; no real model has them.
    """
    step = 16 // matrix.element_size()
    rest = -matrix.shape[-1] % step
    return nn.functional.pad(matrix, (0, rest)) if rest else matrix.contiguous()


@triton.jit  # type: ignore[untyped-decorator]
def _max_kernel(  # type: ignore[no-untyped-def]
    hidden,  # [B, length, dim]
    weight,  # [size, dim]
    inside,  # [B, length]
    ends,  # [B]
    best_out,  # [B, size]
    argmax_out,  # [B, size]
    length,
    size,
    dim,
    BLOCK_V: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_D: tl.constexpr,
    ARGMAX: tl.constexpr,
    UPCAST: tl.constexpr,
):
    row = tl.program_id(0)
    first = tl.program_id(1) * BLOCK_V
    end = tl.load(ends + row)
    best = tl.full([BLOCK_V], float("-inf"), tl.float32)
    argmax = tl.zeros([BLOCK_V], tl.int32)
    check = tl.zeros([BLOCK_V], tl.float32)
    for start in range(0, end, BLOCK_L):
        # the tokens are the columns: then most of a max is taken within a thread
        logits = tl.zeros([BLOCK_V, BLOCK_L], tl.float32)
        for k in range(0, dim, BLOCK_D):
            w = weight.load([first, k])  # [BLOCK_V, BLOCK_D]; zeros where there is no row
            h = hidden.load([row, start, k]).reshape(BLOCK_L, BLOCK_D)
            if UPCAST:
                w, h = w.to(tl.float32), h.to(tl.float32)
            logits = tl.dot(w, h.T, logits, input_precision="ieee")
        places = start + tl.arange(0, BLOCK_L)  # [BLOCK_L]
        token = inside + row.to(tl.int64) * length + places
        token = tl.load(token, mask=places < end, other=0) != 0
        # tl.max ignores NaN, which must not get lost: a sum does not lose it
        check += tl.sum(tl.where(token[None, :], logits, 0.0), axis=1)
        logits = tl.where(token[None, :], logits, float("-inf"))
        top = tl.max(logits, axis=1)  # [BLOCK_V]
        if ARGMAX:
            at = tl.min(tl.where(logits == top[:, None], places[None, :], length), axis=1)
            argmax = tl.where(top > best, at, argmax)
        best = tl.maximum(best, top)
    best = tl.where(check == check, best, float("nan"))
    ids = first + tl.arange(0, BLOCK_V)  # [BLOCK_V]
    out = row.to(tl.int64) * size + ids
    tl.store(best_out + out, best, mask=ids < size)
    if ARGMAX:
        tl.store(argmax_out + out, argmax, mask=ids < size)


def gradients(
    grad: Tensor, argmax: Tensor, hidden: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Carry the gradient of the max back to the hidden states and the weight.

    Parameters
    ----------
    grad : Tensor [B, V]
        Gradient of the max.
    argmax : Tensor [B, V]
        Of `max_of_logits`.
    hidden : Tensor [B, L, d]
        Hidden states.
    weight : Tensor [V, d]
        Of the decoder, in any dtype.

    Returns
    -------
    Tensor [B, L, d]
        Gradient of `hidden`, in its dtype.
    Tensor [m]
        int64: the vocabulary ids that have a gradient, ascending.
    Tensor [m, d]
        float32: the gradients of these rows of the weight.
    """
    batch, length, dim = hidden.shape
    flat = hidden.contiguous().view(batch * length, dim)  # [B * L, d]
    ids, rows = grad.T.contiguous().nonzero(as_tuple=True)  # [N] each, by id and then by text
    values = grad[rows, ids]  # [N]
    tokens = rows * length + argmax[rows, ids]  # [N], rows of flat
    active = torch.unique_consecutive(ids)  # [m]
    of_weight = _sums(flat, tokens, values, _starts(ids, active), torch.float32)
    tokens, order = tokens.sort(stable=True)
    all_tokens = torch.arange(batch * length, device=hidden.device)
    starts = _starts(tokens, all_tokens)
    of_hidden = _sums(weight, ids[order], values[order], starts, hidden.dtype)
    return of_hidden.view(batch, length, dim), active, of_weight


def _starts(keys: Tensor, values: Tensor) -> Tensor:
    """Return int64 [n + 1]: where each of the values begins among the sorted keys, and the end."""
    end = torch.tensor([len(keys)], device=keys.device)
    return torch.cat([torch.searchsorted(keys, values), end])


def _sums(source: Tensor, rows: Tensor, factors: Tensor, starts: Tensor, dtype: Any) -> Tensor:
    """Return [n, d]: for each of n segments the sum over its entries of factor * source[row].

    source: [m, d]; rows, factors: [N]; starts: [n + 1].
    """
    dim = source.shape[1]
    out = torch.empty(len(starts) - 1, dim, device=source.device, dtype=dtype)
    grid = (len(out), triton.cdiv(dim, _ROW_BLOCK))
    with torch.cuda.device_of(source):
        _sum_kernel[grid](
            source.contiguous(), rows, factors, starts, out, dim,
            ENTRIES=_ENTRIES, BLOCK_D=_ROW_BLOCK, num_warps=4,
        )  # fmt: skip
    return out


@triton.jit  # type: ignore[untyped-decorator]
def _sum_kernel(  # type: ignore[no-untyped-def]
    source,  # [m, dim]
    rows,  # [N]
    factors,  # [N]
    starts,  # [n + 1]
    out,  # [n, dim]
    dim,
    ENTRIES: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    segment = tl.program_id(0).to(tl.int64)
    d = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)  # [BLOCK_D]
    first = tl.load(starts + segment)
    end = tl.load(starts + segment + 1)
    total = tl.zeros([BLOCK_D], tl.float32)
    for start in range(first, end, ENTRIES):
        entries = start + tl.arange(0, ENTRIES)  # [ENTRIES]
        row = tl.load(rows + entries, mask=entries < end, other=0)
        factor = tl.load(factors + entries, mask=entries < end, other=0.0)
        some = tl.load(
            source + row[:, None] * dim + d[None, :],
            mask=(entries < end)[:, None] & (d < dim)[None, :],
            other=0.0,
        ).to(tl.float32)  # [ENTRIES, BLOCK_D]
        total += tl.sum(factor[:, None] * some, axis=0)
    tl.store(out + segment * dim + d, total, mask=d < dim)
