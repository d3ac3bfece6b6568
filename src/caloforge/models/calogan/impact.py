"""Where a particle flies: its axis through the layers, and what each cell sees of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry, Layer
from caloforge.detector.particle import particle_line
from caloforge.errors import ModelError
from caloforge.nn.conditions import ConditionFeatures

_LENGTH = 60.0  # mm: positions are divided by it to be of order one
_CORE = 8.0  # mm, about the width of a shower's core
_SIGMAS = (1.5, 5.0)  # mm: narrower and wider than a shower's core where it is narrowest
_LEAST = 1e-3  # share of a core's energy: a smaller one belongs to the halo
_LOG_SCALE = 0.3  # of logarithms of distances and shares: brings them to order one
_ENERGY_SCALE, _SLOPE_SCALE = 0.5, 4.0  # bring log E and slopes to order one
_POINT = 2.0  # mm: distances below it do not count


class Axis(nn.Module):
    """The straight line of the incident particle: (x0, y0) at the front face and slopes tan theta
    (cos phi, sin phi).

    Raises ModelError for a geometry that does not know the impact and both angles.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.line = particle_line(geometry)
        if self.line.angles is None or None in self.line.impact:
            raise ModelError(
                f"Geometry '{geometry.name}' has the conditions "
                f"{', '.join(geometry.condition_names)}; expected the impact along both axes of "
                "the cells, a polar angle and an azimuth, such as x0, y0, theta and phi of "
                "calogan: choose another model for it."
            )

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Impact in mm and slopes, each (N, 2)."""
        return self.line(condition)


class ImpactMaps(nn.Module):
    """Images of a layer that tell each cell where it lies from the axis, at the layer's front and
    back: offsets in x and y; how far the axis is outside the cell along x and along y, saturating
    within a centimetre; the logarithm of the distance from the axis to the cell's edge, for the
    halo; and the logarithm of the share that the cell's extent along x and along y has of Gaussian
    cores about the axis, by which neighbours share a core that is narrower than they are.

    Shapes: (N, C) to (N, 2 x 9, H, W); the distances are channels DISTANCE and 9 +
    DISTANCE.
    """

    channels = 2 * (5 + 2 * len(_SIGMAS))
    DISTANCE = 4
    x: Tensor
    y: Tensor
    depth: Tensor
    half_cell: Tensor

    def __init__(self, geometry: Geometry, layer: Layer) -> None:
        super().__init__()
        if layer.z is None:
            raise ModelError(
                f"Layer {layer.id} of '{geometry.name}' states no depth z; expected it for the "
                'axis through the layer: use seed = "dense".'
            )
        self.axis = Axis(geometry)
        x, y = (torch.tensor(edges, dtype=torch.float32) for edges in layer.edges)
        rows, columns = 0.5 * (x[1:] + x[:-1]), 0.5 * (y[1:] + y[:-1])
        half = torch.stack(torch.meshgrid(0.5 * x.diff(), 0.5 * y.diff(), indexing="ij"))
        self.register_buffer("x", rows[:, None].expand(layer.shape).clone(), persistent=False)
        self.register_buffer("y", columns[None].expand(layer.shape).clone(), persistent=False)
        self.register_buffer("half_cell", half, persistent=False)
        self.register_buffer("depth", torch.tensor(layer.z, dtype=torch.float32), persistent=False)

    def forward(self, condition: Tensor) -> Tensor:
        """The maps, of order one."""
        impact, slope = self.axis(condition)
        maps = []
        for k in range(2):
            at = impact + slope * self.depth[k]
            dx, dy = self.x - at[:, 0, None, None], self.y - at[:, 1, None, None]
            outside_x, outside_y = dx.abs() - self.half_cell[0], dy.abs() - self.half_cell[1]
            squared = outside_x.clamp(min=0).square() + outside_y.clamp(min=0).square()
            maps += [
                dx / _LENGTH,
                dy / _LENGTH,
                (outside_x / _CORE).tanh(),
                (outside_y / _CORE).tanh(),
                _LOG_SCALE * (1 + squared / _POINT**2).log() - 1,
            ]
            for sigma in _SIGMAS:
                maps += [
                    _log_share(dx, self.half_cell[0], sigma),
                    _log_share(dy, self.half_cell[1], sigma),
                ]
        return torch.stack(maps, dim=1)


def _log_share(offset: Tensor, half: Tensor, sigma: float) -> Tensor:
    """Logarithm of the share of a Gaussian that lies within `half` about `offset`, (N, H, W)."""
    root = sigma * 2**0.5
    share = 0.5 * (((offset + half) / root).erf() - ((offset - half) / root).erf())
    return _LOG_SCALE * (share + _LEAST).log()


class AxisFeatures(nn.Module):
    """The features of `ConditionFeatures`, the logarithm of the energy and the slopes, (N, F)."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.features, self.axis = ConditionFeatures(geometry), Axis(geometry)
        self.energy = geometry.column_of("energy")
        self.middle = (
            geometry.conditions[self.energy].low * geometry.conditions[self.energy].high
        ) ** 0.5

    @property
    def size(self) -> int:
        """F."""
        return self.features.size + 3

    def forward(self, condition: Tensor) -> Tensor:
        """Features of order one."""
        log_energy = (condition[:, self.energy : self.energy + 1] / self.middle).log()
        _, slope = self.axis(condition)
        scaled = [_ENERGY_SCALE * log_energy, _SLOPE_SCALE * slope]
        return torch.cat([self.features(condition), *scaled], dim=1)
