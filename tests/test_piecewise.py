"""PiecewiseReLU: the numbers of ReLU, first and second derivative, in fewer matrix products."""

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from caloforge.nn.piecewise import PiecewiseReLU
from caloforge.objectives import gradient_penalty


class Products(TorchDispatchMode):
    """Counts matrix products."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        self.count += function.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm)
        return function(*args, **(kwargs or {}))


def penalised(kind: type[nn.Module]) -> tuple[list[torch.Tensor], int]:
    """Gradients of a gradient penalty with respect to a critic's weights, and the products."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(5, 8), kind(), nn.Linear(8, 8), kind(), nn.Linear(8, 1))
    real, fake, mix = torch.randn(7, 5), torch.randn(7, 5), torch.rand(7, 1)
    with torch.random.fork_rng(devices=[]), Products() as products:
        loss = gradient_penalty(critic, real, fake, mix) + critic(fake).mean()
        gradients = torch.autograd.grad(loss, list(critic.parameters()))
    return list(gradients), products.count


def test_a_gradient_penalty_has_the_same_gradient_from_fewer_products() -> None:
    (plain, many), (ours, few) = penalised(nn.ReLU), penalised(PiecewiseReLU)
    for a, b in zip(plain, ours, strict=True):
        assert torch.equal(a, b)
    assert few < many


def test_derivatives_are_those_of_relu() -> None:
    x = torch.tensor([-2.0, -0.5, 0.0, 0.5, 3.0], dtype=torch.float64, requires_grad=True)
    y = PiecewiseReLU()(x)
    assert torch.equal(y, torch.relu(x))
    (slope,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    assert slope.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0]
    away = x.detach()[[0, 1, 3, 4]].requires_grad_(True)
    assert torch.autograd.gradcheck(PiecewiseReLU(), away)
    assert torch.autograd.gradgradcheck(PiecewiseReLU(), away)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_types_are_kept_and_nothing_is_recorded_without_need(dtype: torch.dtype) -> None:
    x = torch.randn(4, dtype=dtype)
    assert PiecewiseReLU()(x).dtype == dtype
    assert PiecewiseReLU()(x).grad_fn is None
    with torch.no_grad():
        assert PiecewiseReLU()(x.requires_grad_(True)).grad_fn is None
    assert PiecewiseReLU()(x).dtype == dtype
