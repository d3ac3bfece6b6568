"""What a report on generators holds, section by section."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.evaluation.compare import FEWEST, compare
from caloforge.report import (
    averages,
    copies,
    correlations,
    energy_figures,
    energy_map,
    giveaways,
    impact_figures,
    joint_figures,
    layer_figures,
    tables,
    unrolled,
)
from caloforge.report.attributes import attributes_section
from caloforge.report.blocks import Picture, Section
from caloforge.report.estimates import EnergySlice
from caloforge.report.kinds import kind_sections
from caloforge.report.samples import Samples

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison
    from caloforge.evaluation.summary import Summary


def report_sections(
    samples: Samples,
    comparisons: Sequence[Comparison],
    timing: Sequence[Mapping[str, Any]] | None = None,
    extra: Sequence[Section] = (),
) -> list[Section]:
    """All sections below the summary, in order; `extra` ones come before the details."""
    found = [
        Section("Where they differ", pictures=_some(energy_figures.ranking(samples, comparisons))),
        joint_section(samples, comparisons),
        Section(
            "Per incident energy",
            "Every observable at every energy, beside what Geant4 scatters there.",
            pictures=_some(energy_map.energy_map(samples, comparisons)),
            tables=(tables.energy_table(samples, comparisons),),
        ),
        _energy(samples, comparisons),
        _layers(samples),
        Section(
            "Correlations",
            "How the layers go together.",
            pictures=_some(correlations.correlations(samples)),
        ),
        _shapes(samples),
        attributes_section(samples, comparisons),
        Section(
            "Voxels",
            "Energies of single cells.",
            pictures=_some(layer_figures.cell_spectra(samples)),
        ),
        _averages(samples),
        *kind_sections(samples),
        Section(
            "Memorising",
            "Whether showers were copied from the training set.",
            pictures=_some(
                copies.training_distances(samples, comparisons), copies.nearest_showers(samples)
            ),
        ),
    ]
    if timing:
        found.append(Section("Timing", tables=(tables.timing_table(timing),)))
    found += extra
    found.append(
        Section(
            "Details",
            "Every figure with its statistical error and its floor.",
            tables=tables.metric_tables(samples, comparisons),
        )
    )
    return [s for s in found if s.tables or s.pictures or s.more]


def joint_section(samples: Samples, comparisons: Sequence[Comparison]) -> Section:
    """Table and figures of what looks at all features together; empty where there is none."""
    found = (
        tables.joint_table(samples, comparisons),
        giveaways.giveaway_table(samples, comparisons),
        giveaways.size_table(samples, comparisons),
        tables.runs_table(comparisons),
    )
    return Section(
        "All features together",
        "What no histogram of one observable can see: whether a trained classifier, or distances "
        "between clouds of showers, tell generator and Geant4 apart.",
        tables=tuple(table for table in found if table is not None),
        pictures=_some(
            joint_figures.figures_against_energy(samples, comparisons),
            joint_figures.prd_curves(samples, comparisons),
        ),
    )


def _energy(samples: Samples, comparisons: Sequence[Comparison]) -> Section:
    floor = floor_comparison(samples)
    return Section(
        "Energy response",
        "How much of the incident energy is seen, and how sharply.",
        pictures=_some(
            energy_figures.response(samples),
            energy_figures.response_per_energy(samples, comparisons, floor),
            energy_figures.chi2_per_energy(samples, comparisons, floor),
            energy_figures.linearity(samples),
        ),
    )


def _layers(samples: Samples) -> Section:
    energies = averages.three_energies(samples)
    return Section(
        "Layers",
        "Where in depth the energy goes.",
        pictures=_some(
            layer_figures.layer_energies(samples),
            averages.longitudinal_profile(samples),
            layer_figures.against_energy(
                samples,
                "layer_energy",
                r"mean of $E_\mathrm{layer}\,/\,E_\mathrm{inc}$",
                "Mean share of the incident energy in each layer",
            ),
        ),
        more=_some(*(layer_figures.layer_energies(samples, part) for part in energies)),
    )


def _shapes(samples: Samples) -> Section:
    return Section(
        "Shower shapes",
        "Where a shower sits, how wide it is and how many cells it lights.",
        pictures=_some(
            *(layer_figures.shapes(samples, f) for f in layer_figures.SHAPES),
            impact_figures.s_shapes(samples),
        ),
        more=_some(
            impact_figures.s_shapes(samples, control=True),
            layer_figures.against_energy(
                samples, "width_r", "mean width in r [mm]", "Mean width in r"
            ),
            layer_figures.against_energy(samples, "sparsity", "mean sparsity", "Mean sparsity"),
        ),
    )


def _averages(samples: Samples) -> Section:
    points = [
        p
        for p in averages.three_energies(samples)
        if p.is_point and p.select(samples.reference.points).any()
    ]
    return Section(
        "Average showers",
        "The mean shower, and single ones.",
        pictures=_some(
            averages.average_discs(samples),
            averages.average_maps(samples),
            unrolled.unrolled_average(samples),
            unrolled.unrolled_examples(samples),
            averages.examples(samples),
        ),
        more=_some(*(_average(samples, part) for part in points)),
    )


def _average(samples: Samples, part: EnergySlice) -> Picture:
    return averages.average_maps(samples, part) or averages.average_discs(samples, part)


def _some(*pictures: Picture | None) -> tuple[Picture, ...]:
    return tuple(p for p in pictures if p is not None)


def floor_comparison(samples: Samples) -> Comparison | None:
    """The second reference sample judged like a generator; without one, half against half.

    Slices of a spectrum are those of the whole reference. None for too few showers.
    """
    reference, floor = samples.reference, samples.floor
    if floor is None:
        reference, floor = _half(samples, 0), _half(samples, 1)
    if min(len(reference), len(floor)) < FEWEST:
        return None
    return compare(reference, [floor])[0]


def _half(samples: Samples, start: int) -> Summary:
    """Every second shower in order of incident energy: both halves have the same mixture.

    Showers of a slice of a spectrum get the slice's energy and keep their response, because halves
    of a spectrum would be cut into other slices than the whole.
    """
    summary = samples.reference
    rows = np.argsort(summary.incident_energy, kind="stable")[start::2]
    values = {key: column[rows] for key, column in summary.observables.items()}
    incident = summary.incident_energy[rows].copy()
    for part in samples.slices:
        incident[part.select(summary.incident_energy[rows])] = part.energy
    values["total_energy"] = values["response"] * incident
    return dataclasses.replace(
        summary,
        conditions=summary.conditions[rows],
        incident_energy=incident,
        observables=values,
    )
