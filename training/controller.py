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
    """Controls the weight of one side. target: mean active terms of a text; start: first weight."""

    def __init__(self, target: float, start: float) -> None:
        self._target = target
        self._integral = math.log(start)  # logarithm of the weight
        self._error = 0.0  # logarithm of terms / target, smoothed
        self._weight = start

    @property
    def weight(self) -> float:
        """The weight of the regularizer in the next step."""
        return self._weight

    @property
    def bias_change(self) -> float:
        """What to add to the bias of the decoder after a step."""
        return -_BIAS_GAIN * self._error

    def update(self, terms: float) -> None:
        """Take in the mean active terms of a text in the last step."""
        error = math.log(max(terms, 0.5) / self._target)
        error = min(max(error, -_LARGEST), _LARGEST)
        self._error += (error - self._error) / _SMOOTHING
        self._integral = max(self._integral + _INTEGRAL * self._error, math.log(_LOWEST))
        self._weight = math.exp(self._integral + _PROPORTIONAL * self._error)

    def state(self) -> list[float]:
        """All that changes, for a checkpoint."""
        return [self._integral, self._error, self._weight]

    def restore(self, state: list[float]) -> None:
        """Continue from a state."""
        self._integral, self._error, self._weight = state
