"""Ranking losses over one matrix of scores: each query of the batch against each of its texts.

Shapes: B queries, N texts (every query's own documents, one query after the other), and at most n
negatives for a query. What a loss needs to know of the texts is in a `Targets`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Targets(NamedTuple):
    """Which text is what to which query.

    own: int64 [B, 1 + n], the texts of each query, its positive first, -1 where it has fewer.
    teacher: [B, 1 + n], a teacher's scores of those, or None.
    banned: bool [B, N], texts that are no negatives to a query: its other known positives, and
    what the teacher takes for one.
    """

    own: Tensor
    teacher: Tensor | None
    banned: Tensor


def infonce(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """Contrastive loss with in-batch negatives (1807.03748): the right text among all. [B, N]"""
    scores = (scores / temperature).masked_fill(targets.banned, float("-inf"))
    return F.cross_entropy(scores, targets.own[:, 0])


def margin_mse(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """MarginMSE (2010.02666): squared error of the margin between positive and each negative.

    Mean over all negatives of the batch. The temperature plays no part.
    """
    ours, teacher, there = _own(scores, targets)  # [B, 1 + n]
    error = (ours[:, :1] - ours[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])  # [B, n]
    return error[there[:, 1:]].square().mean()


def kl(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """KL divergence of the student's from the teacher's distribution over a query's own texts.

    Both are softened by the temperature, and the loss is multiplied by its square, so that the
    gradient keeps its size (1503.02531). Mean over the queries.
    """
    ours, teacher, there = _own(scores, targets)  # [B, 1 + n]
    student = F.log_softmax((ours / temperature).masked_fill(~there, float("-inf")), dim=1)
    wanted = F.log_softmax((teacher / temperature).masked_fill(~there, float("-inf")), dim=1)
    # where there is no text both are -inf, and their difference is no number
    difference = torch.where(there, wanted - student, 0.0)
    return (wanted.exp() * difference).sum(dim=1).mean() * temperature**2


def _own(scores: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """The student's scores of each query's own texts, the teacher's, and where there is one."""
    assert targets.teacher is not None  # `read_examples` saw to it
    ours = scores.gather(1, targets.own.clamp(min=0))  # [B, 1 + n]
    return ours, targets.teacher, targets.own >= 0


LOSSES: dict[str, Callable[[Tensor, Targets, float], Tensor]] = {
    "infonce": infonce,
    "margin_mse": margin_mse,
    "kl": kl,
}
