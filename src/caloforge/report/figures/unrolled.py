"""Showers unrolled: depth against the position along a spiral from the centre outwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.detector.spiral import central_cell, spiral
from caloforge.judge.folder import Result
from caloforge.judge.shown.frame import volumes
from caloforge.report.blocks import Picture
from caloforge.report.figures.rows_of_images import ImageRow, average_rows, example_rows
from caloforge.report.images import (
    ENERGY_MAP,
    RATIO_MAP,
    RATIO_TICKS,
    energy_norm,
    ratio_norm,
)
from caloforge.report.panels import WIDTH, Sheet

Array = NDArray[Any]

SHARE = 0.999  # of the energy that the shown part of the spiral holds
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _HEIGHT = 1.5, 0.95, 0.3, 0.42, 0.14, 1.25  # inches


def unroll(cells: Array, geometry: Geometry, positions: list[int]) -> Array:
    """Cells (V,) of some layers as an image (layers, cells of a layer), hot cells on the left."""
    layer = geometry.layers[positions[0]]
    order = spiral((layer.shape[0], layer.shape[1]), central_cell(layer))
    return np.stack([cells[geometry.slices[k]][order] for k in positions])


def draw_unrolled(
    ax: Axes, image: Array, ids: list[int], norm: Normalize, cmap: str = ENERGY_MAP
) -> Any:
    """An unrolled shower (L, cells): depth downwards, spiral to the right. Returns the mesh."""
    rows, count = image.shape
    mesh = ax.pcolormesh(
        np.arange(count + 1),
        np.arange(rows + 1) - 0.5,
        np.ma.masked_where(~(image > 0), image),
        norm=norm,
        cmap=cmap,
        rasterized=True,
    )
    ax.set_ylim(rows - 0.5, -0.5)
    shown = np.unique(np.linspace(0, rows - 1, min(rows, 4)).round().astype(int))
    ax.set_yticks(shown, [str(ids[k]) for k in shown])
    ax.minorticks_off()
    ax.tick_params(length=2, labelsize=6.5, top=False, right=False)
    return mesh


def unrolled_average(result: Result) -> Picture | None:
    """Unrolled average showers of each sample, and their ratios to Geant4."""
    if not volumes(result.shown.frame.geometry):
        return None
    return Picture(
        "unrolled-showers",
        "Average shower unrolled: every row is a layer, front at the top, every column a position "
        "along a spiral from the central cell outwards, so that the hot cells are on the left. "
        "Mean MeV per cell (logarithmic) and ratio to Geant4. Look for stripes that end too "
        "early: a halo that is missing, or one that is the same at all depths."
        f" Drawn up to {100 * SHARE:g} % of the energy.",
        "Average showers, depth against spiral position, for Geant4 and generators, with ratios.",
        _figure(result, average_rows(result)),
    )


def unrolled_examples(result: Result) -> Picture | None:
    """Single showers unrolled, Geant4's beside each generator's at about the same energy."""
    rows = example_rows(result)
    if not volumes(result.shown.frame.geometry) or not rows:
        return None
    return Picture(
        "unrolled-single-showers",
        "Single showers unrolled like the average: rows are layers, columns positions along the "
        "spiral, MeV per cell (logarithmic), at about the same incident energies. A smooth image "
        "without scattered hits is a mean shower, not a single one.",
        "Single showers, depth against spiral position, for Geant4 and generators.",
        _figure(result, rows),
    )


def _figure(result: Result, rows: Sequence[ImageRow]) -> Figure:
    geometry = result.shown.frame.geometry
    groups = volumes(geometry)
    reference = result.shown.reference.mean_cells[0]
    width = (WIDTH - _LEFT - _RIGHT) / len(groups)
    sheet = Sheet(
        len(rows),
        len(groups),
        (width - 0.4, _HEIGHT),
        left=_LEFT + 0.25,
        top=_TOP,
        bottom=_BOTTOM + _GAP,
        gap=(0.4, _GAP),
    )
    shown = [_reach(unroll(reference, geometry, group)) for group in groups]
    inside = np.concatenate([np.arange(geometry.n_cells)[geometry.slices[k]] for k in groups[0]])
    norm = energy_norm([row.cells[inside] for row in rows if not row.is_ratio])
    meshes: dict[bool, Any] = {}
    for r, row in enumerate(rows):
        scale, colors = (ratio_norm(), RATIO_MAP) if row.is_ratio else (norm, ENERGY_MAP)
        for c, (group, reach) in enumerate(zip(groups, shown, strict=True)):
            ax = sheet.axes(r, c)
            ids = [geometry.layers[k].id for k in group]
            image = unroll(row.cells, geometry, group)[:, :reach]
            meshes[row.is_ratio] = draw_unrolled(ax, image, ids, scale, colors)
            if r == 0:
                ax.set_title(f"{geometry.layers[group[0]].name} and {len(group) - 1} more", y=1.0)
            if r == len(rows) - 1:
                ax.set_xlabel("position along the spiral", fontsize=7.5)
            else:
                ax.tick_params(labelbottom=False)
            if c == 0:
                ax.set_ylabel("layer", fontsize=7.5)
        sheet.row_label(r, row.label, row.color, 0.5)
    for is_ratio, mesh in meshes.items():
        where = (WIDTH - _RIGHT + 0.08, sheet.y(1 if is_ratio else 0), _HEIGHT)
        ticks = RATIO_TICKS if is_ratio else ()
        sheet.colorbar(mesh, where, "ratio" if is_ratio else "MeV", ticks=ticks)
    return sheet.figure


def _reach(image: Array) -> int:
    """How many positions along the spiral hold nearly all of the energy."""
    running = np.cumsum(image.sum(axis=0))
    return int(np.searchsorted(running, SHARE * running[-1])) + 1 if running[-1] > 0 else 1
