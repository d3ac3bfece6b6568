"""What is not Gaussian: a flow that moves white noise to the white noise of real showers.

The copula makes w = R^(-1/2) (y - B c) white: mean 0, variance 1, no correlation. It is not quite
normal all the same. Flow matching (Y. Lipman et al., 2023, arXiv:2210.02747) on the path

    w(t) = cos(pi t / 2) w_0 + sin(pi t / 2) w_1,    w_0 standard normal, w_1 of a real shower,

learns the velocity dw / ds of w along s = pi t / 2: the mean of cos(s) w_1 - sin(s) w_0 over all
pairs that pass w(t). If w_1 were normal, that mean would be zero for every w and t: the network
has to learn the remainder alone, displacements are small, and a few steps follow them. A second
network can learn the whole displacement w_1 - w_0 from w_0 by regression: the map is
deterministic, so that nothing is blurred.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

_WAVES = 4


class Velocity(nn.Module):
    """dw / ds at w (N, V) and time t (N, 1), with context (N, K)."""

    def __init__(self, size: int, context: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(size + context + 1 + 2 * _WAVES, width)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width)
            )
            for _ in range(blocks)
        )
        # Normalised, so that no activation can die of the noise that the loss is full of.
        self.norm, self.last = nn.LayerNorm(width), _silent(width, size)

    def forward(self, w: Tensor, context: Tensor, t: Tensor) -> Tensor:
        """The velocity, (N, V)."""
        waves = [f(k * math.pi * t) for k in range(1, _WAVES + 1) for f in (torch.sin, torch.cos)]
        h = self.first(torch.cat([w, context, t, *waves], dim=1))
        for block in self.blocks:
            h = h + block(h)
        return self.last(self.norm(h))

    def move(self, w: Tensor, context: Tensor, steps: int) -> Tensor:
        """w after the whole path, in equal steps (Euler's method)."""
        for k in range(steps):
            t = torch.full_like(w[:, :1], k / steps)
            w = w + (0.5 * math.pi / steps) * self(w, context, t).to(w.dtype)
        return w

    def loss(self, target: Tensor, context: Tensor, rng: torch.Generator) -> Tensor:
        """Mean squared error of the velocity towards `target` (N, V); 1 for a network that
        always gives 0, where there is no remainder.
        """
        start = torch.randn(target.shape, generator=rng, device=target.device)
        t = torch.rand(len(target), 1, generator=rng, device=target.device)
        a, b = (f(0.5 * math.pi * t) for f in (torch.cos, torch.sin))
        velocity = self(a * start + b * target, context, t)
        return (velocity - (a * target - b * start)).square().mean()


class Jump(nn.Module):
    """The whole displacement of w (N, V) in one pass, with context (N, K)."""

    def __init__(self, size: int, context: int, width: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Linear(size + context, width)
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.size, self.last = size, _silent(width, size)

    def forward(self, w: Tensor, context: Tensor) -> Tensor:
        """The displacement, (N, V)."""
        h = functional.silu(self.first(torch.cat([w, context], dim=1)))
        for block in self.blocks:
            h = h + functional.silu(block(h))
        return self.last(h)

    def loss(self, teacher: Velocity, context: Tensor, steps: int, rng: torch.Generator) -> Tensor:
        """Mean squared error against what the flow does to fresh noise in so many steps."""
        w = torch.randn(len(context), self.size, generator=rng, device=context.device)
        with torch.no_grad():
            moved = teacher.move(w, context, steps)
        return (self(w, context) - (moved - w)).square().mean()


class Flow(nn.Module):
    """The remainders of the layers and of the cells, as flows."""

    def __init__(self, layers: Velocity, cells: Velocity) -> None:
        super().__init__()
        self.layers, self.cells = layers, cells


class Jumps(nn.Module):
    """The remainders of the layers and of the cells, in one pass."""

    def __init__(self, layers: Jump, cells: Jump) -> None:
        super().__init__()
        self.layers, self.cells = layers, cells


def _silent(width: int, size: int) -> nn.Linear:
    """A layer that gives next to nothing until it is trained."""
    layer = nn.Linear(width, size)
    with torch.no_grad():
        layer.weight.mul_(0.01)
        layer.bias.zero_()
    return layer
