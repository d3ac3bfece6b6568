"""How the streams of a generator begin: a seed image for each layer from condition and noise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.calogan.impact import AxisFeatures, ImpactMaps

# First weight of the logarithm of the distance from the axis: below zero, so that a young shower
# falls with the distance.
FALL = -1.8


class DenseSeed(nn.Module):
    """A dense layer of [z E/E_max, features of the condition] for each layer (M. Paganini et al.
    2017, arXiv:1705.02355, multiply z by E/100 GeV).

    Shapes: (N, C), (N, latent) to what is embedded, (N, latent + F), and seeds (N, channels, H,
    W).
    """

    modulates = False

    def __init__(self, geometry: Geometry, latent: int, channels: int) -> None:
        super().__init__()
        self.channels, self.shapes = channels, [layer.shape for layer in geometry.layers]
        self.features = AxisFeatures(geometry)
        column = geometry.column_of("energy")
        self.column, self.highest = column, geometry.conditions[column].high
        self.size = latent + self.features.size
        self.dense = nn.ModuleList(
            nn.Linear(self.size, channels * layer.size) for layer in geometry.layers
        )

    def forward(self, condition: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What is embedded, and the seeds."""
        energy = condition[:, self.column : self.column + 1] / self.highest
        z = torch.cat([noise * energy, self.features(condition)], dim=1)
        seeds = [
            dense(z).reshape(-1, self.channels, *shape)
            for dense, shape in zip(self.dense, self.shapes, strict=True)
        ]
        return z, seeds


class ImpactSeed(nn.Module):
    """Maps of where each cell lies from the particle's axis, and as many latent numbers for each
    cell as there are; the remaining latent numbers and the features of the condition are embedded.

    Shapes: (N, C), (N, latent) to (N, latent mod V + F) and seeds (N, 18 + latent // V, H, W).
    Raises ModelError when there are fewer latent numbers than cells.
    """

    modulates = True

    def __init__(self, geometry: Geometry, latent: int) -> None:
        super().__init__()
        self.cells = cells = geometry.n_cells
        if latent <= cells:
            raise ModelError(
                f'Got latent = {latent}; seed = "impact" expects more than the {cells} cells.'
            )
        self.slices, self.shapes = geometry.slices, [layer.shape for layer in geometry.layers]
        self.features = AxisFeatures(geometry)
        self.maps, self.shared = divmod(latent, cells)
        self.impact = nn.ModuleList(ImpactMaps(geometry, layer) for layer in geometry.layers)
        self.channels = ImpactMaps.channels + self.maps
        self.size = self.shared + self.features.size

    def forward(self, condition: Tensor, noise: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What is embedded, and the seeds."""
        cells = noise[:, self.shared :].reshape(-1, self.maps, self.cells)
        seeds = [
            torch.cat(
                [impact(condition), cells[:, :, where].reshape(-1, self.maps, *shape)], dim=1
            )
            for impact, where, shape in zip(self.impact, self.slices, self.shapes, strict=True)
        ]
        return torch.cat([noise[:, : self.shared], self.features(condition)], dim=1), seeds


class Halo(nn.Module):
    """What the "impact" form makes of a stream's two images, level and spread: level + profile +
    spread times a latent number of each cell.

    The profile is a straight path from the impact maps. It starts as a shower that falls with the
    distance from the axis, so that cells near the axis have a gradient through the ReLU at all
    times; without it a young generator goes dark for good. The latent numbers give the halo, where
    each cell is hit or not by itself, its roughness from the first step on.

    Shapes: (N, 2, H, W) and the seed (N, K, H, W) to (N, 1, H, W).
    """

    def __init__(self) -> None:
        super().__init__()
        weight = torch.zeros(2, ImpactMaps.channels // 2)  # of the maps at front and back
        weight[:, ImpactMaps.DISTANCE] = FALL
        self.weight = nn.Parameter(weight.flatten())

    def forward(self, images: Tensor, seed: Tensor) -> Tensor:
        """The image of the layer."""
        level, spread = images.chunk(2, dim=1)
        channels = ImpactMaps.channels
        profile = (self.weight[:, None, None] * seed[:, :channels]).sum(dim=1, keepdim=True)
        return level + profile + spread * seed[:, channels : channels + 1]
