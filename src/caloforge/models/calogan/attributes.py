"""Attributes of the incident particle as targets of the head Xi."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.models.calogan.impact import Axis


class Attributes(nn.Module):
    """What the head Xi estimates and how far off it is, attribute by attribute.

    Positions and theta are scaled from their range to [-1, 1]; phi is estimated as (sin, cos), so
    that it has no jump at pi.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        line = Axis(geometry).line  # has them all, or raises
        self.columns = [k for k in (*line.impact, *(line.angles or ())) if k is not None]
        self.names = tuple(geometry.condition_names[k] for k in self.columns)
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
