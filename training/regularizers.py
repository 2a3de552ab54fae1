"""What keeps the vectors sparse."""

from __future__ import annotations

from torch import Tensor


def flops(rows: Tensor) -> Tensor:
    """FLOPS (2004.05665): sum over the vocabulary of the squared mean weight. rows: [N, V] >= 0.

    It falls most on tokens that stand in many texts, the ones a search pays for.
    """
    return rows.mean(dim=0).square().sum()


def l1(rows: Tensor) -> Tensor:
    """Mean over the texts of the sum of weights. rows: [N, V] >= 0."""
    return rows.sum(dim=1).mean()


def ramp(step: int, steps: int) -> float:
    """Quadratic growth from 0 to 1 (2109.10086): (step / steps)^2, and 1 from `steps` on.

    step: optimizer steps done, not batches, so that accumulation does not change the schedule.
    """
    return 1.0 if step >= steps else (step / steps) ** 2
