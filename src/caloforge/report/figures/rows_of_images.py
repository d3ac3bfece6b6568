"""Figures of images: a row a sample or a ratio, a column a layer or a volume."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import energy_text
from caloforge.report.drawn import drawn, layer_title
from caloforge.report.images import (
    ENERGY_MAP,
    RATIO_MAP,
    RATIO_TICKS,
    draw_map,
    energy_norm,
    ratio,
    ratio_norm,
)
from caloforge.report.panels import WIDTH, Sheet
from caloforge.report.style import FLOOR_LOOK, INK, REFERENCE_LOOK

Array = NDArray[Any]
Draw = Callable[[Axes, Any, Array, Normalize, str], Any]
# Margins and the gap between rows, in inches.
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 1.25, 0.95, 0.3, 0.3, 0.12


@dataclass(frozen=True)
class ImageRow:
    """One row of a figure of images: cells (V,), energies or ratios to the reference."""

    label: str
    color: str
    cells: Array
    is_ratio: bool = False


def average_rows(result: Result, place: int = 0, area: Array | float = 1.0) -> list[ImageRow]:
    """The reference, the second sample as a ratio, each generator with its ratio.

    `place` counts the averages: 0 for all showers, then the energies of `Frame.averaged`; energies
    are divided by `area`, a number or (V,).
    """
    reference = result.shown.reference.mean_cells[place].astype(np.float64)
    rows = []
    for look, portrait in drawn(result):
        cells = portrait.mean_cells[place].astype(np.float64)
        if look is REFERENCE_LOOK:
            rows.append(ImageRow("Geant4", INK, cells / area))
            continue
        if look is not FLOOR_LOOK:
            rows.append(ImageRow(look.label, look.color, cells / area))
        second = look is FLOOR_LOOK
        name = "second Geant4\nto first" if second else "ratio to Geant4"
        color = INK if second else look.color
        rows.append(ImageRow(name, color, ratio(cells, reference), True))
    return rows


def example_rows(result: Result) -> list[ImageRow]:
    """Single showers, at a few energies one of Geant4 and the nearest of each generator."""
    rows = []
    for k in range(len(result.shown.reference.examples)):
        for look, portrait in drawn(result):
            if look is FLOOR_LOOK or not portrait.examples:
                continue
            example = portrait.examples[k]
            is_reference = look is REFERENCE_LOOK
            name, color = ("Geant4", INK) if is_reference else (look.label, look.color)
            text = f"{name}\n{energy_text(example.energy)}"
            rows.append(ImageRow(text, color, example.cells))
    return rows


def layer_images(
    result: Result, rows: Sequence[ImageRow], draw: Draw, height: float, unit: str
) -> Figure:
    """One column a layer, one row a sample or ratio; common colour scales for each kind."""
    frame = result.shown.frame
    step = (WIDTH - _LEFT - _RIGHT) / len(frame.layers)
    sheet = Sheet(
        len(rows),
        len(frame.layers),
        (step - 0.12, height),
        left=_LEFT + 0.06,
        top=_TOP,
        bottom=_BOTTOM + _GAP,
        gap=(0.12, _GAP),
    )
    norm = energy_norm([row.cells for row in rows if not row.is_ratio])
    meshes: dict[bool, Any] = {}
    titles = _titles(result, step)
    for r, row in enumerate(rows):
        scale, colors = (ratio_norm(), RATIO_MAP) if row.is_ratio else (norm, ENERGY_MAP)
        for c, position in enumerate(frame.layers):
            layer = frame.geometry.layers[position]
            ax = sheet.axes(r, c)
            part = row.cells[frame.geometry.slices[position]]
            meshes[row.is_ratio] = draw(ax, layer, part, scale, colors)
            ax.tick_params(length=0, labelsize=6.5, top=False, right=False)
            if layer.kind == "grid":
                ax.set_xticks([])
                ax.set_yticks([])
            elif draw is draw_map:
                _name_axes(ax, first=c == 0, last=r == len(rows) - 1)
            if r < len(rows) - 1:
                ax.tick_params(labelbottom=False)
            if r == 0:
                ax.set_title(titles[c], y=1.0)
        sheet.row_label(r, row.label, row.color, 0.16)
    _colorbars(sheet, meshes, unit)
    return sheet.figure


def _name_axes(ax: Axes, *, first: bool, last: bool) -> None:
    """The names of α and r at the outer panels of cells drawn equally large."""
    if first:
        ax.set_ylabel("α", fontsize=7, labelpad=1)
    if last:
        ax.set_xlabel("r [mm]", fontsize=6.5, labelpad=1)


def _colorbars(sheet: Sheet, meshes: dict[bool, Any], unit: str) -> None:
    usable = sheet.height - _TOP - _BOTTOM
    for is_ratio, mesh in meshes.items():
        height = usable * (0.42 if len(meshes) == 2 else 0.9)
        bottom = _BOTTOM + (0 if is_ratio or len(meshes) == 1 else usable - height)
        where = (WIDTH - _RIGHT + 0.08, bottom, height)
        ratio_ticks = RATIO_TICKS if is_ratio else ()
        sheet.colorbar(mesh, where, "ratio" if is_ratio else unit, ticks=ratio_ticks)


def _titles(result: Result, width: float) -> list[str]:
    """Numbers and names of the shown layers, numbers alone where names do not fit `width`."""
    shown = [result.shown.frame.geometry.layers[k] for k in result.shown.frame.layers]
    whole = [layer_title(layer) for layer in shown]
    if all(0.075 * len(title) < width for title in whole):
        return whole
    return [f"layer {layer.id}" for layer in shown]
