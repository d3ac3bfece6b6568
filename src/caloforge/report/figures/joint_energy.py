"""The metrics of all features or cells together, against incident energy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from caloforge import units
from caloforge.judge.folder import Result
from caloforge.judge.merit import distance
from caloforge.metrics.base import Metric
from caloforge.metrics.table import metric, metrics
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_points
from caloforge.report.drawn import looks_of, names
from caloforge.report.floors import curve_at, energies_of
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.style import BAND, FLOOR, FLOOR_LOOK, Look
from caloforge.report.ticks import log_scale

Array = NDArray[Any]


def draw_against_floor(
    ax: Axes,
    energy: Array,
    curves: Sequence[tuple[Look, Array, Array]],
    floor: Array,
    ideal: float,
) -> dict[str, Any]:
    """Metrics with errors (K,) against incident energy (K,) in GeV, over the floor's band.

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


def joint_energy(result: Result) -> Picture | None:
    """Each of the joint metrics at each energy point, with its floor."""
    energies = energies_of(result.comparisons)
    panels = []
    for known in metrics():
        values = [curve_at(c, energies, known.key) for c in result.comparisons]
        if known.needs == "effort" and any(np.isfinite(v[0]).sum() > 1 for v in values):
            panels.append((known, values))
    if not panels:
        return None
    grid = Grid(columns=columns(len(panels), 4), height=1.8, left=0.55, ratio=0)
    drawn, pairs = panel_figure(len(panels), grid)
    x = np.array(energies) / units.GEV
    for pair, (known, values) in zip(pairs, panels, strict=True):
        _panel(pair, x, known, values, looks_of(result))
        pair[0].set_xlabel("incident energy [GeV]")
        pair[0].set_xlim(x[0] / 1.3, x[-1] * 1.3)
    legend(drawn, looks_of(result), floor=False, kind="floor points")
    return Picture(
        "joint-figures-against-energy",
        "Each metric at each incident energy; the grey band reaches from equal samples to the "
        "floor, Geant4 against Geant4 (crosses): a point in the band is as good as Geant4 with "
        "samples of this size. Look for energies at which a generator leaves the band: an AUC "
        "over all energies can hide a generator that is good where there are most showers. Points "
        "of few showers scatter by their errors, and the floor as much." + _worst(result),
        "Classifier AUC and other joint metrics against incident energy for each generator, with "
        "the Geant4 floor.",
        drawn,
    )


def _panel(
    pair: tuple[Axes, Axes],
    x: Array,
    known: Metric,
    values: Sequence[tuple[Array, Array, Array]],
    looks: Sequence[Look],
) -> None:
    """One metric: values, errors and floors (K,) of each generator against x (K,) in GeV."""
    scale = known.scale
    curves = [
        (look, scale * value, scale * error)
        for look, (value, error, _) in zip(looks, values, strict=True)
    ]
    floor = scale * np.fmax.reduce([v[2] for v in values])
    logarithmic = known.way == "multiple" and all(
        (c[1][np.isfinite(c[1])] > 0).all() for c in curves
    )
    ideal = known.ideal
    if logarithmic:
        shown = np.concatenate([*(c[1] for c in curves), floor])
        ideal = 0.5 * float(shown[np.isfinite(shown)].min())
    ax = pair[0]
    draw_against_floor(ax, x, curves, floor, ideal)
    dress(pair, known.name, first=False, y_label="")
    if logarithmic:
        log_scale(ax.yaxis)
        return
    ax.yaxis.set_major_locator(MaxNLocator(4))
    if known.way == "share":  # errors may reach beyond what is possible
        low, high = ax.get_ylim()
        ax.set_ylim(max(low, -0.05), min(high, 1.05))


def _worst(result: Result) -> str:
    """Where the AUC of the boosted trees, or else of the shower shapes, is largest."""
    comparisons, energies = result.comparisons, energies_of(result.comparisons)
    boosted = any(np.isfinite(curve_at(c, energies, "auc_boosted")[0]).any() for c in comparisons)
    key = "auc_boosted" if boosted else "auc_high"
    largest = []
    for look, comparison in zip(looks_of(result), comparisons, strict=True):
        value = curve_at(comparison, energies, key)[0]
        if np.isfinite(value).any():
            k = int(np.nanargmax([distance(key, v) for v in value]))
            largest.append(f"{look.label} {value[k]:.3g} at {energies[k] / units.GEV:.3g} GeV")
    return f" Largest {metric(key).name}: {names(largest)}." if largest else ""
