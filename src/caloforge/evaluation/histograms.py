"""Figures of one observable at a time: chi-square, separation powers, Wasserstein distances."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.chi2 import RANGE_RMS, RANGE_RMS_PIONS, Chi2, energy_chi2
from caloforge.evaluation.distances import wasserstein
from caloforge.evaluation.observables import observables
from caloforge.evaluation.sample import Sample
from caloforge.evaluation.separation import counts, histogram_separation, separation_error

Array = NDArray[Any]

VOXELS = "voxel_energy"
PIONS = ("pi+", "pi-", "piplus", "piminus", "pion", "pions")
# Separation at one energy: bins that hold equal numbers of reference showers, whatever the
# observable does from 256 MeV to 4 TeV.
BINS_PER_ENERGY = 20
FEWEST_PER_ENERGY = 50


class Measured(NamedTuple):
    """A figure, its standard deviation, and how many generated showers entered."""

    value: float
    error: float | None
    n: int


def total_energy_chi2(reference: Sample, judged: Sample) -> Chi2:
    """Chi-square of the total energy, with the range of pions where the showers are theirs."""
    summary = reference.summary
    particles = summary.provenance.get("particle") or summary.geometry.particles
    names = [particles] if isinstance(particles, str) else list(particles)
    pions = bool(names) and all(str(name).lower() in PIONS for name in names)
    return energy_chi2(
        reference.values("total_energy"),
        reference.incident,
        judged.values("total_energy"),
        judged.incident,
        range_rms=RANGE_RMS_PIONS if pions else RANGE_RMS,
    )


def histogram_figures(reference: Sample, judged: Sample) -> dict[str, Measured]:
    """Figures over all energies, in the edges of the whole reference.

    Keys: `chi2_ndf_energy` (where an energy has showers enough), `separation/KEY`,
    `separation_with_flow/KEY` and `wasserstein/KEY` for every observable, and both separations of
    the voxel distribution where the two summaries have it in the same bins.
    """
    n = len(judged)
    result: dict[str, Measured] = {}
    chi2 = total_energy_chi2(reference, judged)
    if chi2.ndf:
        result["chi2_ndf_energy"] = Measured(chi2.chi2_ndf, chi2.error, n)
    table = observables(reference.summary.geometry)
    filled = {}
    for observable in table:
        edges = observable.edges(reference.summary.observables[observable.key])
        filled[observable.key] = [
            counts(sample.values(observable.key), edges, flow=True)
            for sample in (reference, judged)
        ]
    if same_voxels(reference, judged):
        filled[VOXELS] = [reference.voxels, judged.voxels]
    for family, inside in (("separation", slice(1, -1)), ("separation_with_flow", slice(None))):
        for key, (first, second) in filled.items():
            first, second = first[inside], second[inside]
            # The voxels of one shower are not independent: no error is known for theirs.
            error = None if key == VOXELS else separation_error(first, second)
            result[f"{family}/{key}"] = Measured(histogram_separation(first, second), error, n)
    for observable in table:
        distance = wasserstein(reference.values(observable.key), judged.values(observable.key))
        result[f"wasserstein/{observable.key}"] = Measured(*distance, n)
    return result


def histogram_figures_at(reference: Sample, judged: Sample) -> dict[float, dict[str, Measured]]:
    """Figures at each energy point, or in each slice of a spectrum: MeV -> key -> figure.

    `separation_with_flow/KEY` in bins that hold a twentieth of the reference each, and
    `wasserstein/KEY`. Energies with fewer than 50 showers in either sample are left out.
    """
    table = observables(reference.summary.geometry)
    groups = [sample.groups(reference.summary) for sample in (reference, judged)]
    result: dict[float, dict[str, Measured]] = {}
    for energy in np.unique(groups[0][~np.isnan(groups[0])]).tolist():
        rows1, rows2 = (np.flatnonzero(group == energy) for group in groups)
        if min(len(rows1), len(rows2)) < FEWEST_PER_ENERGY:
            continue
        found = result[energy] = {}
        for observable in table:
            first = reference.values(observable.key)[rows1]
            second = judged.values(observable.key)[rows2]
            edges = _equal_bins(first)
            both = [counts(x, edges, flow=True) for x in (first, second)]
            separation = histogram_separation(*both), separation_error(*both)
            n = len(second)
            found[f"separation_with_flow/{observable.key}"] = Measured(*separation, n)
            found[f"wasserstein/{observable.key}"] = Measured(*wasserstein(first, second), n)
    return result


def same_voxels(reference: Sample, judged: Sample) -> bool:
    """Whether both have the voxel distribution in the same bins."""
    return np.array_equal(
        reference.summary.cell_separation_edges, judged.summary.cell_separation_edges
    )


def _equal_bins(values: Array) -> Array:
    """Edges at the quantiles of the values; a value that many showers share has its own bin."""
    quantiles = np.quantile(values, np.linspace(0, 1, BINS_PER_ENERGY + 1))
    edges, times = np.unique(quantiles, return_counts=True)
    shared = edges[times > 1]
    return np.unique(np.concatenate([edges, shared, np.nextafter(shared, np.inf)]))
