"""What the showers say about their conditions, beside Geant4: requested against read back."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge import units
from caloforge.judge.folder import Result
from caloforge.metrics.notes import AttributeValues
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_points
from caloforge.report.drawn import looks_of
from caloforge.report.floors import attributes_of
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.style import REFERENCE_LOOK, Look
from caloforge.report.ticks import log_scale

Array = NDArray[Any]


def attributes_requested(result: Result) -> Picture | None:
    """Regressed against requested: means and standard deviations, Geant4 as a band."""
    attributes, names = attributes_of(result)
    shown = [n for n in names if any(n in one and one[n].profile for one in attributes)]
    if not shown:
        return None
    grid = Grid(columns=columns(len(shown), 4), height=2.1, left=0.62, ratio=0)
    figure, pairs = panel_figure(len(shown), grid)
    for k, (pair, name) in enumerate(zip(pairs, shown, strict=True)):
        first = next(one[name] for one in attributes if name in one)
        log = name == "energy"
        scale = units.GEV if log else 1.0
        profile = {key: v / scale for key, v in first.profile.items()}
        curves: list[tuple[Look, Array, Array]] = [
            (REFERENCE_LOOK, profile["reference_mean"], profile["reference_std"])
        ]
        for look, one in zip(looks_of(result), attributes, strict=True):
            if name in one:
                scaled = {key: v / scale for key, v in one[name].profile.items()}
                curves.append((look, scaled["judged_mean"], scaled["judged_std"]))
        ax = pair[0]
        ax.plot(profile["requested"], profile["requested"], color="black", linewidth=0.6)
        draw_points(ax, profile["requested"], curves, log_x=log)
        unit = "GeV" if log else first.unit
        dress(pair, first.label, first=k % grid.columns == 0, y_label="regressed", linear=False)
        if log:
            log_scale(ax.yaxis)
        ax.set_xlabel(f"requested{f' [{unit}]' if unit else ''}")
    legend(figure, looks_of(result), floor=False, kind="points")
    return Picture(
        "attributes-requested",
        "What a regressor trained on Geant4 reads in the showers against what was requested: mean "
        "and standard deviation in tenths of the showers; grey: Geant4's held-out showers, black: "
        "perfect. Look for points off the grey band, or another slope.",
        "Regressed against requested attributes for Geant4 and generators.",
        figure,
    )


def attributes_per_energy(result: Result) -> Picture | None:
    """Bias and spread against incident energy, Geant4 with its error as a band."""
    attributes, names = attributes_of(result)
    shown = [n for n in names if any(n in one and len(one[n].tenths) > 1 for one in attributes)]
    if not shown:
        return None
    across = min(len(shown), 5)
    grid = Grid(columns=across, height=1.7, left=0.74, ratio=0)
    blocks = [shown[k : k + across] for k in range(0, len(shown), across)]
    panels = [(kind, name) for block in blocks for kind in ("bias", "spread") for name in block]
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (kind, name)) in enumerate(zip(pairs, panels, strict=True)):
        first = next(one[name] for one in attributes if name in one)
        energies = np.array(sorted(first.tenths))
        curves = [(REFERENCE_LOOK, *_against_energy(first, energies, 0, kind))]
        for look, one in zip(looks_of(result), attributes, strict=True):
            curves.append((look, *_against_energy(one.get(name), energies, 1, kind)))
        ax = pair[0]
        draw_points(ax, energies / units.GEV, curves)
        dress(pair, first.label, first=k % across == 0, y_label=kind)
        if kind == "spread":
            ax.set_ylim(bottom=0)
        ax.set_xlabel("incident energy [GeV]")
    legend(figure, looks_of(result), floor=False, kind="points")
    return Picture(
        "attributes-energy",
        "Bias and spread of the attributes read back, against incident energy; grey: Geant4's "
        "held-out showers with their errors. A larger spread says that the shower does not follow "
        "its condition, a smaller one that it follows too closely.",
        "Bias and spread of regressed attributes against incident energy.",
        figure,
    )


def _against_energy(
    one: AttributeValues | None, energies: Array, which: int, kind: str
) -> tuple[Array, Array]:
    """Values and errors at the energies (K,) in MeV, NaN where there are none.

    `which` is 0 for Geant4 and 1 for the generator.
    """
    rows = []
    for energy in energies.tolist():
        if one is None or energy not in one.tenths:
            rows.append((math.nan, math.nan))
        else:
            rows.append(getattr(one.tenths[energy][which], kind))
    values, errors = np.array(rows).T
    return values, errors
