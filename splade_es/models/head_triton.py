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

import functools
import os
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, nn

# Entries whose rows are loaded at once by the backward kernel, and numbers of each.
_ENTRIES, _ROW_BLOCK = 4, 256


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
    batch, length, dim = hidden.shape
    size = len(weight)
    inside = mask.ne(0)
    # what lies behind the last token of a text is not computed
    places = torch.arange(1, length + 1, device=mask.device, dtype=torch.int32)
    ends = (inside * places).amax(dim=1)  # [B]
    best = torch.empty(batch, size, device=hidden.device, dtype=torch.float32)
    argmax = torch.empty_like(best, dtype=torch.int32) if with_argmax else None
    texts, block_v, block_l, block_d, warps = _blocks(hidden, length)
    # the texts are the fast axis, so that programs that run together share a vocabulary block
    grid = (triton.cdiv(batch, texts), triton.cdiv(size, block_v))
    # Triton starts a kernel on the current device, not on that of its arguments
    with torch.cuda.device_of(hidden):
        _max_kernel[grid](
            hidden.contiguous(), weight.contiguous(), inside.to(torch.int8), ends,
            best, best if argmax is None else argmax, batch, length, size, dim,
            TEXTS=texts, BLOCK_V=block_v, BLOCK_L=block_l, BLOCK_D=block_d,
            WHOLE=dim % block_d == 0, ARGMAX=with_argmax,
            # Triton's interpreter, with which the kernel is tested without a GPU, has no bfloat16
            UPCAST=os.environ.get("TRITON_INTERPRET") == "1" and hidden.dtype == torch.bfloat16,
            num_warps=warps, num_stages=3,
        )  # fmt: skip
    return best, argmax


def _blocks(hidden: Tensor, length: int) -> tuple[int, int, int, int, int]:
    """Texts, vocabulary entries, tokens of a text and dimensions of a block, and its warps."""
    if hidden.dtype == torch.float32:
        # exact products are no work of the tensor cores, and the operands need registers
        return 1, 64, 64, 32, 4
    if length <= 64:  # so many texts that the products are as large as with long ones
        tokens = max(16, triton.next_power_of_2(length))
        return 128 // tokens, 128, tokens, 64, 8
    if length > 128 and _shared_memory(hidden.device) >= 3 * 2 * 64 * (128 + 256):
        return 1, 128, 256, 64, 8
    return 1, 128, 128, 64, 8


@functools.cache
def _shared_memory(device: torch.device) -> int:
    """Bytes that a block may have: 99 kB on the cards of workstations, 163 and more on others."""
    if device.type != "cuda":
        return 0
    return int(torch.cuda.get_device_properties(device).shared_memory_per_block_optin)


# Long because what a kernel does is in registers, which a helper would have to name one by one.
# Many parameters because a tensor is a pointer here, and its sizes come beside it.
@triton.jit  # type: ignore[untyped-decorator]
def _max_kernel(  # type: ignore[no-untyped-def]
    hidden,  # [batch, length, dim]
    weight,  # [size, dim]
    inside,  # [batch, length]
    ends,  # [batch]
    best_out,  # [batch, size]
    argmax_out,  # [batch, size]
    batch,
    length,
    size,
    dim,
    TEXTS: tl.constexpr,  # of a block; above 1 where all tokens of a text are in one block
    BLOCK_V: tl.constexpr,
    BLOCK_L: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WHOLE: tl.constexpr,  # dim is a multiple of BLOCK_D
    ARGMAX: tl.constexpr,
    UPCAST: tl.constexpr,
):
    rows = tl.program_id(0).to(tl.int64) * TEXTS + tl.arange(0, TEXTS)  # [TEXTS]
    ids = tl.program_id(1).to(tl.int64) * BLOCK_V + tl.arange(0, BLOCK_V)  # [BLOCK_V]
    columns = tl.arange(0, TEXTS * BLOCK_L)
    texts = tl.program_id(0).to(tl.int64) * TEXTS + columns // BLOCK_L  # of each column
    # a row that does not exist is replaced by one that does: what comes of it is not used
    w_rows = weight + tl.where(ids < size, ids, 0)[:, None] * dim  # [BLOCK_V, 1]
    end = tl.max(tl.load(ends + rows, mask=rows < batch, other=0), axis=0)
    best = tl.full([BLOCK_V, TEXTS], float("-inf"), tl.float32)
    argmax = tl.zeros([BLOCK_V, TEXTS], tl.int32)
    check = tl.zeros([BLOCK_V, TEXTS], tl.float32)
    for start in range(0, end, BLOCK_L):
        # the tokens are the columns: then most of a max is taken within a thread
        logits = tl.zeros([BLOCK_V, TEXTS * BLOCK_L], tl.float32)
        near = texts * length + start + columns % BLOCK_L
        h_rows = hidden + tl.where(near < batch.to(tl.int64) * length, near, 0)[None, :] * dim
        for k in range(0, dim, BLOCK_D):
            d = k + tl.arange(0, BLOCK_D)  # [BLOCK_D]
            if WHOLE:
                w = tl.load(w_rows + d[None, :])  # [BLOCK_V, BLOCK_D]
                h = tl.load(h_rows + d[:, None])  # [BLOCK_D, TEXTS * BLOCK_L]
            else:
                w = tl.load(w_rows + d[None, :], mask=d[None, :] < dim, other=0.0)
                h = tl.load(h_rows + d[:, None], mask=d[:, None] < dim, other=0.0)
            if UPCAST:
                w, h = w.to(tl.float32), h.to(tl.float32)
            logits = tl.dot(w, h, logits, input_precision="ieee")
        logits = logits.reshape(BLOCK_V, TEXTS, BLOCK_L)
        places = start + tl.arange(0, BLOCK_L)  # [BLOCK_L]
        there = (rows < batch)[:, None] & (places < length)[None, :]
        token = tl.load(inside + rows[:, None] * length + places[None, :], mask=there, other=0)
        token = token[None, :, :] != 0  # [1, TEXTS, BLOCK_L]
        # tl.max ignores NaN, which must not get lost: a sum does not lose it
        check += tl.sum(tl.where(token, logits, 0.0), axis=2)
        logits = tl.where(token, logits, float("-inf"))
        top = tl.max(logits, axis=2)  # [BLOCK_V, TEXTS]
        if ARGMAX:
            same = logits == top[:, :, None]
            at = tl.min(tl.where(same, places[None, None, :], length), axis=2)
            argmax = tl.where(top > best, at, argmax)
        best = tl.maximum(best, top)
    best = tl.where(check == check, best, float("nan"))
    out = rows[None, :] * size + ids[:, None]
    there = (rows < batch)[None, :] & (ids < size)[:, None]
    tl.store(best_out + out, best, mask=there)
    if ARGMAX:
        tl.store(argmax_out + out, argmax, mask=there)


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
    active, counts = torch.unique_consecutive(ids, return_counts=True)  # [m] each
    starts = nn.functional.pad(counts.cumsum(0), (1, 0))  # [m + 1]
    of_weight = _sums(flat, tokens, values, starts, torch.float32)
    tokens, order = tokens.sort(stable=True)
    starts = torch.searchsorted(tokens, torch.arange(len(flat) + 1, device=hidden.device))
    of_hidden = _sums(weight, ids[order], values[order], starts, hidden.dtype)
    return of_hidden.view(batch, length, dim), active, of_weight


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
            ENTRIES=_ENTRIES, BLOCK_D=_ROW_BLOCK, num_warps=1,
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
