"""Figures of layers and shapes, of all showers and against incident energy.

Each takes `Samples` and returns a `Picture` with its caption, or None where there is nothing to
draw.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from caloforge import units
from caloforge.evaluation.axes import Observable, whole_edges
from caloforge.report.blocks import Picture
from caloforge.report.curves import draw_point_ratio, draw_points
from caloforge.report.energy_figures import ending
from caloforge.report.estimates import EnergySlice
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.plots import Overlay, distribution, draw_comparison
from caloforge.report.samples import Samples, layer_title

Panel = tuple[str, Overlay, str]  # title, histograms, name of the horizontal axis
MOST_BINS = 40  # of an observable that takes whole numbers
# Last parts of keys that name a direction.
ENDINGS = ("x", "y", "r", "eta", "phi", "along", "across", "eta1", "eta2")


def shown_note(samples: Samples) -> str:
    """Which layers are shown, where it is not all of them."""
    shown, total = len(samples.layers), samples.geometry.n_layers
    if shown == total:
        return ""
    return f" Shown are {shown} of {total} layers, chosen along the shower."


def _grid_of(
    samples: Samples, panels: list[Panel], grid: Grid, *, log_y: bool, y_label: str
) -> Figure:
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (title, data, label)) in enumerate(zip(pairs, panels, strict=True)):
        draw_comparison(pair, data, label=label, log_y=log_y)
        dress(pair, title, first=k % grid.columns == 0, y_label=y_label, linear=not log_y)
    legend(figure, samples.looks, floor=samples.floor is not None)
    return figure


def layer_energies(samples: Samples, part: EnergySlice | None = None) -> Picture | None:
    """Energy in each layer, all showers or those of one energy slice."""
    panels: list[Panel] = []
    for observable in samples.families("layer_energy"):
        data = samples.overlay(observable.key, part)
        if data is not None and samples.varies(observable.key):
            panels.append((layer_title(samples.of_layer(observable)), data, "energy [MeV]"))
    if not panels:
        return None
    where = "all showers" if part is None else f"{part.label} incident energy"
    suffix = "" if part is None else f"-{part.energy:.6g}-MeV"
    grid = Grid(columns=columns(len(panels), 3 if len(panels) <= 6 else 4), height=2.1, left=0.62)
    return Picture(
        f"layer-energies{suffix}",
        f"Energy in each layer, {where}. Look for the shaded first bin (layers without energy), "
        f"the shape of the rise and the end point. {ending(samples)}{shown_note(samples)}",
        f"Histograms of the energy in each layer, {where}, Geant4 and generators, with ratios.",
        _grid_of(samples, panels, grid, log_y=True, y_label="fraction of showers"),
    )


@dataclass(frozen=True)
class Shape:
    """Panels of one figure of shapes.

    Parameters
    ----------
    families
        Quantities shown: keys without the part from the slash on, and without the axis.
    title, look_for
        Begin the caption.
    log_y
        Whether the fraction of showers has a logarithmic axis.
    """

    families: tuple[str, ...]
    title: str
    look_for: str
    log_y: bool = True


# All that a geometry has of them is drawn, in this order.
SHAPES: dict[str, Shape] = {
    "centre": Shape(
        ("centre", "average"),
        "Centre of energy in each layer",
        "A peak that is too narrow or off its place means showers that do not move sideways as "
        "Geant4's do.",
    ),
    "offset": Shape(
        ("offset",),
        "Centre of energy minus the impact of the particle",
        "A broad or shifted peak means showers that do not follow the requested impact.",
    ),
    "width": Shape(
        ("width", "w"),
        "Energy-weighted width of the shower",
        "Widths betray a generator that gets the energies right: look at both ends of the "
        "distribution.",
    ),
    "spread": Shape(
        ("spread",),
        "Energy spread: width of the whole image in both directions",
        "A spread that is too small puts all energy close to the axis, as a mean shower does.",
    ),
    "asymmetry": Shape(
        ("asymmetry",),
        "Asymmetry of the energy about the projected impact",
        "The two sides are filled because a core falls into one cell or the next: a hill in the "
        "middle means showers that do not follow the impact inside a cell.",
        log_y=False,
    ),
    "depth": Shape(
        ("depth", "lateral_depth", "shower_depth", "shower_depth_width"),
        "Depth of the shower",
        "The last layer reached and the mean layer say whether showers begin and end where "
        "Geant4's do.",
    ),
    "fraction": Shape(
        ("fraction",),
        "Fraction of the energy in each layer",
        "A layer may have the right mean for the wrong reason: look at the tails, where the "
        "shower started early or late.",
    ),
    "eratio": Shape(
        ("eratio", "eratio_maxima"),
        "Eratio, (first - second) / (first + second) of the hottest cells",
        "Showers that are too smooth have two cells alike and move to the left.",
        log_y=False,
    ),
    "ratio": Shape(
        ("r_eta", "r_phi"),
        "Energy ratios of windows of cells in the middle layer",
        "Tails to the left are showers with too much energy away from the centre.",
    ),
    "part": Shape(
        ("ecal_energy", "hcal_energy", "ecal_response", "hcal_response"),
        "Energy of the parts of the calorimeter",
        "Energy that leaks from the first part must be found in the second.",
    ),
    "sparsity": Shape(
        ("sparsity",),
        "Fraction of cells without energy in each layer",
        "Soft cells that should be empty, or the reverse, move the whole peak.",
        log_y=False,
    ),
    "cells": Shape(
        ("occupancy", "ecal_cells", "hcal_cells", "cells_above"),
        "Number of cells with energy",
        "Soft cells that should be empty, or the reverse, move the whole peak.",
        log_y=False,
    ),
}


def shapes(samples: Samples, family: str) -> Picture | None:
    """Distributions of one group of observables, a key of `SHAPES`, in the shown layers."""
    shape = SHAPES[family]
    panels: list[Panel] = []
    for observable in samples.table.values():
        if _quantity(observable) not in shape.families or not samples.varies(observable.key):
            continue
        if observable.layer is not None and observable.layer not in samples.layers:
            continue
        values = samples.reference.observables[observable.key]
        edges = whole_edges(values, MOST_BINS) if observable.whole else None
        data = samples.overlay(observable.key, edges=edges)
        if data is not None:
            panels.append((_title(samples, observable), data, _axis_name(observable)))
    if not panels:
        return None
    grid = Grid(columns=columns(len(panels), 4), height=1.9, left=0.56)
    return Picture(
        f"shape-{family}",
        f"{shape.title}. {shape.look_for} {ending(samples)}{shown_note(samples)}",
        f"{shape.title}: histograms for Geant4 and generators, with ratios.",
        _grid_of(samples, panels, grid, log_y=shape.log_y, y_label="fraction of showers"),
    )


def _quantity(observable: Observable) -> str:
    """centre_x/1 -> centre; a name of its own (shower_depth_width, cells_above_10) stays whole."""
    name = observable.key.partition("/")[0]
    for family in (f for shape in SHAPES.values() for f in shape.families):
        if name == family:
            return family
    first, _, last = name.rpartition("_")
    return first if last in ENDINGS or last.isdigit() else name


def _title(samples: Samples, observable: Observable) -> str:
    if observable.layer is not None:
        return layer_title(samples.of_layer(observable))
    text = observable.label.partition(":")[0]
    symbol = "_" in text.partition(" ")[0]
    return text if symbol else text[0].upper() + text[1:]


def _axis_name(observable: Observable) -> str:
    unit = f" [{observable.unit}]" if observable.unit else ""
    if observable.layer is None:
        return (observable.label.partition(": ")[2] or observable.label) + unit
    first, _, last = observable.key.partition("/")[0].rpartition("_")
    return (f"{first} in {last}" if last in ENDINGS else last) + unit


def cell_spectra(samples: Samples) -> Picture | None:
    """Spectrum of cell energies in each layer: cells per shower, on double-logarithmic axes."""
    panels: list[Panel] = []
    for position in samples.layers:
        counts = np.stack([s.cell_spectrum[position] for _, s in samples.drawn])
        filled = np.flatnonzero(counts.sum(axis=0))
        if len(filled) == 0:
            continue
        first, last = int(filled[0]), int(filled[-1]) + 1
        edges = samples.reference.cell_spectrum_edges[first : last + 1]
        rows = [
            distribution(row[first:last], edges, len(s.incident_energy), look)
            for row, (look, s) in zip(counts, samples.drawn, strict=True)
        ]
        offset = 2 if samples.floor else 1
        data = Overlay(
            reference=rows[0],
            generated=tuple(rows[offset:]),
            floor=rows[1] if samples.floor else None,
            inner=(float(edges[0]), float(edges[-1])),
            log=True,
        )
        panels.append((layer_title(samples.geometry.layers[position]), data, "cell energy [MeV]"))
    if not panels:
        return None
    grid = Grid(columns=columns(len(panels), 3 if len(panels) <= 6 else 4), height=2.1, left=0.62)
    return Picture(
        "cell-spectra",
        "Energies of single cells, in cells per shower. The low end shows whether the many soft "
        f"cells are there, the high end the core of the shower. {ending(samples)} Errors count "
        f"cells as independent.{shown_note(samples)}",
        "Spectra of the energies of single cells in each layer, Geant4 and generators, with "
        "ratios.",
        _grid_of(samples, panels, grid, log_y=True, y_label="cells per shower"),
    )


def against_energy(samples: Samples, family: str, label: str, title: str) -> Picture | None:
    """Mean of an observable in each shown layer against incident energy, with ratios.

    `family` is the part of the key before the slash, `label` names the vertical axis, `title`
    begins the caption. The layer energy is divided by the incident energy.
    """
    energy = np.array([p.energy for p in samples.slices]) / units.GEV
    found = [o for o in samples.families(family) if samples.varies(o.key)]
    curves = [(o, samples.means(o.key, relative=family == "layer_energy")) for o in found]
    curves = [(o, c) for o, c in curves if int(np.isfinite(c[0][1].mean).sum()) > 1]
    if not curves:
        return None
    grid = Grid(
        columns=columns(len(curves), 3 if len(curves) <= 6 else 4),
        height=2.0,
        left=0.62,
        ratio=0.33,
    )
    figure, pairs = panel_figure(len(curves), grid)
    for k, (pair, (observable, rows)) in enumerate(zip(pairs, curves, strict=True)):
        good = np.isfinite(rows[0][1].mean)
        data = [(look, m.mean[good], m.error[good]) for look, m in rows]
        draw_points(pair[0], energy[good], data)
        draw_point_ratio(pair[1], energy[good], data)
        name = layer_title(samples.of_layer(observable))
        dress(pair, name, first=k % grid.columns == 0, y_label=label)
        pair[1].set_xlabel("incident energy [GeV]")
    legend(figure, samples.looks, floor=samples.floor is not None, kind="points")
    return Picture(
        f"{family.replace('_', '-')}-against-energy",
        f"{title} against incident energy, with statistical errors; grey: the reference. Look for "
        "points off the band: an average over all energies can hide two errors that "
        f"cancel.{shown_note(samples)}",
        f"{title} in each layer against incident energy, Geant4 and generators, with ratios.",
        figure,
    )
