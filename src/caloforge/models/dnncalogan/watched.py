"""Observables that a critic may watch: differentiable numbers of a shower, of order one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError, did_you_mean
from caloforge.nn.moments import Moments
from caloforge.transforms import IncidentEnergy
from caloforge.units import GEV

SMALLEST = 1e-4  # share of the incident energy below which that of a layer does not count
LENGTH = 30.0  # mm, the width of a shower: positions are divided by it
THRESHOLDS = (1e-4, 1e-3)  # shares of the incident energy at which a cell counts half


class Watched(nn.Module):
    """(N, V) in MeV and conditions (N, C) to the named observables, (N, K), in float32 whatever
    the precision.

    Parameters
    ----------
    names
        Names of the OBSERVABLES, in this order.
    resolution
        r of the pull of the total energy: a spread of r / sqrt(E_inc / GeV) of the incident energy
        becomes 1.

    Raises
    ------
    ModelError
        For an unknown name.
    """

    layer: Tensor

    def __init__(self, geometry: Geometry, names: Sequence[str], resolution: float) -> None:
        super().__init__()
        for name in names:
            if name not in OBSERVABLES:
                raise ModelError(f"Unknown observable '{name}': {did_you_mean(name, OBSERVABLES)}")
        self.names, self.resolution = tuple(names), resolution
        self.incident = IncidentEnergy(geometry)
        self.moments = Moments(geometry)
        self.layers = geometry.n_layers
        layer = torch.from_numpy(geometry.layer_of_cell)
        self.register_buffer("layer", layer, persistent=False)

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """The observables side by side."""
        with torch.autocast(energies.device.type, enabled=False):
            incident = self.incident(condition)
            observables = [OBSERVABLES[n](self, energies.float(), incident) for n in self.names]
        return torch.cat(observables, dim=1) if observables else energies[:, :0]

    def size(self) -> int:
        """K."""
        energies = torch.zeros(1, len(self.layer), device=self.layer.device)
        condition = torch.ones(1, 1 + max(self.incident.columns), device=self.layer.device)
        return self(energies, condition).shape[1]

    def total(self, energies: Tensor, incident: Tensor) -> Tensor:
        """(E_total / E_inc - 1) sqrt(E_inc / GeV) / resolution, (N, 1): spread about 1 at every
        energy for a calorimeter of that stochastic term.
        """
        response = energies.sum(dim=1, keepdim=True) / incident
        return (response - 1) * (incident / GEV).sqrt() / self.resolution

    def fractions(self, energies: Tensor, incident: Tensor) -> Tensor:
        """log10(E_layer / E_inc), with a floor, (N, L)."""
        sums = energies.new_zeros(len(energies), self.layers).index_add(1, self.layer, energies)
        return (sums / incident + SMALLEST).log10()

    def centres(self, energies: Tensor, incident: Tensor) -> Tensor:
        """Energy-weighted mean of both coordinates in each layer, over 30 mm, (N, 2L)."""
        centres: Tensor = self.moments(energies / incident)[0]
        return centres / LENGTH

    def widths(self, energies: Tensor, incident: Tensor) -> Tensor:
        """Logarithm of the energy-weighted spread (plus 1 mm) of both coordinates in each layer,
        (N, 2L).
        """
        log_widths: Tensor = self.moments(energies / incident)[1]
        return log_widths / math.log(LENGTH)

    def filled(self, energies: Tensor, incident: Tensor) -> Tensor:
        """Soft share of cells above thresholds t of the incident energy: mean of x / (x + t), (N,
        2).
        """
        x = energies / incident
        return torch.cat([(x / (x + t)).mean(dim=1, keepdim=True) for t in THRESHOLDS], dim=1)


OBSERVABLES: dict[str, Callable[[Watched, Tensor, Tensor], Tensor]] = {
    "total": Watched.total,
    "layers": Watched.fractions,
    "centres": Watched.centres,
    "widths": Watched.widths,
    "filled": Watched.filled,
}
