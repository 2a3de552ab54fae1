"""Masks of dropout drawn four at a time."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from splade_es.training.dropout import draw_fast_masks


class Net(nn.Module):
    def __init__(self, p: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        dropped: torch.Tensor = self.dropout(x)
        return dropped


@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("shape", [(1,), (3, 5), (701, 703)])
def test_drops_the_share_asked_for_and_scales_the_rest(p: float, shape: tuple[int, ...]) -> None:
    net = Net(p)
    draw_fast_masks(net)
    torch.manual_seed(0)
    x = torch.ones(shape, requires_grad=True)
    y = net(x)
    kept = y != 0
    torch.testing.assert_close(y[kept], torch.full_like(y[kept], 1 / (1 - p) if p < 1 else 0))
    if x.numel() > 1000:
        share = kept.double().mean().item()
        assert share == pytest.approx(1 - p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5 + 2**-16)
        # neighbours come from the same number: they must not know of each other
        both = (kept.flatten()[:-1] & kept.flatten()[1:]).double().mean().item()
        assert both == pytest.approx((1 - p) ** 2, abs=0.005)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad, y.detach())


def test_the_seed_decides() -> None:
    net = Net(0.5)
    draw_fast_masks(net)
    torch.manual_seed(1)
    first, second = net(torch.ones(1000)), net(torch.ones(1000))
    torch.manual_seed(1)
    assert torch.equal(first, net(torch.ones(1000))) and not torch.equal(first, second)


def test_an_error_in_the_module_leaves_other_dropout_alone() -> None:
    net = Net(0.5)
    draw_fast_masks(net)
    torch.manual_seed(2)
    expected = nn.functional.dropout(torch.ones(50), 0.5)
    with pytest.raises(TypeError):
        net("no tensor")
    torch.manual_seed(2)
    assert torch.equal(nn.functional.dropout(torch.ones(50), 0.5), expected)
