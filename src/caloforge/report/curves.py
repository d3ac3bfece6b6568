"""Drawing of curves against energy, depth or iteration: results and Axes in, artists out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from caloforge.errors import CaloForgeError
from caloforge.metrics.resolution import ResolutionFit
from caloforge.report.distributions import mark_outside
from caloforge.report.style import (
    BAND,
    FLOOR,
    FLOOR_LOOK,
    GEANT4_EDGE,
    REFERENCE_LOOK,
    Look,
)
from caloforge.report.ticks import log_scale

Array = NDArray[Any]


def draw_points(
    ax: Axes, x: Array, curves: Sequence[tuple[Look, Array, Array]], *, log_x: bool = True
) -> dict[str, Any]:
    """Values with errors against x (K,): (look, values (K,), errors (K,)), slightly apart in x.

    The reference is drawn as a grey band. Returns the artists by label.
    """
    artists: dict[str, Any] = {}
    others = [c for c in curves if c[0].label != REFERENCE_LOOK.label]
    for look, values, errors in curves:
        if look.label == REFERENCE_LOOK.label:
            artists[look.label] = ax.fill_between(
                x, values - errors, values + errors, color=BAND, linewidth=0, label=look.label
            )
            ax.plot(x, values, color=GEANT4_EDGE, linewidth=1.0)
            continue
        index = [c[0] for c in others].index(look) - (len(others) - 1) / 2
        shifted = x * 1.035**index if log_x else x + 0.12 * index * _spacing(x)
        artists[look.label] = ax.errorbar(
            shifted,
            values,
            yerr=errors,
            fmt=look.marker,
            markersize=3.2,
            elinewidth=0.9,
            color=look.color,
            label=look.label,
        )
    if log_x:
        log_scale(ax.xaxis)
    return artists


def _spacing(x: Array) -> float:
    return float(np.median(np.diff(x))) if len(x) > 1 else 1.0


def draw_point_ratio(
    ax: Axes,
    x: Array,
    curves: Sequence[tuple[Look, Array, Array]],
    *,
    log_x: bool = True,
) -> dict[str, Any]:
    """Ratio of each curve to the first (the reference), whose relative error is the grey band."""
    _, reference, error = curves[0]
    with np.errstate(invalid="ignore"):
        size = np.where(reference != 0, np.abs(reference), np.nan)
        relative = error / size
        ratios = [(look, values / size, errors / size) for look, values, errors in curves[1:]]
    artists = draw_points(
        ax, x, [(REFERENCE_LOOK, np.ones_like(relative), relative), *ratios], log_x=log_x
    )
    deviations = [np.abs(v - 1) + e for _, v, e in ratios]
    widest = np.nanmax(
        np.concatenate([np.atleast_1d(d) for d in [*deviations, relative]] + [[0.0]])
    )
    reach = float(np.clip(1.15 * widest, 0.02, 0.6))
    ax.set_ylim(1 - reach, 1 + reach)
    ax.yaxis.set_major_locator(MaxNLocator(3, prune="both"))
    for look, values, _ in ratios:
        mark_outside(ax, x, values, (1 - reach, 1 + reach), look.color)
    return artists


def draw_resolution_fit(ax: Axes, energy: Array, fit: ResolutionFit, look: Look) -> Any:
    """The fitted curve sigma/E over the range of the incident energies (K,) in GeV."""
    x = np.geomspace(float(energy.min()), float(energy.max()), 100)
    fitted = np.sqrt(fit.stochastic**2 / x + fit.constant**2)
    return ax.plot(x, fitted, color=look.color, linestyle=look.line, linewidth=1.0)[0]


def draw_chi2_points(
    ax: Axes,
    energies: Sequence[str],
    curves: Sequence[tuple[Look, Sequence[float]]],
    floor: Sequence[float] | None = None,
    ndf: Sequence[float] | None = None,
) -> dict[str, Any]:
    """Chi-square per degree of freedom at each energy (labels in order), with its floor.

    `ndf` are the degrees of freedom: equal samples scatter by sqrt(2 / ndf) about one, which is
    drawn as a band. Missing values are NaN and leave a gap. Returns the artists by label, the
    measured floor under "floor", the band under "band".
    """
    place = np.arange(len(energies))
    artists: dict[str, Any] = {}
    if ndf is not None:
        scatter = np.sqrt(2 / np.asarray(ndf, dtype=np.float64))
        artists["band"] = ax.stairs(
            1 + scatter,
            np.arange(len(energies) + 1) - 0.5,
            baseline=1 - scatter,
            fill=True,
            color=BAND,
            label="equal samples, 1σ",
        )
    if floor is not None:
        artists["floor"] = ax.stairs(
            np.asarray(floor, dtype=np.float64),
            np.arange(len(energies) + 1) - 0.5,
            color=FLOOR,
            linestyle=FLOOR_LOOK.line,
            baseline=None,
            label="Geant4 against Geant4",
        )
    ax.axhline(1, color=GEANT4_EDGE, linewidth=0.7)
    for look, values in curves:
        artists[look.label] = ax.plot(
            place,
            np.asarray(values, dtype=np.float64),
            color=look.color,
            linestyle=look.line,
            marker=look.marker,
            markersize=4,
            label=look.label,
        )[0]
    log_scale(ax.yaxis)
    ax.set_xticks(place, energies, rotation=35, ha="right", rotation_mode="anchor")
    ax.set_xlim(-0.5, len(energies) - 0.5)
    ax.set_ylabel("χ²/NDF of $E_\\mathrm{tot}$")
    return artists


def draw_ranking(
    ax: Axes,
    labels: Sequence[str],
    curves: Sequence[tuple[Look, Sequence[float]]],
    floor: Sequence[float] | None = None,
) -> dict[str, Any]:
    """A figure of merit on a logarithmic axis, one row an observable, over the floor.

    `labels` (R,) from top to bottom, values (R,) each. The floor is a grey bar up to its value.
    Returns the artists by label, the floor under "floor".
    """
    place = np.arange(len(labels))[::-1]
    positive = [v for _, values in curves for v in values if v > 0] or [1.0]
    positive += [v for v in floor or [] if v > 0]
    low = min(positive) / 2
    artists: dict[str, Any] = {}
    if floor is not None:
        widths = np.maximum(np.asarray(floor, dtype=np.float64) - low, 0)
        artists["floor"] = ax.barh(
            place, widths, left=low, height=0.7, color=BAND, label="Geant4 against Geant4"
        )
    for look, values in curves:
        artists[look.label] = ax.plot(
            np.maximum(np.asarray(values, dtype=np.float64), low),
            place,
            linestyle="none",
            marker=look.marker,
            markersize=4,
            color=look.color,
            label=look.label,
        )[0]
    log_scale(ax.xaxis)
    ax.set_xlim(low, 1.5 * max(positive))
    ax.set_yticks(place, labels)
    ax.set_ylim(-0.7, len(labels) - 0.3)
    ax.minorticks_off()
    ax.grid(axis="y", color="#eceef0", linewidth=0.6)
    return artists


def draw_chi2_history(
    ax: Axes,
    iterations: Array,
    chi2: Array,
    *,
    label: str = "",
    chosen: int | None = None,
    floor: float | None = None,
    look: Look | None = None,
) -> dict[str, Any]:
    """Chi-square per degree of freedom of checkpoints against training iteration, both (K,).

    `chosen` marks the iteration that was kept (default: none), `floor` the Geant4-against-Geant4
    value. Returns the artists "curve", "chosen" and "floor", those that were drawn.

    Raises
    ------
    CaloForgeError
        When the two arrays differ in length, or `chosen` is no iteration of the curve.
    """
    iterations, chi2 = np.asarray(iterations), np.asarray(chi2, dtype=np.float64)
    if iterations.shape != chi2.shape or iterations.ndim != 1 or len(iterations) == 0:
        raise CaloForgeError(
            f"The training curve has {iterations.shape} iterations and {chi2.shape} values; "
            "expected two equal (K,)."
        )
    drawn = look or Look(label, "#0072B2")
    artists: dict[str, Any] = {
        "curve": ax.plot(
            iterations,
            chi2,
            color=drawn.color,
            linestyle=drawn.line,
            linewidth=1.0,
            label=drawn.label,
        )[0]
    }
    if chosen is not None:
        artists["chosen"] = _mark(ax, iterations, chi2, chosen, drawn.color)
    if floor is not None:
        artists["floor"] = ax.axhline(
            floor,
            color=FLOOR,
            linestyle=FLOOR_LOOK.line,
            label=f"Geant4 against Geant4: {floor:.3g}",
        )
    if np.all(chi2[np.isfinite(chi2)] > 0):
        log_scale(ax.yaxis)
    ax.set_xlabel("training iteration")
    ax.set_ylabel("χ²/NDF of $E_\\mathrm{tot}$")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return artists


def _mark(ax: Axes, iterations: Array, chi2: Array, chosen: int, color: str) -> Any:
    where = np.flatnonzero(iterations == chosen)
    if len(where) == 0:
        raise CaloForgeError(f"The chosen iteration {chosen} is not among those of the curve.")
    return ax.plot(
        iterations[where],
        chi2[where],
        marker="o",
        markersize=7,
        markerfacecolor="none",
        linestyle="none",
        color=color,
        label=f"kept: iteration {chosen}, χ²/NDF {chi2[where[0]]:.3g}",
    )[0]


def draw_profile(
    ax: Axes, depth: Array, curves: Sequence[tuple[Look, Array, Array]]
) -> dict[str, Any]:
    """Longitudinal profile: mean and error per layer, (L,), in bins of depth, (L+1,).

    The reference is filled grey. Returns the artists by label.
    """
    artists: dict[str, Any] = {}
    centres = (depth[1:] + depth[:-1]) / 2
    for look, values, errors in curves:
        is_reference = look.label == REFERENCE_LOOK.label
        artists[look.label] = ax.stairs(
            values,
            depth,
            fill=is_reference,
            baseline=0 if is_reference else None,
            color=BAND if is_reference else look.color,
            linestyle=look.line,
            linewidth=1.4,
            label=look.label,
        )
        ax.errorbar(centres, values, yerr=errors, fmt="none", elinewidth=0.8, color=look.color)
    return artists
