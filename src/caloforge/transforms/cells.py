"""Transforms of all cells of any read-out: fractions of the incident energy, logarithms."""

from __future__ import annotations

from typing import Any, Self

import torch
from torch import Tensor

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.showers import Showers
from caloforge.transforms.base import (
    IncidentEnergy,
    Transform,
    blocks,
    interpolate,
    response_curve,
)

# MeV: what `LayerLogs` counts as empty in a read-out that states no cut.
LEAST_CELL = 0.1
KNOTS = 16  # energies between which the mean response of `IncidentFraction` is linear


class IncidentFraction(Transform):
    """Cells divided by the incident energy (M. Faucci Giannelli, R. Zhang 2023, arXiv:2309.06515):
    x = E_cell / E_inc.

    Options the authors tried and found of no use, off by default: `low_cut` sets cells below so
    many MeV to zero; `energy_scale` also divides by the mean response at that incident energy
    (interpolated linearly in log E).
    """

    log_energy: Tensor
    response: Tensor

    def __init__(self, geometry: Geometry, low_cut: float, knots: int) -> None:
        super().__init__()
        if not low_cut >= 0:
            raise ModelError(f"Got low_cut = {low_cut} MeV; expected 0 or more.")
        self.cells = geometry.n_cells
        self.low_cut = low_cut
        self.incident = IncidentEnergy(geometry)
        self.settings = {"low_cut": low_cut, "knots": knots}
        self.register_buffer("log_energy", torch.linspace(0.0, 1.0, max(knots, 2)))
        self.register_buffer("response", torch.ones(max(knots, 2)))
        self.energy_scale = knots > 0

    @classmethod
    def fit(  # type: ignore[override]  # every transform names its own settings
        cls, showers: Showers, *, low_cut: float = 0.0, energy_scale: bool = False
    ) -> Self:
        """Nothing to fit unless `energy_scale` is asked for: then the mean response at 16 incident
        energies.
        """
        knots = KNOTS if energy_scale else 0
        transform = cls(showers.geometry, low_cut, knots)
        if knots:
            log_energy = torch.from_numpy(showers.incident_energy).log()
            sums = [transform._kept(energies).sum(dim=1) for energies, _ in blocks(showers)]
            response = torch.cat(sums) / log_energy.exp()
            edges, means = response_curve(log_energy, response, knots)
            transform.log_energy.copy_(edges)
            transform.response.copy_(means)
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
        return energy * interpolate(energy.log(), self.log_energy, self.response)

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV to fractions of the incident energy, (N, V)."""
        return self._kept(energies) / self.scale(condition)

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Fractions to MeV; what is below zero (or below `low_cut`) becomes zero."""
        return self._kept(x.clamp(min=0) * self.scale(condition))

    def _kept(self, energies: Tensor) -> Tensor:
        """Energies in MeV, 0 where they are below `low_cut`."""
        cut = self.low_cut
        return torch.where(energies < cut, 0.0, energies) if cut > 0 else energies


class BalancedFraction(IncidentFraction):
    """Fractions of the incident energy, each cell's divided by a power of its own typical size: x
    = E_cell / E_inc / (root mean square of that over the training showers)^power.

    With power 0 a distance between showers is all core; with 1 the halo counts as much, cell by
    cell. Sums stay linear in x. `low_cut` sets cells below so many MeV to zero.
    """

    cell_scale: Tensor

    def __init__(self, geometry: Geometry, power: float, low_cut: float) -> None:
        super().__init__(geometry, low_cut, 0)
        if not 0 <= power <= 1:
            raise ModelError(f"Got power = {power}; expected 0 to 1.")
        self.settings = {"power": power, "low_cut": low_cut}
        self.register_buffer("cell_scale", torch.ones(geometry.n_cells))

    @classmethod
    def fit(  # type: ignore[override]  # every transform names its own settings
        cls, showers: Showers, *, power: float = 0.5, low_cut: float = 0.0
    ) -> Self:
        """Fitted to the training showers; a cell that never fires counts as the faintest one."""
        transform = cls(showers.geometry, power, low_cut)
        squares = torch.zeros(showers.geometry.n_cells, dtype=torch.float64)
        for energies, condition in blocks(showers):
            share = transform._kept(energies).double() / transform.incident(condition)
            squares += share.square().sum(dim=0)
        size = (squares / len(showers)).sqrt()
        faintest = size[size > 0].min() if bool((size > 0).any()) else size.new_ones(())
        transform.cell_scale.copy_(size.clamp(min=float(faintest)) ** power)
        return transform

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV to balanced fractions, (N, V)."""
        return super().forward(energies, condition) / self.cell_scale

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Balanced fractions to MeV; what is below zero becomes zero."""
        return super().inverse(x * self.cell_scale, condition)


class LogEnergy(Transform):
    """x = log(1 + E / MeV) of every cell: the LHCb GANs (F. Sergeev et al., 2021,
    doi:10.1088/1742-6596/1740/1/012028).

    `low_cut` sets cells below so many MeV to zero.
    """

    LARGEST = 20.0  # e^20 MeV are 485 TeV: keeps an untrained model's output finite

    def __init__(self, geometry: Geometry, low_cut: float = 0.0) -> None:
        super().__init__()
        if not low_cut >= 0:
            raise ModelError(f"Got low_cut = {low_cut} MeV; expected 0 or more.")
        self.cells, self.low_cut = geometry.n_cells, low_cut
        self.settings = {"low_cut": low_cut}

    @classmethod
    def fit(  # type: ignore[override]  # every transform names its own settings
        cls, showers: Showers, *, low_cut: float = 0.0
    ) -> Self:
        """Nothing to fit."""
        return cls(showers.geometry, low_cut)

    @classmethod
    def restore(cls, geometry: Geometry, settings: dict[str, Any]) -> Self:
        """See `Transform.restore`."""
        return cls(geometry, **settings)

    def size(self) -> int:
        """V: one number per cell."""
        return self.cells

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV to logarithms, (N, V)."""
        return torch.where(energies < self.low_cut, 0.0, energies).log1p()

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Logarithms to MeV; what is below zero (or below `low_cut`) becomes zero."""
        energies = x.clamp(0.0, self.LARGEST).expm1()
        return torch.where(energies < self.low_cut, 0.0, energies)


class LayerLogs(Transform):
    """Logarithms of layer and cell energies, held together by the total: for models that work on
    unbounded numbers.

    x = [pull, log(E_layer / floor), log(E_cell / floor)], each standardised over the training
    showers. The logarithm of an empty layer or cell is -2, well apart from the 0 of the least one.
    The pull is (E_total / E_inc - mean) / sigma with the mean response interpolated in log E and
    sigma^2 = a + b/E + c/E^2 (E the incident energy) fitted to the training showers, so that one
    number carries the energy resolution at every energy. `inverse` takes the total from the pull,
    shares it out over the layers and each layer's over its cells; logarithms below -1 are empty.
    Cells below `floor` MeV are not modelled: `forward` takes them for empty. What `inverse` gives
    is shared out in proportion, so that a few of a generator's cells lie below it.

    Layer energies before cells follow C. Krause and D. Shih (2021, arXiv:2106.05285); logarithms
    with a floor follow L. Favaro et al. (2024, arXiv:2405.09629).
    """

    KNOTS = 16  # energies between which the mean response is linear
    EMPTY = -2.0  # logarithm of an empty layer or cell
    LARGEST = 30.0  # far above the logarithm of any energy: keeps an untrained model finite
    layer: Tensor
    knots: Tensor
    mean_response: Tensor
    variance: Tensor
    mean: Tensor
    std: Tensor

    def __init__(self, geometry: Geometry, floor: float) -> None:
        super().__init__()
        if not floor > 0:
            raise ModelError(f"Got floor = {floor} MeV; expected more than 0.")
        self.cells, self.layers, self.floor = geometry.n_cells, geometry.n_layers, floor
        self.settings = {"floor": floor}
        self.incident = IncidentEnergy(geometry)
        self.register_buffer("layer", torch.from_numpy(geometry.layer_of_cell))
        self.register_buffer("knots", torch.linspace(0.0, 1.0, self.KNOTS))
        self.register_buffer("mean_response", torch.ones(self.KNOTS))
        self.register_buffer("variance", torch.tensor([1.0, 0.0, 0.0]))
        self.register_buffer("mean", torch.zeros(self.size()))
        self.register_buffer("std", torch.ones(self.size()))

    @classmethod
    def fit(  # type: ignore[override]
        cls, showers: Showers, *, floor: float | None = None
    ) -> Self:
        """Fitted to the training showers; `floor` in MeV defaults to the geometry's cut, or to
        LEAST_CELL where it has none.
        """
        transform = cls(showers.geometry, floor or showers.geometry.cut or LEAST_CELL)
        energy, response = [], []
        for energies, condition in blocks(showers):
            incident = transform.incident(condition)[:, 0]
            energy.append(incident.double())
            response.append((transform._kept(energies).sum(dim=1) / incident).double())
        transform._fit_response(torch.cat(energy), torch.cat(response))
        sums = torch.zeros(2, transform.size(), dtype=torch.float64)
        for energies, condition in blocks(showers):
            x = transform._raw(transform._kept(energies), condition).double()
            sums += torch.stack([x.sum(dim=0), x.square().sum(dim=0)])
        count = len(showers)
        mean = sums[0] / count
        transform.mean.copy_(mean)
        # A cell that never fires has no spread; dividing by 1 keeps it where it is.
        squares = (sums[1] - count * mean.square()).clamp(min=0)
        spread = (squares / max(count - 1, 1)).sqrt().float()
        transform.std.copy_(torch.where(spread > 1e-3, spread, torch.ones_like(spread)))
        return transform

    @classmethod
    def restore(cls, geometry: Geometry, settings: dict[str, Any]) -> Self:
        """See `Transform.restore`."""
        return cls(geometry, **settings)

    def _fit_response(self, energy: Tensor, response: Tensor) -> None:
        import numpy as np
        from scipy.optimize import nnls

        knots, means = response_curve(energy.log(), response, self.KNOTS)
        self.knots.copy_(knots)
        self.mean_response.copy_(means)
        pull2 = (response - self._mean_response(energy.float()[:, None])[:, 0].double()).square()
        design = torch.stack(
            [torch.ones_like(energy), 1 / energy, 1 / energy.square()], dim=1
        ).numpy()
        # Relative weights: the variance spans orders of magnitude between the lowest and the
        # highest energy.
        weight = 1 / (0.01 / energy.numpy() * 1000 + 1e-5)
        scale = design.max(axis=0)
        solution, _ = nnls(design / scale * weight[:, None], pull2.numpy() * weight)
        self.variance.copy_(torch.from_numpy(np.maximum(solution / scale, 0)).float())

    def size(self) -> int:
        """1 + L + V."""
        return 1 + self.layers + self.cells

    def empty(self) -> Tensor:
        """What a layer or cell without energy is mapped to, (1 + L + V,); no pull is empty."""
        return (self.EMPTY - self.mean) / self.std

    def numbers(self) -> dict[str, Any]:
        """Everything that `inverse` uses, as plain values; docs/deployment.md says how."""
        fitted = ("knots", "mean_response", "variance", "mean", "std", "layer")
        return {
            "transform": "layer-logs",
            "floor": self.floor,
            "empty": self.EMPTY,
            "largest": self.LARGEST,
            "layers": self.layers,
            **{name: getattr(self, name).tolist() for name in fitted},
        }

    def _mean_response(self, energy: Tensor) -> Tensor:
        return interpolate(energy.log(), self.knots, self.mean_response)

    def _sigma(self, energy: Tensor) -> Tensor:
        a, b, c = self.variance
        return (a + b / energy + c / energy.square()).sqrt().clamp(min=1e-4)

    def _sums(self, energies: Tensor) -> Tensor:
        return energies.new_zeros(energies.shape[0], self.layers).index_add(
            1, self.layer, energies
        )

    def _kept(self, energies: Tensor) -> Tensor:
        return torch.where(energies < self.floor, 0.0, energies)

    def _raw(self, energies: Tensor, condition: Tensor) -> Tensor:
        energy = self.incident(condition)
        total = energies.sum(dim=1, keepdim=True)
        pull = (total / energy - self._mean_response(energy)) / self._sigma(energy)
        mev = torch.cat([self._sums(energies), energies], dim=1)
        logs = torch.where(mev > 0, (mev / self.floor).clamp(min=1).log(), self.EMPTY)
        return torch.cat([pull, logs], dim=1)

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV (N, V) to standardised logs (N, 1 + L + V)."""
        return (self._raw(self._kept(energies), condition) - self.mean) / self.std

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Standardised logs to MeV (N, V)."""
        raw = x * self.std + self.mean
        energy = self.incident(condition)
        total = (self._mean_response(energy) + raw[:, :1] * self._sigma(energy)).clamp(
            min=0
        ) * energy
        logs = raw[:, 1:]
        filled = logs > 0.5 * self.EMPTY
        mev = torch.where(filled, logs.clamp(0.0, self.LARGEST).exp(), 0.0)
        layers, cells = mev[:, : self.layers], mev[:, self.layers :]
        layers = torch.where(self._sums(cells) > 0, layers, 0.0)
        layers = layers * (total / layers.sum(dim=1, keepdim=True).clamp(min=1e-12))
        return cells * (layers / self._sums(cells).clamp(min=1e-12))[:, self.layer]
