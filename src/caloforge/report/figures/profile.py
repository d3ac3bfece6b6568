"""The longitudinal profile: mean energy of each layer, in order of depth."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_point_ratio, draw_profile
from caloforge.report.drawn import drawn, has_second, looks_of
from caloforge.report.panels import Grid, dress, legend, panel_figure


def longitudinal_profile(result: Result) -> Picture | None:
    """Mean share of the incident energy per layer: all showers, and three energies of the scan."""
    frame = result.shown.frame
    geometry = frame.geometry
    if geometry.n_layers < 2:
        return None
    parts = [None, *frame.chosen]
    grid = Grid(columns=len(parts), height=2.3, left=0.6, ratio=0.33)
    figure, pairs = panel_figure(len(parts), grid)
    edges = np.arange(geometry.n_layers + 1) - 0.5
    for k, (pair, part) in enumerate(zip(pairs, parts, strict=True)):
        curves = [
            (look, portrait.profiles[k].mean, portrait.profiles[k].error)
            for look, portrait in drawn(result)
        ]
        draw_profile(pair[0], edges, curves)
        draw_point_ratio(pair[1], np.arange(geometry.n_layers), curves, log_x=False)
        dress(
            pair,
            "all energies" if part is None else part.label,
            first=k == 0,
            y_label="mean of $E_\\mathrm{layer}\\,/\\,E_\\mathrm{inc}$",
        )
        pair[0].set_xlim(edges[0], edges[-1])
        pair[0].set_ylim(0, None)
        _layer_ticks(pair[1], [layer.id for layer in geometry.layers])
    legend(figure, looks_of(result), floor=has_second(result), kind="points")
    return Picture(
        "longitudinal-profile",
        "Mean share of the incident energy in each layer, in order of depth, with statistical "
        "errors. Look for a shower that starts too early or leaks too far: a ratio that rises or "
        "falls steadily with depth.",
        "Longitudinal profile: mean energy per layer for Geant4 and generators at several "
        "energies, with ratios.",
        figure,
    )


def _layer_ticks(ax: Axes, ids: list[int]) -> None:
    shown = np.unique(np.linspace(0, len(ids) - 1, min(len(ids), 8)).round().astype(int))
    ax.set_xticks(shown, [str(ids[k]) for k in shown])
    ax.set_xlabel("layer, front to back")
    ax.minorticks_off()
