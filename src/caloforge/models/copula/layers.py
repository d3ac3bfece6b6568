"""The layer energies as numbers that a copula can hold: the response, and shares.

Let E_1 ... E_L be the layers in order of increasing mean energy. The variables are the response
sum(E_l) / E and, for every layer but the last, its share of what the layers before it have left:
v_l = E_l / (E_l + ... + E_L). An empty layer has the share 0. From response and shares the layer
energies follow exactly, and a copula of these variables conserves the energy that one of the layer
energies themselves would not: the response is far narrower than any layer.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry


class Shares(nn.Module):
    """Layer energies (N, L) in units of the incident energy to variables (N, L) and back."""

    order: Tensor

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.register_buffer("order", torch.arange(geometry.n_layers))

    @torch.no_grad()
    def fit(self, layers: Tensor) -> None:
        """Set the order of the layers."""
        self.order.copy_(layers.mean(dim=0).argsort(stable=True))

    def forward(self, layers: Tensor) -> Tensor:
        """Response and shares."""
        ordered = layers[:, self.order]
        left = ordered.flip(1).cumsum(dim=1).flip(1)
        return torch.cat([left[:, :1], (ordered / left.clamp(min=1e-20))[:, :-1]], dim=1)

    def inverse(self, shares: Tensor) -> Tensor:
        """Layer energies from response and shares."""
        left, energies = shares[:, :1], []
        for k in range(1, shares.shape[1]):
            energies.append(shares[:, k : k + 1].clamp(0, 1) * left)
            left = left - energies[-1]
        ordered = torch.cat([*energies, left], dim=1)
        # Back in the layers' own order, by a permutation matrix: exports know no better way.
        return ordered @ torch.eye(ordered.shape[1], device=ordered.device)[self.order]
