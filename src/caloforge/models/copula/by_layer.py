"""Marginals of cells over the energy of their own layer, for showers that fluctuate much.

A hadron deposits anything from nothing to most of its energy in one layer. Given the incident
energy alone, the energy of a cell then is a broad mixture, and how many cells are filled depends
on what the layer has, not on what came in. Here the tables of `tables` are kept over log E_l, with
E_l the energy of the cell's layer in MeV, and hold log(e / E_l): the share that the cell has.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.models.copula.given import Given
from caloforge.models.copula.tables import Tables

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
    """

    def __init__(
        self, groups: Array, slices: tuple[slice, ...], kinds: int, points: int, steps: int
    ) -> None:
        super().__init__()
        self.slices = slices
        self.tables = nn.ModuleList(
            Tables(np.unique(groups[where], return_inverse=True)[1], kinds, points, steps)
            for where in slices
        )

    def _layers(self) -> Iterator[tuple[int, slice, Tables]]:
        """Number, cells and tables of each layer."""
        for number, (where, tables) in enumerate(zip(self.slices, self.tables, strict=True)):
            assert isinstance(tables, Tables)
            yield number, where, tables

    def decode(self, y: Tensor, given: Given, layers: Tensor) -> tuple[Tensor, Tensor]:
        """Logarithms of the energies (N, V) in MeV, and how far y is above its threshold, for
        layers (N, L) in MeV.
        """
        logs, above = [], []
        heights = layers.clamp(min=LOWEST).log()
        for number, where, tables in self._layers():
            height = heights[:, number]
            log, over = tables.decode(y[:, where], given._replace(log_energy=height))
            logs.append(log + height[:, None])
            above.append(over)
        return torch.cat(logs, dim=1), torch.cat(above, dim=1)

    def place(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """y of energies (N, V) in MeV, whatever it is where x = 0, and the thresholds."""
        parts = []
        for _, where, tables in self._layers():
            total = x[:, where].sum(dim=1).clamp(min=LOWEST)
            share = x[:, where] / total[:, None]
            parts.append(tables.place(share, given._replace(log_energy=total.log())))
        y, threshold = (torch.cat([part[k] for part in parts], dim=1) for k in (0, 1))
        return y, threshold

    def fit(self, x: Array, kind: Array, enough: int) -> Array:
        """Set the tables from energies (N, V) in MeV and the classes (N,) of the showers.

        Returns y (N, V) as `Tables.fit` does; in an empty layer it is the threshold of the
        smallest layer energy there is. `enough` showers make a layer energy stand for itself.
        """
        y = np.zeros(x.shape, dtype=np.float32)
        for _, where, tables in self._layers():
            cells = x[:, where]
            total = cells.sum(axis=1)
            rows = total > 0
            if rows.any():
                share = cells[rows] / total[rows, None]
                y[rows, where] = tables.fit(share, kind[rows], np.log(total[rows]), enough)
            y[~rows, where] = tables.threshold[0, 0, tables.group].numpy()
        return y
