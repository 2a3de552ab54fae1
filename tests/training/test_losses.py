"""Losses and regularizers against their formulas, written out."""

import math

import pytest
import torch

from splade_es.training.losses import infonce, kl, margin_mse
from splade_es.training.regularizers import flops, l1, ramp

Q = torch.tensor([[1.0, 0.0, 2.0], [0.0, 3.0, 0.0]])
D = torch.tensor([[[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]], [[0.0, 1.0, 0.0], [2.0, 0.5, 0.0]]])
# scores: query 0 -> 3, 2 | 0, 2; query 1 -> 3, 0 | 3, 1.5


def cross_entropy(scores: list[float], right: int) -> float:
    return -math.log(math.exp(scores[right]) / sum(map(math.exp, scores)))


def test_infonce_takes_every_other_document_as_negative() -> None:
    expected = (cross_entropy([3, 2, 0, 2], 0) + cross_entropy([3, 0, 3, 1.5], 2)) / 2
    assert infonce(Q, D, ["a", "b"], 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_infonce_divides_by_the_temperature() -> None:
    expected = (cross_entropy([6, 4, 0, 4], 0) + cross_entropy([6, 0, 6, 3], 2)) / 2
    assert infonce(Q, D, ["a", "b"], 0.5).item() == pytest.approx(expected, rel=1e-5)


def test_the_same_positive_is_no_negative() -> None:
    expected = (cross_entropy([3, 2, 2], 0) + cross_entropy([0, 3, 1.5], 1)) / 2
    assert infonce(Q, D, ["a", "a"], 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_margin_mse_compares_margins() -> None:
    teacher = torch.tensor([[5.0, 1.0], [2.0, 2.0]])
    expected = ((1 - 4) ** 2 + (1.5 - 0) ** 2) / 2  # margins 3-2 and 3-1.5
    assert margin_mse(Q, D, teacher).item() == pytest.approx(expected)


def test_kl_is_zero_for_the_teachers_own_distribution_and_right_elsewhere() -> None:
    teacher = torch.tensor([[3.0, 2.0], [4.0, 2.5]])  # what the student says, but for a constant
    assert kl(Q, D, teacher, 1.0).item() == pytest.approx(0, abs=1e-6)
    teacher = torch.tensor([[1.0, 1.0], [4.0, 2.5]])
    p = math.e / (1 + math.e)
    expected = (0.5 * math.log(0.5 / p) + 0.5 * math.log(0.5 / (1 - p))) / 2
    assert kl(Q, D, teacher, 1.0).item() == pytest.approx(expected, rel=1e-5)


def test_flops_and_l1() -> None:
    rows = torch.tensor([[1.0, 0.0, 3.0], [3.0, 0.0, 0.0]])
    assert flops(rows).item() == pytest.approx(2**2 + 1.5**2)
    assert l1(rows).item() == pytest.approx((4 + 3) / 2)


def test_ramp_is_quadratic_and_then_flat() -> None:
    assert [ramp(step, 4) for step in (0, 1, 2, 4, 9)] == [0, 1 / 16, 1 / 4, 1, 1]
    assert ramp(1, 0) == 1
