"""The closed loop that holds a number of active terms."""

import math

import pytest
import torch

from splade_es.training.controller import TermTarget


@pytest.mark.parametrize("target", [25.0, 150.0, 400.0])
@pytest.mark.parametrize("lag", [1, 20, 60])
@pytest.mark.parametrize("start", [1e-4, 3e-3, 0.5])
@pytest.mark.parametrize("power", [0.2, 0.4, 0.8])
def test_it_settles_on_the_target_of_a_plant_with_a_lag(
    target: float, lag: int, start: float, power: float
) -> None:
    """A plant like the ones seen: terms fall with a power of the weight, some steps late."""
    steering = TermTarget(target, start)
    terms = 1000.0
    seen = []
    for step in range(600):
        settled = 30.0 * float(steering.weight) ** -power  # where this weight would lead
        pace = min(1, (step + 1) / 60) * (1 - 0.9 * step / 600)  # of the learning rate
        terms *= math.exp((math.log(settled) - math.log(terms)) * pace / lag)
        steering.update(torch.tensor(terms))
        seen.append(terms)
    assert all(abs(terms / target - 1) < 0.1 for terms in seen[-60:])


def test_its_state_goes_on_where_it_was() -> None:
    a, b = TermTarget(100.0, 1e-3), TermTarget(100.0, 0.5)
    for terms in (500.0, 300.0, 0.0):
        a.update(torch.tensor(terms))
    b.restore(a.state())
    a.update(torch.tensor(120.0))
    b.update(torch.tensor(120.0))
    assert float(a.weight) == float(b.weight) != 1e-3
