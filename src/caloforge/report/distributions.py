"""Drawing of distributions: results and Axes in, artists out.

Nothing here opens a file or a window. Distributions are `hist` histograms of unit sum drawn with
mplhep, with under- and overflow kept: what lies outside the axis is drawn in one more, shaded bin
at either end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import hist
import mplhep
import numpy as np
from matplotlib.axes import Axes
from matplotlib.markers import CARETDOWNBASE, CARETUPBASE
from numpy.typing import NDArray

from caloforge.errors import CaloForgeError
from caloforge.judge.shown.histograms import Bins
from caloforge.report.style import BAND, FLOOR_LOOK, GEANT4_EDGE, GEANT4_FILL, REFERENCE_LOOK, Look
from caloforge.report.ticks import log_scale

Array = NDArray[Any]

RATIO_RANGE = (0.4, 1.6)
RATIO_TICKS = (0.5, 1.0, 1.5)
HEADROOM = 1.15


@dataclass(frozen=True)
class Series:
    """One sample of an observable: counts (B+2,) with under- and overflow, and how it is drawn."""

    counts: Array
    look: Look = REFERENCE_LOOK


@dataclass(frozen=True)
class Distribution:
    """Unit-sum histogram of one sample, with its number of entries."""

    histogram: hist.Hist
    entries: float
    look: Look


@dataclass(frozen=True)
class Overlay:
    """One observable of all samples in equal bins.

    `inner` is the range of the axis proper; bins outside it hold under- and overflow.
    """

    reference: Distribution
    generated: tuple[Distribution, ...]
    floor: Distribution | None
    inner: tuple[float, float]
    log: bool


# --- histograms ----------------------------------------------------------------------------------
def overlay(
    reference: Series, generated: Sequence[Series], floor: Series | None, bins: Bins
) -> Overlay:
    """One histogram a sample in common bins, and an end bin where values lie outside.

    Raises
    ------
    CaloForgeError
        When the reference holds no shower.
    """
    if reference.counts.sum() == 0:
        raise CaloForgeError("The reference holds no showers to draw; expected at least one.")
    series = [reference, *generated, *([floor] if floor else [])]
    below = any(bool(s.counts[0]) for s in series)
    above = any(bool(s.counts[-1]) for s in series)
    outer = _with_end_bins(bins.edges, below, above, bins.log)
    shown = slice(0 if below else 1, None if above else -1)
    drawn = [distribution(s.counts[shown], outer, float(s.counts.sum()), s.look) for s in series]
    return Overlay(
        reference=drawn[0],
        generated=tuple(drawn[1 : 1 + len(generated)]),
        floor=drawn[-1] if floor else None,
        inner=(float(bins.edges[0]), float(bins.edges[-1])),
        log=bins.log,
    )


def _with_end_bins(edges: Array, below: bool, above: bool, log: bool) -> Array:
    scale = np.log10(edges) if log else edges
    step = max(1.5 * float(np.median(np.diff(scale))), 0.04 * float(scale[-1] - scale[0]))
    first, last = scale[0] - step, scale[-1] + step
    if log:
        first, last = 10**first, 10**last
    return np.concatenate([[first] if below else [], edges, [last] if above else []])


def distribution(counts: Array, edges: Array, entries: float, look: Look) -> Distribution:
    """Counts (B,) in bins `edges` (B+1,) divided by `entries`, with Poisson variances."""
    filled = hist.Hist(
        hist.axis.Variable(edges, underflow=False, overflow=False), storage=hist.storage.Weight()
    )
    view = filled.view()
    view["value"] = counts / max(entries, 1)
    view["variance"] = counts / max(entries, 1) ** 2
    return Distribution(filled, entries, look)


# --- drawing -------------------------------------------------------------------------------------
def draw_overlay(ax: Axes, data: Overlay) -> dict[str, Any]:
    """Reference filled grey with its error band, second sample dotted, generators as lines.

    Returns the artists by label.
    """
    reference = data.reference
    artists: dict[str, Any] = {
        reference.look.label: mplhep.histplot(
            reference.histogram,
            ax=ax,
            histtype="fill",
            flow="none",
            yerr=False,
            facecolor=GEANT4_FILL,
            edgecolor=GEANT4_EDGE,
            label=reference.look.label,
        )
    }
    mplhep.histplot(
        reference.histogram,
        ax=ax,
        histtype="band",
        flow="none",
        yerr=True,
        facecolor="none",
        edgecolor="#9a9fa5",
        hatch="//////",
        linewidth=0,
        alpha=1.0,
    )
    for item in [*([data.floor] if data.floor else []), *data.generated]:
        artists[item.look.label] = mplhep.histplot(
            item.histogram,
            ax=ax,
            histtype="step",
            flow="none",
            yerr=False,
            edges=False,
            color=item.look.color,
            linestyle=item.look.line,
            linewidth=1.0 if item is data.floor else 1.4,
            label=item.look.label,
        )
    for item in (reference, *([data.floor] if data.floor else []), *data.generated):
        for drawn in artists[item.look.label]:
            # What the pointer tells on a page; see `caloforge.report.interactive`.
            drawn.stairs.errors = np.sqrt(np.asarray(item.histogram.variances()))
    _finish_axis(ax, data)
    return artists


def draw_ratio(
    ax: Axes, data: Overlay, limits: tuple[float, float] = RATIO_RANGE
) -> dict[str, Any]:
    """Ratio to the reference with the errors of both samples, over the Geant4 band.

    The band is the one-sigma scatter of a second Geant4 sample (of the size of `floor`, or of the
    reference itself) about the first. Points outside `limits` are drawn as triangles at the edge.
    Returns the artists by label, the band under "floor band".
    """
    reference = data.reference.histogram
    edges = reference.axes[0].edges
    size = data.floor.entries if data.floor else data.reference.entries
    with np.errstate(divide="ignore", invalid="ignore"):
        scatter = np.sqrt(np.asarray(reference.variances())) / reference.values()
    scatter = np.nan_to_num(scatter) * np.sqrt(1 + data.reference.entries / max(size, 1))
    artists: dict[str, Any] = {
        "floor band": ax.stairs(1 + scatter, edges, baseline=1 - scatter, fill=True, color=BAND)
    }
    ax.axhline(1, color=GEANT4_EDGE, linewidth=0.8, zorder=1.5)
    if data.floor:
        values, *_ = mplhep.comp.get_comparison(data.floor.histogram, reference, "ratio")
        artists[data.floor.look.label] = ax.stairs(
            values, edges, baseline=None, color=FLOOR_LOOK.color, linestyle=FLOOR_LOOK.line
        )
    centres = np.sqrt(edges[1:] * edges[:-1]) if data.log else (edges[1:] + edges[:-1]) / 2
    for item in data.generated:
        values, low, high = mplhep.comp.get_comparison(item.histogram, reference, "ratio")
        artists[item.look.label] = ax.errorbar(
            centres,
            values,
            yerr=(np.nan_to_num(low), np.nan_to_num(high)),
            fmt=item.look.marker,
            markersize=2.2,
            elinewidth=0.8,
            color=item.look.color,
        )
        mark_outside(ax, centres, values, limits, item.look.color)
    _finish_axis(ax, data)
    ax.set_ylim(*limits)
    ax.set_yticks(RATIO_TICKS)
    return artists


def mark_outside(
    ax: Axes, x: Array, values: Array, limits: tuple[float, float], color: str
) -> None:
    """Triangles at the edge of `ax` for the points (K,) that lie outside `limits`."""
    for far, edge, marker in (
        (values > limits[1], limits[1], CARETUPBASE),
        (values < limits[0], limits[0], CARETDOWNBASE),
    ):
        # The caret is drawn inside the axis: its base is moved by its own height.
        inside = edge + (-0.07 if edge == limits[1] else 0.07) * (limits[1] - limits[0])
        ax.plot(
            x[far],
            np.full(int(far.sum()), inside),
            marker=marker,
            linestyle="none",
            markersize=3.5,
            markeredgewidth=0,
            color=color,
            zorder=5,
        )


def _finish_axis(ax: Axes, data: Overlay) -> None:
    edges = data.reference.histogram.axes[0].edges
    if data.log:
        log_scale(ax.xaxis)
    ax.set_xlim(edges[0], edges[-1])
    for start, stop in ((edges[0], data.inner[0]), (data.inner[1], edges[-1])):
        if stop > start:
            ax.axvspan(start, stop, color="#f0eee6", zorder=0, linewidth=0)


def draw_comparison(
    axes: tuple[Axes, Axes],
    data: Overlay,
    *,
    label: str = "",
    log_y: bool = False,
    headroom: float = HEADROOM,
) -> dict[str, Any]:
    """Distribution above, ratio to the reference below, on two Axes that share x; `label` names x.

    The vertical axis follows the bins inside the axis: an end bin that rises above it has its
    content written beside it. Returns the artists of both under "main/LABEL" and "ratio/LABEL".
    """
    top, bottom = axes
    artists = {f"main/{k}": v for k, v in draw_overlay(top, data).items()}
    artists |= {f"ratio/{k}": v for k, v in draw_ratio(bottom, data).items()}
    drawn = [data.reference, *data.generated]
    inside = _inside(data)
    highest = max(
        float(data.reference.histogram.values().max()),
        *(float(d.histogram.values()[inside].max()) for d in drawn),
    )
    if log_y:
        least = 0.5 / max(d.entries for d in drawn)
        log_scale(top.yaxis)
        top.set_ylim(least, 1.5 * highest * (max(highest / least, 1.0)) ** (headroom - 1))
    else:
        limit = (highest or 1.0) * headroom
        top.set_ylim(0, limit)
        _name_high_ends(top, data, limit)
    top.tick_params(labelbottom=False)
    bottom.set_xlabel(label)
    return artists


def _inside(data: Overlay) -> slice:
    edges = data.reference.histogram.axes[0].edges
    return slice(int(edges[0] < data.inner[0]), len(edges) - 1 - int(edges[-1] > data.inner[1]))


def _name_high_ends(ax: Axes, data: Overlay, limit: float) -> None:
    """Content of end bins that reach above the axis, in the colour of their sample."""
    inside = _inside(data)
    count = len(data.reference.histogram.values())
    for end, x, align in (
        (0, data.inner[0], "left"),
        (count - 1, data.inner[1], "right"),
    ):
        if inside.start <= end < inside.stop:
            continue
        high = [d for d in data.generated if float(d.histogram.values()[end]) > limit]
        for line, item in enumerate(high):
            ax.annotate(
                f"{100 * float(item.histogram.values()[end]):.0f} %",
                (x, 0.42),  # the corners above are for other text
                xytext=(3 if align == "left" else -3, -8 * line),
                xycoords=ax.get_xaxis_transform(),
                textcoords="offset points",
                ha=align,
                va="top",
                fontsize=6.5,
                color=item.look.color,
            )
