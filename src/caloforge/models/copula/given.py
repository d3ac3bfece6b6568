"""What is known of a shower before it is made, in the forms that the parts of the model need."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.models.copula.frame import Frame
from caloforge.nn.conditions import ConditionFeatures
from caloforge.transforms import IncidentEnergy


class Given(NamedTuple):
    """Conditions (N, C) in physical units, log(E / MeV) (N,), and the class of each shower (N,)
    by its categories.
    """

    condition: Tensor
    log_energy: Tensor
    kind: Tensor


class Givens(nn.Module):
    """Makes `Given` of conditions (N, C).

    A category that only shifts the windows of layers makes no class of its own.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.incident = IncidentEnergy(geometry)
        shifts = {layer.shift.condition for layer in geometry.layers if layer.shift is not None}
        self.categories = [
            (column, c.low, round(c.high - c.low) + 1)
            for column, c in enumerate(geometry.conditions)
            if c.scale == "category" and c.name not in shifts
        ]

    @property
    def kinds(self) -> int:
        """Number of classes."""
        return math.prod(count for _, _, count in self.categories)

    def forward(self, condition: Tensor) -> Given:
        """What is known of showers of these conditions."""
        kind = torch.zeros_like(condition[:, 0], dtype=torch.long)
        for column, low, count in self.categories:
            kind = kind * count + (condition[:, column] - low).round().long().clamp(0, count - 1)
        return Given(condition, self.incident(condition)[:, 0].log(), kind)


class ParticleFeatures(nn.Module):
    """The particle in numbers of order one, (N, F): conditions, log E, and, where showers have an
    impact or a slope, the slopes and where the line crosses the middle cell of each layer.
    """

    scale: Tensor

    def __init__(self, geometry: Geometry, frame: Frame) -> None:
        super().__init__()
        self.conditions, self.frame = ConditionFeatures(geometry, one_hot=True), frame
        # Mean and spread of log E, and of the slopes the spread.
        self.register_buffer("scale", torch.tensor([0.0, 1.0, 1.0]))
        self.size = self.conditions.size + 1
        if frame.moves:
            self.size += 2 + 2 * geometry.n_layers

    @torch.no_grad()
    def fit(self, given: Given) -> None:
        """Set the scales from the training showers."""
        _, slope = self.frame.line(given.condition)
        log_energy = given.log_energy
        spread = log_energy.std().clamp(min=1e-3)
        self.scale.copy_(torch.stack([log_energy.mean(), spread, slope.std().clamp(min=1e-3)]))

    def log_energy(self, given: Given) -> Tensor:
        """log E with mean 0 and variance 1 in the training showers, (N,)."""
        return (given.log_energy - self.scale[0]) / self.scale[1]

    def forward(self, given: Given) -> Tensor:
        """The features of each shower's particle."""
        features = [self.conditions(given.condition), self.log_energy(given)[:, None]]
        if self.frame.moves:
            _, slope = self.frame.line(given.condition)
            _, place = self.frame.crossed(given.condition, given.log_energy)
            features += [slope / self.scale[2], 2 * place.clamp(-1, 1).flatten(1)]
        return torch.cat(features, dim=1)


class LayerFeatures(nn.Module):
    """The particle as each of M variables of the layers sees it, (F, N, M)."""

    def __init__(self, particle: ParticleFeatures, count: int) -> None:
        super().__init__()
        self.particle, self.count = particle, count
        self.size = 2 * particle.size + 2 * count

    def forward(self, given: Given, columns: Tensor | None = None) -> Tensor:
        """Features of all variables, or of those in `columns` (N, m)."""
        plain = self.particle(given).T
        which = torch.eye(self.count, device=plain.device)
        size = (-1, plain.shape[1], -1)
        code = which[:, None].expand(size) if columns is None else which[:, columns]
        both = torch.cat([plain, plain.square()])[..., None].expand(-1, -1, code.shape[2])
        return torch.cat([both, code, code * self.particle.log_energy(given)[:, None]])


class CellFeatures(nn.Module):
    """Where each cell lies from the particle's line, (F, N, M): what the energy in it depends on
    where showers have an impact or a slope.

    Distances are taken in cells (u, v), where a narrow core matters, and in units of the lateral
    reach of the showers, where the halo does.
    """

    def __init__(self, geometry: Geometry, particle: ParticleFeatures) -> None:
        super().__init__()
        self.particle, self.frame = particle, particle.frame
        self.count, self.layers = geometry.n_cells, geometry.n_layers
        self.size = 22 + 2 * self.layers

    def forward(self, given: Given, columns: Tensor | None = None) -> Tensor:
        """Features of all cells, or of those in `columns` (N, m)."""
        frame = self.frame
        layer = frame.layer if columns is None else frame.layer[columns]
        place = frame.centre if columns is None else frame.centre[columns]
        crossing = frame.crossing(given.condition, given.log_energy)
        away = []
        for axis in range(2):
            line = crossing[..., axis]
            at = line[:, layer] if columns is None else line.gather(1, layer)
            away.append(place[..., axis] - at)
        u, v = (d / frame.width[layer, axis] for axis, d in enumerate(away))
        x, y = (d / frame.reach for d in away)
        squared, far = u.square() + v.square(), (x.square() + y.square() + 1e-4).sqrt()
        _, slope = frame.line(given.condition)
        slope = slope / self.particle.scale[2]
        tx, ty = (s[:, None].expand_as(u) for s in slope.unbind(dim=1))
        energy = self.particle.log_energy(given)[:, None].expand_as(u)
        halo, core = (far + 0.05).log(), torch.exp(-far)
        features = [
            energy,
            energy.square(),
            tx,
            ty,
            tx.square() + ty.square(),
            u.asinh(),
            v.asinh(),
            halo,
            (squared + 0.05).log(),
            torch.exp(-0.5 * u.square()),
            torch.exp(-0.5 * v.square()),
            (2 * u).tanh(),
            (2 * v).tanh(),
            torch.exp(-squared / 8),
            core,
            torch.exp(-far / 3),
            x * tx,
            y * ty,
            energy * halo,
            energy * core,
            # Whether the line is near the border to the next cell.
            torch.exp(-8 * (u.abs() - 0.5).square()),
            torch.exp(-8 * (v.abs() - 0.5).square()),
        ]
        for number in range(self.layers):
            inside = (layer == number).to(u).expand_as(u)
            features += [inside, inside * energy]
        return torch.stack(features)

    def near(self, given: Given, count: int, rng: torch.Generator) -> Tensor:
        """Cells to train on, (N, count): half of them within two of the line in some layer, the
        others anywhere.
        """
        frame, size = self.frame, (len(given.condition), count)
        device = given.condition.device

        def whole(below: int) -> Tensor:
            return torch.randint(below, size, generator=rng, device=device)

        layer = whole(self.layers)
        crossed, _ = frame.crossed(given.condition, given.log_energy)
        cell = crossed.gather(1, layer[..., None].expand(-1, -1, 2))
        beside = torch.stack([whole(5), whole(5)], dim=2) - 2
        counts = frame.counts[layer]
        cell = torch.minimum((cell + beside).clamp(min=0), counts - 1)
        close = frame.first[layer] + cell[..., 0] * counts[..., 1] + cell[..., 1]
        return torch.where(whole(2) == 0, close, whole(self.count))
