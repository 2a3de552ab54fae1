"""Regularizers, which keep vectors sparse.

rows: [N, V], not below 0, the vector of each text of a whole batch.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def flops(rows: Tensor) -> Tensor:
    """FLOPS (2004.05665): sum over the vocabulary of the squared mean weight.

    It is highest for tokens that many texts have, and these are what makes a search expensive.
    """
    return rows.mean(dim=0).square().sum()


def l1(rows: Tensor) -> Tensor:
    """Mean over the texts of the sum of their weights."""
    return rows.sum(dim=1).mean()


def df_flops(rows: Tensor, importance: Tensor) -> Tensor:
    """DF-FLOPS (2505.15070): FLOPS with a factor for each token, by how common it is in the corpus.

    importance: [V], from `df_importance`.
    """
    return (importance * rows.mean(dim=0).square()).sum()


def df_importance(share: Tensor, alpha: float, beta: float) -> Tensor:
    """[V]: 1 / (1 + (x^(log_alpha 2) - 1)^beta) of the share x of documents that have a token.

    share: [V]. The result is 1/2 where x is alpha, 0 for tokens of no document, and 1 for those of
    every document.
    """
    power = math.log(2) / math.log(alpha)  # below 0: a rare token has a large rarity
    rarity = share.double().clamp(1e-12, 1).pow(power) - 1
    return (1 / (1 + rarity.clamp(min=0).pow(beta))).to(share.dtype)


def without_sparse(rows: Tensor, threshold: int) -> Tensor:
    """The rows, with 0 in those that have at most `threshold` active terms: sparse enough already.

    These rows still count in a mean over the texts (2504.14839).
    """
    if threshold == 0:
        return rows
    return rows * ((rows > 0).sum(dim=1, keepdim=True) > threshold)


def anti_zero(queries: Tensor, documents: Tensor) -> Tensor:
    """1 / (sum of queries)^2 + 1 / (sum of documents)^2: large where hardly any term is active."""
    sums = torch.stack([queries.sum(), documents.sum()])
    return (1 / sums.square().clamp(min=1e-6)).sum()


def noise(rows: Tensor, tokens: Tensor) -> Tensor:
    """Mean over the texts of their weight on tokens that should have none. tokens: int64 [n]."""
    return rows[:, tokens].sum(dim=1).mean()


def ramp(step: int, steps: int, delay: int = 0) -> float:
    """Quadratic growth from 0 to 1 (2109.10086): ((step - delay) / steps)^2, then 1.

    step: optimizer steps, not batches, so that accumulation does not change the schedule.
    """
    if step <= delay and delay:
        return 0.0
    return 1.0 if step - delay >= steps else ((step - delay) / steps) ** 2
