"""Where a particle flies: its axis through the layers, barycentres, and attributes as targets."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.errors import ModelError
from caloforge.geometry import Geometry, Layer
from caloforge.nn.conditions import ConditionFeatures

_LENGTH = 60.0  # mm: positions are divided by it to be of order one
_CORE = 8.0  # mm: of the order of the core of a shower
_SIGMAS = (1.5, 5.0)  # mm: narrower and wider than a shower's core where it is narrowest
_LEAST = 1e-3  # of the energy: a smaller share is the halo's affair
_POINT = 2.0  # mm: distances below it do not count
_ATTRIBUTES = ("x0", "y0", "theta", "phi")


class Axis(nn.Module):
    """The straight line of the incident particle: (x0, y0) at the front face and slopes tan theta
    (cos phi, sin phi).

    Raises ModelError for a geometry without x0, y0, theta and phi.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        missing = [name for name in _ATTRIBUTES if name not in geometry.condition_names]
        if missing:
            raise ModelError(
                f"Geometry '{geometry.name}' has no condition '{missing[0]}'; expected x0, y0, "
                "theta and phi: choose another model for it."
            )
        self.columns = [geometry.column(name) for name in _ATTRIBUTES]

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Impact in mm and slopes, each (N, 2)."""
        x0, y0, theta, phi = (condition[:, k] for k in self.columns)
        slope = theta.tan()
        direction = torch.stack([slope * phi.cos(), slope * phi.sin()], dim=1)
        return torch.stack([x0, y0], dim=1), direction


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
                0.3 * (1 + squared / _POINT**2).log() - 1,
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
    return 0.3 * (share + _LEAST).log()


class AxisFeatures(nn.Module):
    """The features of `ConditionFeatures`, the logarithm of the energy and the slopes, (N, F)."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.features, self.axis = ConditionFeatures(geometry), Axis(geometry)
        self.energy = geometry.column("energy")
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
        return torch.cat([self.features(condition), 0.5 * log_energy, 4 * slope], dim=1)


class Moments(nn.Module):
    """Barycentre and width of each layer from its images, in float32 whatever the precision.

    Shapes: fractions or energies (N, V) to barycentres (N, 2L) in mm, x of all layers before y,
    and logarithms of (width + 1 mm) (N, 2L). A layer without energy has both at 0.
    """

    positions: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.slices = geometry.slices
        xy = [torch.tensor([list(layer.xy[0]), list(layer.xy[1])]) for layer in geometry.layers]
        self.register_buffer("positions", torch.cat(xy, dim=1).float(), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Barycentres and logarithms of widths."""
        centres, widths = [], []
        for axis in range(2):
            for where in self.slices:
                # Not matrix products: autocast would take those in half precision.
                part, at = x[:, where], self.positions[axis, where]
                total = part.sum(dim=1, keepdim=True).clamp(min=1e-12)
                centre = (part * at).sum(dim=1, keepdim=True) / total
                spread = (part * (at - centre).square()).sum(dim=1, keepdim=True) / total
                centres.append(centre)
                widths.append((spread + 1e-3).sqrt().log1p())
        return torch.cat(centres, dim=1), torch.cat(widths, dim=1)


class Attributes(nn.Module):
    """What the head Xi estimates and how far off it is, attribute by attribute.

    Positions and theta are scaled from their range to [-1, 1]; phi is estimated as (sin, cos), so
    that it has no jump at pi.
    """

    names = _ATTRIBUTES

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        Axis(geometry)  # has them all, or raises
        self.columns = [geometry.column(name) for name in self.names]
        ranges = [geometry.conditions[k] for k in self.columns[:3]]
        self.ranges = [(c.low, c.high) for c in ranges]

    size = 5

    def targets(self, condition: Tensor) -> Tensor:
        """Scaled x0, y0, theta and the sine and cosine of phi, (N, 5)."""
        scaled = [
            (2 * condition[:, k] - low - high) / (high - low)
            for k, (low, high) in zip(self.columns[:3], self.ranges, strict=True)
        ]
        phi = condition[:, self.columns[3]]
        return torch.stack([*scaled, phi.sin(), phi.cos()], dim=1)

    def deviations(self, estimate: Tensor, condition: Tensor) -> Tensor:
        """|xi - Xi| of each attribute, (N, 4); phi's is the length of the chord on the circle."""
        difference = (self.targets(condition) - estimate.float()).abs()
        chord = (difference[:, 3:].square().sum(dim=1, keepdim=True) + 1e-12).sqrt()
        return torch.cat([difference[:, :3], chord], dim=1)
