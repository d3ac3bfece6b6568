"""Pictures of the LCD study for one kind of particle: output against input, and depth curves.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", Fig. 6 to 10.
"""

from __future__ import annotations

import numpy as np

from caloforge import units
from caloforge.judge.folder import Result
from caloforge.judge.shown.frame import volumes
from caloforge.judge.shown.portrait import MOST_POINTS
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_point_ratio, draw_points
from caloforge.report.drawn import drawn, has_second, looks_of
from caloforge.report.panels import Grid, dress, legend, panel_figure
from caloforge.report.style import REFERENCE_LOOK
from caloforge.report.ticks import log_scale

# Family of observables -> title of its panel.
DEPTH_TITLES = {
    "layer_energy": "layer energy / incident energy",
    "spread": "energy spread [mm]",
    "spread_printed": "energy spread as printed [mm √MeV]",
    "cells": "cells with energy",
}


def output_against_input(result: Result) -> Picture:
    """Deposited against incident energy, shower by shower (Fig. 9)."""
    reference, generated = result.shown.reference, result.shown.generated
    figure, pairs = panel_figure(
        len(generated), Grid(columns=min(len(generated), 3), height=2.6, left=0.62, ratio=0)
    )
    correlations = []
    for k, ((ax, _), look, portrait) in enumerate(
        zip(pairs, looks_of(result), generated, strict=True)
    ):
        for shown, sample in ((REFERENCE_LOOK, reference), (look, portrait)):
            ax.plot(
                sample.scatter.incident / units.GEV,
                np.maximum(sample.scatter.total, 1e-3) / units.GEV,
                linestyle="none",
                marker=shown.marker,
                markersize=2.4,
                alpha=0.6,
                color=shown.color,
                label=shown.label,
            )
        log_scale(ax.xaxis)
        log_scale(ax.yaxis)
        ax.set_title(look.label, color=look.color)
        ax.set_xlabel("incident energy [GeV]")
        if k == 0:
            ax.set_ylabel("deposited energy [GeV]")
        correlations.append(f"{portrait.scatter.correlation:.4f} ({look.label})")
    return Picture(
        "output-against-input",
        f"Deposited against incident energy, up to {MOST_POINTS} showers of each sample. Look for "
        "a cloud that does not follow the grey one: a generator that does not know the energy. "
        f"Correlation: {reference.scatter.correlation:.4f} (Geant4), {', '.join(correlations)}.",
        "Scatter of deposited against incident energy for Geant4 and each generator.",
        figure,
    )


def depth_curves(result: Result) -> Picture | None:
    """Means of energy, spread and hit cells of each layer of the largest volume (Fig. 6 to 8)."""
    geometry = result.shown.frame.geometry
    groups = volumes(geometry)
    if not groups:
        return None
    layers = [geometry.layers[k] for k in groups[0]]
    families = list(result.shown.reference.depth)
    grid = Grid(columns=2, height=2.3, left=0.62, ratio=0.33)
    figure, pairs = panel_figure(len(families), grid)
    x = np.arange(len(layers), dtype=float)
    for k, (pair, family) in enumerate(zip(pairs, families, strict=True)):
        curves = [
            (look, portrait.depth[family].mean, portrait.depth[family].error)
            for look, portrait in drawn(result)
        ]
        draw_points(pair[0], x, curves, log_x=False)
        draw_point_ratio(pair[1], x, curves, log_x=False)
        dress(pair, DEPTH_TITLES[family], first=k % 2 == 0, y_label="mean")
        pair[1].set_xlabel(f"layer of {layers[0].part}, front to back")
    legend(figure, looks_of(result), floor=has_second(result), kind="points")
    return Picture(
        "depth-curves",
        "Energy, energy spread (normalised, and as the study prints it), and hit cells of each "
        "layer, means with statistical errors; layers without energy have no spread. A "
        "spread that is too small at all depths is that of a mean shower.",
        "Means of energy, spread and hit cells against depth, Geant4 and generators, with ratios.",
        figure,
    )
