"""Adversarial losses and the gradient penalty against closed forms."""

import pytest
import torch
from torch import nn

from caloforge.objectives import gradient_penalty, wasserstein_critic, wasserstein_generator


def batch(rows: int = 64, size: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("norm", [0.0, 0.3, 1.0, 2.5])
def test_penalty_of_a_linear_critic(norm: float) -> None:
    """D(x) = w x has the slope w: the penalty is (|w| - 1)^2, its gradient 2 (|w| - 1) w / |w|."""
    w = torch.tensor([3.0, 4.0, 0.0, 0.0, 12.0]) / 13 * norm
    w.requires_grad_(True)
    mix = torch.rand(64, 1, generator=torch.Generator().manual_seed(3))
    penalty = gradient_penalty(lambda x: x @ w[:, None], batch(seed=1), batch(seed=2), mix)
    assert penalty.item() == pytest.approx((norm - 1) ** 2, abs=1e-6)
    if norm > 0:
        (gradient,) = torch.autograd.grad(penalty, w)
        expected = 2 * (norm - 1) * w.detach() / norm
        torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)


def test_penalty_of_a_quadratic_critic_is_taken_between_real_and_fake() -> None:
    """D(x) = |x|^2 / 2 has the slope x = b + t (a - b) for real a, fake b: (|x| - 1)^2."""
    real, fake = torch.full((3, 4), 2.0), torch.full((3, 4), 1.0)
    for t, length in ((0.0, 2.0), (1.0, 4.0), (0.5, 3.0)):
        mix = torch.full((3, 1), t)
        penalty = gradient_penalty(lambda x: x.square().sum(1, keepdim=True) / 2, real, fake, mix)
        assert penalty.item() == pytest.approx((length - 1) ** 2, abs=1e-5)


def test_penalty_is_the_mean_over_the_showers() -> None:
    real = torch.tensor([[3.0], [5.0]])
    penalty = gradient_penalty(lambda x: x.square() / 2, real, real.clone(), torch.rand(2, 1))
    assert penalty.item() == pytest.approx((2.0**2 + 4.0**2) / 2)


def test_penalty_trains_the_critic_only() -> None:
    """When it is minimised, the critic's slope goes to 1."""
    torch_rng = torch.Generator().manual_seed(0)
    critic = nn.Linear(5, 1)
    with torch.no_grad():
        critic.weight.copy_(torch.randn(1, 5, generator=torch_rng) * 3)
    optimiser = torch.optim.Adam(critic.parameters(), lr=0.1)
    for _ in range(300):
        penalty = gradient_penalty(critic, batch(seed=1), batch(seed=2), torch.rand(64, 1))
        (gradient,) = torch.autograd.grad(penalty, critic.weight)
        critic.weight.grad = gradient
        optimiser.step()
    assert float(critic.weight.detach().norm()) == pytest.approx(1.0, abs=0.01)


def test_signs_of_the_wasserstein_losses() -> None:
    """The critic wants real scores high, fake ones low; the generator wants fake scores high."""
    high, low = torch.tensor([[2.0], [4.0]]), torch.tensor([[-1.0], [0.0]])
    assert wasserstein_critic(real=high, fake=low).item() == -3.5
    assert wasserstein_critic(real=low, fake=high).item() == 3.5
    assert wasserstein_critic(real=high, fake=high).item() == 0.0
    assert wasserstein_generator(high).item() == -3.0
    assert wasserstein_generator(low).item() == 0.5


def test_the_best_critic_finds_the_distance_between_two_points() -> None:
    """Mass at 0 and (3, 4), d = 5 apart: the best slope has |w| = 1 + d / (2 lambda)."""
    weight = torch.zeros(2, requires_grad=True)
    with torch.no_grad():
        weight.copy_(torch.tensor([0.1, -0.1]))
    optimiser = torch.optim.Adam([weight], lr=0.05)
    real, fake = torch.zeros(16, 2), torch.tensor([3.0, 4.0]).expand(16, 2).clone()
    for _ in range(500):
        distance = wasserstein_critic(real @ weight, fake @ weight)
        penalty = gradient_penalty(lambda x: x @ weight[:, None], real, fake, torch.rand(16, 1))
        (weight.grad,) = torch.autograd.grad(distance + 20 * penalty, weight)
        optimiser.step()
    assert distance.item() == pytest.approx(-5 * (1 + 5 / 40), rel=1e-3)
    direction = weight.detach() / weight.detach().norm()
    torch.testing.assert_close(direction, torch.tensor([-0.6, -0.8]), rtol=0, atol=0.02)
    assert float(weight.detach().norm()) == pytest.approx(1 + 5 / 40, rel=1e-3)
