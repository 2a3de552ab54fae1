"""A number of active terms as the target: a closed loop that finds the weight of a regularizer.

The weight that leads to 150 terms in a document depends on the loss, the data, the model and the
learning rate, and published weights span four orders of magnitude. So the weight is controlled: too
many terms raise it, too few lower it, like a thermostat with a proportional and an integral part
(PI). It works on logarithms, because a ratio of weights leads to a ratio of terms.

A ranking loss alone leaves some 80 terms to a document of a small model, and no weight above 0
leads to more. So the bias of the decoder, which makes all terms more or less active alike, is
controlled too, a little in each step. Where queries and documents share a decoder, their errors
cancel out in its bias, and the two weights make the difference between them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

# Gains of one optimizer step, and for how many steps the error is smoothed.
_INTEGRAL = 0.05
_PROPORTIONAL = 2.0
_SMOOTHING = 5.0
# Change of the bias in one step, for each unit of error.
_BIAS_GAIN = 0.03
# The smallest weight: where even this one is too large, the way back is short.
_LOWEST = 1e-7
# The largest error that counts, as a logarithm: far from the target a weight moves 10 % a step.
_LARGEST = 2.0


class TermTarget:
    """Controls the weight of one side. target: mean active terms of a text; start: first weight.

    It computes on the device where the terms are counted, so that a step does not wait for it.
    """

    def __init__(self, target: float, start: float, device: torch.device | None = None) -> None:
        self._target = target
        # [3]: logarithm of the weight, smoothed logarithm of terms / target, and the weight
        self._state = torch.tensor([math.log(start), 0.0, start], device=device)

    @property
    def weight(self) -> Tensor:
        """The weight of the regularizer in the next step, a scalar."""
        return self._state[2]

    @property
    def bias_change(self) -> Tensor:
        """What to add to the bias of the decoder after a step, a scalar."""
        return -_BIAS_GAIN * self._state[1]

    def update(self, terms: Tensor) -> None:
        """Take in the mean active terms of a text in the last step, a scalar."""
        integral, smoothed, _ = self._state
        error = (terms.clamp(min=0.5) / self._target).log().clamp(-_LARGEST, _LARGEST)
        smoothed = smoothed + (error - smoothed) / _SMOOTHING
        integral = (integral + _INTEGRAL * smoothed).clamp(min=math.log(_LOWEST))
        weight = (integral + _PROPORTIONAL * smoothed).exp()
        self._state = torch.stack([integral, smoothed, weight])

    def state(self) -> list[float]:
        """All that changes, for a checkpoint."""
        return list(self._state.tolist())

    def restore(self, state: list[float]) -> None:
        """Continue from a state."""
        self._state = torch.tensor(state, device=self._state.device)
