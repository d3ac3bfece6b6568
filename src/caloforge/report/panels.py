"""Figures of many panels: Axes placed in inches, a common legend, labels of the panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from caloforge.report.style import (
    BAND,
    FLOOR_LOOK,
    GEANT4_EDGE,
    GEANT4_FILL,
    REFERENCE_LOOK,
    Look,
)

WIDTH = 10.6  # inches, the width of every figure: one size of letters on the whole page


@dataclass(frozen=True)
class Grid:
    """Where panels lie, in inches: columns, height of a panel, margins left of and below it."""

    columns: int = 4
    height: float = 1.9
    left: float = 0.52
    below: float = 0.46
    above: float = 0.24
    legend: float = 0.34
    ratio: float = 0.28  # share of the height that the ratio takes; 0 for none


def columns(count: int, most: int) -> int:
    """Columns, at most `most`, that fill the rows of `count` panels evenly."""
    rows = -(-count // most)
    return max(1, -(-count // rows)) if count else 1


def panel_figure(count: int, grid: Grid) -> tuple[Figure, list[tuple[Axes, Axes]]]:
    """A figure of `count` panels, pairs of Axes (distribution, ratio); one twice without ratio.

    Axes are placed by hand: a constrained layout of a hundred Axes takes longer than drawing them.
    """
    across = max(1, min(grid.columns, count))
    rows = -(-count // across)
    cell = grid.above + grid.height + grid.below
    total = grid.legend + rows * cell
    figure = Figure(figsize=(WIDTH, total))
    width = (WIDTH - 0.1) / across - grid.left - 0.08
    pairs = []
    for k in range(count):
        row, column = divmod(k, across)
        x = column * (WIDTH - 0.1) / across + grid.left
        y = total - grid.legend - (row + 1) * cell + grid.below
        low = grid.ratio * grid.height

        def place(bottom: float, height: float, share: Axes | None = None, x: float = x) -> Axes:
            box = (x / WIDTH, bottom / total, width / WIDTH, height / total)
            return figure.add_axes(box, sharex=share)

        gap = 0.05 if grid.ratio else 0.0  # keeps the lowest number above from the highest below
        top = place(y + low + gap, grid.height - low - gap)
        pairs.append((top, place(y, low, top) if grid.ratio else top))
    return figure, pairs


def legend(figure: Figure, generated: Sequence[Look], *, floor: bool, kind: str = "line") -> Any:
    """One legend along the top of a figure: reference, second sample, band, generators.

    `kind` is "line" (histograms), "points" (points with errors), "floor lines" or "floor points"
    (figures of merit over a band up to their floor).
    """
    handles: list[Any] = []
    if kind.startswith("floor"):
        handles.append(Patch(color=BAND, label="equal samples to Geant4 against Geant4"))
        kind = kind.removeprefix("floor ").removesuffix("s")
    else:
        label = REFERENCE_LOOK.label
        handles.append(Patch(facecolor=GEANT4_FILL, edgecolor=GEANT4_EDGE, label=label))
    if floor:
        handles.append(_handle(FLOOR_LOOK, kind))
    if kind == "line" and handles[0].get_label() == REFERENCE_LOOK.label:
        handles.append(Patch(color=BAND, label="Geant4 against Geant4, 1σ"))
    handles += [_handle(look, kind) for look in generated]
    across = _legend_columns([str(h.get_label()) for h in handles])
    rows = -(-len(handles) // across)
    # The figure grows upwards by the rows that its legend needs beyond the first.
    old, extra = figure.get_figheight(), 0.19 * (rows - 1)
    figure.set_figheight(old + extra)
    for ax in figure.axes:
        box = ax.get_position()
        scale = old / (old + extra)
        ax.set_position((box.x0, box.y0 * scale, box.width, box.height * scale))
    return figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.3 / WIDTH, 1 - 0.03 / (old + extra)),
        ncols=across,
        borderaxespad=0.0,
        handlelength=2.2,
        columnspacing=1.6,
    )


def _handle(look: Look, kind: str) -> Line2D:
    points = kind.startswith("point")
    return Line2D(
        [],
        [],
        color=look.color,
        linestyle="none" if points else look.line,
        marker=look.marker if points else None,
        markersize=4.5,
        label=look.label,
    )


def _legend_columns(labels: list[str]) -> int:
    """The most columns that fit the width of a figure, with about 0.072 inches a letter."""
    for across in range(len(labels), 1, -1):
        rows = -(-len(labels) // across)
        widest = [max(map(len, labels[k : k + rows])) for k in range(0, len(labels), rows)]
        if sum(0.072 * w + 0.55 for w in widest) < WIDTH - 0.6:
            return across
    return 1


def dress(
    pair: tuple[Axes, Axes], title: str, *, first: bool, y_label: str, linear: bool = True
) -> None:
    """Title above a panel; names of the vertical axes at the first of a row only."""
    top, bottom = pair
    top.set_title(title, y=1.0)  # a fixed height: finding one would draw every label twice
    if first:
        top.set_ylabel(y_label)
        if bottom is not top:
            bottom.set_ylabel("ratio")
    if linear:
        top.yaxis.set_major_locator(MaxNLocator(4, prune="lower"))
    if bottom is not top:
        top.tick_params(labelbottom=False)
    for ax in pair:
        ax.tick_params(labelsize=7)
        # Minor ticks of hundreds of panels take more time than all else in them.
        ax.minorticks_off()
        if ax.get_xscale() == "linear":
            ax.xaxis.set_major_locator(MaxNLocator(5))
