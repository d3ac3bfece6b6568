"""Chi-square of the total energy against incident energy."""

from __future__ import annotations

import numpy as np

from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_chi2_points
from caloforge.report.drawn import column, looks_of, names
from caloforge.report.floors import chi2_at, floor_chi2
from caloforge.report.panels import Grid, panel_figure


def chi2_per_energy(result: Result) -> Picture | None:
    """Chi-square per degree of freedom against incident energy."""
    slices = result.shown.frame.slices
    points = np.array([[chi2_at(c, part) for part in slices] for c in result.comparisons])
    judged = ~np.isnan(points[:, :, 0]).all(axis=0)
    parts = [part for part, there in zip(slices, judged, strict=True) if there]
    if len(parts) < 2:
        return None
    figure, pairs = panel_figure(1, Grid(columns=1, height=2.2, below=0.72, ratio=0, left=0.62))
    ax = pairs[0][0]
    chi2, ndf = np.moveaxis(points[:, judged], -1, 0)
    curves = list(zip(looks_of(result), (chi2 / ndf).tolist(), strict=True))
    floors = [float(floor_chi2(result)[column(result, part)]) for part in parts]
    measured = None if np.isnan(floors).all() else floors
    draw_chi2_points(ax, [p.label for p in parts], curves, measured, np.nanmin(ndf, axis=0))
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4)
    worst = [
        f"{look.label} {np.nanmax(values):.3g} at {parts[int(np.nanargmax(values))].label}"
        for look, values in curves
        if not np.isnan(values).all()
    ]
    itself = "" if measured is None else ", as Geant4 itself does (dotted)"
    return Picture(
        "chi2-per-energy",
        "χ²/NDF of the total energy at each incident energy with enough showers. A generator "
        f"that cannot be told from Geant4 scatters about one, in the grey band{itself}. Largest: "
        f"{names(worst)}.",
        "Chi-square per degree of freedom of the total energy against incident energy, with the "
        "Geant4 floor.",
        figure,
        "svg",
    )
