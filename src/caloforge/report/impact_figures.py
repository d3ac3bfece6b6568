"""Figures of the centre of energy against the impact of the particle: the S-shape."""

from __future__ import annotations

import numpy as np

from caloforge.evaluation.impact import impact_axes, s_shape
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_points
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.samples import Samples, layer_title

CONTROL_SEED = 1
# Showers a bin must hold on average; the bins are 64 at most, eight to a strip.
PER_BIN = 60


def s_shapes(samples: Samples, *, control: bool = False) -> Picture | None:
    """Mean centre minus impact against the impact along the first axis, layer by layer.

    With `control` every shower gets the impact of another one: Geant4 that does not follow it.
    None where the read-out does not know the impact.
    """
    along = impact_axes(samples.geometry)
    if not along:
        return None
    axis = along[0]
    bins = int(np.clip(len(samples.reference) / PER_BIN, 8, 64))
    grid = Grid(columns=columns(len(samples.layers), 2), height=2.1, left=0.62, ratio=0)
    figure, pairs = panel_figure(len(samples.layers), grid)
    for k, (pair, position) in enumerate(zip(pairs, samples.layers, strict=True)):
        curves = []
        for look, summary in samples.drawn:
            found = s_shape(
                samples.geometry,
                summary.conditions,
                summary.observables,
                position,
                axis,
                bins=bins,
                minus_impact=True,
                control=np.random.default_rng(CONTROL_SEED) if control else None,
            )
            curves.append((look, found.mean, found.error))
        draw_points(pair[0], found.centres, curves, log_x=False)
        title = layer_title(samples.layer(position))
        dress(pair, title, first=k % grid.columns == 0, y_label="centre - impact [mm]")
        pair[0].set_xlabel(f"impact {axis} [mm]")
    legend(figure, samples.looks, floor=samples.floor is not None, kind="points")
    ending = (
        "Control: every shower has the impact of another one, so that even Geant4 does not follow."
        if control
        else "An S in each cell: showers near its centre lie nearly all in it. Look for curves of "
        "another height or, in fine cells, without their bumps."
    )
    return Picture(
        f"s-shape{'-control' if control else ''}",
        f"Mean centre of energy minus impact against the impact in {axis}, with statistical "
        f"errors; grey: the reference. {ending}",
        f"Mean centre minus impact against impact {axis} for Geant4 and generators.",
        figure,
    )
