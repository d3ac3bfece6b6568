"""Average showers unrolled: depth against the position along a spiral from the centre outwards."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from caloforge.geometry import Geometry
from caloforge.report.averages import example_rows, wrap
from caloforge.report.blocks import Picture
from caloforge.report.estimates import Array
from caloforge.report.images import (
    ENERGY_MAP,
    RATIO_MAP,
    energy_norm,
    ratio,
    ratio_norm,
)
from caloforge.report.panels import WIDTH
from caloforge.report.samples import Samples
from caloforge.report.style import FLOOR_LOOK, INK, REFERENCE_LOOK
from caloforge.spiral import central_cell, spiral, stacks

FEWEST_LAYERS = 4  # of one shape in a row, to be a volume
SHARE = 0.999  # of the energy that the shown part of the spiral holds
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP, _HEIGHT = 1.5, 0.95, 0.3, 0.42, 0.14, 1.25  # inches


def volumes(geometry: Geometry) -> list[list[int]]:
    """Positions of layers that follow each other with the same grid of cells around (0, 0)."""
    return [
        group
        for group in stacks(geometry)
        if len(group) >= FEWEST_LAYERS
        and all(e[0] <= 0 < e[-1] for e in geometry.layers[group[0]].edges)
    ]


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


def unrolled_average(samples: Samples) -> Picture | None:
    """Unrolled average showers of each sample, and their ratios to Geant4."""
    groups = volumes(samples.geometry)
    if not groups:
        return None
    reference = samples.reference.mean_cells[0]
    rows = []
    for look, summary in samples.drawn:
        cells = summary.mean_cells[0]
        if look is REFERENCE_LOOK:
            rows.append(("Geant4", INK, cells, False))
            continue
        if look is not FLOOR_LOOK:
            rows.append((look.label, look.color, cells, False))
        name = "second Geant4\nto first" if look is FLOOR_LOOK else "ratio to Geant4"
        rows.append((name, look.color, ratio(cells, reference), True))
    return Picture(
        "unrolled-showers",
        "Average shower unrolled: every row is a layer, front at the top, every column a position "
        "along a spiral from the central cell outwards, so that the hot cells are on the left. "
        "Mean MeV per cell (logarithmic) and ratio to Geant4. Look for stripes that end too "
        "early: a halo that is missing, or one that is the same at all depths."
        f" Drawn up to {100 * SHARE:g} % of the energy.",
        "Average showers, depth against spiral position, for Geant4 and generators, with ratios.",
        _figure(samples.geometry, groups, rows, reference),
    )


def unrolled_examples(samples: Samples, count: int = 3) -> Picture | None:
    """Single showers unrolled, Geant4's beside each generator's at about the same energy."""
    groups = volumes(samples.geometry)
    rows = [(*row, False) for row in example_rows(samples, count)]
    if not groups or not rows:
        return None
    return Picture(
        "unrolled-single-showers",
        "Single showers unrolled like the average: rows are layers, columns positions along the "
        "spiral, MeV per cell (logarithmic), at about the same incident energies. A smooth image "
        "without scattered hits is a mean shower, not a single one.",
        "Single showers, depth against spiral position, for Geant4 and generators.",
        _figure(samples.geometry, groups, rows, samples.reference.mean_cells[0]),
    )


def _figure(
    geometry: Geometry,
    groups: list[list[int]],
    rows: list[tuple[str, str, Array, bool]],
    reference: Array,
) -> Figure:
    total = _TOP + len(rows) * (_HEIGHT + _GAP) + _BOTTOM
    figure = Figure(figsize=(WIDTH, total))
    shown = [_reach(unroll(reference, geometry, group)) for group in groups]
    inside = np.concatenate([np.arange(geometry.n_cells)[geometry.slices[k]] for k in groups[0]])
    norm = energy_norm([cells[inside] for _, _, cells, is_ratio in rows if not is_ratio])
    width = (WIDTH - _LEFT - _RIGHT) / len(groups)
    meshes: dict[bool, Any] = {}
    for r, (label, color, cells, is_ratio) in enumerate(rows):
        bottom = total - _TOP - (r + 1) * (_HEIGHT + _GAP) + _GAP
        scale, colors = (ratio_norm(), RATIO_MAP) if is_ratio else (norm, ENERGY_MAP)
        for c, (group, reach) in enumerate(zip(groups, shown, strict=True)):
            left = (_LEFT + c * width + 0.25) / WIDTH
            box = (left, bottom / total, (width - 0.4) / WIDTH, _HEIGHT / total)
            ax = figure.add_axes(box)
            ids = [geometry.layers[k].id for k in group]
            image = unroll(cells, geometry, group)[:, :reach]
            meshes[is_ratio] = draw_unrolled(ax, image, ids, scale, colors)
            if r == 0:
                ax.set_title(f"{geometry.layers[group[0]].name} and {len(group) - 1} more", y=1.0)
            if r == len(rows) - 1:
                ax.set_xlabel("position along the spiral", fontsize=7.5)
            else:
                ax.tick_params(labelbottom=False)
            if c == 0:
                ax.set_ylabel("layer", fontsize=7.5)
        middle = (bottom + _HEIGHT / 2) / total
        figure.text(
            (_LEFT - 0.25) / WIDTH,
            middle,
            wrap(label),
            color=color,
            ha="right",
            va="center",
            fontsize=8,
        )
    for is_ratio, mesh in meshes.items():
        place = 1 if is_ratio else 0
        bottom = total - _TOP - (place + 1) * (_HEIGHT + _GAP) + _GAP
        x = (WIDTH - _RIGHT + 0.08) / WIDTH
        cax = figure.add_axes((x, bottom / total, 0.11 / WIDTH, _HEIGHT / total))
        bar = figure.colorbar(mesh, cax=cax, extend="both")
        bar.ax.tick_params(labelsize=6.5)
        bar.ax.minorticks_off()
        bar.set_label("ratio" if is_ratio else "MeV", fontsize=7.5)
        if is_ratio:
            bar.set_ticks([0.5, 0.7, 1.0, 1.4, 2.0], labels=["0.5", "0.7", "1", "1.4", "2"])
    return figure


def _reach(image: Array) -> int:
    """How many positions along the spiral hold nearly all of the energy."""
    running = np.cumsum(image.sum(axis=0))
    return int(np.searchsorted(running, SHARE * running[-1])) + 1 if running[-1] > 0 else 1
