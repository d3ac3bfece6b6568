"""The straight line of the incident particle, whatever conditions a geometry has for it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.geometry import Geometry


class Line(nn.Module):
    """Impact at the front face in mm and slopes along the two axes of the cells.

    The impact is a condition named like the axis (`x`), with a zero (`x0`) or with `impact_`
    before it; the slope is `px` / `pz`, or follows from `theta` and `phi`. What a geometry does
    not have is zero.
    """

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        names = geometry.condition_names
        axes = next((layer.axes for layer in geometry.layers if layer.kind == "grid"), ())
        self.impact = [
            next((names.index(n) for n in (a, f"{a}0", f"impact_{a}") if n in names), -1)
            for a in axes
        ]
        momentum = [f"p{a}" for a in axes]
        self.momentum, self.angles = [], []
        if axes and {*momentum, "pz"} <= set(names):
            self.momentum = [names.index(n) for n in (*momentum, "pz")]
        elif axes == ("x", "y") and {"theta", "phi"} <= set(names):
            self.angles = [names.index("theta"), names.index("phi")]

    @property
    def moves(self) -> bool:
        """Whether showers have an impact or a slope at all."""
        return any(k >= 0 for k in self.impact) or bool(self.momentum or self.angles)

    def forward(self, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Impact in mm and slopes, each (N, 2), from conditions (N, C)."""
        nothing = torch.zeros_like(condition[:, 0])
        impact = [nothing if k < 0 else condition[:, k] for k in self.impact or (-1, -1)]
        if self.momentum:
            x, y, z = (condition[:, k] for k in self.momentum)
            slope = [x / z, y / z]
        elif self.angles:
            theta, phi = (condition[:, k] for k in self.angles)
            slope = [theta.tan() * phi.cos(), theta.tan() * phi.sin()]
        else:
            slope = [nothing, nothing]
        return torch.stack(impact, dim=1), torch.stack(slope, dim=1)
