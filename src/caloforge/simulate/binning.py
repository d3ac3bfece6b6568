"""Deposits of energy into the cells of a read-out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry, Layer

Array = NDArray[Any]


@dataclass(frozen=True)
class Deposits:
    """M deposits of energy.

    Parameters
    ----------
    shower
        Which shower each belongs to, (M,).
    layer
        Index (not id) of its layer, (M,).
    energy
        Energy in MeV, (M,), calibrated.
    position
        Where each lies across the axis, (M, 2) mm.
    """

    shower: Array
    layer: Array
    energy: Array
    position: Array

    def __len__(self) -> int:
        return len(self.energy)


class Binning:
    """The cells of a read-out as a search: built once, used for many deposits."""

    def __init__(self, geometry: Geometry) -> None:
        self._n_cells = geometry.n_cells
        starts = np.array([s.start for s in geometry.slices])
        groups: dict[tuple[Any, ...], list[int]] = {}
        for index, layer in enumerate(geometry.layers):
            shift = layer.shift and (layer.shift.axis, layer.shift.condition, layer.shift.step)
            groups.setdefault((layer.kind, layer.axes, layer.edges, shift), []).append(index)
        self._groups = [_Group(geometry, indices) for indices in groups.values()]
        self._group_of = np.empty(geometry.n_layers, dtype=np.int64)
        for number, indices in enumerate(groups.values()):
            self._group_of[indices] = number
        self._starts = starts

    def __call__(self, deposits: Deposits, conditions: Array, shift: Array) -> Array:
        """Energies (N, V) float64 MeV of N showers; what lies beside the cells is lost.

        Parameters
        ----------
        deposits
            What was deposited, across the axis in the coordinates of the simulation.
        conditions
            (N, C), which tell how windows of cells are shifted.
        shift
            (N, 2) mm that are added to every position: how far the impact of this read-out lies
            from that of the simulation.
        """
        count = len(conditions)
        flat = np.zeros(count * self._n_cells)
        number = self._group_of[deposits.layer]
        for k, group in enumerate(self._groups):
            chosen = slice(None) if len(self._groups) == 1 else np.flatnonzero(number == k)
            shower = deposits.shower[chosen]
            moved = shift - group.window(conditions)
            cell = group.cell(deposits.position[chosen] + moved[shower])
            inside = np.flatnonzero(cell >= 0)
            layer, energy = deposits.layer[chosen][inside], deposits.energy[chosen][inside]
            place = shower[inside] * self._n_cells + self._starts[layer] + cell[inside]
            flat += np.bincount(place, energy, minlength=len(flat))
        return flat.reshape(count, self._n_cells)


class _Group:
    """Layers whose cells lie at the same places."""

    def __init__(self, geometry: Geometry, indices: list[int]) -> None:
        self._layer: Layer = geometry.layers[indices[0]]
        self._edges = [np.asarray(edges) for edges in self._layer.edges]
        shift = self._layer.shift
        self._column = None if shift is None else geometry.column(shift.condition)
        self._axis = 0 if shift is None else self._layer.axes.index(shift.axis)
        self._step = 0.0 if shift is None else shift.step

    def window(self, conditions: Array) -> Array:
        """How far the window lies from where the edges say, (N, 2) mm."""
        moved = np.zeros((len(conditions), 2))
        if self._column is not None:
            moved[:, self._axis] = conditions[:, self._column] * self._step
        return moved

    def cell(self, position: Array) -> Array:
        """Number of the cell in the layer at positions (M, 2) mm; -1 beside the cells."""
        slow, fast = position[:, 0], position[:, 1]
        if self._layer.kind == "polar":
            slow, fast = np.arctan2(fast, slow), np.hypot(slow, fast)
        i, j = _bin(self._edges[0], slow), _bin(self._edges[1], fast)
        if self._layer.kind == "polar":
            i = np.minimum(np.maximum(i, 0), self._layer.shape[0] - 1)  # alpha = pi
        cell: Array = np.where((i >= 0) & (j >= 0), i * self._layer.shape[1] + j, -1)
        return cell


def _bin(edges: Array, values: Array) -> Array:
    """Which bin each value lies in, from 0 on; -1 outside."""
    index = np.searchsorted(edges, values, side="right") - 1
    index[index == len(edges) - 1] = -1
    return index
