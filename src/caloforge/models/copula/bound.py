"""The largest energy that a cell is given: not more than training showers have at its distance.

The network of the marginals sees few filled cells far from the particle's line. What it says of
the tail of their spectrum there is a guess, and a single wrong cell of a GeV widens a shower by
many times. Here the energy of a cell is cut at the largest one that any training shower has, as a
share of its incident energy, in the same layer, at a similar distance from the line and at a
similar incident energy.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.models.copula.frame import Frame
from caloforge.models.copula.given import Given

DISTANCES, ENERGIES = 12, 6  # bins, each with the same number of filled cells and of showers
SLACK = 1.2  # times the largest share seen: other showers have somewhat more
_NOTHING = 1e-9  # share of a cell where no training shower has a filled one


class Bound(nn.Module):
    """A limit of the logarithms of cells (N, V) by layer, distance and incident energy."""

    distance: Tensor
    energy: Tensor
    most: Tensor

    def __init__(self, geometry: Geometry, frame: Frame) -> None:
        super().__init__()
        self.frame, self.layers = frame, geometry.n_layers
        # Inner edges of the bins: of the distance in mm, of log(E / MeV).
        self.register_buffer("distance", torch.zeros(DISTANCES - 1))
        self.register_buffer("energy", torch.zeros(ENERGIES - 1))
        # Logarithm of the largest share of the incident energy that a cell has.
        self.register_buffer("most", torch.zeros(self.layers * ENERGIES * DISTANCES))

    def _bin(self, given: Given) -> Tensor:
        """Number of the bin of every cell, (N, V)."""
        away = self.frame.offsets(given.condition, given.log_energy).square().sum(dim=2)
        place = sum(((away > edge.square()).int() for edge in self.distance), start=0)
        energy = (given.log_energy[:, None] > self.energy).sum(dim=1, keepdim=True)
        return (self.frame.layer * ENERGIES + energy) * DISTANCES + place

    @torch.no_grad()
    def fit(self, energies: Tensor, given: Given) -> None:
        """Set the limits from training showers (N, V) in MeV."""
        away = self.frame.offsets(given.condition, given.log_energy).norm(dim=2)[energies > 0]
        for edges, values in ((self.distance, away), (self.energy, given.log_energy)):
            level = torch.arange(1, len(edges) + 1, device=values.device) / (len(edges) + 1)
            ordered = values.sort().values
            edges.copy_(ordered[(level * (len(ordered) - 1)).long()])
        share = (energies / given.log_energy.exp()[:, None]).clamp(min=_NOTHING).flatten()
        most = torch.full_like(self.most, _NOTHING)
        most.scatter_reduce_(0, self._bin(given).flatten(), share.to(most), "amax")
        self.most.copy_((SLACK * most).log())

    def forward(self, logs: Tensor, given: Given) -> Tensor:
        """Logarithms (N, V) of energies in MeV, none above its limit."""
        most = self.most[self._bin(given)]
        return torch.minimum(logs, most + given.log_energy[:, None])
