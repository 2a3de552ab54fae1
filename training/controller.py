"""Active terms by target: a closed loop that finds the weight of a regularizer.

The weight that gives 150 terms a document depends on the loss, the data, the model and the learning
rate, and published ones span four orders of magnitude. So it is steered: too many terms raise it,
too few lower it, in proportion, like a thermostat with proportional and integral part (PI) that
works on logarithms, where a relation of terms answers to a relation of weights.

A ranking loss alone leaves a document of a small model some 80 terms, and no weight above 0 gives
it more. So the bias of the decoder, which opens or shuts all terms alike, is steered too, a little
in each step. Where queries and documents share it their errors cancel out in it, and the weights
bring about the difference.
"""

from __future__ import annotations

import math

# Gains for one optimizer step, and the memory of the measurement in steps.
_INTEGRAL = 0.05
_PROPORTIONAL = 2.0
_MEMORY = 5.0
# Of the bias, for each unit of error, in one step.
_LIFT = 0.03
# Where no weight is small enough it stops here, so that the way back is short.
_LOWEST = 1e-7
# The largest error that counts, as a logarithm: far off, the weight moves 10 % a step.
_LARGEST = 2.0


class TermTarget:
    """Steers one side's weight. target: mean active terms of a text; start: the first weight."""

    def __init__(self, target: float, start: float) -> None:
        self._target = target
        self._integral = math.log(start)  # logarithm of the weight
        self._error = 0.0  # logarithm of terms over target, smoothed
        self._weight = start

    @property
    def weight(self) -> float:
        """Of the regularizer in the next step."""
        return self._weight

    @property
    def lift(self) -> float:
        """What to add to the logits of every token, once."""
        return -_LIFT * self._error

    def update(self, terms: float) -> None:
        """terms: mean active terms of a text in the step that was made."""
        error = math.log(max(terms, 0.5) / self._target)
        error = min(max(error, -_LARGEST), _LARGEST)
        self._error += (error - self._error) / _MEMORY
        self._integral = max(self._integral + _INTEGRAL * self._error, math.log(_LOWEST))
        self._weight = math.exp(self._integral + _PROPORTIONAL * self._error)

    def state(self) -> list[float]:
        """All there is to it, for a checkpoint."""
        return [self._integral, self._error, self._weight]

    def restore(self, state: list[float]) -> None:
        self._integral, self._error, self._weight = state
