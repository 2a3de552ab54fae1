"""Activation functions of transformers, in numpy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]


def gelu(x: Array) -> Array:
    """Multiply x by the normal distribution function.

    By formula 7.1.26 of Abramowitz and Stegun for erf, whose error is below 1.5e-7.
    """
    z = np.abs(x) * np.float32(0.5**0.5)
    t = 1 / (1 + np.float32(0.3275911) * z)
    series: Array = np.full_like(x, 1.061405429)
    for coefficient in (-1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series * t + np.float32(coefficient)).astype(np.float32, copy=False)
    tail = np.float32(0.5) * series * t * np.exp(-z * z)  # probability of more than |x|
    out: Array = x * np.where(x > 0, 1 - tail, tail)
    return out


def gelu_tanh(x: Array) -> Array:
    """Approximate `gelu` with a tanh, as models do whose activation is gelu_new."""
    inner = np.float32((2 / np.pi) ** 0.5) * (x + np.float32(0.044715) * x**3)
    out: Array = np.float32(0.5) * x * (1 + np.tanh(inner))
    return out


def relu(x: Array) -> Array:
    """Replace what is below 0 by 0."""
    return np.maximum(x, 0)


#: Name in the configuration of a model -> function.
ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "gelu": gelu,
    "gelu_new": gelu_tanh,
    "gelu_pytorch_tanh": gelu_tanh,
    "relu": relu,
}
