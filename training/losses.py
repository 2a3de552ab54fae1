"""Ranking losses. Each compares every query of a batch with every document of the batch.

Shapes: B queries; N documents, the candidates of one query after those of the other; at most n
negatives for a query. What a loss knows about the documents is in `Targets`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Targets(NamedTuple):
    """What the documents of a batch are to its queries.

    candidates: int64 [B, 1 + n], the documents of each query, its positive first, -1 where it has
    fewer than n negatives. teacher: [B, 1 + n], the scores that a teacher gives them, or None.
    excluded: bool [B, N], documents that are no negatives of a query: its other known positives,
    and those that the teacher takes for positives.
    """

    candidates: Tensor
    teacher: Tensor | None
    excluded: Tensor


def infonce(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """InfoNCE with in-batch negatives (1807.03748): the positive against all documents.

    scores: [B, N].
    """
    scores = (scores / temperature).masked_fill(targets.excluded, float("-inf"))
    return F.cross_entropy(scores, targets.candidates[:, 0])


def margin_mse(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """MarginMSE (2010.02666): squared error of the margin between positive and each negative.

    scores: [B, N]. Mean over all negatives of the batch; the temperature has no effect.
    """
    ours, teacher, exists = _candidates(scores, targets)  # [B, 1 + n] each
    error = (ours[:, :1] - ours[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])  # [B, n]
    return error[exists[:, 1:]].square().mean()


def kl(scores: Tensor, targets: Targets, temperature: float) -> Tensor:
    """KL divergence of the model's distribution over the candidates from the teacher's.

    scores: [B, N]. Both are softened by the temperature, and the loss is multiplied by its square,
    so that the size of the gradient stays (1503.02531). Mean over the queries.
    """
    ours, teacher, exists = _candidates(scores, targets)  # [B, 1 + n] each
    student = F.log_softmax((ours / temperature).masked_fill(~exists, float("-inf")), dim=1)
    wanted = F.log_softmax((teacher / temperature).masked_fill(~exists, float("-inf")), dim=1)
    # without a candidate both are -inf, and their difference is not a number
    difference = torch.where(exists, wanted - student, 0.0)  # [B, 1 + n]
    return (wanted.exp() * difference).sum(dim=1).mean() * temperature**2


def _candidates(scores: Tensor, targets: Targets) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of the model and of the teacher, and where there is a candidate: [B, 1 + n] each."""
    assert targets.teacher is not None  # `read_examples` has checked it
    ours = scores.gather(1, targets.candidates.clamp(min=0))
    return ours, targets.teacher, targets.candidates >= 0


LOSSES: dict[str, Callable[[Tensor, Targets, float], Tensor]] = {
    "infonce": infonce,
    "margin_mse": margin_mse,
    "kl": kl,
}
