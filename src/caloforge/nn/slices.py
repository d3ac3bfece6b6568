"""What a network says of the next slice: its energy as a mixture density, its cells as
zero-inflated densities.

Reference: mixture density networks, C. Bishop, 1994, Aston University NCRG/94/004; the type I
generalised logistic distribution, N. Johnson, S. Kotz, N. Balakrishnan, "Continuous Univariate
Distributions" 2, 1995, Eq. 23.62.

All densities are of logarithms of energies, and all numbers are drawn from standard normals.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, silu, softplus

LOG_WIDTHS = (-5.0, 1.5)  # smallest and largest logarithm of a width
LOG_SHAPES = (-3.0, 2.0)
LOG_ENERGIES = (-40.0, 20.0)  # what a cell may have, in units of MeV: keeps free running finite
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def upper_tail(normal: Tensor) -> Tensor:
    """1 - Phi(z): uniform on (0, 1), falling with z."""
    return 0.5 * (1 - torch.erf(normal / math.sqrt(2.0)))


class Mixture(NamedTuple):
    """Zero-inflated Gaussian mixture of K components: filled with probability sigmoid(odds).

    Shapes: `odds` (...); `weight` (logarithms, not normalised), `mean` and `log_std` (..., K).
    """

    odds: Tensor
    weight: Tensor
    mean: Tensor
    log_std: Tensor

    def nll(self, value: Tensor, filled: Tensor) -> Tensor:
        """-log p, (...), of being empty, or of being filled (a mask) with `value`."""
        pull = (value.unsqueeze(-1) - self.mean) / self.log_std.exp()
        logs = self.weight.log_softmax(-1) - 0.5 * pull.square() - self.log_std
        density = logs.logsumexp(-1) - HALF_LOG_2PI
        chance = softplus(torch.where(filled, -self.odds, self.odds))
        return chance - torch.where(filled, density, 0.0)

    def draw(self, first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
        """Value and whether it is filled, both (...), from two standard normals (...) each."""
        tail, chance = upper_tail(first), torch.sigmoid(self.odds)
        # Given that it is filled, tail / chance is uniform again: it chooses the component.
        uniform = (tail / chance).unsqueeze(-1)
        below = self.weight.softmax(-1).cumsum(-1)[..., :-1]
        mean, log_std = self.mean[..., 0], self.log_std[..., 0]
        for k, later in enumerate((uniform >= below).unbind(-1), start=1):
            mean = torch.where(later, self.mean[..., k], mean)
            log_std = torch.where(later, self.log_std[..., k], log_std)
        return mean + log_std.exp() * second, tail < chance


class SkewLogistic(NamedTuple):
    """Zero-inflated generalised logistic density: filled with probability sigmoid(odds), and then
    P(value < y) = sigmoid((y - centre) / width)^shape.

    Shapes: all (...). A shape below 1 has its long tail on the left: a cell that is just touched.
    """

    odds: Tensor
    centre: Tensor
    log_width: Tensor
    log_shape: Tensor

    def nll(self, value: Tensor, filled: Tensor) -> Tensor:
        """-log p, (...), of being empty, or of being filled (a mask) with `value`."""
        t = (value - self.centre) / self.log_width.exp()
        density = self.log_shape + self.log_shape.exp() * logsigmoid(t) + logsigmoid(-t)
        chance = softplus(torch.where(filled, -self.odds, self.odds))
        return chance - torch.where(filled, density - self.log_width, 0.0)

    def draw(self, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Value and whether it is filled, both (...), from one standard normal each.

        The value rises with the normal from minus infinity where the cell begins to be filled: so
        the energy, its exponential, is a continuous function of noise and network, and rounding
        never decides over a cell of some energy.
        """
        tail, chance = upper_tail(normal), torch.sigmoid(self.odds)
        above = (tail / chance).clamp(1e-7, 1 - 1e-6)
        log_below = torch.log1p(-above) / self.log_shape.exp()
        t = log_below - (-torch.expm1(log_below)).clamp(min=1e-12).log()
        return self.centre + self.log_width.exp() * t, tail < chance


class MeanHead(nn.Module):
    """The mean logarithm of every cell by least squares: no noise, always the same slice.

    Shapes: state of the network (B, hidden) to energies (B, cells) in MeV.
    """

    noise = 0

    def __init__(self, hidden: int, cells: int, unit: float) -> None:
        super().__init__()
        self.mean, self.unit = nn.Linear(hidden, cells), unit

    def loss(
        self, h: Tensor, images: Tensor | None, energies: Tensor, incident: Tensor
    ) -> dict[str, Tensor]:
        """Mean squared error of log(1 + E / unit)."""
        logs = (energies / self.unit).log1p()
        return {"squares": (self.mean(h).float() - logs).square().mean()}

    def draw(self, h: Tensor, images: Tensor | None, noise: Tensor, incident: Tensor) -> Tensor:
        """The energies that belong to the mean logarithms."""
        logs: Tensor = self.mean(h).clamp(0.0, LOG_ENERGIES[1])
        return logs.expm1() * self.unit


class DensityHead(nn.Module):
    """A density of the slice's energy, then a density of each cell given that energy; drawn cells
    share the slice's energy.

    The energy is a mixture of Gaussians in log(E_slice / E_incident). A dense part says where
    cells have energy. With `trails` images of what went before, a small convolution adds what the
    same cell and its neighbours tell: a track goes on where it was.

    Shapes: state (B, hidden) and images (B, trails, *shape) to energies (B, cells) in MeV, cells
    row by row; noise (B, 2 + cells).
    """

    OUTPUTS = 4  # numbers of a SkewLogistic

    def __init__(
        self,
        hidden: int,
        cells: int,
        *,
        width: int,
        components: int,
        trails: int = 0,
        channels: int = 0,
    ) -> None:
        super().__init__()
        self.noise, self.components = 2 + cells, components
        self.enter = nn.Linear(hidden, width)
        self.energy = nn.Linear(width, 1 + 3 * components)
        with torch.no_grad():  # begin apart, where slices of a sampling calorimeter are
            means = self.energy.bias[1 + components : 1 + 2 * components]
            means.copy_(torch.linspace(-7, -5, components))
        self.spread = nn.Linear(hidden + 1, width)
        self.shift = nn.Linear(width, 2 * cells)  # of odds and centre, cell by cell
        self.common = nn.Linear(width, self.OUTPUTS)
        self.local = channels > 0
        if self.local:
            self.look = nn.Conv2d(trails, channels, 3, padding=1)
            self.tell = nn.Linear(width, 2 * channels)
            self.mix = nn.Conv2d(channels, channels, 1)
            self.leave = nn.Conv2d(channels, self.OUTPUTS, 1)

    def of_energy(self, h: Tensor) -> Mixture:
        """Density of log(E_slice / E_incident), (B,), in float32."""
        with torch.autocast(h.device.type, enabled=False):  # 16 bits would round it by a percent
            raw = self.energy(silu(self.enter(h.float())))
        odds, weight, mean, log_std = raw.split([1, *[self.components] * 3], -1)
        return Mixture(odds.squeeze(-1), weight, mean, log_std.clamp(*LOG_WIDTHS))

    def of_cells(self, h: Tensor, images: Tensor | None, total: Tensor) -> SkewLogistic:
        """Densities of the logarithms of the cells in MeV, (B, cells), in float32, when all of
        them together have `total` MeV (B, 1).
        """
        told = 0.2 * total.clamp(min=1e-6).log()
        h = silu(self.spread(torch.cat([h, told.to(h.dtype)], dim=1)))
        raw = self.common(h).unsqueeze(-1)
        if self.local and images is not None:
            gain, bias = self.tell(h)[:, :, None, None].chunk(2, 1)
            x = silu(torch.addcmul(bias, self.look(images), 1 + gain))
            raw = raw + self.leave(silu(self.mix(x))).flatten(2)
        odds, centre, log_width, log_shape = raw.float().unbind(1)
        more_odds, more_centre = self.shift(h).float().chunk(2, 1)
        odds, centre = odds + more_odds, centre + more_centre
        log_width, log_shape = log_width.clamp(*LOG_WIDTHS), log_shape.clamp(*LOG_SHAPES)
        return SkewLogistic(odds, centre, log_width.expand_as(odds), log_shape.expand_as(odds))

    def loss(
        self, h: Tensor, images: Tensor | None, energies: Tensor, incident: Tensor
    ) -> dict[str, Tensor]:
        """-log p a slice, of its energy and of its cells; cells of an empty slice are certain."""
        total = energies.sum(1, keepdim=True)
        filled = total[:, 0] > 0
        log_share = (total / incident).clamp(min=1e-12).log()
        cells = self.of_cells(h, images, total)
        of_cells = cells.nll(energies.clamp(min=1e-12).log(), energies > 0).sum(1)
        return {
            "energy": self.of_energy(h).nll(log_share[:, 0], filled).mean(),
            "cells": torch.where(filled, of_cells, 0.0).mean(),
        }

    def draw(self, h: Tensor, images: Tensor | None, noise: Tensor, incident: Tensor) -> Tensor:
        """The slice's energy from two normals, never above the incident one, then its cells."""
        log_share, filled = self.of_energy(h).draw(noise[:, 0], noise[:, 1])
        share = torch.where(filled, log_share.clamp(max=0.0).exp(), 0.0)
        total = share[:, None] * incident
        cells = self.of_cells(h, images, total)
        return share_out(total, *cells.draw(noise[:, 2:]), cells.odds)


def share_out(total: Tensor, values: Tensor, filled: Tensor, odds: Tensor) -> Tensor:
    """Energies of cells (B, cells) that sum up to `total` (B, 1), all in MeV.

    Parameters
    ----------
    values, filled
        Logarithms of the cells' own energies, and whether they have any.
    odds
        Log-odds of the cells: where none has any energy, the likeliest takes it all.
    """
    likeliest = odds >= odds.amax(1, keepdim=True)
    filled = torch.where(filled.any(1, keepdim=True), filled, likeliest)
    energies = torch.where(filled, values.clamp(*LOG_ENERGIES).exp(), 0.0)
    return energies / energies.sum(1, keepdim=True) * total
