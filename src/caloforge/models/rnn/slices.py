"""What a network says of the next slice: its energy as a mixture density, its cells as
zero-inflated densities.

Reference: mixture density networks, C. Bishop, 1994, Aston University NCRG/94/004; exponentiated
Weibull distribution, G. Mudholkar, D. Srivastava, 1993, doi:10.1109/24.229504.

All densities are of logarithms of energies, and all numbers are drawn from standard normals.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from caloforge.nn.logistic import logistic
from caloforge.nn.normal import cdf

# Smallest and largest logarithm of a width, of a shape, and of the energy of a cell in MeV, and
# argument of the double exponential: they keep free running finite.
LOG_WIDTHS = (-5.0, 1.5)
LOG_SHAPES = (-3.0, 2.0)
LOG_ENERGIES = (-40.0, 20.0)
ARGUMENTS = (-80.0, 10.0)
# Levels in a tail, and below a quantile, between which their logarithms are finite in 32 bits.
LEVELS, LEVELS_BELOW = (1e-7, 1 - 1e-6), (1e-35, 1 - 1e-7)
LEAST_ENERGY = 1e-12  # MeV: keeps the logarithm of an empty cell finite
LOG_SCALE = 0.2  # logarithms of energies times this are of order one
SMALLEST = 1e-3  # in the transform's unit: what has less energy is empty
FRACTIONS = (1e-9, 1 - 1e-6)  # smallest and largest share of a pool: keeps log-odds finite
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


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
        tail, chance = cdf(-first), logistic(self.odds)
        # Given that it is filled, tail / chance is uniform again: it chooses the component.
        uniform = (tail / chance).unsqueeze(-1)
        below = self.weight.softmax(-1).cumsum(-1)[..., :-1]
        mean, log_std = self.mean[..., 0], self.log_std[..., 0]
        for k, later in enumerate((uniform >= below).unbind(-1), start=1):
            mean = torch.where(later, self.mean[..., k], mean)
            log_std = torch.where(later, self.log_std[..., k], log_std)
        return mean + log_std.exp() * second, tail < chance


class LogWeibull(NamedTuple):
    """Zero-inflated density of the logarithm y of an exponentiated Weibull number: filled with
    probability sigmoid(odds), and then P(value < y) = (1 - exp(-exp(t)))^shape, t = (y - centre) /
    width.

    Shapes: all (...). Its tail to low energies is long, as of a cell that is just touched; that to
    high ones ends soon: rare cells must not eat up the energy of their slice.
    """

    odds: Tensor
    centre: Tensor
    log_width: Tensor
    log_shape: Tensor

    def nll(self, value: Tensor, filled: Tensor) -> Tensor:
        """-log p, (...), of being empty, or of being filled (a mask) with `value`."""
        t = ((value - self.centre) / self.log_width.exp()).clamp(*ARGUMENTS)
        power = t.exp()
        below = (-torch.expm1(-power)).log()
        density = self.log_shape - self.log_width + t - power
        density = density + torch.expm1(self.log_shape) * below
        chance = softplus(torch.where(filled, -self.odds, self.odds))
        return chance - torch.where(filled, density, 0.0)

    def draw(self, normal: Tensor) -> tuple[Tensor, Tensor]:
        """Value and whether it is filled, both (...), from one standard normal each.

        The value rises with the normal from minus infinity where the cell begins to be filled: so
        the energy, its exponential, is a continuous function of noise and network, and rounding
        never decides over a cell of some energy.
        """
        # Of a cell that is rarely filled the tail needs a small relative error.
        tail, chance = cdf(-normal), logistic(self.odds)
        above = (tail / chance).clamp(*LEVELS)
        log_below = torch.log1p(-above) / self.log_shape.exp()
        t = (-torch.log1p(-log_below.exp().clamp(*LEVELS_BELOW))).log()
        return self.centre + self.log_width.exp() * t, tail < chance


def neighbourhood(images: Tensor) -> Tensor:
    """For each image whether a cell has energy, its value, and the mean over it and the eight
    cells around it, (B, T, H, W) to (B, 3 T, H W).
    """
    around = nn.functional.avg_pool2d(images, 3, stride=1, padding=1)
    return torch.cat([(images > 0).to(images), images, around], dim=1).flatten(2)


class EnergyDensity(nn.Module):
    """Density of a number as a mixture of Gaussians that may be empty, by a small dense network.

    Shapes: (B, inputs) to a `Mixture` (B,), in float32. `start` is where the means begin.
    """

    def __init__(self, inputs: int, width: int, components: int, start: float) -> None:
        super().__init__()
        self.components = components
        last, middle = nn.Linear(width, 1 + 3 * components), nn.Linear(width, width)
        self.network = nn.Sequential(nn.Linear(inputs, width), nn.SiLU(), middle, nn.SiLU(), last)
        self.go_on = nn.Linear(inputs, components, bias=False)
        with torch.no_grad():
            apart = torch.linspace(-0.5, 0.5, components)
            last.bias[1 + components : 1 + 2 * components] = start + apart
            self.go_on.weight.zero_()

    def forward(self, x: Tensor) -> Mixture:
        """The mixture: its means are a linear function plus what the network adds."""
        with torch.autocast(x.device.type, enabled=False):  # 16 bits would round by a percent
            raw = self.network(x.float())
            odds, weight, mean, log_std = raw.split([1, *[self.components] * 3], -1)
            mean = mean + self.go_on(x.float())
        return Mixture(odds.squeeze(-1), weight, mean, log_std.clamp(*LOG_WIDTHS))


class Step(NamedTuple):
    """What a head is given at each step.

    Parameters
    ----------
    state
        State of the recurrent network, (B, hidden).
    inputs
        What the network is given beside the cells: logarithms of the energies so far and
        embeddings of the condition and of the step, (B, inputs).
    images
        What went before in each cell, (B, images, *shape), for a head that looks at it.
    pool
        The energy in MeV of which the slice takes a fraction, (B, 1).
    """

    state: Tensor
    inputs: Tensor
    images: Tensor | None
    pool: Tensor


class MeanHead(nn.Module):
    """The mean logarithm of every cell by least squares: no noise, always the same slice.

    Shapes: state of the network (B, hidden) to energies (B, cells) in MeV.
    """

    noise = 0

    def __init__(self, hidden: int, cells: int, unit: float) -> None:
        super().__init__()
        self.mean, self.unit = nn.Linear(hidden, cells), unit

    def loss(self, step: Step, energies: Tensor) -> dict[str, Tensor]:
        """Mean squared error of log(1 + E / unit), (B,)."""
        target = (energies / self.unit).log1p()
        return {"squares": (self.mean(step.state).float() - target).square().mean(1)}

    def draw(self, step: Step, noise: Tensor, *, whole: bool) -> Tensor:
        """The energies that belong to the mean logarithms."""
        mean: Tensor = self.mean(step.state).clamp(0.0, LOG_ENERGIES[1])
        return mean.expm1() * self.unit


class DensityHead(nn.Module):
    """A density of the slice's energy, then a density of each cell given that energy; drawn cells
    share the slice's energy.

    The energy is a fraction of a pool: its log-odds are a mixture of Gaussians that sees the few
    `inputs` of the step and not the cells, and so generalises well. A dense part says where cells
    have energy. With images of what went before it adds, with weights that the state chooses, what
    was in the same cell and around it: a track goes on where it was.

    Shapes: a `Step` to energies (B, cells) in MeV, cells row by row; noise (B, 2 + cells).
    """

    OUTPUTS = 4  # numbers of a LogWeibull

    def __init__(
        self,
        hidden: int,
        inputs: int,
        cells: int,
        *,
        width: int,
        components: int,
        images: int,
        unit: float,
        start: float,
    ) -> None:
        super().__init__()
        self.noise, self.smallest = 2 + cells, SMALLEST * unit
        self.energy = EnergyDensity(inputs, width, components, start)
        self.spread = nn.Linear(hidden + 1, width)
        self.shift = nn.Linear(width, 2 * cells)  # of odds and centre of each cell
        self.common = nn.Linear(width, self.OUTPUTS)
        self.look = nn.Linear(width, self.OUTPUTS * 3 * images) if images else None

    def cells(self, h: Tensor, images: Tensor | None, total: Tensor) -> LogWeibull:
        """Densities of the logarithms of the cells in MeV, (B, cells), in float32, when all of
        them together have `total` MeV (B, 1).
        """
        log_total = LOG_SCALE * total.clamp(min=self.smallest).log()
        h = silu(self.spread(torch.cat([h, log_total.to(h.dtype)], dim=1)))
        raw = self.common(h).unsqueeze(-1)
        if self.look is not None and images is not None:
            maps = neighbourhood(images)
            weights = self.look(h).reshape(h.shape[0], self.OUTPUTS, -1)
            raw = torch.baddbmm(raw.to(maps.dtype), weights.to(maps.dtype), maps)
        odds, centre, log_width, log_shape = raw.float().unbind(1)
        more_odds, more_centre = self.shift(h).float().chunk(2, 1)
        odds, centre = odds + more_odds, centre + more_centre
        log_width, log_shape = log_width.clamp(*LOG_WIDTHS), log_shape.clamp(*LOG_SHAPES)
        return LogWeibull(odds, centre, log_width.expand_as(odds), log_shape.expand_as(odds))

    def loss(self, step: Step, energies: Tensor) -> dict[str, Tensor]:
        """-log p of the energy and of the cells, (B,); the cells of an empty slice are certain."""
        total = energies.sum(1, keepdim=True)
        filled = total[:, 0] > 0
        fraction = (total / step.pool.clamp(min=self.smallest))[:, 0].clamp(*FRACTIONS)
        densities = self.cells(step.state, step.images, total)
        cells = densities.nll(energies.clamp(min=LEAST_ENERGY).log(), energies > 0).sum(1)
        return {
            "energy": self.energy(step.inputs).nll(fraction.logit(), filled),
            "cells": torch.where(filled, cells, 0.0),
        }

    def draw(self, step: Step, noise: Tensor, *, whole: bool) -> Tensor:
        """The energy, from two normals or the `whole` pool, then its cells."""
        total = step.pool
        if not whole:
            log_odds, filled = self.energy(step.inputs).draw(noise[:, 0], noise[:, 1])
            total = torch.where(filled, logistic(log_odds), 0.0)[:, None] * step.pool
        total = torch.where(total < self.smallest, 0.0, total)
        cells = self.cells(step.state, step.images, total)
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
    # ONNX Runtime cannot choose between truth values, but combine them.
    filled = filled | (likeliest & ~filled.any(1, keepdim=True))
    energies = torch.where(filled, values.clamp(*LOG_ENERGIES).exp(), 0.0)
    return energies / energies.sum(1, keepdim=True) * total
