"""Single showers: examples, nearest neighbours, and distances to the training showers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.judge.sample import whole
from caloforge.judge.shown.energies import EnergySlice
from caloforge.judge.shown.frame import Frame
from caloforge.judge.shown.histograms import Bins
from caloforge.judge.summary import Summary
from caloforge.metrics.memorising import fractions, nearest
from caloforge.metrics.notes import Memorising

Array = NDArray[Any]

EXAMPLES = 3
DISTANCE_BINS = 40


@dataclass(frozen=True)
class Example:
    """One shower: its incident energy in MeV and its cells (V,) float32 in MeV.

    `distance` is that to the shower of the reference it was chosen for, as a share of the incident
    energy; None for one that was chosen by its energy.
    """

    energy: float
    cells: Array
    distance: float | None = None


def example_energies(reference: Summary) -> Array:
    """Energies (up to 3,) in MeV at which single showers are shown: quantiles of the examples."""
    energies = reference.geometry.incident_energy(reference.example_conditions)
    if len(energies) == 0:
        return np.zeros(0)
    places = ((np.arange(EXAMPLES) + 0.5) / EXAMPLES * len(energies)).astype(int)
    return np.unique(np.sort(energies)[places])


def examples(summary: Summary, energies: Array) -> tuple[Example, ...]:
    """The example of the summary whose energy is nearest to each of some energies (E,) in MeV."""
    mine = summary.geometry.incident_energy(summary.example_conditions)
    if len(mine) == 0:
        return ()
    chosen = [int(np.abs(np.log(mine / energy)).argmin()) for energy in energies.tolist()]
    return tuple(Example(float(mine[k]), summary.examples[k].astype(np.float32)) for k in chosen)


def anchors(reference: Summary, frame: Frame) -> tuple[Example | None, ...]:
    """The first shower kept whole at each of the three energies; None where there is none."""
    incident = reference.incident_energy[reference.cell_rows]
    result: list[Example | None] = []
    for part in frame.chosen:
        rows = np.flatnonzero(part.select(incident))
        result.append(
            Example(float(incident[rows[0]]), reference.cells[rows[0]]) if len(rows) else None
        )
    return tuple(result)


def neighbours(
    summary: Summary, frame: Frame, of: tuple[Example | None, ...]
) -> tuple[Example | None, ...]:
    """The shower of a sample in the slice that is nearest to each of the anchors."""
    return tuple(
        None if anchor is None else _neighbour(summary, part, anchor)
        for part, anchor in zip(frame.chosen, of, strict=True)
    )


def _neighbour(summary: Summary, part: EnergySlice, anchor: Example) -> Example | None:
    energies = summary.incident_energy[summary.cell_rows]
    rows = np.flatnonzero(part.select(energies))
    if len(rows) == 0:
        return None
    here = fractions(anchor.cells[None], np.array([anchor.energy]))
    index, distance = nearest(here, fractions(summary.cells[rows], energies[rows]))
    row = rows[int(index[0])]
    return Example(float(energies[row]), summary.cells[row], float(distance[0]))


@dataclass(frozen=True)
class Copies:
    """Distances to the nearest training shower, of held-out reference and generated showers.

    Parameters
    ----------
    bins
        Edges of the histograms, in medians of the held-out showers' distances at the same energy
        where `relative`, else in shares of the incident energy.
    held_out, generated
        Numbers of showers in the bins, (B + 2,) with under- and overflow.
    relative
        Whether distances are in units of the medians.
    """

    bins: Bins
    held_out: Array
    generated: Array
    relative: bool


def copies(notes: Memorising | None, reference: Summary, generated: Summary) -> Copies | None:
    """Histograms of the distances in the notes of the check of memorising; None without them."""
    if notes is None or not np.isfinite(notes.held_out).any():
        return None
    held_out, judged, relative = scaled_distances(notes, reference, generated)
    # From 0, where copies are, to beyond nearly all held-out showers.
    end = 1.3 * float(np.quantile(held_out, 0.999)) or 1.0
    bins = Bins(np.linspace(0, end, DISTANCE_BINS + 1))
    return Copies(bins, bins.count(held_out), bins.count(judged), relative)


def scaled_distances(
    notes: Memorising, reference: Summary, generated: Summary
) -> tuple[Array, Array, bool]:
    """Distances of held-out and generated showers, in units of the held-out median at an energy.

    The second value says whether they are: where it is not known which shower a distance belongs
    to, distances stay as they are.
    """
    held_out, judged = notes.held_out, notes.generated
    plain = held_out[np.isfinite(held_out)], judged[np.isfinite(judged)]
    first, second = whole(reference).with_cells(), whole(generated, reference).with_cells()
    if len(first) != len(held_out) or len(second) != len(judged):
        return *plain, False
    groups = first.groups, second.groups
    scaled = np.full(len(held_out), np.nan), np.full(len(judged), np.nan)
    for energy in np.unique(groups[0][~np.isnan(groups[0])]).tolist():
        median = np.median(held_out[groups[0] == energy])
        if 0 < median < np.inf:
            for result, values, group in zip(scaled, (held_out, judged), groups, strict=True):
                result[group == energy] = values[group == energy] / median
    finite = [x[np.isfinite(x)] for x in scaled]
    return (finite[0], finite[1], True) if all(map(len, finite)) else (*plain, False)
