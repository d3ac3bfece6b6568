"""Invertible maps from MeV to the space a model works in, fitted when they are made and saved with the model."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from caloforge.errors import ModelError, did_you_mean
from caloforge.geometry import Geometry
from caloforge.showers import Showers

EPSILON = 1e-6  # distance kept from 0 and 1 before a logit


class IncidentEnergy(nn.Module):
    """Incident energy in MeV, (N, 1), from conditions (N, C): the energy column, or |p|."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        names = ("energy",) if "energy" in geometry.condition_names else ("px", "py", "pz")
        self.columns = [geometry.column(name) for name in names]

    def forward(self, condition: Tensor) -> Tensor:
        """Incident energy of each shower."""
        if len(self.columns) == 1:
            return condition[:, self.columns[0] : self.columns[0] + 1]
        return condition[:, self.columns].square().sum(dim=1, keepdim=True).sqrt()


class Transform(nn.Module):
    """x = forward(energies, condition), energies = inverse(x, condition).

    Subclasses are made by `fit`, which returns a ready object; `settings` (plain values) and the buffers are enough to
    make it again with `restore`.
    """

    settings: dict[str, Any]

    @classmethod
    def fit(cls, showers: Showers, **settings: Any) -> Self:
        """Fitted to the training showers. Raises ModelError for an unknown setting."""
        raise NotImplementedError

    @classmethod
    def restore(cls, geometry: Geometry, settings: dict[str, Any]) -> Self:
        """Same shape as when it was fitted, ready for its saved buffers."""
        raise NotImplementedError

    def size(self) -> int:
        """Length of one transformed shower."""
        raise NotImplementedError

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV (N, V) to model space (N, X)."""
        raise NotImplementedError

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Model space (N, X) to MeV (N, V), finite and >= 0."""
        raise NotImplementedError


class IncidentFraction(Transform):
    """Cells divided by the incident energy (CaloShowerGAN, arXiv:2309.06515): x = E_cell / E_inc.

    Options the authors tried and found of no use, off by default: `low_cut` sets cells below so many MeV to zero;
    `energy_scale` also divides by the mean response at that incident energy (interpolated linearly in log E).
    """

    def __init__(self, geometry: Geometry, low_cut: float, knots: int) -> None:
        super().__init__()
        self.cells = geometry.n_cells
        self.low_cut = low_cut
        self.incident = IncidentEnergy(geometry)
        self.settings = {"low_cut": low_cut, "knots": knots}
        self.register_buffer("log_energy", torch.linspace(0.0, 1.0, max(knots, 2)))
        self.register_buffer("response", torch.ones(max(knots, 2)))
        self.energy_scale = knots > 0

    @classmethod
    def fit(cls, showers: Showers, *, low_cut: float = 0.0, energy_scale: bool = False) -> Self:
        """Nothing to fit unless `energy_scale` is asked for: then the mean response at 16 incident energies."""
        knots = 16 if energy_scale else 0
        transform = cls(showers.geometry, low_cut, knots)
        if knots:
            log_energy = torch.from_numpy(showers.incident_energy).log()
            response = torch.from_numpy(showers.energies.sum(axis=1)) / log_energy.exp()
            edges = torch.quantile(log_energy, torch.linspace(0, 1, knots, dtype=torch.float64))
            edges = edges + 1e-6 * torch.arange(
                knots
            )  # a scan repeats its energies; knots must increase
            nearest = (log_energy[:, None] - edges[None, :]).abs().argmin(dim=1)
            for k in range(knots):
                chosen = nearest == k
                mean = response[chosen].mean() if chosen.any() else response.mean()
                transform.response[k] = mean
            transform.log_energy.copy_(edges)
        return transform

    @classmethod
    def restore(cls, geometry: Geometry, settings: dict[str, Any]) -> Self:
        """See `Transform.restore`."""
        return cls(geometry, **settings)

    def size(self) -> int:
        """V: one number per cell."""
        return self.cells

    def scale(self, condition: Tensor) -> Tensor:
        """What cells are divided by, in MeV, (N, 1)."""
        energy = self.incident(condition)
        if not self.energy_scale:
            return energy
        log_energy = energy.log().contiguous()
        right = torch.searchsorted(self.log_energy, log_energy).clamp(1, len(self.response) - 1)
        x0, x1 = self.log_energy[right - 1], self.log_energy[right]
        t = ((log_energy - x0) / (x1 - x0)).clamp(0, 1)
        return energy * torch.lerp(self.response[right - 1], self.response[right], t)

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV to fractions of the incident energy, (N, V)."""
        if self.low_cut > 0:
            energies = torch.where(energies < self.low_cut, 0.0, energies)
        return energies / self.scale(condition)

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Fractions to MeV; what is below zero (or below `low_cut`) becomes zero."""
        energies = x.clamp(min=0) * self.scale(condition)
        if self.low_cut > 0:
            energies = torch.where(energies < self.low_cut, 0.0, energies)
        return energies


TRANSFORMS: dict[str, type[Transform]] = {
    "incident-fraction": IncidentFraction,
}


def fit_transform(name: str, showers: Showers, **settings: Any) -> Transform:
    """Fit the named transform. Raises ModelError for an unknown name or setting, with the nearest valid one."""
    if name not in TRANSFORMS:
        raise ModelError(f"Unknown transform '{name}': {did_you_mean(name, TRANSFORMS)}")
    try:
        return TRANSFORMS[name].fit(showers, **settings)
    except TypeError as error:
        raise ModelError(
            f"Transform '{name}' was given wrong settings {settings}: {error}."
        ) from error


def transform_name(transform: Transform) -> str:
    """The name a transform has in TRANSFORMS."""
    return next(name for name, kind in TRANSFORMS.items() if type(transform) is kind)
