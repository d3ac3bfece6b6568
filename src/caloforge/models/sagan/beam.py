"""What momentum and impact point say about the picture in a grid of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.detector.particle import particle_line
from caloforge.nn.conditions import ConditionFeatures
from caloforge.units import GEV

STATISTICS = 10  # numbers of `shower_statistics`, without the counts above thresholds
STEEP = 10.0  # slopes of the particle are of order 0.1: this brings them to order one
LEAST_SLOPE = 1e-6  # below it a particle has no direction of inclination
LEAST_ENERGY = 1e-3  # MeV: keeps shares and logarithms of empty showers finite
LEAST_VARIANCE = 1e-3  # cells^2: keeps the logarithm of that of a single cell finite


class Beam(nn.Module):
    """What the condition says about the picture: features, and the cells seen from the particle.

    The particle's line is taken at a third of the layer's depth, about where showers are largest.

    Parameters
    ----------
    maps
        Whether `maps` gives anything.
    """

    def __init__(self, geometry: Geometry, maps: bool) -> None:
        super().__init__()
        self.features = ConditionFeatures(geometry)
        layer, self.line = geometry.layers[0], particle_line(geometry)
        self.momentum = list(self.line.momentum or ())
        if self.momentum:
            pz = geometry.conditions[self.momentum[2]]
            self.log_range = (math.log(pz.low), math.log(pz.high))
        front, back = layer.z or (0.0, 0.0)
        self.depth = front + (back - front) / 3
        self.cell = [(e[-1] - e[0]) / (len(e) - 1) for e in layer.edges]
        full = layer.shape
        half = ((full[0] + 1) // 2, (full[1] + 1) // 2)
        self.shapes = [full, half, ((half[0] + 1) // 2, (half[1] + 1) // 2)]
        self.channels = 5 if maps else 0
        for number, shape in enumerate(self.shapes):
            for axis, (edges, count) in enumerate(zip(layer.edges, shape, strict=True)):
                # Cells that share the layer evenly, as its own cells do.
                place = (np.arange(count) + 0.5) * (len(edges) - 1) / count
                centres = torch.from_numpy(np.interp(place, range(len(edges)), edges)).float()
                self.register_buffer(f"centres{number}{axis}", centres, persistent=False)

    @property
    def size(self) -> int:
        """F, the number of features."""
        return self.features.size + (3 if self.momentum else 0)

    def forward(self, condition: Tensor) -> Tensor:
        """Features of order one, (N, F): those of `ConditionFeatures`, and for momenta log |p|
        and the slopes.
        """
        features = [self.features(condition)]
        if self.momentum:
            low, high = self.log_range
            size = condition[:, self.momentum].square().sum(dim=1, keepdim=True).sqrt()
            features += [
                (2 * size.log() - low - high) / (high - low),
                STEEP * self.slopes(condition),
            ]
        return torch.cat(features, dim=1)

    def slopes(self, condition: Tensor) -> Tensor:
        """Slopes of the particle's line along both axes, (N, 2)."""
        return self.line.slope(condition)

    def away(self, condition: Tensor, scale: int) -> tuple[Tensor, Tensor]:
        """How far rows and columns of cells are from the particle's line, in cells of the full
        resolution, (N, H, 1) and (N, 1, W); `scale` 0, 1, 2: full, half, quarter resolution.
        """
        at = self.line.at(condition, self.depth)
        rows, columns = (
            (getattr(self, f"centres{scale}{axis}") - at[:, axis : axis + 1]) / self.cell[axis]
            for axis in range(2)
        )
        return rows[:, :, None], columns[:, None, :]

    def maps(self, condition: Tensor, scale: int) -> Tensor:
        """(N, 5, H, W): dx and dy from the particle's line, linear and as arsinh, and log(1 + r^2)
        (N, 0, H, W) without maps.
        """
        shape = self.shapes[scale]
        if not self.channels:
            return condition.new_zeros(condition.shape[0], 0, *shape)
        u, v = self.away(condition, scale)
        size = (condition.shape[0], *shape)
        far = 2 / max(self.shapes[0])
        rows = [(far * u).expand(size), u.asinh().expand(size)]
        columns = [(far * v).expand(size), v.asinh().expand(size)]
        return torch.stack([*rows, *columns, 0.5 * (u * u + v * v).log1p()], dim=1)

    def along_across(self, condition: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Distances of the cells from the particle's line along and across the direction of
        inclination (along x for a particle without one), in cells, two of (N, V); and how far a
        cell reaches in either direction, (N, 1).
        """
        u, v = self.away(condition, 0)
        slopes = self.slopes(condition)
        size = slopes.square().sum(dim=1, keepdim=True).sqrt()
        straight = size < LEAST_SLOPE
        cos = torch.where(straight, 1.0, slopes[:, :1] / size.clamp(min=LEAST_SLOPE))
        sin = torch.where(straight, 0.0, slopes[:, 1:] / size.clamp(min=LEAST_SLOPE))
        reach = 0.5 * (cos.abs() + sin.abs())
        cos, sin = cos[:, :, None], sin[:, :, None]
        return (u * cos + v * sin).flatten(1), (v * cos - u * sin).flatten(1), reach


def shower_statistics(
    energies: Tensor, incident: Tensor, condition: Tensor, beam: Beam, thresholds: Sequence[float]
) -> Tensor:
    """What metrics of showers look at, (N, 10 + T), differentiable.

    Logarithm of the response E_total / E_incident, alone and times sqrt(E_incident) (its pull);
    along and across the direction of inclination, in cells from the particle's line: share of
    energy in front minus behind, mean, log variance, log variance over the cells that the axis
    crosses; and for each threshold t in MeV the sum over cells of E / (E + t).
    """
    total = energies.sum(dim=1, keepdim=True).clamp(min=LEAST_ENERGY)
    response = (total / incident).log()
    pull = response * (incident / GEV).sqrt()
    share = energies / total
    moments = []
    along, across, reach = beam.along_across(condition)
    for u, v in ((along, across), (across, along)):
        line = (v.abs() <= reach) * energies
        line = line / line.sum(dim=1, keepdim=True).clamp(min=LEAST_ENERGY)
        asymmetry = (share * u.sign()).sum(dim=1, keepdim=True)
        mean, variance = _moments(share, u)
        moments += [asymmetry, mean, (variance + LEAST_VARIANCE).log()]
        moments += [(_moments(line, u)[1] + LEAST_VARIANCE).log()]
    counts = [(energies / (energies + t)).sum(dim=1, keepdim=True) for t in thresholds]
    return torch.cat([response, pull, *moments, *counts], dim=1)


def _moments(share: Tensor, where: Tensor) -> tuple[Tensor, Tensor]:
    mean = (share * where).sum(dim=1, keepdim=True)
    return mean, (share * (where - mean).square()).sum(dim=1, keepdim=True)
