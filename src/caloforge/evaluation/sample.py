"""The part of a summary that one figure is made of: the whole, a half, or a choice of showers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.slices import Slices, energy_slices
from caloforge.evaluation.summary import Summary

Array = NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """Some of the showers of a summary.

    Parameters
    ----------
    summary
        What they are taken from.
    rows
        Which of its showers, (n,).
    voxels
        (B + 2,) numbers of cells in the bins of the voxel distribution, with flow.
    """

    summary: Summary
    rows: Array
    voxels: Array

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, key: str) -> Array:
        """An observable, (n,)."""
        return self.summary.observables[key][self.rows]

    @property
    def observables(self) -> dict[str, Array]:
        """All observables, key -> (n,)."""
        return {key: values[self.rows] for key, values in self.summary.observables.items()}

    @property
    def incident(self) -> Array:
        """Incident energies in MeV, (n,)."""
        return self.summary.incident_energy[self.rows]

    @property
    def conditions(self) -> Array:
        """Conditions, (n, C)."""
        return self.summary.conditions[self.rows]

    @property
    def cells(self) -> Array:
        """MeV of all cells after the cut, (n, V); only for samples made by `with_cells`."""
        return self.summary.cells[np.searchsorted(self.summary.cell_rows, self.rows)]

    def with_cells(self) -> Sample:
        """Those of the showers that were kept whole, in their order."""
        return replace(self, rows=self.rows[np.isin(self.rows, self.summary.cell_rows)])

    def part(self, n: int, seed: int) -> Sample:
        """`n` showers chosen at random with the mixture of energies kept; all if there are fewer.

        The voxels stay those of the whole sample: a summary has no cells to choose from.
        """
        if n >= len(self):
            return self
        order = self._mixed(seed)
        return replace(self, rows=order[np.arange(n) * len(order) // n])

    def halves(self, seed: int) -> tuple[Sample, Sample]:
        """Two halves with one mixture of energies; their voxels are of even and odd showers."""
        order = self._mixed(seed)
        even, odd = self.summary.cell_separation_counts
        return Sample(self.summary, order[0::2], even), Sample(self.summary, order[1::2], odd)

    def groups(self, reference: Summary) -> Array:
        """Which energy point of the reference (or slice of its spectrum) a shower belongs to.

        (n,) incident energies as in `energy_slices`; NaN for none.
        """
        labels = np.full(len(self), np.nan)
        for energy, (_, members) in self._slices(reference).members.items():
            labels[members] = energy
        return labels

    def _slices(self, reference: Summary) -> Slices:
        return energy_slices(reference.incident_energy, self.incident)

    def _mixed(self, seed: int) -> Array:
        """The rows in random order; those of a scan ordered by incident energy first.

        Neighbours of a spectrum would be more alike than two independent samples are.
        """
        random = np.random.default_rng(seed).random(len(self))
        energy = self.incident if len(self.summary.points) else np.zeros(len(self))
        return self.rows[np.lexsort((random, energy))]


def whole(summary: Summary) -> Sample:
    """All showers of a summary."""
    counts = summary.cell_separation_counts.sum(axis=0)
    return Sample(summary, np.arange(len(summary)), counts)
