"""The SPLADE head: hidden states in, one weight per vocabulary entry out.

    max:  w[b, v] = log1p(relu(max over l of H[b, l] . W[v] + bias[v]))   (SPLADE v2, 2109.10086)
    sum:  w[b, v] = sum over l of log1p(relu(H[b, l] . W[v] + bias[v]))      (SPLADE, 2107.05720)

over the unmasked positions l. The activation log1p_relu takes log1p once more (2504.14839).

The formula as it stands builds the B x L x V logits, several times over. Here they never exist:

- log1p and relu are monotone, so the max comes first. It is taken for a slice of the vocabulary at
  a time, and on CUDA in one kernel (head_triton.py).
- Padding is dropped before anything is computed.
- The gradient of a max reaches one position only, so the backward pass touches the token with the
  largest logit of each active entry and nothing else.
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
# until it is reduced. On a GPU a few large products are better, up to 2^26 logits.
_CPU_TILE = 512
_GPU_TILE_ELEMENTS = 2**26


def splade_head(
    hidden: Tensor,
    mask: Tensor,
    weight: Tensor,
    bias: Tensor,
    pooling: Pooling = "max",
    activation: Activation = "relu",
    *,
    kernel: bool | None = None,
) -> Tensor:
    """Compute the SPLADE weights of a batch, differentiable in hidden, weight and bias.

    Parameters
    ----------
    hidden : Tensor [B, L, d]
        Transformed hidden states, in the dtype to compute in.
    mask : Tensor [B, L]
        Non-zero where there is a token.
    weight : Tensor [V, d]
        Of the decoder.
    bias : Tensor [V]
        Of the decoder.
    pooling : {"max", "sum"}
        Over the tokens of a text.
    activation : {"relu", "log1p_relu"}
        From a logit to a weight, see `activate`.
    kernel : bool, optional
        Use the Triton kernel. By default on CUDA in 16 bits, where it works.

    Returns
    -------
    Tensor [B, V]
        float32, all >= 0. A row without any token is all zeros. With max pooling the gradient of
        `weight` is a sparse tensor without the rows of tokens that are active in no text.
    """
    if kernel is None:
        kernel = uses_kernel(hidden.device, hidden.dtype, pooling)
    if pooling == "max" and kernel:
        logits = _MaxByKernel.apply(hidden, mask, weight, bias)  # [B, V]
        return activate(logits, activation)
    tokens = hidden[mask.bool()]  # [T, d], rows of the batch one after the other, no padding
    lengths = mask.bool().sum(dim=1).tolist()
    if pooling == "sum":
        twice = activation == "log1p_relu"
        return cast(Tensor, _SumOfActivations.apply(tokens, weight, bias, lengths, twice))
    logits = _MaxOfLogits.apply(tokens, weight, bias, lengths)  # [B, V]
    return activate(logits, activation)


def uses_kernel(device: torch.device, dtype: torch.dtype, pooling: Pooling) -> bool:
    """Return whether `splade_head` uses the Triton kernel of its own accord."""
    # products of float32 are no work of the tensor cores: cuBLAS is faster
    half = dtype != torch.float32
    return device.type == "cuda" and half and pooling == "max" and _kernel_works()


def activate(logits: Tensor, activation: Activation) -> Tensor:
    """Turn logits into weights: log1p(relu(x)), and log1p of that for log1p_relu."""
    once = torch.log1p(torch.relu(logits))
    return torch.log1p(once) if activation == "log1p_relu" else once


def multi_hot(input_ids: Tensor, mask: Tensor, size: int) -> Tensor:
    """Return float32 [B, size]: 1 for each token of a text, 0 elsewhere.

    input_ids, mask: [B, L].
    """
    counts = torch.zeros(len(input_ids), size, device=input_ids.device)
    counts.scatter_add_(1, input_ids, mask.to(counts.dtype))
    return (counts > 0).to(counts.dtype)


def argmax_positions(hidden: Tensor, weight: Tensor, ids: Tensor) -> Tensor:
    """Find the position in one text with the largest logit for each of some vocabulary entries.

    hidden: [L, d]; weight: [V, d]; ids: [n]. Returns int64 [n].

    They are not kept from the forward pass, because a max with its index is several times slower
    than a max, and only the few active entries are ever needed.
    """
    return (weight[ids].to(hidden.dtype) @ hidden.T).argmax(dim=1)


def _tile(tokens: Tensor, size: int) -> int:
    if tokens.device.type == "cpu":
        return _CPU_TILE
    return max(_CPU_TILE, min(size, _GPU_TILE_ELEMENTS // max(1, len(tokens))))


@functools.cache
def _kernel_works() -> bool:
    """Try the kernel once: Triton needs a C compiler, and a GPU that is not too old."""
    if find_spec("triton") is None:
        return False
    try:
        from splade_es.models.head_triton import max_of_logits

        if torch.cuda.get_device_capability() < (8, 0):
            return False  # no products in tensor cores there, by Triton's compiler
        some = torch.zeros(1, 16, 64, device="cuda", dtype=torch.bfloat16)
        max_of_logits(some, some[:, :, 0], some[0])
    except Exception as error:  # of Triton, of the compiler, of the driver
        warnings.warn(
            f"The Triton kernel does not work here ({type(error).__name__}: {error}). "
            "Encoding and training are slower without it. Is a C compiler installed?",
            stacklevel=2,
        )
        return False
    return True


class _MaxOfLogits(torch.autograd.Function):
    """Compute float32 [B, V], the max over each row's tokens of tokens @ weight.T + bias.

    It is -inf for a row without tokens.
    """

    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, weight: Tensor, bias: Tensor, lengths: list[int]
    ) -> Tensor:
        best = tokens.new_empty((len(lengths), len(weight)), dtype=torch.float32)  # [B, V]
        tile = _tile(tokens, len(weight))
        for start in range(0, len(weight), tile):
            columns = slice(start, start + tile)
            logits = tokens @ weight[columns].to(tokens.dtype).T  # [T, tile]
            for row, part in enumerate(logits.split(lengths)):  # [L_row, tile]
                best[row, columns] = part.amax(dim=0) if len(part) else float("-inf")
        ctx.save_for_backward(tokens, weight)
        ctx.lengths = lengths
        return best.add_(bias)  # after the max, because it is the same for every position

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tokens, weight = ctx.saved_tensors
        learns = ctx.needs_input_grad[1]
        grad = grads[0]  # [B, V], zero where relu gave zero, and so in rows without tokens
        grad_tokens = torch.zeros_like(tokens, dtype=torch.float32)  # [T, d]
        if learns:
            active = grad.any(dim=0).nonzero().squeeze(1)  # [m], ids of all rows together
            place = torch.empty(len(weight), dtype=torch.int64, device=weight.device)  # [V]
            place[active] = torch.arange(len(active), device=weight.device)
            grad_weight = tokens.new_zeros(  # [m, d]
                (len(active), weight.shape[1]), dtype=torch.float32
            )
        for ids, g, positions in _entries(ctx, grad, tokens, weight):
            grad_tokens.index_add_(0, positions, g * weight[ids])
            if learns:
                grad_weight.index_add_(0, place[ids], g * tokens[positions])
        rows = _rows_of(weight, active, grad_weight) if learns else None
        return grad_tokens.to(tokens.dtype), rows, grad.sum(dim=0), None


class _MaxByKernel(torch.autograd.Function):
    """Compute the same of hidden [B, L, d] and mask [B, L] with the kernels of head_triton.py."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, mask: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        from splade_es.models.head_triton import max_of_logits

        learns = any(ctx.needs_input_grad)
        best, argmax = max_of_logits(
            hidden, mask, weight.to(hidden.dtype), with_argmax=learns
        )  # [B, V] each
        ctx.save_for_backward(hidden, weight, argmax)
        return best.add_(bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        from splade_es.models.head_triton import gradients

        hidden, weight, argmax = ctx.saved_tensors
        of_hidden, ids, of_rows = gradients(grads[0], argmax, hidden, weight)
        return of_hidden, None, _rows_of(weight, ids, of_rows), grads[0].sum(dim=0)


def _rows_of(weight: Tensor, ids: Tensor, grad: Tensor) -> Tensor:
    """Return the gradient of weight [V, d], which is zero but for grad [m, d] in the rows ids [m].

    A dense one would be the largest tensor of all, and nearly empty.
    """
    grad = grad.to(weight.dtype)
    if weight.device.type == "mps":  # older versions have no sparse tensors there
        return torch.zeros_like(weight).index_copy_(0, ids, grad)
    return torch.sparse_coo_tensor(
        ids.unsqueeze(0), grad, weight.shape, is_coalesced=True, check_invariants=False
    )


def _entries(
    ctx: Any, grad: Tensor, tokens: Tensor, weight: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield the non-zero entries of grad [B, V], some at a time, so that n x d stays small.

    Yields ids [n] of the vocabulary, gradients [n, 1], and positions [n], the rows of tokens [T, d]
    that have the largest logits.
    """
    start = 0
    for row, hidden in zip(grad, tokens.split(ctx.lengths), strict=True):
        ids = row.nonzero().squeeze(1)  # [n]
        if len(ids):
            yield ids, row[ids].unsqueeze(1), start + argmax_positions(hidden, weight, ids)
        start += len(hidden)


class _SumOfActivations(torch.autograd.Function):
    """Compute float32 [B, V], the sum over each row's tokens of their activations.

    Every positive logit has a gradient here, so the backward pass computes each tile again.
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
