"""What the LCD study shows of each kind of particle: output against input energy, and how energy,
its spread and the number of hit cells go with depth.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", Fig. 6 to 10.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from caloforge import units
from caloforge.evaluation.kinds import kinds, of_kind
from caloforge.evaluation.summary import Summary
from caloforge.report import averages, energy_figures
from caloforge.report.blocks import Picture, Section
from caloforge.report.curves import draw_point_ratio, draw_points
from caloforge.report.estimates import Array
from caloforge.report.panels import Grid, dress, legend, panel_figure
from caloforge.report.samples import Samples
from caloforge.report.style import REFERENCE_LOOK
from caloforge.report.unrolled import (
    FEWEST_LAYERS,
    unrolled_average,
    unrolled_examples,
    volumes,
)

MOST_POINTS = 500  # showers of a sample that a scatter plot shows
# Family of observables -> title of its panel, and whether a layer without energy has none.
DEPTH = {
    "layer_energy": ("layer energy / incident energy", False),
    "spread": ("energy spread [mm]", True),
    "spread_printed": ("energy spread as printed [mm √MeV]", True),
    "cells": ("cells with energy", False),
}


def kind_sections(samples: Samples) -> list[Section]:
    """A section for each kind of particle of which every sample has showers."""
    sections = []
    for name in kinds(samples.geometry):
        part = samples_of_kind(samples, name)
        if part is None:
            continue
        pictures = [
            output_against_input(part),
            energy_figures.response(part),
            averages.longitudinal_profile(part),
            depth_curves(part),
            unrolled_average(part),
            unrolled_examples(part),
        ]
        sections.append(
            Section(
                f"{name} alone",
                f"Showers of the particle {name} only.",
                pictures=tuple(
                    replace(p, name=f"{p.name}-{name}") for p in pictures if p is not None
                ),
            )
        )
    return sections


def samples_of_kind(samples: Samples, name: str) -> Samples | None:
    """The showers of one kind of every sample; None where one has none of them."""
    parts: list[Summary] = []
    for summary in (samples.reference, *samples.others):
        part = of_kind(summary, name)
        if part is None:
            return None
        parts.append(part)
    reference, *others = parts
    floor = others.pop(0) if samples.floor else None
    return Samples(reference, tuple(others), floor)


def output_against_input(samples: Samples) -> Picture:
    """Deposited against incident energy, shower by shower (Fig. 9)."""
    drawn = [(look, s) for look, s in samples.drawn if s is not samples.floor]
    generated = drawn[1:]
    figure, pairs = panel_figure(
        len(generated), Grid(columns=min(len(generated), 3), height=2.6, left=0.62, ratio=0)
    )
    found = []
    for k, ((ax, _), (look, summary)) in enumerate(zip(pairs, generated, strict=True)):
        for shown, own in ((REFERENCE_LOOK, drawn[0][1]), (look, summary)):
            energy, total = output_and_input(own)
            ax.plot(
                energy[:MOST_POINTS] / units.GEV,
                np.maximum(total[:MOST_POINTS], 1e-3) / units.GEV,
                linestyle="none",
                marker=shown.marker,
                markersize=2.4,
                alpha=0.6,
                color=shown.color,
                label=shown.label,
            )
        ax.set_xscale("log")
        ax.set_yscale("log")
        ax.set_title(look.label, color=look.color)
        ax.set_xlabel("incident energy [GeV]")
        if k == 0:
            ax.set_ylabel("deposited energy [GeV]")
        found.append(f"{np.corrcoef(*output_and_input(summary))[0, 1]:.4f} ({look.label})")
    own = np.corrcoef(*output_and_input(drawn[0][1]))[0, 1]
    return Picture(
        "output-against-input",
        f"Deposited against incident energy, up to {MOST_POINTS} showers of each sample. Look for "
        "a cloud that does not follow the grey one: a generator that does not know the energy. "
        f"Correlation: {own:.4f} (Geant4), {', '.join(found)}.",
        "Scatter of deposited against incident energy for Geant4 and each generator.",
        figure,
    )


def output_and_input(summary: Summary) -> tuple[Array, Array]:
    """Incident and deposited energy of each shower in MeV, both (N,)."""
    return summary.incident_energy, summary.observables["total_energy"]


def depth_curves(samples: Samples) -> Picture | None:
    """Means of energy, spread and hit cells of each layer of the largest volume (Fig. 6 to 8)."""
    groups = volumes(samples.geometry)
    if not groups or len(groups[0]) < FEWEST_LAYERS:
        return None
    layers = [samples.geometry.layers[k] for k in groups[0]]
    shown = {
        family: text
        for family, text in DEPTH.items()
        if family == "cells" or f"{family}/{layers[0].id}" in samples.table
    }
    figure, pairs = panel_figure(len(shown), Grid(columns=2, height=2.3, left=0.62, ratio=0.33))
    x = np.arange(len(layers), dtype=float)
    for k, (pair, (family, (label, _))) in enumerate(zip(pairs, shown.items(), strict=True)):
        curves = [(look, *depth_means(s, groups[0], family)) for look, s in samples.drawn]
        draw_points(pair[0], x, curves, log_x=False)
        draw_point_ratio(pair[1], x, curves, log_x=False)
        dress(pair, label, first=k % 2 == 0, y_label="mean")
        pair[1].set_xlabel(f"layer of {layers[0].name.partition(' ')[0]}, front to back")
    legend(figure, samples.looks, floor=samples.floor is not None, kind="points")
    return Picture(
        "depth-curves",
        "Energy, energy spread (normalised, and as the study prints it), and hit cells of each "
        "layer, means with statistical errors; layers without energy have no spread. A "
        "spread that is too small at all depths is that of a mean shower.",
        "Means of energy, spread and hit cells against depth, Geant4 and generators, with ratios.",
        figure,
    )


def depth_means(summary: Summary, positions: list[int], family: str) -> tuple[Array, Array]:
    """Mean of an observable of each layer and its error, (L,); of the spread where there is
    energy, of the layer energy over the incident one.
    """
    means, errors = [], []
    for position in positions:
        layer = summary.geometry.layers[position]
        if family == "cells":
            values = layer.size * (1 - summary.observables[f"sparsity/{layer.id}"])
        else:
            values = summary.observables[f"{family}/{layer.id}"]
        if family == "layer_energy":
            values = values / summary.incident_energy
        if DEPTH[family][1]:
            values = values[summary.observables[f"layer_energy/{layer.id}"] > 0]
        count = len(values)
        means.append(values.mean() if count else np.nan)
        errors.append(values.std() / np.sqrt(count) if count else np.nan)
    return np.array(means), np.array(errors)
