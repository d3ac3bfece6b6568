"""Precision against recall over clusters of showers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from numpy.typing import NDArray

from caloforge.judge.folder import Result
from caloforge.metrics.notes import Notes
from caloforge.report.blocks import Picture
from caloforge.report.drawn import looks_of, names
from caloforge.report.floors import at_size
from caloforge.report.panels import Grid, legend, panel_figure
from caloforge.report.style import BAND, FLOOR, FLOOR_LOOK, Look
from caloforge.report.tables.cells import count

Array = NDArray[Any]

KEY = "prd_auc_raw"  # all scores of the curves have its number of showers
KINDS = {"raw": "cell images", "physics": "observables"}


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


def prd(result: Result) -> Picture | None:
    """PRD curves of cell images and of observables, with the floor's."""
    panels = []
    for kind, what in KINDS.items():
        curves = [
            (look, *curve)
            for look, c in zip(looks_of(result), result.comparisons, strict=True)
            if (curve := _curve(c.details.notes, kind)) is not None
        ]
        floors = [
            _curve(c.details.floor.notes, kind)
            for c in result.comparisons
            if c.details.floor is not None
        ]
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
    legend(drawn, looks_of(result), floor=False, kind="floor lines")
    return Picture(
        "prd-curves",
        "Precision against recall over clusters of showers (the grey area is what Geant4 against "
        "Geant4 reaches; the score is the smaller of the two areas). A curve that falls short to "
        "the right lacks kinds of showers that Geant4 makes, one that falls short at the top "
        f"makes showers that Geant4 does not.{_sizes(result)}",
        "Precision-recall curves of each generator and of Geant4 against Geant4, for cell images "
        "and for observables.",
        drawn,
        "svg",
    )


def _sizes(result: Result) -> str:
    """A warning where curves have more showers than the grey area; empty where they do not."""
    more = [
        f"{look.label} has {count(c.metrics[KEY].n)} showers, the grey area "
        f"{count(c.details.at_floor_size[KEY].n)}"
        for look, c in zip(looks_of(result), result.comparisons, strict=True)
        if at_size(c, KEY)
    ]
    if not more:
        return ""
    return (
        " More showers lift a curve, so that it may lie above the grey area here: "
        f"{names(more)}. The table compares the scores at one number of showers."
    )


def _curve(notes: Notes, kind: str) -> tuple[Array, Array] | None:
    curve = notes.prd.get(kind)
    return None if curve is None else (curve.recall, curve.precision)
