"""The layout of figures: boxes in rows and columns, a common legend, labels of the panels."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, replace
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

# Words in the name of a horizontal axis whose values are whole numbers, or count in them.
COUNTED = ("layer", "number", "cells", "slice")
WIDTH = 10.6  # inches, the width of every figure: one size of letters on the whole page


LINE = 0.14  # inches, the height of a line of a title


def titles_within(
    labels: Sequence[str], inches: float, letter: float = 0.08
) -> tuple[list[str], float]:
    """Titles over boxes: the labels in lines of at most so many inches with letters of `letter`
    inches, and the height that lines beyond the first need, inches.
    """
    letters = max(int(inches / letter), 4)
    titles = ["\n".join(textwrap.wrap(label, letters)) for label in labels]
    return titles, LINE * max(title.count("\n") for title in titles)


class Sheet:
    """A figure with equal boxes in rows and columns; all lengths in inches.

    Boxes are placed by hand: a constrained layout of a hundred Axes takes longer than drawing
    them, and moves panels with the letters beside them.

    Parameters
    ----------
    rows, columns
        Numbers of boxes.
    box
        Width and height of a box.
    left, top, bottom
        Margins of the figure; what is left of its width is the margin on the right.
    gap
        Between the boxes of a row, and between rows.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        box: tuple[float, float],
        *,
        left: float,
        top: float,
        bottom: float,
        gap: tuple[float, float],
    ) -> None:
        self.rows, self.columns, self.box = rows, columns, box
        self.left, self.top, self.gap = left, top, gap
        height = top + rows * box[1] + (rows - 1) * gap[1] + bottom
        self.figure = Figure(figsize=(WIDTH, height))

    @property
    def height(self) -> float:
        """Height of the figure."""
        return float(self.figure.get_figheight())

    def x(self, column: int) -> float:
        """The left side of a box."""
        return self.left + column * (self.box[0] + self.gap[0])

    def y(self, row: int) -> float:
        """The lower side of a box, from the bottom of the figure."""
        return self.height - self.top - row * (self.box[1] + self.gap[1]) - self.box[1]

    def place(
        self, x: float, y: float, width: float, height: float, share: Axes | None = None
    ) -> Axes:
        """Axes anywhere on the figure; `share` is the Axes whose horizontal axis they share."""
        box = (x / WIDTH, y / self.height, width / WIDTH, height / self.height)
        return self.figure.add_axes(box, sharex=share)

    def axes(self, row: int, column: int) -> Axes:
        """Axes that fill a box."""
        return self.place(self.x(column), self.y(row), *self.box)

    def row_label(self, row: int, text: str, color: str, gap: float = 0.1) -> None:
        """A label in the margin left of a row, `gap` away from it, in lines of 17 letters."""
        lines = [
            line for part in text.split("\n") for line in textwrap.wrap(part, 17, max_lines=3)
        ]
        self.figure.text(
            (self.left - gap) / WIDTH,
            (self.y(row) + self.box[1] / 2) / self.height,
            "\n".join(lines),
            color=color,
            ha="right",
            va="center",
            fontsize=8,
        )

    def colorbar(
        self,
        mesh: Any,
        where: tuple[float, float, float],
        label: str,
        *,
        extend: str = "both",
        ticks: Sequence[float] = (),
    ) -> None:
        """A colour bar with its left and lower side and its height at `where`."""
        x, y, height = where
        bar = self.figure.colorbar(mesh, cax=self.place(x, y, 0.11, height), extend=extend)
        bar.ax.tick_params(labelsize=6.5)
        bar.ax.minorticks_off()
        bar.set_label(label, fontsize=7.5)
        if ticks:
            bar.set_ticks(list(ticks), labels=[f"{tick:g}" for tick in ticks])


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
    """A figure of `count` panels, pairs of Axes (distribution, ratio); one twice without ratio."""
    across = max(1, min(grid.columns, count))
    width = (WIDTH - 0.1) / across - grid.left - 0.08
    sheet = Sheet(
        rows=-(-count // across),
        columns=across,
        box=(width, grid.height),
        left=grid.left,
        top=grid.legend + grid.above,
        bottom=grid.below,
        gap=(grid.left + 0.08, grid.above + grid.below),
    )
    low = grid.ratio * grid.height
    gap = 0.05 if grid.ratio else 0.0  # keeps the lowest number above from the highest below
    pairs = []
    for k in range(count):
        row, column = divmod(k, across)
        x, y = sheet.x(column), sheet.y(row)
        top = sheet.place(x, y + low + gap, width, grid.height - low - gap)
        pairs.append((top, sheet.place(x, y, width, low, top) if grid.ratio else top))
    return sheet.figure, pairs


def plain_panels(count: int, grid: Grid) -> tuple[Figure, list[Axes]]:
    """A figure of `count` panels without ratios below them."""
    figure, pairs = panel_figure(count, replace(grid, ratio=0))
    return figure, [top for top, _ in pairs]


def legend(figure: Figure, generated: Sequence[Look], *, floor: bool, kind: str = "line") -> Any:
    """One legend along the top of a figure: reference, second sample, band, generators.

    `kind` is "line" (histograms), "points" (points with errors), "floor lines" or "floor points"
    (figures of merit over the area up to the floor's curve, or over a band up to their floor).
    """
    handles: list[Any] = []
    if kind.startswith("floor"):
        area = "between equal samples and the floor" if kind == "floor points" else "the floor"
        handles.append(Patch(color=BAND, label=f"{area}, Geant4 against Geant4"))
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
            whole = any(word in bottom.get_xlabel() for word in COUNTED)
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=whole))
