"""Figures of what looks at all features or cells together: against incident energy, PRD curves.

Each takes `Samples` with their comparisons and returns a `Picture`, or None where there is nothing
to draw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter

from caloforge import units
from caloforge.evaluation.merit import FIGURES, distance, figure
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_points, plain_decades
from caloforge.report.estimates import Array
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.samples import Samples, names
from caloforge.report.style import BAND, FLOOR, FLOOR_LOOK, Look

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison

# What a figure is for samples that are the same.
IDEAL = {"auc": 0.5, "jsd": 0.0, "fpd": 0.0, "kpd": 0.0}
PRD_KINDS = {"raw": "cell images", "physics": "observables"}


def draw_against_floor(
    ax: Axes,
    energy: Array,
    curves: Sequence[tuple[Look, Array, Array]],
    floor: Array,
    ideal: float,
) -> dict[str, Any]:
    """Figures with errors (K,) against incident energy (K,) in GeV, over the floor's band.

    The band reaches from the ideal value to the floor (K,): what lies in it is as good as the
    reference simulation. Returns the artists by label, the band under "floor".
    """
    good = np.isfinite(floor)
    artists: dict[str, Any] = {
        "floor": ax.fill_between(
            energy[good], np.full(good.sum(), ideal), floor[good], color=BAND, linewidth=0
        )
    }
    ax.plot(
        energy[good],
        floor[good],
        color=FLOOR,
        linestyle=FLOOR_LOOK.line,
        marker=FLOOR_LOOK.marker,
        markersize=3,
        linewidth=0.8,
    )
    artists.update(draw_points(ax, energy, curves))
    return artists


def figures_against_energy(samples: Samples, comparisons: Sequence[Comparison]) -> Picture | None:
    """Each of the joint figures at each energy point, with its floor."""
    energies = sorted({e for c in comparisons for e in c.per_energy})
    panels = []
    for key in FIGURES:
        values = [_values(c, energies, key) for c in comparisons]
        if key != "chi2_ndf_energy" and any(np.isfinite(v[0]).sum() > 1 for v in values):
            panels.append((key, values))
    if not panels:
        return None
    grid = Grid(columns=columns(len(panels), 4), height=1.8, left=0.55, ratio=0)
    drawn, pairs = panel_figure(len(panels), grid)
    x = np.array(energies) / units.GEV
    for k, (pair, (key, values)) in enumerate(zip(pairs, panels, strict=True)):
        ax, scale = pair[0], figure(key).scale
        curves = [
            (look, scale * value, scale * error)
            for look, (value, error, _) in zip(samples.looks, values, strict=True)
        ]
        floor = scale * np.fmax.reduce([v[2] for v in values])
        logarithmic = figure(key).way == "multiple" and all(
            (c[1][np.isfinite(c[1])] > 0).all() for c in curves
        )
        ideal = IDEAL.get(key.partition("_")[0], 1.0)
        if logarithmic:
            shown = np.concatenate([*(c[1] for c in curves), floor])
            ideal = 0.5 * float(shown[np.isfinite(shown)].min())
        draw_against_floor(ax, x, curves, floor, ideal)
        dress(pair, figure(key).name, first=k % grid.columns == 0, y_label="", linear=True)
        if logarithmic:
            ax.set_yscale("log")
            plain_decades(ax)
        else:
            ax.yaxis.set_major_locator(MaxNLocator(4))
            if figure(key).way == "share":  # errors may reach beyond what is possible
                low, high = ax.get_ylim()
                ax.set_ylim(max(low, -0.05), min(high, 1.05))
        ax.set_xlabel("incident energy [GeV]")
        ax.set_xlim(x[0] / 1.3, x[-1] * 1.3)
        ax.xaxis.set_minor_formatter(NullFormatter())
    legend(drawn, samples.looks, floor=False, kind="floor points")
    return Picture(
        "joint-figures-against-energy",
        "Each figure at each incident energy; the grey band reaches from equal samples to the "
        "floor, Geant4 against Geant4 (crosses): a point in the band is as good as Geant4 with "
        "samples of this size. Look for energies at which a generator leaves the band: an AUC "
        "over all energies can hide a generator that is good where there are most showers. Points "
        "of few showers scatter by their errors, and the floor as much."
        + _worst(samples, comparisons, energies),
        "Classifier AUC and other joint figures against incident energy for each generator, with "
        "the Geant4 floor.",
        drawn,
    )


def _values(
    comparison: Comparison, energies: Sequence[float], key: str
) -> tuple[Array, Array, Array]:
    """Values, errors (0 where unknown) and floors at the energies, NaN where there is none."""
    rows = []
    for energy in energies:
        found = comparison.per_energy.get(energy, {}).get("metrics", {}).get(key)
        rows.append(
            (np.nan, np.nan, np.nan)
            if found is None
            else (found.value, found.error or 0.0, np.nan if found.floor is None else found.floor)
        )
    value, error, floor = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return value, error, floor


def _worst(samples: Samples, comparisons: Sequence[Comparison], energies: Sequence[float]) -> str:
    """Where the AUC of the boosted trees, or else of the shower shapes, is largest."""
    boosted = any(np.isfinite(_values(c, energies, "auc_boosted")[0]).any() for c in comparisons)
    key = "auc_boosted" if boosted else "auc_high"
    found = []
    for look, comparison in zip(samples.looks, comparisons, strict=True):
        value = _values(comparison, energies, key)[0]
        if np.isfinite(value).any():
            k = int(np.nanargmax([distance(key, v) for v in value]))
            found.append(f"{look.label} {value[k]:.3g} at {energies[k] / units.GEV:.3g} GeV")
    return f" Largest {figure(key).name}: {names(found)}." if found else ""


# --- precision and recall ------------------------------------------------------------------------
def draw_prd(
    ax: Axes,
    curves: Sequence[tuple[Look, Array, Array]],
    floor: tuple[Array, Array] | None = None,
) -> dict[str, Any]:
    """Precision (A,) against recall (A,) of each generator, and of the floor.

    Returns the artists by label, the floor's under "floor".
    """
    artists: dict[str, Any] = {}
    if floor is not None:
        recall, precision = floor
        artists["floor"] = ax.fill_between(recall, precision, color=BAND, linewidth=0)
        ax.plot(recall, precision, color=FLOOR, linestyle=FLOOR_LOOK.line, linewidth=1.0)
    for look, recall, precision in curves:
        artists[look.label] = ax.plot(
            recall, precision, color=look.color, linestyle=look.line, label=look.label
        )[0]
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.02)
    ax.set_xlabel("recall: share of Geant4 that is made")
    ax.set_ylabel("precision: share that is real")
    return artists


def prd_curves(samples: Samples, comparisons: Sequence[Comparison]) -> Picture | None:
    """PRD curves of cell images and of observables, with the floor's."""
    panels = []
    for kind, what in PRD_KINDS.items():
        curves = [
            (look, *found)
            for look, c in zip(samples.looks, comparisons, strict=True)
            if (found := _curve(c.details, kind)) is not None
        ]
        floors = [_curve(c.details.get("floor", {}).get("joint", {}), kind) for c in comparisons]
        if curves:
            panels.append((kind, what, curves, next((f for f in floors if f is not None), None)))
    if not panels:
        return None
    grid = Grid(columns=max(2, len(panels)), height=3.2, left=0.7, below=0.5, ratio=0)
    drawn, pairs = panel_figure(len(panels), grid)
    for k, (pair, (kind, what, curves, floor)) in enumerate(zip(pairs, panels, strict=True)):
        draw_prd(pair[0], curves, floor)
        pair[0].set_title(f"{kind}: clusters of {what}", y=1.0)
        if k:
            pair[0].set_ylabel("")
    legend(drawn, samples.looks, floor=False, kind="floor lines")
    return Picture(
        "prd-curves",
        "Precision against recall over clusters of showers (the grey area is what Geant4 against "
        "Geant4 reaches; the score is the smaller of the two areas). A curve that falls short to "
        "the right lacks kinds of showers that Geant4 makes, one that falls short at the top "
        "makes showers that Geant4 does not.",
        "Precision-recall curves of each generator and of Geant4 against Geant4, for cell images "
        "and for observables.",
        drawn,
        "svg",
    )


def _curve(details: Mapping[str, Any], kind: str) -> tuple[Array, Array] | None:
    found = (details.get("prd") or {}).get(kind)
    if not found:
        return None
    return np.asarray(found["recall"], float), np.asarray(found["precision"], float)
