"""The random masks of dropout, made four at a time on a CPU.

torch draws them one by one from a serial generator there, a tenth of the time of a step. Here each
64-bit number of the same generator makes four, by comparing 16 bits with the probability: off by
less than 2^-16, while the rest of dropout, wherever the model has it, is torch's.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def draw_fast_masks(module: nn.Module) -> None:
    """From now on, in all that the module's forward does."""
    forward = module.forward

    @wraps(forward)
    def masked(*args: Any, **kwargs: Any) -> Any:
        with _FastMasks():  # type: ignore[no-untyped-call]
            return forward(*args, **kwargs)

    module.forward = masked


class _FastMasks(TorchDispatchMode):
    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (
            func is torch.ops.aten.bernoulli_.float
            and args[0].device.type == "cpu"
            and args[0].is_contiguous()
        ):
            return _fill(*args)
        return func(*args, **(kwargs or {}))


def _fill(mask: Tensor, keep: float = 0.5) -> Tensor:
    """Make each element 1 with probability keep, else 0."""
    words = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: mask.numel()]  # evenly from -2^15 to 2^15 - 1
    # one more than the largest would not fit: all ones need no comparison
    threshold = round(keep * 2**16) - 2**15
    return mask.fill_(1.0) if threshold == 2**15 else mask.copy_((bits < threshold).view_as(mask))
