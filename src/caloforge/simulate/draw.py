"""A picture of a calorimeter: its slabs along the axis, and the cells of its layers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.detector.geometry import Geometry, Layer
from caloforge.errors import SimulationError
from caloforge.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS = 8
_MOST_LINES = 400  # edges that are drawn along one axis
SUFFIXES = (".png", ".pdf", ".svg")


def draw_geometry(geometry: Geometry, out: str | Path) -> None:
    """Write a picture of a geometry (png, pdf or svg).

    The upper part shows the stack along the axis, with one colour for each material and a bar for
    each layer; without a stack it shows the depths that the layers state. Below are the cells of
    one layer of each kind. Raises SimulationError for another suffix.
    """
    from matplotlib.figure import Figure

    path = Path(out)
    if path.suffix not in SUFFIXES:
        raise SimulationError(
            f"Got {path} for the picture; expected a name that ends in {', '.join(SUFFIXES)}."
        )
    kinds = _kinds(geometry)
    columns = max(1, min(4, len(kinds)))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(11, 3.4 + 3.2 * rows), layout="constrained")
    grid = figure.add_gridspec(1 + rows, columns, height_ratios=[1.0, *[1.1] * rows])
    _draw_stack(figure.add_subplot(grid[0, :]), geometry)
    for k, (layer, words) in enumerate(kinds):
        axes = figure.add_subplot(grid[1 + k // columns, k % columns])
        _draw_cells(axes, layer)
        axes.set_title(words, fontsize=9)
    figure.suptitle(f"{geometry.title}: {geometry.n_cells} cells in {geometry.n_layers} layers")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=130)


def _kinds(geometry: Geometry) -> list[tuple[Layer, str]]:
    """One layer for each kind of cells, with a title that counts the layers that have them."""
    groups: dict[tuple[Any, ...], list[Layer]] = {}
    for layer in geometry.layers:
        groups.setdefault((layer.kind, layer.axes, layer.edges), []).append(layer)
    titles = []
    for layers in list(groups.values())[:_MOST_PANELS]:
        first, last = layers[0], layers[-1]
        shape = " x ".join(str(n) for n in first.shape)
        which = (
            f"layer {first.id}"
            if len(layers) == 1
            else f"{len(layers)} layers, {first.id} to {last.id}"
        )
        titles.append(
            (first, f"{first.name if len(layers) == 1 else first.part} ({which})\n{shape} cells")
        )
    return titles


def _draw_stack(axes: Axes, geometry: Geometry) -> None:
    from matplotlib import colormaps
    from matplotlib.patches import Patch

    colours = colormaps["tab20"]
    stack = geometry.stack
    if stack is not None:
        names = list(dict.fromkeys(slab.material for slab in stack.placed))
        for number, name in enumerate(names):
            bars = [(s.front, s.back - s.front) for s in stack.placed if s.material == name]
            axes.broken_barh(bars, (0.0, 1.0), color=colours(number % 20), linewidth=0)
        handles = [Patch(color=colours(k % 20), label=n) for k, n in enumerate(names)]
        axes.legend(
            handles=handles,
            ncols=6,
            fontsize=8,
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            frameon=False,
        )
    _draw_layers(axes, geometry)
    axes.set_xlabel("depth z in mm")
    axes.set_yticks([0.5, 1.25], ["slabs" if stack is not None else "", "layers"])
    axes.set_ylim(0.0, 1.5)
    axes.margins(x=0.01)


def _draw_layers(axes: Axes, geometry: Geometry) -> None:
    """A bar for each layer: where its active slabs lie, or what it states."""
    for number, layer in enumerate(geometry.layers):
        ends = layer.z
        if geometry.stack is not None:
            slabs = [s for s in geometry.stack.placed if s.layer == layer.id]
            ends = (slabs[0].front, slabs[-1].back)
        if ends is None:
            continue
        shade = "0.35" if number % 2 else "0.65"
        axes.broken_barh([(ends[0], ends[1] - ends[0])], (1.1, 0.3), color=shade, linewidth=0)
        if geometry.n_layers <= 12:
            axes.annotate(
                str(layer.id),
                (0.5 * (ends[0] + ends[1]), 1.25),
                ha="center",
                va="center",
                fontsize=8,
                color="white",
            )


def _draw_cells(axes: Axes, layer: Layer) -> None:
    slow, fast = (np.asarray(edges) for edges in layer.edges)
    slow, fast = (edges[:: max(1, len(edges) // _MOST_LINES)] for edges in (slow, fast))
    style: dict[str, Any] = {"color": "0.2", "linewidth": 0.5}
    if layer.kind == "grid":
        axes.vlines(slow, fast[0], fast[-1], **style)
        axes.hlines(fast, slow[0], slow[-1], **style)
    else:
        turn = np.linspace(-np.pi, np.pi, 181)
        for r in fast:
            axes.plot(r * np.cos(turn), r * np.sin(turn), **style)
        for alpha in slow if layer.shape[0] > 1 else []:
            ends = fast[[0, -1]]
            axes.plot(ends * np.cos(alpha), ends * np.sin(alpha), **style)
    names = layer.axes if layer.kind == "grid" else ("x", "y")
    axes.set_xlabel(f"{names[0]} in mm", fontsize=8)
    axes.set_ylabel(f"{names[1]} in mm", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_aspect("equal")
