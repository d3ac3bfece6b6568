"""What the reference sets for all samples: which energies, layers and bins are shown."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.detector.spiral import stacks
from caloforge.judge.shown.energies import EnergySlice, energy_slices, three_energies
from caloforge.judge.shown.histograms import Bins, choose_bins
from caloforge.judge.summary import Summary
from caloforge.observables.impact import impact_axes
from caloforge.observables.table import Observable, observables

Array = NDArray[Any]

FEWEST_LAYERS = 4  # of one shape in a row, to be a volume
PER_STEP = 60  # showers of the reference in a bin of the impact, on average
STEPS = (8, 64)  # the fewest and the most of those bins: at most eight to a strip


@dataclass(frozen=True)
class Frame:
    """What is shown of every sample alike.

    Parameters
    ----------
    geometry
        The read-out that the samples share.
    slices
        (K,) energy points of the reference, or slices of its spectrum, from low to high.
    chosen
        Three of the slices: low, middle and high; none where there is one slice alone.
    averaged
        Those of the three that are energy points, of which there are average showers.
    layers
        Positions of the layers that figures with one panel a layer show.
    bins
        Name of a histogram -> its bins; see `caloforge.judge.shown.histograms`.
    cell_edges
        Edges (B + 1,) of the spectra of cells in MeV.
    steps
        Number of bins of the impact, along the axis `impact`.
    impact
        The axis along which the read-out knows the impact; empty where it knows none.
    """

    geometry: Geometry
    slices: tuple[EnergySlice, ...]
    chosen: tuple[EnergySlice, ...]
    averaged: tuple[EnergySlice, ...]
    layers: tuple[int, ...]
    bins: dict[str, Bins]
    cell_edges: Array
    steps: int
    impact: str

    @cached_property
    def table(self) -> dict[str, Observable]:
        """The observables that are shown, by key: of the shown layers, and of whole showers."""
        return {o.key: o for o in self.rows.values() if o.layer is None or o.layer in self.layers}

    @cached_property
    def rows(self) -> dict[str, Observable]:
        """All observables of the read-out, by key."""
        return {o.key: o for o in observables(self.geometry)}

    def families(self, *names: str) -> list[Observable]:
        """Observables of the shown layers whose key starts with one of `names`, layer by layer."""
        rows = list(self.table.values())
        return [
            row
            for position in self.layers
            for row in rows
            if row.layer == position and row.key.partition("/")[0] in names
        ]


def frame_of(reference: Summary) -> Frame:
    """What the showers of the reference set."""
    geometry, incident = reference.geometry, reference.incident_energy
    slices = energy_slices(incident)
    chosen = three_energies(incident, slices)
    layers = shown_layers(geometry, reference.mean_cells[0])
    axes = impact_axes(geometry)
    table = {
        row.key: row for row in observables(geometry) if row.layer is None or row.layer in layers
    }
    return Frame(
        geometry=geometry,
        slices=slices,
        chosen=chosen,
        averaged=tuple(
            part for part in chosen if part.is_point and part.select(reference.points).any()
        ),
        layers=layers,
        bins=choose_bins(geometry, table, reference.observables, incident, (slices, chosen)),
        cell_edges=reference.cell_spectrum_edges,
        steps=int(np.clip(len(reference) / PER_STEP, *STEPS)),
        impact=axes[0] if axes else "",
    )


def shown_layers(geometry: Geometry, mean_cells: Array, most: int = 6) -> tuple[int, ...]:
    """Positions of layers with voxels that a figure shows: all, or `most` in steps of the energy.

    The steps are taken in the running sum of the mean energy `mean_cells` (V,), from 0.2 % to
    99.8 %: the layers shown are those that hold the shower, its start and its tail.
    """
    count = geometry.n_layers
    if count <= most + 2:  # leaving one or two out would save no room
        return tuple(k for k, layer in enumerate(geometry.layers) if layer.size)
    energy = np.array([float(mean_cells[s].sum()) for s in geometry.slices])
    running = np.cumsum(energy) / max(float(energy.sum()), 1e-30)
    steps = np.clip(np.linspace(0, 1, most), 0.002, 0.998)
    picked = set(np.minimum(np.searchsorted(running, steps), count - 1).tolist())
    # Steps that met in one layer are made up for by the neighbours of the energetic ones.
    for layer in np.argsort(-energy, kind="stable").tolist():
        if len(picked) == most:
            break
        picked.add(layer)
    return tuple(sorted(picked))


def volumes(geometry: Geometry) -> list[list[int]]:
    """Positions of layers that follow each other with the same grid of cells around (0, 0)."""
    return [
        group
        for group in stacks(geometry)
        if len(group) >= FEWEST_LAYERS
        and all(e[0] <= 0 < e[-1] for e in geometry.layers[group[0]].edges)
    ]
