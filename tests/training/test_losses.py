"""Losses and regularizers against their formulas, written out, and against other libraries."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from splade_es.training.losses import Targets, infonce, kl, margin_mse
from splade_es.training.regularizers import (
    anti_zero,
    df_flops,
    df_importance,
    flops,
    l1,
    noise,
    ramp,
    without_sparse,
)

Q = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
D = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [2.0, 0.5, 0.0]])
SCORES = Q @ D.T  # query 0 -> 3, 2 | 0, 2; query 1 -> 3, 0 | 3, 1.5


def targets(
    candidates: list[list[int]],
    teacher: list[list[float]] | None = None,
    excluded: list[tuple[int, int]] | None = None,
    texts: int = 4,
) -> Targets:
    mask = torch.zeros(len(candidates), texts, dtype=torch.bool)
    for place in excluded or []:
        mask[place] = True
    return Targets(
        torch.tensor(candidates), None if teacher is None else torch.tensor(teacher), mask
    )


CANDIDATES = [[0, 1], [2, 3]]


def cross_entropy(scores: list[float], right: int) -> float:
    return -math.log(math.exp(scores[right]) / sum(map(math.exp, scores)))


def test_infonce_takes_every_other_document_as_negative() -> None:
    expected = (cross_entropy([3, 2, 0, 2], 0) + cross_entropy([3, 0, 3, 1.5], 2)) / 2
    assert infonce(SCORES, targets(CANDIDATES), 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_infonce_divides_by_the_temperature() -> None:
    expected = (cross_entropy([6, 4, 0, 4], 0) + cross_entropy([6, 0, 6, 3], 2)) / 2
    assert infonce(SCORES, targets(CANDIDATES), 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_what_is_excluded_is_no_negative() -> None:
    expected = (cross_entropy([3, 2, 2], 0) + cross_entropy([0, 3, 1.5], 1)) / 2
    excluded = targets(CANDIDATES, excluded=[(0, 2), (1, 0)])
    assert infonce(SCORES, excluded, 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_margin_mse_compares_margins() -> None:
    wanted = targets(CANDIDATES, [[5.0, 1.0], [2.0, 2.0]])
    expected = ((1 - 4) ** 2 + (1.5 - 0) ** 2) / 2  # margins 3-2 and 3-1.5
    assert margin_mse(SCORES, wanted, 1.0).item() == pytest.approx(expected)


def test_kl_is_zero_for_the_teachers_own_distribution_and_right_elsewhere() -> None:
    # what the student says, but for a constant
    assert kl(SCORES, targets(CANDIDATES, [[3.0, 2.0], [4.0, 2.5]]), 1.0).item() == pytest.approx(
        0, abs=1e-6
    )
    p = math.e / (1 + math.e)
    expected = (0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p))) / 2
    assert kl(SCORES, targets(CANDIDATES, [[1.0, 1.0], [4.0, 2.5]]), 1.0).item() == pytest.approx(
        expected, rel=1e-5
    )


def test_queries_may_have_different_numbers_of_negatives() -> None:
    """As if each had been alone, with a weight for what it has."""
    uneven = targets([[0, 1, 3], [2, -1, -1]], [[5.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    assert margin_mse(SCORES, uneven, 1.0).item() == pytest.approx(
        ((1 - 4) ** 2 + (1 - 5) ** 2) / 2
    )
    alone = targets([[0, 1, 3]], [[5.0, 1.0, 0.0]])
    scores = SCORES.clone().requires_grad_()
    loss = kl(scores, uneven, 2.0)
    assert loss.item() == pytest.approx(kl(SCORES[:1], alone, 2.0).item() / 2)
    loss.backward()
    assert scores.grad is not None and scores.grad.isfinite().all()


def rows(seed: int, count: int, size: int = 40) -> Tensor:
    """Sparse rows that learn."""
    generator = torch.Generator().manual_seed(seed)
    return torch.relu(torch.randn(count, size, generator=generator)).requires_grad_()


def same(ours: Tensor, theirs: Tensor, *leaves: Tensor) -> None:
    """Value and gradients."""
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-5)
    for a, b in zip(
        torch.autograd.grad(ours, leaves, retain_graph=True),
        torch.autograd.grad(theirs, leaves, retain_graph=True),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def theirs(name: str, **kwargs: Any) -> Any:
    losses = pytest.importorskip("sentence_transformers.sparse_encoder.losses")
    # these losses ask a model only for its vectors, which are given here
    model = SimpleNamespace(tokenizer=None)
    return getattr(losses, name)(model, **kwargs)


@pytest.mark.parametrize("negatives", [1, 3])
def test_the_losses_of_sentence_transformers(negatives: int) -> None:
    count = 5
    queries = rows(0, count)
    columns = [rows(1 + n, count) for n in range(1 + negatives)]
    # theirs has a column for each position, ours a query's own texts one after the other
    documents = torch.stack(columns, dim=1).reshape(-1, queries.shape[1])  # [N, V]
    candidates = torch.arange(count * (1 + negatives)).view(count, -1)
    teacher = torch.randn(count, 1 + negatives, generator=torch.Generator().manual_seed(9)) * 4
    excluded = torch.zeros(count, len(documents), dtype=torch.bool)
    ours = Targets(candidates, teacher, excluded)
    scores = queries @ documents.T
    embeddings = [queries, *columns]
    margins = teacher[:, :1] - teacher[:, 1:]
    same(
        infonce(scores, ours, 1.0),
        theirs("SparseMultipleNegativesRankingLoss").compute_loss_from_embeddings(embeddings, None),
        *embeddings,
    )
    same(
        margin_mse(scores, ours, 1.0),
        theirs("SparseMarginMSELoss").compute_loss_from_embeddings(embeddings, margins),
        *embeddings,
    )
    same(
        kl(scores, ours, 2.0),
        theirs("SparseDistillKLDivLoss", temperature=2.0).compute_loss_from_embeddings(
            embeddings, teacher
        ),
        *embeddings,
    )


@pytest.mark.parametrize("threshold", [0, 18, 100])
def test_the_flops_of_sentence_transformers(threshold: int) -> None:
    texts = rows(3, 12)
    other = theirs("FlopsLoss", threshold=threshold or None).compute_loss_from_embeddings(texts)
    same(flops(without_sparse(texts, threshold)), other, texts)


def test_flops_and_l1() -> None:
    texts = torch.tensor([[1.0, 0.0, 3.0], [3.0, 0.0, 0.0]])
    assert flops(texts).item() == pytest.approx(2**2 + 1.5**2)
    assert l1(texts).item() == pytest.approx((4 + 3) / 2)
    assert noise(texts, torch.tensor([1, 2])).item() == pytest.approx(1.5)
    assert anti_zero(texts, texts[:1]).item() == pytest.approx(1 / 49 + 1 / 16)
    assert torch.equal(without_sparse(texts, 1), torch.tensor([[1.0, 0.0, 3.0], [0.0, 0.0, 0.0]]))


def test_df_flops_weighs_common_tokens_most() -> None:
    share = torch.tensor([0.0, 0.01, 0.1, 0.5, 1.0])
    importance = df_importance(share, alpha=0.1, beta=10.0)
    # the formula of the paper at x = 0.5: x^(log_0.1 2) = 0.5^(-0.30103)
    expected = 1 / (1 + (0.5 ** math.log(2, 0.1) - 1) ** 10)
    assert importance.tolist() == pytest.approx([0.0, 0.0, 0.5, expected, 1.0], abs=1e-3)
    texts = torch.tensor([[2.0, 0, 0, 0, 1.0], [0, 0, 4.0, 0, 1.0]])
    assert df_flops(texts, importance).item() == pytest.approx(0.5 * 2**2 + 1.0, abs=1e-3)


def test_ramp_is_quadratic_and_then_flat() -> None:
    assert [ramp(step, 4) for step in (0, 1, 2, 4, 9)] == [0, 1 / 16, 1 / 4, 1, 1]
    assert ramp(1, 0) == 1
    assert [ramp(step, 4, 10) for step in (1, 10, 11, 12, 14, 90)] == [0, 0, 1 / 16, 1 / 4, 1, 1]
    assert [ramp(step, 0, 3) for step in (3, 4)] == [0, 1]


def test_the_ramp_is_the_schedule_of_sentence_transformers_step_by_step() -> None:
    callbacks = pytest.importorskip(
        "sentence_transformers.sparse_encoder.callbacks.splade_callbacks"
    )
    scheduler = object.__new__(callbacks.SpladeRegularizerWeightSchedulerCallback)
    scheduler.__dict__.update(
        scheduler_type=callbacks.SchedulerType.QUADRATIC, warmup_steps=20,
    )  # fmt: skip
    for step in range(41):
        expected = scheduler._calculate_weight_value(step, 0.4)
        assert 0.4 * ramp(step, 20) == pytest.approx(expected)
