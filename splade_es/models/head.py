"""The SPLADE head: hidden states in, one weight per vocabulary entry out.

    max:  w[b, v] = log1p(relu(max over l of H[b, l] . W[v] + bias[v]))   (SPLADE v2, 2109.10086)
    sum:  w[b, v] = sum over l of log1p(relu(H[b, l] . W[v] + bias[v]))      (SPLADE, 2107.05720)

over the unmasked positions l; an activation of log1p_relu takes log1p once more (2504.14839). The
plain way builds the B x L x V logits, several times over. Here they never exist: log1p and relu are
monotone, so the max comes first; it is taken tile by tile, for a slice of the vocabulary at a time,
on CUDA in one kernel (head_triton.py); padding is dropped, not computed; and the gradient of a max
reaches one position only, so backward touches the winning token of each active entry and nothing
else.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Tensor

from splade_es.models.files import Activation, Pooling

# Columns of the vocabulary computed at once. On a CPU a tile of logits should stay in the cache
# until it is reduced; on a GPU few large products are better, bounded to 2^26 logits.
_CPU_TILE = 512
_GPU_TILE_ELEMENTS = 2**26
_GPU_ENTRY_ELEMENTS = 2**25


def splade_head(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    pooling: Pooling = "max",
    activation: Activation = "relu",
) -> Tensor:
    """SPLADE weights of a batch, differentiable in hidden, weight and bias.

    hidden: [B, L, d] in the dtype to compute in; mask: [B, L], non-zero where a token counts;
    weight: [V, d] and bias: [V], the decoder. Returns float32 [B, V], all >= 0. A row without any
    token is all zeros. The gradient of weight is a sparse tensor under max pooling: rows of tokens
    that no text has active are not in it.
    """
    tokens = hidden[mask.bool()]  # [T, d], rows of the batch one after the other, no padding
    lengths = mask.bool().sum(dim=1).tolist()
    if pooling == "sum":
        twice = activation == "log1p_relu"
        return cast(Tensor, _SumOfActivations.apply(tokens, weight, bias, lengths, twice))
    return activate(_MaxOfLogits.apply(tokens, weight, bias, lengths), activation)


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """The weight that a logit becomes."""
    once = torch.log1p(torch.relu(logits))
    return torch.log1p(once) if activation == "log1p_relu" else once


def presence(input_ids: Tensor, mask: Tensor, size: int) -> Tensor:
    """float32 [B, size]: 1 for each token of a text, 0 elsewhere. input_ids, mask: [B, L]."""
    counts = torch.zeros(len(input_ids), size, device=input_ids.device)
    counts.scatter_add_(1, input_ids, mask.to(counts.dtype))
    return (counts > 0).to(counts.dtype)


def winning_positions(hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
    """The position whose logit is the largest for each of some vocabulary entries, in one text.

    hidden: [L, d]; weight: [V, d]; ids: [n]. Returns int64 [n].

    Computed again instead of kept from the forward pass: a max with its index is several times
    slower than a max, and only the few active entries are ever asked for.
    """
    return (weight[ids].to(hidden.dtype) @ hidden.T).argmax(dim=1)


def _tile(tokens: Tensor, size: int) -> int:
    if tokens.device.type == "cpu":
        return _CPU_TILE
    return max(_CPU_TILE, min(size, _GPU_TILE_ELEMENTS // max(1, len(tokens))))


def _use_kernel(tokens: Tensor) -> bool:
    return tokens.is_cuda and _kernel_works()


@functools.cache
def _kernel_works() -> bool:
    """Triton comes with torch on Linux, but needs a C compiler and a GPU that is not too old."""
    if find_spec("triton") is None:
        return False
    from splade_es.models.head_triton import max_of_logits

    try:
        some = torch.zeros(16, 16, device="cuda")
        max_of_logits(some, some, [16])
    except Exception as error:  # of Triton, of the compiler, of the driver
        warnings.warn(
            f"The Triton kernel does not run here ({type(error).__name__}: {error}): "
            "encoding and training are slower than they could be. Is a C compiler installed?",
            stacklevel=2,
        )
        return False
    return True


class _MaxOfLogits(torch.autograd.Function):
    """float32 [B, V]: max over each row's tokens of tokens @ weight.T + bias; -inf for none."""

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor, lengths: list[int]
    ) -> Tensor:
        ctx.winners = None
        if _use_kernel(tokens):
            from splade_es.models.head_triton import max_of_logits

            best, ctx.winners = max_of_logits(tokens, weight.to(tokens.dtype), lengths)
        else:
            best = tokens.new_empty((len(lengths), len(weight)), dtype=torch.float32)  # [B, V]
            tile = _tile(tokens, len(weight))
            for start in range(0, len(weight), tile):
                columns = slice(start, start + tile)
                logits = tokens @ weight[columns].to(tokens.dtype).T  # [T, tile]
                for row, part in enumerate(logits.split(lengths)):  # [L_row, tile]
                    best[row, columns] = part.amax(dim=0) if len(part) else float("-inf")
        ctx.save_for_backward(tokens, weight)
        ctx.lengths = lengths
        return best.add_(bias)  # the same for every position, so it can wait until after the max

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight = ctx.saved_tensors
        learns = ctx.needs_input_grad[1]
        grad = grads[0]  # [B, V], zero wherever relu was shut, and so in rows without tokens
        grad_tokens = torch.zeros_like(tokens, dtype=torch.float32)  # [T, d]
        if learns:
            active = grad.any(dim=0).nonzero().squeeze(1)  # [m], ids of any row
            place = torch.empty(len(weight), dtype=torch.int64, device=weight.device)  # [V]
            place[active] = torch.arange(len(active), device=weight.device)
            grad_weight = tokens.new_zeros(  # [m, d]
                (len(active), weight.shape[1]), dtype=torch.float32
            )
        for ids, g, winners in _entries(grad, tokens, weight, ctx.lengths, ctx.winners):
            grad_tokens.index_add_(0, winners, g * weight[ids])
            if learns:
                grad_weight.index_add_(0, place[ids], g * tokens[winners])
        rows = None
        if learns and weight.device.type == "mps":  # which had no sparse tensors for long
            rows = torch.zeros_like(weight).index_copy_(0, active, grad_weight.to(weight.dtype))
        elif learns:  # dense, it would be the largest tensor of all, and nearly empty
            rows = torch.sparse_coo_tensor(
                active.unsqueeze(0),
                grad_weight.to(weight.dtype),
                weight.shape,
                is_coalesced=True,
                check_invariants=False,
            )
        return grad_tokens.to(tokens.dtype), rows, grad.sum(dim=0), None


def _entries(
    grad: Tensor, tokens: Tensor, weight: Tensor, lengths: list[int], winners: Tensor | None
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """The entries of grad [B, V] that are not zero, some at a time, so that n x d stays small:
    ids [n] of the vocabulary, gradients [n, 1], and the rows of tokens [n] that won them."""
    if winners is not None:
        every, ids = grad.nonzero(as_tuple=True)  # [N], [N]
        some = max(1, _GPU_ENTRY_ELEMENTS // weight.shape[1])
        for row, id in zip(every.split(some), ids.split(some), strict=True):
            yield id, grad[row, id].unsqueeze(1), winners[row, id]
        return
    start = 0
    for row, hidden in zip(grad, tokens.split(lengths), strict=True):
        ids = row.nonzero().squeeze(1)  # [n]
        if len(ids):
            yield ids, row[ids].unsqueeze(1), start + winning_positions(hidden, weight, ids)
        start += len(hidden)


class _SumOfActivations(torch.autograd.Function):
    """float32 [B, V] = sum over each row's tokens of log1p(relu(tokens @ weight.T + bias)), or of
    its log1p.

    Every positive logit has a gradient here, so backward computes each tile again.
    """

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor, lengths: list[int], twice: bool
    ) -> Tensor:
        size = len(weight)
        total = tokens.new_zeros((len(lengths), size), dtype=torch.float32)  # [B, V]
        tile = _tile(tokens, size)
        for start in range(0, size, tile):
            columns = slice(start, start + tile)
            logits = tokens @ weight[columns].to(tokens.dtype).T  # [T, tile]
            active = torch.log1p(torch.relu(logits.float() + bias[columns]))
            if twice:
                active = torch.log1p(active)
            for row, part in enumerate(active.split(lengths)):  # [L_row, tile]
                total[row, columns] = part.sum(dim=0)
        ctx.save_for_backward(tokens, weight, bias)
        ctx.lengths, ctx.twice = lengths, twice
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight, bias = ctx.saved_tensors
        grad = grads[0]  # [B, V]
        grad_tokens = torch.zeros_like(tokens, dtype=torch.float32)  # [T, d]
        grad_weight = torch.zeros_like(weight, dtype=torch.float32)  # [V, d]
        grad_bias = torch.zeros_like(bias, dtype=torch.float32)  # [V]
        row_of_token = torch.repeat_interleave(
            torch.tensor(ctx.lengths, device=tokens.device)
        )  # [T]
        tile = _tile(tokens, len(weight))
        for start in range(0, len(weight), tile):
            columns = slice(start, start + tile)
            w = weight[columns].to(tokens.dtype)  # [tile, d]
            logits = (tokens @ w.T).float() + bias[columns]  # [T, tile]
            # d log1p(relu(x)) / dx = 1 / (1 + x) where x > 0
            slope = torch.where(logits > 0, 1 / (1 + logits), 0.0)
            if ctx.twice:
                slope = slope / (1 + torch.log1p(logits.clamp(min=0)))
            slope = slope * grad[row_of_token, columns]  # [T, tile]
            grad_tokens += (slope.to(w.dtype) @ w).float()
            grad_weight[columns] = (slope.to(tokens.dtype).T @ tokens).float()
            grad_bias[columns] = slope.sum(dim=0)
        return grad_tokens.to(tokens.dtype), grad_weight.to(weight.dtype), grad_bias, None, None
