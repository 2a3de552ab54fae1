"""Products of 8-bit integers on a CPU, at about twice the rate of float32 without special hardware.

They are used in two ways:

- `CandidateFilter` finds with them the few vocabulary entries of a text that may be active, with an
  error bound for each, and computes only these, in float32. The result of the head is exact.
- `quantize_linear` replaces the products inside the encoder. The result is close, not equal.

Weights have one scale for each output. Activations have 8 bits where the processor has AVX-512
VNNI, and 7 elsewhere: there two products of 8 bits would overflow the 16 bits in which they are
added.
"""

from __future__ import annotations

import math
import platform
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

_WEIGHT_STEPS = 127  # weights become -127..127
# Activations become _ZERO - _STEPS .. _ZERO + _STEPS.
_STEPS, _ZERO = (127, 128) if torch.cpu._is_vnni_supported() else (63, 64)
# Columns of the vocabulary whose products are computed at once: they stay in the cache.
_TILE = 1024
# The integer that stands for a logit of zero in the 8-bit output of the filter. What is lower by
# more than this many steps becomes 0, which no bound reaches.
_OUTPUT_ZERO = 200
# With more candidates than this share of the vocabulary the exact products cost more than the
# filter saves.
_MAX_CANDIDATES = 0.25


def available() -> bool:
    """Return whether torch has fast 8-bit products for this processor (oneDNN's, on x86)."""
    on_x86 = platform.machine() in ("x86_64", "AMD64")
    return on_x86 and bool(torch.backends.mkldnn.is_available())


class CandidateFilter:
    """The head with max pooling for one decoder, in float32, without computing every logit.

    Let h' be the 8-bit form of a hidden state h = h' + e, and w' that of a decoder row w = w' + f.
    Then |h . w - h' . w'| <= |h| |f| + |e| |w'|. So an entry whose 8-bit logit is below zero by
    more than that is not active, and need not be computed.

    Parameters
    ----------
    weight : Tensor [V, d]
        Of the decoder, float32.
    bias : Tensor [V]
        Of the decoder.
    hidden : Tensor [T, d]
        Some hidden states, from which the range of each coordinate is estimated.

    Attributes
    ----------
    worthwhile : bool
        Whether the last texts had so few candidates that the filter saved time.
    """

    def __init__(self, weight: Tensor, bias: Tensor, hidden: Tensor) -> None:
        self._weight, self._bias = weight, bias
        # A coordinate far larger than the others would leave them few steps of the scale. As in
        # SmoothQuant (2211.10438), its factor is moved into the weights.
        ranges = hidden.abs().amax(dim=0)  # [d]
        self._factors = (ranges / ranges.median().clamp(min=1e-6)).clamp(min=1.0)  # [d]
        self._tiles, norms, errors = [], [], []
        for tile in weight.split(_TILE):  # scaling all of it at once would double the memory
            scaled = tile * self._factors  # [tile, d]
            packed, rounded = _pack(scaled)
            self._tiles.append(packed)
            norms.append(rounded.norm(dim=1))  # [tile] each
            errors.append((scaled - rounded).norm(dim=1))
        self._norms = torch.cat(norms)  # [V], |w'|
        self._errors = torch.cat(errors)  # [V], |f|
        self.worthwhile = True

    def active_entries(self, tokens: Tensor, lengths: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Find the entries whose logit is above zero somewhere in a text.

        Parameters
        ----------
        tokens : Tensor [T, d]
            The texts one after the other.
        lengths : list of int
            Tokens of each text.

        Returns
        -------
        rows : Tensor [N]
            Number of the text of each entry, ascending.
        columns : Tensor [N]
            Vocabulary ids, ascending within a text.
        logits : Tensor [N]
            The largest logit of each entry.
        """
        candidates = self._candidates(tokens, lengths)  # [B, V]
        rows, columns, logits = [], [], []
        for row, (may, part) in enumerate(zip(candidates, tokens.split(lengths), strict=True)):
            ids = may.nonzero().squeeze(1)  # [n]
            if len(ids) == 0 or len(part) == 0:
                continue
            best = (part @ self._weight[ids].T).amax(dim=0) + self._bias[ids]  # [n]
            kept = ~(best <= 0)  # NaN is kept: `Quantizer` reports it
            columns.append(ids[kept])
            logits.append(best[kept])
            rows.append(torch.full_like(columns[-1], row))
        if not rows:
            none = torch.empty(0, dtype=torch.int64)
            return none, none, torch.empty(0)
        return torch.cat(rows), torch.cat(columns), torch.cat(logits)

    def _candidates(self, tokens: Tensor, lengths: list[int]) -> Tensor:
        """Return bool [B, V]: False where no token's logit can be above zero."""
        scaled = tokens / self._factors  # [T, d]
        largest = float(scaled.abs().max())
        if not math.isfinite(largest):
            return torch.ones(len(lengths), len(self._bias), dtype=torch.bool)
        step = max(largest / _STEPS, 1e-12)
        error = (scaled - (scaled / step).round() * step).norm(dim=1).max()
        bound = scaled.norm(dim=1).max() * self._errors + error * self._norms  # [V]
        bound = 1.001 * bound + 1e-4  # and what float32 itself rounds
        output_step = float(bound.max()) / (_OUTPUT_ZERO - 2)
        best = torch.empty(len(lengths), len(self._bias), dtype=torch.uint8)  # [B, V]
        steps = _to_steps(scaled / step)  # [T, d]
        start = 0
        for tile, bias in zip(self._tiles, self._bias.split(_TILE), strict=True):
            logits = tile.product(steps, step, bias, torch.uint8, output_step, _OUTPUT_ZERO)
            columns = slice(start, start + len(bias))
            for row, part in enumerate(logits.split(lengths)):  # [L_row, tile]
                best[row, columns] = part.amax(dim=0) if len(part) else 0
            start += len(bias)
        # half a step less, because the output is rounded
        low = _OUTPUT_ZERO - 0.5 - bound / output_step  # [V]
        candidates: Tensor = best >= low
        self.worthwhile = float(candidates.float().mean()) < _MAX_CANDIDATES
        return candidates


def quantize_linear(module: nn.Module) -> None:
    """Replace every linear layer inside the module by one with 8-bit products, in place."""
    for part in list(module.modules()):
        for name, child in part.named_children():
            if isinstance(child, nn.Linear):
                setattr(part, name, Int8Linear(child))


class Int8Linear(nn.Module):
    """A linear layer with 8-bit products.

    Each token's input has its own scale, so that a text gives the same whatever is in its batch,
    and its own zero point, because the inputs after a GELU are hardly ever negative.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self._weight, rounded = _pack(linear.weight.detach())  # rounded: [out, in]
        self._sums = rounded.sum(dim=1)  # [out]
        zeros = torch.zeros(linear.out_features)
        self._bias = zeros if linear.bias is None else linear.bias.detach()  # [out]

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        flat = x.reshape(-1, x.shape[-1])  # [T, in]
        low, high = flat.amin(dim=1, keepdim=True), flat.amax(dim=1, keepdim=True)  # [T, 1] each
        middle, step = (low + high) / 2, ((high - low) / (2 * _STEPS)).clamp(min=1e-9)
        # + 0.5, because the conversion to uint8 cuts off instead of rounding
        steps = torch.addcmul(_ZERO + 0.5 - middle / step, flat, 1 / step).to(torch.uint8)
        products = self._weight.product(steps, 1.0, None, torch.float32, 1.0, 0)  # [T, out]
        out = torch.addcmul(self._bias, products, step).addcmul_(middle, self._sums)
        return out.reshape(*x.shape[:-1], -1)


def _to_steps(scaled: Tensor) -> Tensor:
    """Convert float32 in -_STEPS.._STEPS to uint8. Overwrites its argument."""
    return scaled.round_().add_(_ZERO).to(torch.uint8)


class _Weight(NamedTuple):
    """A matrix [out, in] as integers, one scale for each output."""

    packed: Tensor  # [out, in], in the memory layout of the processor's products
    scale: Tensor  # [out]
    zeros: Tensor  # [out]

    def product(
        self,
        steps: Tensor,  # [T, in]
        step: float,
        bias: Tensor | None,  # [out]
        dtype: torch.dtype,
        output_step: float,
        output_zero: int,
    ) -> Tensor:
        """Multiply (steps - _ZERO) * step by the weights and add the bias: [T, out].

        With dtype uint8 the result is divided by output_step, shifted by output_zero and clipped.
        """
        out = torch.ops.onednn.qlinear_pointwise(
            steps, step, _ZERO, self.packed, self.scale, self.zeros, bias,
            output_step, output_zero, dtype, "none", [], "",
        )  # fmt: skip
        return cast(Tensor, out)


def _pack(weight: Tensor) -> tuple[_Weight, Tensor]:
    """Convert a matrix [out, in] to integers. Returns also the numbers [out, in] they stand for."""
    scale = weight.abs().amax(dim=1).clamp(min=1e-9) / _WEIGHT_STEPS  # [out]
    steps = (weight / scale.unsqueeze(1)).round()  # [out, in]
    packed = torch.ops.onednn.qlinear_prepack(steps.to(torch.int8), None)
    zeros = torch.zeros(len(weight), dtype=torch.int32)
    return _Weight(packed, scale, zeros), steps.mul_(scale.unsqueeze(1))
