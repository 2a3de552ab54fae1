"""Ranking losses over the scores of queries and documents."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def infonce(queries: Tensor, documents: Tensor, positives: list[str], temperature: float) -> Tensor:
    """Contrastive loss with in-batch negatives (1807.03748): the right document among all.

    queries: [B, V]; documents: [B, 1 + n, V], the positive first; positives: keys of the
    positives. A text whose key equals that of a query's own positive is no negative to it.
    """
    batch, group, size = documents.shape
    scores = queries @ documents.reshape(batch * group, size).T / temperature  # [B, B * (1 + n)]
    target = torch.arange(batch, device=scores.device) * group  # [B]
    same = torch.tensor([[a == b for b in positives] for a in positives], device=scores.device)
    same.fill_diagonal_(False)  # [B, B]
    scores[:, ::group] = scores[:, ::group].masked_fill(same, float("-inf"))
    return F.cross_entropy(scores, target)


def own_scores(queries: Tensor, documents: Tensor) -> Tensor:
    """Score of each query with its own documents: [B, V] and [B, 1 + n, V] give [B, 1 + n]."""
    return torch.einsum("bv,bnv->bn", queries, documents)


def margin_mse(queries: Tensor, documents: Tensor, teacher: Tensor) -> Tensor:
    """MarginMSE (2010.02666): squared error of the margin between positive and each negative.

    queries: [B, V]; documents: [B, 1 + n, V]; teacher: [B, 1 + n].
    """
    scores = own_scores(queries, documents)  # [B, 1 + n]
    return F.mse_loss(scores[:, :1] - scores[:, 1:], teacher[:, :1] - teacher[:, 1:])


def kl(queries: Tensor, documents: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """KL divergence of the student's from the teacher's distribution over each query's documents.

    queries: [B, V]; documents: [B, 1 + n, V]; teacher: [B, 1 + n]. Mean over the batch.
    """
    student = F.log_softmax(own_scores(queries, documents) / temperature, dim=1)
    target = F.log_softmax(teacher / temperature, dim=1)
    return F.kl_div(student, target, reduction="batchmean", log_target=True)
