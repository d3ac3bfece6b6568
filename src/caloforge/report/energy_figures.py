"""Figures of the total energy, and the ranking of all observables.

Each takes `Samples` and returns a `Picture` with its caption, or None where there is nothing to
draw. Numbers in captions come from the samples.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes

from caloforge import units
from caloforge.evaluation.chi2 import RANGE_RMS
from caloforge.evaluation.resolution import Response, fit_resolution
from caloforge.evaluation.resolution import response as measure
from caloforge.report.blocks import Picture
from caloforge.report.curves import (
    draw_chi2_points,
    draw_point_ratio,
    draw_points,
    draw_ranking,
    draw_resolution_fit,
    plain_decades,
)
from caloforge.report.estimates import FEWEST, Array, EnergySlice, energy_text
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.plots import Overlay, draw_comparison, shown_edges
from caloforge.report.samples import Samples, names
from caloforge.report.style import FLOOR, FLOOR_LOOK

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison

RESPONSE = r"$E_\mathrm{tot}\,/\,E_\mathrm{inc}$"


def ending(samples: Samples) -> str:
    """What all figures with ratios say at their end."""
    second = " Dotted: a second, independent Geant4 sample." if samples.floor else ""
    return (
        "Below: ratio to the reference with the errors of both samples; grey band: what Geant4 "
        f"against Geant4 scatters.{second}"
    )


def response(samples: Samples) -> Picture:
    """Total over incident energy of all showers, on a linear and on a logarithmic axis."""
    values = samples.reference.observables["response"]
    low, high = float(values.min()), float(values.max())
    margin = max(0.05 * (high - low), 1e-9)
    wide = np.linspace(max(0.0, low - margin), high + margin, _bins(values, 60) + 1)
    figure, pairs = panel_figure(2, Grid(columns=2, height=2.7, left=0.62, below=0.5))
    for k, (pair, edges) in enumerate(zip(pairs, (None, wide), strict=True)):
        data = samples.overlay("response", edges=edges)
        assert data is not None  # samples are never empty
        draw_comparison(pair, data, label=RESPONSE, log_y=k == 1)
        title = "all showers" if k == 0 else "all showers, full range of the reference"
        dress(pair, title, first=k == 0, y_label="fraction of showers", linear=k == 0)
    legend(figure, samples.looks, floor=samples.floor is not None)
    found = [
        f"{s.observables['response'].mean():.4g} ({look.label})"
        for look, s in zip(samples.looks, samples.generated, strict=True)
    ]
    return Picture(
        "response",
        "Total deposited over incident energy. Look for a peak that is shifted or too wide "
        "(left) and for tails that are missing or too long (right). Mean response: "
        f"{values.mean():.4g} (Geant4), {names(found)}. {ending(samples)} Shaded end bins collect "
        "what lies outside the axis.",
        "Histograms of the energy response for Geant4 and the generators, with ratios.",
        figure,
    )


def response_per_energy(
    samples: Samples, comparisons: Sequence[Comparison], floor: Comparison | None
) -> Picture | None:
    """Response at every energy point (or slice), with chi-square in the panel."""
    panels: list[tuple[EnergySlice, Overlay]] = []
    incident = samples.reference.incident_energy
    for part in samples.slices:
        values = samples.reference.observables["response"][part.select(incident)]
        data = None
        if len(values) >= FEWEST:
            data = samples.overlay("response", part, _peak_edges(values))
        if data is not None:
            panels.append((part, data))
    if len(samples.slices) < 2 or not panels:
        return None
    grid = Grid(columns=columns(len(panels), 4), height=1.75, below=0.32, left=0.5)
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (part, data)) in enumerate(zip(pairs, panels, strict=True)):
        label = RESPONSE if k + grid.columns >= len(panels) else ""
        draw_comparison(pair, data, label=label, headroom=1.3)
        title = f"{part.label}  (N = {int(data.reference.entries)})"
        dress(pair, title, first=k % grid.columns == 0, y_label="fraction of showers")
        lines = [(FLOOR, chi2_at(floor, part))]
        lines += [
            (look.color, chi2_at(comparison, part))
            for look, comparison in zip(samples.looks, comparisons, strict=True)
        ]
        _write_chi2(pair[0], [(color, value) for color, value in lines if not np.isnan(value)])
    legend(figure, samples.looks, floor=samples.floor is not None)
    left_out = len(samples.slices) - len(panels)
    return Picture(
        "response-per-energy",
        "Total deposited over incident energy at each incident energy. Look for a shifted peak, "
        "tails, and the spike of showers that deposit next to nothing at low energy. χ²/NDF of "
        "the total energy is written in the colour of its sample, dark grey for Geant4 against "
        f"Geant4. {ending(samples)}"
        + (
            f" Not shown: {left_out} energies with fewer than {FEWEST} reference showers."
            if left_out
            else ""
        ),
        "One histogram of the energy response per incident energy, Geant4 and generators, with "
        "ratios.",
        figure,
    )


def _peak_edges(values: Array) -> Array:
    """Bins over the peak: three RMS about the mean as for chi-square, wide enough to be filled."""
    mean, rms = float(values.mean()), float(values.std())
    if not rms > 1e-12 * abs(mean):
        return shown_edges(values)
    low, high = mean - RANGE_RMS[0] * rms, mean + RANGE_RMS[1] * rms
    return np.linspace(max(low, 0.0), high, _bins(values, 40) + 1)


def _bins(values: Array, most: int) -> int:
    """Bins that N showers can fill: 2.4 times their cube root, from 12 to `most`."""
    return int(np.clip(2.4 * len(values) ** (1 / 3), 12, most))


def _write_chi2(ax: Axes, values: list[tuple[str, float]]) -> None:
    if not values:
        return
    lines = [("#55595d", "χ²/NDF")] + [(color, f"{value:.3g}") for color, value in values]
    for line, (color, text) in enumerate(lines):
        ax.annotate(
            text,
            (0.97, 0.95),
            xytext=(0, -8.5 * line),
            xycoords="axes fraction",
            textcoords="offset points",
            ha="right",
            va="top",
            fontsize=6.8,
            color=color,
        )


def chi2_at(comparison: Comparison | None, part: EnergySlice) -> float:
    """Chi-square per degree of freedom of an energy slice, NaN where it did not enter."""
    value, ndf = _chi2_of(comparison, part)
    return value / ndf


def _chi2_of(comparison: Comparison | None, part: EnergySlice) -> tuple[float, float]:
    for energy, point in (comparison.per_energy if comparison else {}).items():
        if point.get("ndf") and bool(part.select(np.array([energy]))[0]):
            return float(point["chi2"]), float(point["ndf"])
    return float("nan"), float("nan")


def chi2_per_energy(
    samples: Samples, comparisons: Sequence[Comparison], floor: Comparison | None
) -> Picture | None:
    """Chi-square per degree of freedom against incident energy."""
    parts = [p for p in samples.slices if not np.isnan([chi2_at(c, p) for c in comparisons]).all()]
    if len(parts) < 2:
        return None
    figure, pairs = panel_figure(1, Grid(columns=1, height=2.2, below=0.72, ratio=0, left=0.62))
    ax = pairs[0][0]
    curves = [
        (look, [chi2_at(comparison, p) for p in parts])
        for look, comparison in zip(samples.looks, comparisons, strict=True)
    ]
    floors = [chi2_at(floor, p) for p in parts]
    measured = None if np.isnan(floors).all() else floors
    freedom = [np.nanmin([_chi2_of(c, p)[1] for c in comparisons]) for p in parts]
    draw_chi2_points(ax, [p.label for p in parts], curves, measured, freedom)
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


def _mark_untrained(samples: Samples, panels: Sequence[Axes]) -> str:
    """Lines at the energies that a generator was never shown, as its file says; and in words."""
    texts = []
    for look, summary in zip(samples.looks, samples.generated, strict=True):
        left_out = str(summary.provenance.get("left_out", "")).split()
        for energy in left_out:
            for axes in panels:
                axes.axvline(float(energy) / units.GEV, color=look.color, ls=":", lw=1.2, zorder=0)
        if left_out:
            shown = names([energy_text(float(energy)) for energy in left_out])
            texts.append(f" Dotted: {look.label} was trained without {shown}.")
    return "".join(texts)


def linearity(samples: Samples) -> Picture | None:
    """Mean response and resolution against incident energy, with the fitted resolution."""
    measured = []
    for look, summary in samples.drawn:
        values, incident = summary.observables["response"], summary.incident_energy
        measured.append(
            (look, {p.energy: measure(values[p.select(incident)]) for p in samples.slices})
        )
    used = [e for e, r in measured[0][1].items() if r.n >= FEWEST and r.resolution is not None]
    if len(used) < 2:
        return None
    energy = np.array(used) / units.GEV
    figure, pairs = panel_figure(2, Grid(columns=2, height=2.7, left=0.66, below=0.5, ratio=0.33))
    fits = []
    for look, found in measured:
        fit = fit_resolution(found)
        if fit is None:
            continue
        draw_resolution_fit(pairs[1][0], energy, fit, look)
        if look is not FLOOR_LOOK:
            fits.append(
                f"({100 * fit.stochastic:.3g} ± {100 * fit.stochastic_error:.1g}) % ⊕ "
                f"({100 * fit.constant:.2g} ± {100 * fit.constant_error:.1g}) % [{look.label}]"
            )
    for pair, field, label in (
        (pairs[0], "response", f"mean of {RESPONSE}"),
        (pairs[1], "resolution", rf"$\sigma\,/\,\mu$ of {RESPONSE}"),
    ):
        curves = [(look, *_columns(found, used, field)) for look, found in measured]
        draw_points(pair[0], energy, curves)
        draw_point_ratio(pair[1], energy, curves)
        dress(pair, "", first=True, y_label=label, linear=field == "response")
        pair[1].set_xlabel("incident energy [GeV]")
    pairs[1][0].set_yscale("log")
    plain_decades(pairs[1][0])
    untrained = _mark_untrained(samples, [axes for pair in pairs for axes in pair])
    legend(figure, samples.looks, floor=samples.floor is not None, kind="points")
    fitted = f" Fits of a/√(E/GeV) ⊕ c: {'; '.join(fits)}." if fits else ""
    return Picture(
        "linearity-resolution",
        "Mean response (left) and relative width (right) against incident energy: points with "
        "statistical errors, lines the fitted resolution, grey the reference. Look for a slope "
        "or a step in the ratio: a response that depends on the energy biases every "
        f"calibration.{fitted}{untrained}",
        "Mean response and energy resolution against incident energy with fitted curves and "
        "ratios to Geant4.",
        figure,
    )


def _columns(found: Mapping[float, Response], used: list[float], field: str) -> tuple[Any, Any]:
    """Values and errors at the used energies, NaN where there are none."""
    rows = [
        [np.nan if x is None else x for x in (getattr(r, field), getattr(r, f"{field}_error"))]
        for r in (found[e] for e in used)
    ]
    values, errors = np.array(rows, dtype=np.float64).T
    return values, errors


def ranking(samples: Samples, comparisons: Sequence[Comparison], most: int = 48) -> Picture | None:
    """Separation power of every observable (`most`: those farthest above it) beside its floor."""
    prefix = "separation_with_flow/"
    keys = [k for k in comparisons[0].metrics if k.startswith(prefix)] if comparisons else []
    if not keys:
        return None
    total = len(keys)
    if total > most:
        worst = {k: max(above_floor(c, k) for c in comparisons) for k in keys}
        chosen = set(sorted(keys, key=lambda k: -worst[k])[:most])
        keys = [k for k in keys if k in chosen]
    curves = [
        (look, [at_floor_size(c, k) for k in keys])
        for look, c in zip(samples.looks, comparisons, strict=True)
    ]
    floors = [max((f for c in comparisons if (f := _floor(c, k))), default=np.nan) for k in keys]
    labels = [observable_label(samples, k.removeprefix(prefix)) for k in keys]
    left = min(4.6, 0.3 + 0.06 * max(map(len, labels)))
    grid = Grid(columns=1, height=0.165 * len(keys) + 0.2, below=0.45, ratio=0, left=left)
    figure, pairs = panel_figure(1, grid)
    ax = pairs[0][0]
    draw_ranking(ax, labels, curves, floors)
    ax.set_xlabel("separation power (0: same, 1: no overlap)")
    ax.tick_params(labelsize=7.5)
    ax.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=4)
    resized = any("at_floor_size" in c.details for c in comparisons)
    sized = " Points are at the number of showers of their floor." if resized else ""
    some = f" Shown: the {most} farthest above their floor of {total}." if total > most else ""
    return Picture(
        "separation",
        "Separation power of every observable, under- and overflow counted. The grey bar is the "
        "floor, what two Geant4 samples give: a point at its end is as good as Geant4, one far to "
        f"the right of it is an observable that gives the generator away.{sized}{some}",
        "Separation power of each observable for each generator, with the Geant4 floor.",
        figure,
        "svg",
    )


def _floor(comparison: Comparison, key: str) -> float | None:
    value = comparison.metrics.get(key)
    return None if value is None else value.floor


def at_floor_size(comparison: Comparison, key: str) -> float:
    """A figure at the number of showers its floor was made with; NaN where it is missing."""
    value = comparison.details.get("at_floor_size", {}).get(key, comparison.metrics.get(key))
    return float("nan") if value is None else float(value.value)


def above_floor(comparison: Comparison, key: str) -> float:
    """A figure over its floor, both of one number of showers; the figure without a floor."""
    return at_floor_size(comparison, key) / (_floor(comparison, key) or 1.0)


def observable_label(samples: Samples, key: str) -> str:
    """The label of an observable by its key, the key itself for figures that are no observable."""
    observable = samples.table.get(key)
    return key.replace("_", " ") if observable is None else observable.label
