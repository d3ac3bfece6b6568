"""The arrays of a summary as metrics take them."""

from __future__ import annotations

import numpy as np

from caloforge.judge.summary import Summary
from caloforge.metrics.base import Arrays, Sample
from caloforge.observables.slices import energy_slices


def arrays(summary: Summary, reference: Summary | None = None) -> Arrays:
    """The arrays of a summary, its showers grouped by the energies of the reference.

    Parameters
    ----------
    summary
        The sample.
    reference
        The sample whose energy points, or slices of a spectrum, the showers are grouped by; by
        default the sample itself.
    """
    base = (reference or summary).incident_energy
    groups = np.full(len(summary), np.nan)
    for energy, (_, rows) in energy_slices(base, summary.incident_energy).members.items():
        groups[rows] = energy
    particles = summary.provenance.get("particle") or summary.geometry.particles
    names = [particles] if isinstance(particles, str) else list(particles)
    return Arrays(
        geometry=summary.geometry,
        conditions=summary.conditions,
        incident=summary.incident_energy,
        observables=summary.observables,
        groups=groups,
        scan=bool(len(summary.points)),
        cells=summary.cells,
        cell_rows=summary.cell_rows,
        voxel_edges=summary.cell_separation_edges,
        voxels=summary.cell_separation_counts,
        particles=tuple(map(str, names)),
    )


def whole(summary: Summary, reference: Summary | None = None) -> Sample:
    """All showers of a summary; see `arrays` for the parameters."""
    return Sample(arrays(summary, reference), np.arange(len(summary)))
