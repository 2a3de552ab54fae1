"""Random masks of dropout, four elements at a time on a CPU.

There torch draws one random number for each element of a mask, one after the other, which takes a
tenth of the time of a step. Here each 64-bit number of the same generator gives four elements: its
16-bit parts are compared with the probability, which is then exact to 2^-16. Everything else about
dropout is left to torch.
"""

from __future__ import annotations

from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode


def draw_fast_masks(module: nn.Module) -> None:
    """Use such masks in the forward pass of a module and of all its parts from now on."""
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
    """Set each element to 1 with probability `keep`, otherwise to 0."""
    words = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    bits = words.view(torch.int16)[: mask.numel()]  # uniform from -2^15 to 2^15 - 1
    # with keep = 1 the threshold would be one more than the largest 16-bit number
    threshold = round(keep * 2**16) - 2**15
    return mask.fill_(1.0) if threshold == 2**15 else mask.copy_((bits < threshold).view_as(mask))
