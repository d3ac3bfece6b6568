"""Means of observables of each layer against incident energy."""

from __future__ import annotations

import numpy as np

from caloforge import units
from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_point_ratio, draw_points
from caloforge.report.drawn import drawn, has_second, looks_of, shown_note, title_of, varies
from caloforge.report.figures.layers import layer_grid
from caloforge.report.panels import dress, legend, panel_figure


def layer_shares(result: Result) -> Picture | None:
    """Mean share of the incident energy in each layer."""
    label = r"mean of $E_\mathrm{layer}\,/\,E_\mathrm{inc}$"
    return _against_energy(
        result, "layer_energy", label, "Mean share of the incident energy in each layer"
    )


def widths(result: Result) -> Picture | None:
    """Mean width in r of each layer."""
    return _against_energy(result, "width_r", "mean width in r [mm]", "Mean width in r")


def sparsities(result: Result) -> Picture | None:
    """Mean sparsity of each layer."""
    return _against_energy(result, "sparsity", "mean sparsity", "Mean sparsity")


def _against_energy(result: Result, family: str, label: str, title: str) -> Picture | None:
    """Mean of a family of observables in each shown layer, with ratios.

    `family` is the part of the key before the slash, `label` names the vertical axis, `title`
    begins the caption.
    """
    frame = result.shown.frame
    energy = np.array([part.energy for part in frame.slices]) / units.GEV
    panels = []
    for observable in frame.families(family):
        rows = [(look, portrait.means[observable.key]) for look, portrait in drawn(result)]
        good = np.isfinite(rows[0][1].mean)
        if varies(result, observable.key) and good.sum() > 1:
            curves = [(look, m.mean[good], m.error[good]) for look, m in rows]
            panels.append((title_of(result, observable), energy[good], curves))
    if not panels:
        return None
    grid = layer_grid(len(panels), height=2.0, ratio=0.33)
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (name, x, curves)) in enumerate(zip(pairs, panels, strict=True)):
        draw_points(pair[0], x, curves)
        draw_point_ratio(pair[1], x, curves)
        dress(pair, name, first=k % grid.columns == 0, y_label=label)
        pair[1].set_xlabel("incident energy [GeV]")
    legend(figure, looks_of(result), floor=has_second(result), kind="points")
    return Picture(
        f"{family.replace('_', '-')}-against-energy",
        f"{title} against incident energy, with statistical errors; grey: the reference. Look for "
        "points off the band: an average over all energies can hide two errors that "
        f"cancel.{shown_note(result)}",
        f"{title} in each layer against incident energy, Geant4 and generators, with ratios.",
        figure,
    )
