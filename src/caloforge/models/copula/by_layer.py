"""Marginals of cells over the energy of their own layer, for showers that fluctuate much.

A hadron deposits anything from nothing to most of its energy in one layer. Given the incident
energy alone, the energy of a cell then is a broad mixture, and how many cells are filled depends
on what the layer has, not on what came in. Here the tables of `tables` are kept over log E_l, with
E_l the energy of the cell's layer in MeV, and hold log(e / E_l): the share that the cell has.

The same energy in a layer may be the track of a fast particle or the end of a slow one. Tables can
therefore be made for several bands of the incident energy; between two bands, thresholds and
logarithms change linearly with log E from the one to the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.copula.correlation import energy_groups
from caloforge.models.copula.given import Given
from caloforge.models.copula.tables import FEW, Tables

Array = NDArray[Any]

LOWEST = 1e-9  # MeV: an empty layer counts as one with this energy


class ByLayer(nn.Module):
    """Tables of all V cells, those of each layer over its own energy.

    Parameters
    ----------
    groups
        (V,) the number of the table of each cell; cells of different layers never share one.
    slices
        Where the cells of each layer are.
    kinds
        Number of classes of showers, each with tables of its own.
    points, steps
        Most layer energies with tables, and values in each.
    bands
        Most bands of the incident energy with tables of their own; several for one class alone.
    """

    def __init__(
        self,
        groups: Array,
        slices: tuple[slice, ...],
        kinds: int,
        points: int,
        steps: int,
        bands: int = 1,
    ) -> None:
        super().__init__()
        self.slices = slices
        self.tables = nn.ModuleList(
            Tables(np.unique(groups[where], return_inverse=True)[1], kinds * bands, points, steps)
            for where in slices
        )
        # A layer that few showers reach has fewer bands: each layer has its own.
        self.bands = nn.ModuleList(Bands(bands) for _ in slices) if bands > 1 else None

    def _layers(self) -> Iterator[tuple[int, slice, Tables, Bands | None]]:
        """Number, cells, tables and bands of each layer."""
        for number, (where, tables) in enumerate(zip(self.slices, self.tables, strict=True)):
            bands = None if self.bands is None else self.bands[number]
            assert isinstance(tables, Tables)
            assert isinstance(bands, Bands | None)
            yield number, where, tables, bands

    def decode(self, y: Tensor, given: Given, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the energies (N, V) in MeV, and how far y is above its threshold, for
        layers (N, L) in MeV.
        """
        logs, above = [], []
        heights = layers.clamp(min=LOWEST).log()
        for number, where, tables, bands in self._layers():
            height = heights[:, number]
            log, over = _banded(tables.decode, y[:, where], given, height, bands)
            logs.append(log + height[:, None])
            above.append(over)
        return torch.cat(logs, dim=1), torch.cat(above, dim=1)

    def place(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """y of energies (N, V) in MeV, whatever it is where x = 0, and the thresholds."""
        parts = []
        for _, where, tables, bands in self._layers():
            total = x[:, where].sum(dim=1).clamp(min=LOWEST)
            share = x[:, where] / total[:, None]
            parts.append(_banded(tables.place, share, given, total.log(), bands))
        y, threshold = (torch.cat([part[k] for part in parts], dim=1) for k in (0, 1))
        return y, threshold

    def fit(self, x: Array, kind: Array, log_energy: Array, enough: int) -> Array:
        """Set the tables from energies (N, V) in MeV, the classes (N,) of the showers and the
        logarithms (N,) of their incident energies.

        Returns y (N, V) as `Tables.fit` does; in an empty layer it is the threshold of the
        smallest layer energy of its band or class. `enough` showers make a layer energy, or a band
        of incident energies, stand for itself.
        """
        y = np.zeros(x.shape, dtype=np.float32)
        for _, where, tables, bands in self._layers():
            cells = x[:, where]
            total = cells.sum(axis=1)
            rows, table, needed = total > 0, kind, enough
            if not rows.any():
                continue
            if bands is not None:
                bands.fit(torch.from_numpy(log_energy[rows]), enough)
                table = bands(torch.from_numpy(log_energy).float())[0].numpy()
                # Within a band showers are few, and the layer energies far apart.
                needed = min(FEW, enough)
            share, height = cells[rows] / total[rows, None], np.log(total[rows])
            y[rows, where] = tables.fit(share, table[rows], height, needed)
            empty = torch.from_numpy(table[~rows])[:, None]
            y[~rows, where] = tables.threshold[empty, 0, tables.group].numpy()
        return y


class Bands(nn.Module):
    """Bands of the incident energy: each from its lowest to its highest training shower, with gaps
    between them in which one passes into the next.
    """

    lowest: Tensor
    highest: Tensor

    def __init__(self, count: int) -> None:
        super().__init__()
        self.register_buffer("lowest", torch.arange(count).float())
        self.register_buffer("highest", torch.arange(count).float())

    def forward(self, log_energy: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The band at or below each energy (N,), the one above, and how far it is to there, 0 to
        1; beyond the last band both are the last.
        """
        band = (log_energy[:, None] >= self.lowest[1:]).sum(dim=1)
        above = (band + 1).clamp(max=len(self.lowest) - 1)
        gap = (self.lowest[above] - self.highest[band]).clamp(min=1e-6)
        way = ((log_energy - self.highest[band]) / gap).clamp(0, 1)
        return band, above, torch.where(above > band, way, 0.0)

    @torch.no_grad()
    def fit(self, log_energy: Tensor, enough: int) -> None:
        """Set the bands, `enough` showers in each, from energies (N,)."""
        groups = energy_groups(log_energy, len(self.lowest), enough)
        for number, rows in enumerate(groups):
            self.lowest[number] = log_energy[rows].min()
            self.highest[number] = log_energy[rows].max()
        # Bands that are not needed lie beyond; `Tables.fit` gives them what the last one has.
        spare = torch.arange(1, len(self.lowest) - len(groups) + 1)
        beyond = self.highest[len(groups) - 1] + spare
        self.lowest[len(groups) :] = beyond
        self.highest[len(groups) :] = beyond


def _banded(
    make: Callable[[Tensor, Given], tuple[Tensor, Tensor]],
    values: Tensor,
    given: Given,
    height: Tensor,
    bands: Bands | None,
) -> tuple[Tensor, Tensor]:
    """What `make` gives of values (N, M) with the tables of the bands around each incident energy,
    at the layer energies whose logarithms are `height` (N,).
    """
    told = given._replace(log_energy=height)
    if bands is None:
        return make(values, told)
    band, above, way = bands(given.log_energy)
    first = make(values, told._replace(kind=band))
    if not torch.compiler.is_exporting() and not bool(way.any()):
        return first
    second = make(values, told._replace(kind=above))
    mixed = [torch.lerp(a, b, way[:, None]) for a, b in zip(first, second, strict=True)]
    return mixed[0], mixed[1]
