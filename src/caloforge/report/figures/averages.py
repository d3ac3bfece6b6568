"""Average showers as images: in the transverse plane, and cell by cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from numpy.typing import NDArray

from caloforge.detector.geometry import Layer
from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import EnergySlice
from caloforge.report.blocks import Picture
from caloforge.report.drawn import has_second, looks_of, names, shown_note, suffix_of
from caloforge.report.figures.rows_of_images import average_rows, layer_images
from caloforge.report.images import core_radius, draw_disc, draw_map, ratio

Array = NDArray[Any]


def average_discs(result: Result) -> Picture:
    """Average shower in transverse space as energy density, of all showers."""
    return _discs(result, 0)


def average_maps(result: Result) -> Picture | None:
    """Average of all showers with every cell drawn equally large.

    None for read-outs without polar layers, whose cells the figure in space shows as well.
    """
    return _maps(result, 0) if _is_polar(result) else None


def averages_at(result: Result) -> list[Picture]:
    """The average shower at a low, a middle and a high energy of a scan."""
    draw = _maps if _is_polar(result) else _discs
    return [draw(result, 1 + k) for k in range(len(result.shown.frame.averaged))]


def _is_polar(result: Result) -> bool:
    return any(layer.kind == "polar" for layer in result.shown.frame.geometry.layers)


def _discs(result: Result, place: int) -> Picture:
    geometry = result.shown.frame.geometry
    reference = result.shown.reference.mean_cells[place].astype(np.float64)
    radii = {
        layer.id: core_radius(layer, reference[geometry.slices[k]])
        for k, layer in enumerate(geometry.layers)
        if layer.kind == "polar"
    }

    def draw(ax: Axes, layer: Layer, cells: Array, norm: Normalize, cmap: str) -> Any:
        mesh = draw_disc(ax, layer, cells, norm, cmap, radius=radii.get(layer.id))
        ax.set_xticks([])
        ax.set_yticks([])
        for side in ax.spines.values():
            side.set_visible(layer.kind != "polar")
        return mesh

    # What is not drawn must not stretch the colours.
    outside = np.concatenate(
        [layer.centres[1] > radii.get(layer.id, np.inf) for layer in geometry.layers]
    )
    area = np.concatenate([layer.area for layer in geometry.layers])
    rows = [
        replace(row, cells=np.where(outside, 0.0, row.cells))
        for row in average_rows(result, place, area)
    ]
    shown = [radii.get(geometry.layers[k].id) for k in result.shown.frame.layers]
    radius = names([f"{r:g}" for r in shown if r is not None])
    proof = ", as the row of Geant4 against Geant4 shows" if has_second(result) else ""
    one_bin = any(layer.kind == "polar" and layer.shape[0] == 1 for layer in geometry.layers)
    whole = " A layer with a single bin in α has whole rings always." if one_bin else ""
    scale = f" Drawn out to 95 % of each layer's energy: radii of {radius} mm." if radius else ""
    part = _part(result, place)
    return Picture(
        f"average-showers{suffix_of(part)}",
        f"Average shower, {_which(part)}, in the transverse plane: mean energy per area "
        "(MeV/mm², logarithmic) and ratio to Geant4. Look for rings or sectors of one colour in "
        f"the ratio: statistical noise has none{proof}.{whole}{scale}{shown_note(result)}",
        "Average energy density of each layer in the transverse plane for Geant4 and each "
        "generator, and their ratios.",
        layer_images(result, rows, draw, 1.45, "MeV/mm²"),
    )


def _maps(result: Result, place: int) -> Picture:
    part = _part(result, place)
    return Picture(
        f"average-cells{suffix_of(part)}",
        f"The same average, {_which(part)}, cell by cell: α upwards, r (mm) to the right, "
        "every cell drawn equally large; mean MeV per cell and ratio to Geant4. Look at the last "
        "columns: the tail of the shower, few cells in number and little energy, but most of the "
        f"area.{_worst_cells(result, place)}{shown_note(result)}",
        "Average energy of every cell for Geant4 and each generator, and their ratios.",
        layer_images(result, average_rows(result, place), draw_map, 0.95, "MeV"),
    )


def _part(result: Result, place: int) -> EnergySlice | None:
    return None if place == 0 else result.shown.frame.averaged[place - 1]


def _which(part: EnergySlice | None) -> str:
    return "all energies" if part is None else f"{part.label} incident energy"


def _worst_cells(result: Result, place: int) -> str:
    """Share of the energy that sits in cells more than 20 % off, per generator."""
    reference = result.shown.reference.mean_cells[place].astype(np.float64)
    shares = []
    for look, portrait in zip(looks_of(result), result.shown.generated, strict=True):
        values = ratio(portrait.mean_cells[place].astype(np.float64), reference)
        off = np.isfinite(values) & (np.abs(values - 1) > 0.2)
        share = float(reference[off].sum() / max(float(reference.sum()), 1e-30))
        shares.append(f"{100 * share:.1f} % ({look.label})")
    return f" Cells off by more than 20 % hold {names(shares)} of the energy."
