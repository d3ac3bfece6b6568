"""Figures that show showers as images: averages, the profile in depth, single showers."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_point_ratio, draw_profile
from caloforge.report.estimates import FEWEST, Array, EnergySlice, energy_text
from caloforge.report.images import (
    ENERGY_MAP,
    RATIO_MAP,
    core_radius,
    draw_disc,
    draw_map,
    energy_norm,
    ratio,
    ratio_norm,
)
from caloforge.report.layer_figures import shown_note
from caloforge.report.panels import WIDTH, Grid, dress, legend, panel_figure
from caloforge.report.samples import Samples, layer_title, names
from caloforge.report.style import INK, REFERENCE_LOOK

if TYPE_CHECKING:
    from caloforge.evaluation.summary import Summary
    from caloforge.geometry import Layer

Draw = Callable[[Axes, Any, Array, Normalize, str], Any]
# Margins and the gap between rows, in inches.
_LEFT, _RIGHT, _TOP, _BOTTOM, _GAP = 1.25, 0.95, 0.3, 0.25, 0.12


@dataclass(frozen=True)
class ImageRow:
    """One row of a figure of images: cells (V,), energies or ratios to the reference."""

    label: str
    color: str
    cells: Array
    is_ratio: bool = False


def _image_rows(samples: Samples, part: EnergySlice | None, density: bool) -> list[ImageRow]:
    """The reference, the second sample as a ratio, each generator with its ratio."""
    area = np.concatenate([layer.area for layer in samples.geometry.layers]) if density else 1.0
    reference = _average(samples.reference, part)
    rows = [ImageRow("Geant4", INK, reference / area)]
    for look, summary in samples.drawn[1:]:
        cells = _average(summary, part)
        if summary is samples.floor:
            name = "second Geant4\nto first"
            rows.append(ImageRow(name, INK, ratio(cells, reference), True))
            continue
        rows.append(ImageRow(look.label, look.color, cells / area))
        rows.append(ImageRow("ratio to Geant4", look.color, ratio(cells, reference), True))
    return rows


def _average(summary: Summary, part: EnergySlice | None) -> Array:
    """Average shower (V,) of all showers or of one energy point; zeros where there are none."""
    if part is None:
        return summary.mean_cells[0]
    return summary.mean_cells[1:][part.select(summary.points)].sum(axis=0)


def image_figure(
    samples: Samples, rows: list[ImageRow], draw: Draw, height: float, unit: str
) -> Figure:
    """One column a layer, one row a sample or ratio; common colour scales for each kind."""
    total = _TOP + len(rows) * (height + _GAP) + _BOTTOM
    figure = Figure(figsize=(WIDTH, total))
    width = (WIDTH - _LEFT - _RIGHT) / len(samples.layers)
    norm = energy_norm([row.cells for row in rows if not row.is_ratio])
    meshes: dict[bool, Any] = {}
    titles = _titles(samples, width)
    for r, row in enumerate(rows):
        bottom = total - _TOP - (r + 1) * (height + _GAP) + _GAP
        scale, colors = (ratio_norm(), RATIO_MAP) if row.is_ratio else (norm, ENERGY_MAP)
        for c, position in enumerate(samples.layers):
            layer = samples.geometry.layers[position]
            left = (_LEFT + c * width + 0.06) / WIDTH
            box = (left, bottom / total, (width - 0.12) / WIDTH, height / total)
            ax = figure.add_axes(box)
            part = row.cells[samples.geometry.slices[position]]
            meshes[row.is_ratio] = draw(ax, layer, part, scale, colors)
            ax.tick_params(length=0, labelsize=6.5, top=False, right=False)
            if layer.kind == "grid":
                ax.set_xticks([])
                ax.set_yticks([])
            if r < len(rows) - 1:
                ax.tick_params(labelbottom=False)
            if r == 0:
                ax.set_title(titles[c], y=1.0)
        middle = (bottom + height / 2) / total
        figure.text(
            (_LEFT - 0.1) / WIDTH,
            middle,
            wrap(row.label),
            color=row.color,
            ha="right",
            va="center",
            fontsize=8,
        )
    return _with_colorbars(figure, meshes, total, unit)


def _with_colorbars(figure: Figure, meshes: dict[bool, Any], total: float, unit: str) -> Figure:
    x, width = (WIDTH - _RIGHT + 0.08) / WIDTH, 0.11 / WIDTH
    usable = (total - _TOP - _BOTTOM) / total
    for is_ratio, mesh in meshes.items():
        share = usable * (0.42 if len(meshes) == 2 else 0.9)
        bottom = _BOTTOM / total + (0 if is_ratio or len(meshes) == 1 else usable - share)
        bar = figure.colorbar(mesh, cax=figure.add_axes((x, bottom, width, share)), extend="both")
        bar.ax.tick_params(labelsize=6.5)
        bar.ax.minorticks_off()
        bar.set_label("ratio" if is_ratio else unit, fontsize=7.5)
        if is_ratio:
            bar.set_ticks([0.5, 0.7, 1.0, 1.4, 2.0], labels=["0.5", "0.7", "1", "1.4", "2"])
    return figure


def _titles(samples: Samples, width: float) -> list[str]:
    """Numbers and names of the shown layers, numbers alone where names do not fit `width`."""
    shown = [samples.geometry.layers[k] for k in samples.layers]
    whole = [layer_title(layer) for layer in shown]
    if all(0.075 * len(title) < width for title in whole):
        return whole
    return [f"layer {layer.id}" for layer in shown]


def wrap(label: str) -> str:
    """A label in lines of 17 letters, for the margin left of a row."""
    return "\n".join(
        line for part in label.split("\n") for line in textwrap.wrap(part, 17, max_lines=3)
    )


def average_discs(samples: Samples, part: EnergySlice | None = None) -> Picture:
    """Average shower in transverse space as energy density, of all showers or one energy."""
    reference = _average(samples.reference, part)
    radii = {
        layer.id: core_radius(layer, reference[samples.geometry.slices[k]])
        for k, layer in enumerate(samples.geometry.layers)
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
        [layer.centres[1] > radii.get(layer.id, np.inf) for layer in samples.geometry.layers]
    )
    rows = [
        replace(row, cells=np.where(outside, 0.0, row.cells))
        for row in _image_rows(samples, part, density=True)
    ]
    shown = [radii.get(samples.geometry.layers[k].id) for k in samples.layers]
    drawn = names([f"{r:g}" for r in shown if r is not None])
    proof = ", as the row of Geant4 against Geant4 shows" if samples.floor else ""
    scale = f" Drawn out to 95 % of each layer's energy: radii of {drawn} mm." if drawn else ""
    return Picture(
        f"average-showers{_suffix(part)}",
        f"Average shower, {_which(part)}, in the transverse plane: mean energy per area "
        "(MeV/mm², logarithmic) and ratio to Geant4. Look for rings or sectors of one colour in "
        f"the ratio: statistical noise has none{proof}.{scale}{shown_note(samples)}",
        "Average energy density of each layer in the transverse plane for Geant4 and each "
        "generator, and their ratios.",
        image_figure(samples, rows, draw, 1.45, "MeV/mm²"),
    )


def average_maps(samples: Samples, part: EnergySlice | None = None) -> Picture | None:
    """Average shower, of all or one energy, with every cell drawn equally large.

    None for read-outs without polar layers, whose cells the figure in space shows as well.
    """
    if all(layer.kind != "polar" for layer in samples.geometry.layers):
        return None
    figure = image_figure(
        samples, _image_rows(samples, part, density=False), draw_map, 0.95, "MeV"
    )
    return Picture(
        f"average-cells{_suffix(part)}",
        f"The same average, {_which(part)}, cell by cell: α upwards, r (mm) to the right, "
        "every cell drawn equally large; mean MeV per cell and ratio to Geant4. Look at the last "
        "columns: the tail of the shower, few cells in number and little energy, but most of the "
        f"area.{_worst_cells(samples, part)}{shown_note(samples)}",
        "Average energy of every cell for Geant4 and each generator, and their ratios.",
        figure,
    )


def _which(part: EnergySlice | None) -> str:
    return "all energies" if part is None else f"{part.label} incident energy"


def _suffix(part: EnergySlice | None) -> str:
    return "" if part is None else f"-{part.energy:.6g}-MeV"


def _worst_cells(samples: Samples, part: EnergySlice | None) -> str:
    """Share of the energy that sits in cells more than 20 % off, per generator."""
    reference = _average(samples.reference, part)
    found = []
    for look, summary in zip(samples.looks, samples.generated, strict=True):
        values = ratio(_average(summary, part), reference)
        off = np.isfinite(values) & (np.abs(values - 1) > 0.2)
        share = float(reference[off].sum() / max(float(reference.sum()), 1e-30))
        found.append(f"{100 * share:.1f} % ({look.label})")
    return f" Cells off by more than 20 % hold {names(found)} of the energy."


# --- depth ---------------------------------------------------------------------------------------
def longitudinal_profile(samples: Samples) -> Picture | None:
    """Mean energy per layer against depth: all showers, and three energies of the scan."""
    geometry = samples.geometry
    if geometry.n_layers < 2:
        return None
    chosen: list[EnergySlice | None] = [None, *three_energies(samples)]
    figure, pairs = panel_figure(
        len(chosen), Grid(columns=len(chosen), height=2.3, left=0.6, ratio=0.33)
    )
    edges = np.arange(geometry.n_layers + 1) - 0.5
    for k, (pair, part) in enumerate(zip(pairs, chosen, strict=True)):
        curves = []
        for look, summary in samples.drawn:
            curves.append((look, *_profile(summary, part)))
        draw_profile(pair[0], edges, curves)
        draw_point_ratio(pair[1], np.arange(geometry.n_layers), curves, log_x=False)
        dress(
            pair,
            "all energies" if part is None else part.label,
            first=k == 0,
            y_label="mean of $E_\\mathrm{layer}\\,/\\,E_\\mathrm{inc}$",
        )
        pair[0].set_xlim(edges[0], edges[-1])
        pair[0].set_ylim(0, None)
        _layer_ticks(pair[1], samples)
    legend(figure, samples.looks, floor=samples.floor is not None, kind="points")
    return Picture(
        "longitudinal-profile",
        "Mean share of the incident energy in each layer, in order of depth, with statistical "
        "errors. Look for a shower that starts too early or leaks too far: a ratio that rises or "
        "falls steadily with depth.",
        "Longitudinal profile: mean energy per layer for Geant4 and generators at several "
        "energies, with ratios.",
        figure,
    )


def _profile(summary: Summary, part: EnergySlice | None) -> tuple[Array, Array]:
    """Mean share of the incident energy in each layer and its error, (L,); NaN without showers."""
    inside = slice(None) if part is None else part.select(summary.incident_energy)
    incident = summary.incident_energy[inside]
    layers = summary.geometry.layers
    if len(incident) == 0:
        return np.full(len(layers), np.nan), np.full(len(layers), np.nan)
    rows = np.stack(
        [summary.observables[f"layer_energy/{x.id}"][inside] / incident for x in layers]
    )
    return rows.mean(axis=1), rows.std(axis=1) / np.sqrt(len(incident))


def _layer_ticks(ax: Axes, samples: Samples) -> None:
    layers = samples.geometry.layers
    shown = np.unique(np.linspace(0, len(layers) - 1, min(len(layers), 8)).round().astype(int))
    ax.set_xticks(shown, [str(layers[k].id) for k in shown])
    ax.set_xlabel("layer, front to back")
    ax.minorticks_off()


def three_energies(samples: Samples) -> list[EnergySlice]:
    """Lowest, middle and highest energy slice with enough reference showers for a mean."""
    incident = samples.reference.incident_energy
    usable = [p for p in samples.slices if int(p.select(incident).sum()) >= 2 * FEWEST]
    if len(samples.slices) < 2 or not usable:
        return []
    return [usable[k] for k in sorted({0, len(usable) // 2, len(usable) - 1})]


def example_rows(samples: Samples, count: int) -> list[tuple[str, str, Array]]:
    """Single showers, at `count` energies of the reference one of Geant4 and the nearest of each
    generator: what it is in words, its colour, its cells (V,) in MeV. Empty without any.
    """
    energies = samples.geometry.incident_energy(samples.reference.example_conditions)
    if len(energies) == 0:
        return []
    targets = np.sort(energies)[((np.arange(count) + 0.5) / count * len(energies)).astype(int)]
    rows = []
    for target in np.unique(targets).tolist():
        for look, summary in samples.drawn:
            mine = samples.geometry.incident_energy(summary.example_conditions)
            if summary is samples.floor or len(mine) == 0:
                continue
            nearest = int(np.abs(np.log(mine / target)).argmin())
            is_reference = look is REFERENCE_LOOK
            name, color = ("Geant4", INK) if is_reference else (look.label, look.color)
            text = f"{name}\n{energy_text(float(mine[nearest]))}"
            rows.append((text, color, summary.examples[nearest]))
    return rows


def examples(samples: Samples, count: int = 3) -> Picture | None:
    """Single showers: a row a shower, a column a layer, at `count` energies; None without any."""
    rows = [ImageRow(*row) for row in example_rows(samples, count)]
    if not rows:
        return None
    polar = any(layer.kind == "polar" for layer in samples.geometry.layers)
    return Picture(
        "single-showers",
        "Single showers of each sample at about the same incident energies, cell by cell, MeV "
        "(logarithmic). Single showers fluctuate: look for what no real shower does, such as "
        "smeared-out or repeated images.",
        "Single showers of Geant4 and of each generator, cell by cell.",
        image_figure(samples, rows, draw_map, 0.5 if polar else 0.9, "MeV"),
    )
