"""What momentum and impact point say about the picture in a grid of cells."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.geometry import Geometry, Layer
from caloforge.nn.conditions import ConditionFeatures

STATISTICS = 6  # of `shower_statistics`, without the counts above thresholds


class Beam(nn.Module):
    """What the condition says about the picture: features, and the cells seen from the particle.

    The particle's line is taken at a third of the layer's depth, about where showers are largest.

    Parameters
    ----------
    maps
        Whether `maps` gives anything.
    """

    xy: Tensor

    def __init__(self, geometry: Geometry, maps: bool) -> None:
        super().__init__()
        self.features = ConditionFeatures(geometry)
        layer, names = geometry.layers[0], geometry.condition_names
        self.impact = [names.index(axis) if axis in names else -1 for axis in layer.axes]
        momentum = [names.index(axis) if axis in names else -1 for axis in ("px", "py", "pz")]
        self.momentum = momentum if min(momentum) >= 0 else []
        if self.momentum:
            pz = geometry.conditions[momentum[2]]
            self.log_range = (math.log(pz.low), math.log(pz.high))
        front, back = layer.z or (0.0, 0.0)
        self.depth = front + (back - front) / 3
        self.reach = [0.5 * (edges[-1] - edges[0]) for edges in layer.edges]
        self.cell = [2 * h / n for h, n in zip(self.reach, layer.shape, strict=True)]
        full = layer.shape
        half = ((full[0] + 1) // 2, (full[1] + 1) // 2)
        self.shapes = [full, half, ((half[0] + 1) // 2, (half[1] + 1) // 2)]
        self.channels = 5 if maps else 0
        for shape in self.shapes:
            self.register_buffer(f"centres{shape[0]}", _centres(layer, shape), persistent=False)

    @property
    def size(self) -> int:
        """F, the number of features."""
        return self.features.size + (3 if self.momentum else 0)

    def forward(self, condition: Tensor) -> Tensor:
        """Features of order one, (N, F): those of `ConditionFeatures`, and for momenta log |p|
        and the slopes.
        """
        found = [self.features(condition)]
        if self.momentum:
            low, high = self.log_range
            size = condition[:, self.momentum].square().sum(dim=1, keepdim=True).sqrt()
            found += [(2 * size.log() - low - high) / (high - low), 10 * self.slopes(condition)]
        return torch.cat(found, dim=1)

    def slopes(self, condition: Tensor) -> Tensor:
        """p_x / p_z and p_y / p_z, (N, 2); 0 without momenta."""
        if not self.momentum:
            return torch.zeros_like(condition[:, :1]).expand(-1, 2)
        return condition[:, self.momentum[:2]] / condition[:, self.momentum[2:]]

    def away(self, condition: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Distance of each cell from the particle's line in mm, two of (N, H W)."""
        slopes = self.slopes(condition)
        centres = getattr(self, f"centres{shape[0]}")
        found = []
        for k, column in enumerate(self.impact):
            line = self.depth * slopes[:, k : k + 1]
            if column >= 0:
                line = line + condition[:, column : column + 1]
            found.append(centres[k] - line)
        return found[0], found[1]

    def maps(self, condition: Tensor, shape: tuple[int, int]) -> list[Tensor]:
        """[(N, 5, H, W)]: dx and dy from the particle's line, in half widths of the layer and as
        arsinh in cells, and log(1 + r / cell); or [] without maps.
        """
        if not self.channels:
            return []
        dx, dy = self.away(condition, shape)
        u, v = dx / self.cell[0], dy / self.cell[1]
        r = (u * u + v * v).sqrt()
        found = [dx / self.reach[0], dy / self.reach[1], u.asinh(), v.asinh(), r.log1p()]
        return [torch.stack(found, dim=1).reshape(len(dx), -1, *shape)]

    def along_across(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Distances of the cells from the particle's line along and across the direction of
        inclination (along x for a particle without one), in cells, two of (N, V).
        """
        dx, dy = self.away(condition, self.shapes[0])
        u, v = dx / self.cell[0], dy / self.cell[1]
        slopes = self.slopes(condition)
        size = slopes.square().sum(dim=1, keepdim=True).sqrt()
        straight = size < 1e-6
        cos = torch.where(straight, 1.0, slopes[:, :1] / size.clamp(min=1e-6))
        sin = torch.where(straight, 0.0, slopes[:, 1:] / size.clamp(min=1e-6))
        return u * cos + v * sin, v * cos - u * sin


def _centres(layer: Layer, shape: tuple[int, int]) -> Tensor:
    """Centres in mm of `shape` cells that share the layer evenly by its own cells, (2, H W)."""
    axes = []
    for edges, count in zip(layer.edges, shape, strict=True):
        place = (np.arange(count) + 0.5) * (len(edges) - 1) / count
        axes.append(torch.from_numpy(np.interp(place, range(len(edges)), edges)).float())
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)


def shower_statistics(
    energies: Tensor, incident: Tensor, condition: Tensor, beam: Beam, thresholds: Sequence[float]
) -> Tensor:
    """What the judges of showers look at, (N, 6 + T), differentiable.

    Logarithm of the response E_total / E_incident, alone and times sqrt(E_incident) (its pull);
    mean distance from the particle's line and log width, along and across the direction of
    inclination (in cells); and for each threshold t in MeV the sum over cells of E / (E + t).
    """
    total = energies.sum(dim=1, keepdim=True).clamp(min=1e-3)
    response = (total / incident).log()
    pull = response * (incident / 1000.0).sqrt()
    share = energies / total
    moments = []
    for away in beam.along_across(condition):
        mean = (share * away).sum(dim=1, keepdim=True)
        variance = (share * (away - mean).square()).sum(dim=1, keepdim=True)
        moments += [mean, (variance + 1e-3).log()]
    counts = [(energies / (energies + t)).sum(dim=1, keepdim=True) for t in thresholds]
    return torch.cat([response, pull, *moments, *counts], dim=1)
