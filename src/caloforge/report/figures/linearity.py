"""Mean response and resolution against incident energy, with the fitted resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from caloforge import units
from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import FEWEST, energy_text
from caloforge.judge.shown.portrait import Portrait
from caloforge.metrics.resolution import ResolutionFit
from caloforge.report.blocks import Picture
from caloforge.report.curves import (
    draw_point_ratio,
    draw_points,
    draw_resolution_fit,
)
from caloforge.report.drawn import drawn, has_second, looks_of, names
from caloforge.report.figures.response import RESPONSE
from caloforge.report.panels import Grid, dress, legend, panel_figure
from caloforge.report.style import FLOOR_LOOK
from caloforge.report.ticks import log_scale

Array = NDArray[np.float64]

UNLIKELY = 1e-4  # probability of a chi-square, below which a fit does not describe its points


def linearity(result: Result) -> Picture | None:
    """Mean response (left) and resolution (right) of every sample, with ratios."""
    slices = result.shown.frame.slices
    used = [
        k
        for k, r in enumerate(result.shown.reference.responses)
        if r.n >= FEWEST and r.resolution is not None
    ]
    if len(used) < 2:
        return None
    energy = np.array([slices[k].energy for k in used]) / units.GEV
    figure, pairs = panel_figure(2, Grid(columns=2, height=2.7, left=0.66, below=0.5, ratio=0.33))
    fits, failed = [], []
    for look, portrait in drawn(result):
        fit = portrait.fit
        if fit is None:
            continue
        quality = f"χ²/NDF {fit.chi2:.3g}/{fit.ndf}"
        if fails(fit):
            failed.append(f"{look.label} ({quality})")
            continue
        draw_resolution_fit(pairs[1][0], energy, fit, look)
        if look is not FLOOR_LOOK:
            fits.append(
                f"({100 * fit.stochastic:.3g} ± {100 * fit.stochastic_error:.1g}) % ⊕ "
                f"({100 * fit.constant:.2g} ± {100 * fit.constant_error:.1g}) % [{look.label}, "
                f"{quality}]"
            )
    for pair, field, label in (
        (pairs[0], "response", f"mean of {RESPONSE}"),
        (pairs[1], "resolution", rf"$\sigma\,/\,\mu$ of {RESPONSE}"),
    ):
        curves = [(look, *_columns(portrait, used, field)) for look, portrait in drawn(result)]
        draw_points(pair[0], energy, curves)
        draw_point_ratio(pair[1], energy, curves)
        dress(pair, "", first=True, y_label=label, linear=field == "response")
        pair[1].set_xlabel("incident energy [GeV]")
    log_scale(pairs[1][0].yaxis)
    untrained = _mark_untrained(result, [axes for pair in pairs for axes in pair])
    legend(figure, looks_of(result), floor=has_second(result), kind="points")
    fitted = f" Fits of a/√(E/GeV) ⊕ c: {'; '.join(fits)}." if fits else ""
    if failed:
        fitted += (
            f" Not drawn are fits of a/√(E/GeV) ⊕ c that do not describe the points: "
            f"{names(failed)}."
        )
    return Picture(
        "linearity-resolution",
        "Mean response (left) and relative width (right) against incident energy: points with "
        f"statistical errors, {'lines the fitted resolution, ' if fits else ''}grey the "
        "reference. Look for a slope "
        "or a step in the ratio: a response that depends on the energy biases every "
        f"calibration.{fitted}{untrained}",
        "Mean response and energy resolution against incident energy, with ratios to Geant4.",
        figure,
    )


def fails(fit: ResolutionFit) -> bool:
    """Whether the fitted curve does not describe its points: its chi-square is too large."""
    from scipy.stats import chi2

    return float(chi2.sf(fit.chi2, fit.ndf)) < UNLIKELY


def _columns(portrait: Portrait, used: Sequence[int], field: str) -> tuple[Array, Array]:
    """Values and errors at the used energies, NaN where there are none."""
    rows = [
        [
            np.nan if x is None else x
            for x in (getattr(response, field), getattr(response, f"{field}_error"))
        ]
        for response in (portrait.responses[k] for k in used)
    ]
    values, errors = np.array(rows, dtype=np.float64).T
    return values, errors


def _mark_untrained(result: Result, panels: Sequence[Axes]) -> str:
    """Lines at the energies that a generator was never shown, as its file says; and in words."""
    texts = []
    for look, portrait in zip(looks_of(result), result.shown.generated, strict=True):
        left_out = portrait.incident.left_out
        for energy in left_out:
            for axes in panels:
                axes.axvline(energy / units.GEV, color=look.color, ls=":", lw=1.2, zorder=0)
        if left_out:
            energies = names([energy_text(energy) for energy in left_out])
            texts.append(f" Dotted: {look.label} was trained without {energies}.")
    return "".join(texts)
