"""Where the energy of each layer lies: barycentres and widths, for networks to look at."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry

LEAST_ENERGY = 1e-12  # keeps the barycentre of an empty layer finite
LEAST_SPREAD = 1e-3  # mm^2: keeps the gradient of the width of a single cell finite


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
                total = part.sum(dim=1, keepdim=True).clamp(min=LEAST_ENERGY)
                centre = (part * at).sum(dim=1, keepdim=True) / total
                spread = (part * (at - centre).square()).sum(dim=1, keepdim=True) / total
                centres.append(centre)
                widths.append((spread + LEAST_SPREAD).sqrt().log1p())
        return torch.cat(centres, dim=1), torch.cat(widths, dim=1)
