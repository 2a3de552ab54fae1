"""Products of 8-bit integers on a CPU, at about twice the rate of float32 without special hardware.

They serve in two ways. `Screen` finds with them the few vocabulary entries of a text that may be
active, with an error bound for each, and computes these exactly: the head's result stays that of
float32. `quantize_linear` puts them in the place of the products of the encoder itself, where the
result is close, not the same.

Weights have a scale for each output. Activations have 7 bits: on CPUs without VNNI two products of
8 bits would overflow the 16 bits in which they are added.
"""

from __future__ import annotations

import math
import platform
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

# Weights become -127..127, activations 64 - 63 .. 64 + 63.
_WEIGHT_STEPS, _STEPS, _ZERO = 127, 63, 64
# Columns of the vocabulary whose products are taken at once: they stay in the cache.
_TILE = 1024
# The 8-bit answer of the screen: what lies so many steps below zero is as good as minus infinity.
_ANSWER_ZERO = 200
# With more candidates than this share of the vocabulary the exact products cost more than is saved.
_WORTH = 0.25


def available() -> bool:
    """Whether torch has fast 8-bit products for this processor (those of oneDNN, on x86)."""
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    return on_x86 and bool(torch.backends.mkldnn.is_available())


class Screen:
    """The head under max pooling for one decoder, in float32, faster than by computing it all.

    With h = h' + e the 8-bit form h' of a hidden state and its error, and w = w' + f likewise,
    |h . w - h' . w'| <= |h| |f| + |e| |w'|. So an entry whose 8-bit logit lies below zero by more
    than that is not active, and is not computed. weight: [V, d]; bias: [V]; hidden: [T, d], some
    hidden states, to spread the range of their coordinates evenly.
    """

    def __init__(self, weight: Tensor, bias: Tensor, hidden: Tensor) -> None:
        self._weight, self._bias = weight, bias
        # A coordinate far larger than the others takes the steps of the scale from them (2211.10438
        # moves such a factor into the weights, as here).
        range = hidden.abs().amax(dim=0)  # [d]
        self._spread = (range / range.median().clamp(min=1e-6)).clamp(min=1.0)  # [d]
        self._tiles, norms, errors = [], [], []
        for tile in weight.split(_TILE):  # a copy of the whole would be most of the memory we need
            spread = tile * self._spread  # [tile, d]
            packed, rounded = _pack(spread)
            self._tiles.append(packed)
            norms.append(rounded.norm(dim=1))  # [tile] each
            errors.append((spread - rounded).norm(dim=1))
        self._norms = torch.cat(norms)  # [V], |w'|
        self._errors = torch.cat(errors)  # [V], |f|
        self.worth = True

    def active(self, tokens: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The entries whose logit is above zero somewhere in a text, by text and vocabulary id.

        tokens: [T, d], the texts one after the other; lengths: tokens of each. Returns text [N],
        id [N] and the largest logit [N]. `worth` becomes False if this did not pay.
        """
        candidates = self._candidates(tokens, lengths)  # [B, V]
        rows, columns, logits = [], [], []
        for row, (may, part) in enumerate(zip(candidates, tokens.split(lengths), strict=True)):
            ids = may.nonzero().squeeze(1)  # [n]
            if len(ids) == 0 or len(part) == 0:
                continue
            best = (part @ self._weight[ids].T).amax(dim=0) + self._bias[ids]  # [n]
            kept = ~(best <= 0)  # what is no number stays, for others to complain of
            columns.append(ids[kept])
            logits.append(best[kept])
            rows.append(torch.full_like(columns[-1], row))
        if not rows:
            none = torch.empty(0, dtype=torch.int64)
            return none, none, torch.empty(0)
        return torch.cat(rows), torch.cat(columns), torch.cat(logits)

    def _candidates(self, tokens: Tensor, lengths: list[int]) -> Tensor:
        """bool [B, V]: False where no token's logit can be above zero."""
        spread = tokens / self._spread  # [T, d]
        largest = float(spread.abs().max())
        if not math.isfinite(largest):
            return torch.ones(len(lengths), len(self._bias), dtype=torch.bool)
        step = max(largest / _STEPS, 1e-12)
        error = (spread - (spread / step).round() * step).norm(dim=1).max()
        bound = spread.norm(dim=1).max() * self._errors + error * self._norms  # [V]
        bound = 1.001 * bound + 1e-4  # what float32 itself rounds
        answer_step = float(bound.max()) / (_ANSWER_ZERO - 2)
        best = torch.empty(len(lengths), len(self._bias), dtype=torch.uint8)  # [B, V]
        steps = _to_steps(spread / step)
        start = 0
        for tile, bias in zip(self._tiles, self._bias.split(_TILE), strict=True):
            answers = tile.product(steps, step, bias, torch.uint8, answer_step, _ANSWER_ZERO)
            columns = slice(start, start + len(bias))
            for row, part in enumerate(answers.split(lengths)):  # [L_row, tile]
                best[row, columns] = part.amax(dim=0) if len(part) else 0
            start += len(bias)
        # half a step more, by which an answer is rounded
        low = _ANSWER_ZERO - 0.5 - bound / answer_step  # [V]
        candidates: Tensor = best >= low
        self.worth = float(candidates.float().mean()) < _WORTH
        return candidates


def quantize_linear(module: nn.Module) -> None:
    """Every linear layer inside the module with weights of 8 bits, in place."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.Linear):
                setattr(part, name, _Int8Linear(child))


class _Int8Linear(nn.Module):
    """A linear layer whose inputs have a scale of their own for each token, so that a text gives
    the same whatever is beside it; and a middle, since those after a GELU are hardly negative."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight, rounded = _pack(linear.weight.detach())
        self._sums = rounded.sum(dim=1)  # [out]
        zeros = torch.zeros(linear.out_features)
        self._bias = zeros if linear.bias is None else linear.bias.detach()  # [out]

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        flat = x.reshape(-1, x.shape[-1])  # [T, in]
        low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)  # [T, 1] each
        middle, step = (low + high) / 2, ((high - low) / (2 * _STEPS)).clamp(min=1e-9)
        # rounding is cutting off what is half a step higher
        steps = torch.addcmul(_ZERO + 0.5 - middle / step, flat, 1 / step).to(torch.uint8)
        products = self._weight.product(steps, 1.0, None, torch.float32, 1.0, 0)  # [T, out]
        out = torch.addcmul(self._bias, products, step).addcmul_(middle, self._sums)
        return out.reshape(*x.shape[:-1], -1)


def _to_steps(scaled: Tensor) -> Tensor:
    """uint8, of float32 in -_STEPS.._STEPS, which is overwritten."""
    return scaled.round_().add_(_ZERO).to(torch.uint8)


class _Weight(NamedTuple):
    """A matrix [out, in] as integers, one scale for each output."""

    packed: Tensor  # in the order of the processor's products
    scale: Tensor  # [out]
    zeros: Tensor  # [out]

    def product(
        self,
        steps: Tensor,  # [T, in]
        step: float,
        bias: Tensor | None,  # [out]
        dtype: torch.dtype,
        answer_step: float,
        answer_zero: int,
    ) -> Tensor:
        """[T, out] of (steps - _ZERO) * step times the weights, plus bias; divided by answer_step,
        moved by answer_zero and clipped, if dtype is uint8."""
        answer = torch.ops.onednn.qlinear_pointwise(
            steps, step, _ZERO, self.packed, self.scale, self.zeros, bias,
            answer_step, answer_zero, dtype, "none", [], "",
        )  # fmt: skip
        return cast(Tensor, answer)


def _pack(weight: Tensor) -> tuple[_Weight, Tensor]:
    """A matrix [out, in] as integers, and the numbers [out, in] they stand for."""
    scale = weight.abs().amax(dim=1).clamp(min=1e-9) / _WEIGHT_STEPS  # [out]
    steps = (weight / scale.unsqueeze(1)).round()  # [out, in]
    packed = torch.ops.onednn.qlinear_prepack(steps.to(torch.int8), None)
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return _Weight(packed, scale, zeros), steps.mul_(scale.unsqueeze(1))
