"""Figures of traversals: mean showers along one condition, everything else held.

Reference: L. de Oliveira, M. Paganini, B. Nachman, arXiv:1711.08813, Fig. 3-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry, Layer
from caloforge.errors import DataError
from caloforge.judge.shown.energies import energy_text
from caloforge.judge.shown.frame import shown_layers
from caloforge.report.blocks import Picture, Section
from caloforge.report.images import RATIO_MAP, draw_disc, energy_norm
from caloforge.report.panels import WIDTH, Sheet
from caloforge.report.style import style

Array = NDArray[Any]


@dataclass(frozen=True)
class Traversal:
    """Mean showers of one condition's values.

    Parameters
    ----------
    geometry
        The read-out.
    name
        Name of the condition.
    values
        (K,) in the condition's unit, increasing.
    showers
        (K, V) mean cell energies in MeV, each over showers of the same noise.
    latents
        Number of showers that each mean is taken over.
    """

    geometry: Geometry
    name: str
    values: Array
    showers: Array
    latents: int

    def __post_init__(self) -> None:
        expected = (len(self.values), self.geometry.n_cells)
        if self.showers.shape != expected:
            raise DataError(
                f"Got mean showers of shape {self.showers.shape}; expected {expected}, one row a "
                "value of the condition."
            )


def draw_difference(ax: Axes, layer: Layer, cells: Array, largest: float) -> Any:
    """Differences (size,) in MeV of one layer on a diverging scale from -largest to largest.

    Red is more energy, blue less, white no change. Returns the mesh.
    """
    # Images leave empty cells white: a constant that no difference reaches keeps all of them.
    return draw_disc(
        ax, layer, cells + 2 * largest, Normalize(largest, 3 * largest), cmap=RATIO_MAP
    )


def traversal_figure(traversal: Traversal, *, difference: bool) -> Figure:
    """A row a layer, a column a value: images, or differences from the middle value."""
    geometry, values = traversal.geometry, traversal.values
    layers = shown_layers(geometry, traversal.showers.mean(axis=0))
    middle = traversal.showers[len(values) // 2]
    size = (WIDTH - 0.7) / len(values) - 0.1
    sheet = Sheet(
        len(layers),
        len(values),
        (size, size),  # squares, as nearly all layers are
        left=0.65,
        top=0.3,
        bottom=0.1,
        gap=(0.1, 0.1),
    )
    for line, position in enumerate(layers):
        layer, where = geometry.layers[position], geometry.slices[position]
        images = traversal.showers[:, where]
        changes = images - middle[where]
        largest = float(np.abs(changes).max()) or 1.0
        norm = energy_norm([images])
        for column, (image, change) in enumerate(zip(images, changes, strict=True)):
            ax = sheet.axes(line, column)
            if difference:
                draw_difference(ax, layer, change, largest)
            else:
                draw_disc(ax, layer, image, norm)
            ax.set_xticks([])
            ax.set_yticks([])
            if column == 0:
                scale = f"±{largest:.3g} MeV" if difference else f"≤ {norm.vmax:.3g} MeV"
                ax.set_ylabel(f"{layer.name}\n{scale}")
            if line == 0:
                ax.set_title(_text(traversal, float(values[column])), y=1.0)
    return sheet.figure


def traversal_picture(traversal: Traversal, *, difference: bool | None = None) -> Picture:
    """The figure with its caption; by default differences for angles and momenta."""
    geometry = traversal.geometry
    condition = geometry.conditions[geometry.column(traversal.name)]
    if difference is None:
        difference = condition.unit == "rad" or (
            condition.role == "momentum" and condition.axis != "z"
        )
    label = condition.label or condition.name
    shown = (
        "the middle one is subtracted (red: more energy, blue: less; every layer has a linear "
        "scale of its own)"
        if difference
        else "colours are logarithmic, every layer with a scale of its own"
    )
    return Picture(
        f"traversal-{condition.name}",
        f"Average of {traversal.latents} showers against the {label}, each from the same noise, "
        f"all other conditions in the middle of their trained ranges; {shown}. Look for a change "
        "that is smooth and goes the way of the condition.",
        f"Mean generated showers per layer for {len(traversal.values)} values of the {label}.",
        traversal_figure(traversal, difference=difference),
    )


def traversal_section(traversals: Sequence[Traversal]) -> Section:
    """All of them; without pictures where there are none."""
    with style():
        pictures = tuple(traversal_picture(t) for t in traversals)
    return Section(
        "Traversals",
        "One condition changes, the noise and all others stay.",
        pictures=pictures,
    )


def _text(traversal: Traversal, value: float) -> str:
    """Name and value, above a column."""
    geometry = traversal.geometry
    condition = geometry.conditions[geometry.column(traversal.name)]
    shown = energy_text(value) if condition.unit == "MeV" and value > 0 else ""
    return f"{condition.name} = {shown or f'{value:.3g} {condition.unit}'.strip()}"
