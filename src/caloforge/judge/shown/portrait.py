"""What a page shows of one sample: measured from its summary in the frame of the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.judge.shown.energies import Means, means
from caloforge.judge.shown.frame import Frame
from caloforge.judge.shown.histograms import split
from caloforge.judge.shown.layers import Depth, Profile, SShape, depth_means, profile, s_shapes
from caloforge.judge.shown.singles import Copies, Example
from caloforge.judge.summary import Summary
from caloforge.metrics.resolution import ResolutionFit, Response, fit_resolution, response
from caloforge.observables.slices import energy_slices

Array = NDArray[Any]

MOST_POINTS = 500  # showers of a sample that a scatter plot shows


@dataclass(frozen=True)
class Incident:
    """Lowest and highest incident energy in MeV, and the number of energy points (0: a spectrum).

    `left_out` are energies in MeV that a generator was never shown, as its file says.
    """

    low: float
    high: float
    points: int
    left_out: tuple[float, ...] = ()


@dataclass(frozen=True)
class Scatter:
    """Incident and deposited energy in MeV of up to 500 showers, both (M,), and the correlation
    coefficient over all showers of the sample.
    """

    incident: Array
    total: Array
    correlation: float


@dataclass(frozen=True)
class Portrait:
    """What is shown of a sample of N showers.

    Parameters
    ----------
    name, n
        Its name, and N.
    provenance
        What its file says about its origin: texts and numbers.
    incident
        The incident energies in a few numbers.
    counts
        Name of a histogram -> numbers of showers (B + 2,) with under- and overflow; the bins are
        in `Frame.bins`.
    extremes
        Key of an observable -> its smallest and largest value.
    means
        Key of an observable -> its means per energy slice; layer energies over the incident one.
    mean_response
        Mean of total over incident energy of all showers.
    responses, fit
        Response and resolution per energy slice, (K,), and the fit of the resolution.
    profiles
        Mean share of the incident energy in each layer: of all showers, then of the three
        energies.
    cell_spectrum
        (L', B) numbers of cells per shown layer, in the bins `Frame.cell_edges`.
    mean_cells
        (1 + T, V) float32 average shower in MeV: of all showers, and of the T energies in
        `Frame.averaged`.
    s_shapes
        Mean centre minus impact in each shown layer: of the showers, and of showers that were
        given the impact of others.
    depth
        Family of observables -> its means along the first volume of equal layers.
    scatter
        Deposited against incident energy.
    examples
        Single showers, at the energies of the reference's.
    nearest
        The kept showers that come nearest to those of the reference at the three energies; None
        where there is none.
    copies
        Distances to the training showers.
    """

    name: str
    n: int
    provenance: dict[str, Any]
    incident: Incident
    counts: dict[str, Array]
    extremes: dict[str, tuple[float, float]]
    means: dict[str, Means]
    mean_response: float
    responses: tuple[Response, ...]
    fit: ResolutionFit | None
    profiles: tuple[Profile, ...]
    cell_spectrum: Array
    mean_cells: Array
    s_shapes: tuple[SShape, ...]
    depth: dict[str, Depth]
    scatter: Scatter
    examples: tuple[Example, ...]
    nearest: tuple[Example | None, ...] = ()
    copies: Copies | None = None

    def __len__(self) -> int:
        return self.n


def portrait(
    summary: Summary,
    frame: Frame,
    examples: tuple[Example, ...] = (),
    nearest: tuple[Example | None, ...] = (),
    copies: Copies | None = None,
) -> Portrait:
    """Measure what is shown of a sample; single showers are chosen by the caller."""
    incident, observables = summary.incident_energy, summary.observables
    responses = tuple(
        response(observables["response"][part.select(incident)]) for part in frame.slices
    )
    return Portrait(
        name=summary.name,
        n=len(summary),
        provenance={
            k: v for k, v in summary.provenance.items() if isinstance(v, str | int | float)
        },
        incident=_incident(summary),
        counts=_counts(summary, frame),
        extremes={
            key: (float(observables[key].min()), float(observables[key].max()))
            for key in frame.table
        },
        means=_means(summary, frame),
        mean_response=float(observables["response"].mean()),
        responses=responses,
        fit=fit_resolution(
            {part.energy: r for part, r in zip(frame.slices, responses, strict=True)}
        ),
        profiles=tuple(profile(summary, part) for part in (None, *frame.chosen)),
        cell_spectrum=summary.cell_spectrum[list(frame.layers)],
        mean_cells=_averages(summary, frame),
        s_shapes=s_shapes(summary, frame),
        depth=depth_means(summary),
        scatter=Scatter(
            incident[:MOST_POINTS].astype(np.float32),
            observables["total_energy"][:MOST_POINTS].astype(np.float32),
            _correlation(incident, observables["total_energy"]),
        ),
        examples=examples,
        nearest=nearest,
        copies=copies,
    )


def _incident(summary: Summary) -> Incident:
    incident = summary.incident_energy
    cut = energy_slices(incident, incident[:0])
    left_out = str(summary.provenance.get("left_out", "")).split()
    return Incident(
        float(incident.min()),
        float(incident.max()),
        0 if cut.spectrum else len(cut.members),
        tuple(map(float, left_out)),
    )


def _counts(summary: Summary, frame: Frame) -> dict[str, Array]:
    result = {}
    for name, bins in frame.bins.items():
        key, part = split(name, frame.slices)
        values = summary.observables[key]
        rows = slice(None) if part is None else part.select(summary.incident_energy)
        result[name] = bins.count(values[rows])
    return result


def _means(summary: Summary, frame: Frame) -> dict[str, Means]:
    incident = summary.incident_energy
    result = {}
    for key in frame.table:
        values = summary.observables[key]
        if key.startswith("layer_energy/"):
            values = values / incident
        result[key] = means(values, incident, frame.slices)
    return result


def _averages(summary: Summary, frame: Frame) -> Array:
    """Average showers (1 + T, V): zeros at an energy of which the sample has no shower."""
    rows = [summary.mean_cells[0]]
    for part in frame.averaged:
        rows.append(summary.mean_cells[1:][part.select(summary.points)].sum(axis=0))
    return np.stack(rows).astype(np.float32)


def _correlation(first: Array, second: Array) -> float:
    """Pearson's coefficient; 0 where one of the two does not vary."""
    if min(float(np.ptp(first)), float(np.ptp(second))) <= 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])
