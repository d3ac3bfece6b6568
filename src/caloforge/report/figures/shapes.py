"""Histograms of shower shapes, a figure for each group of observables."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from caloforge.judge.folder import Result
from caloforge.observables.table import Observable
from caloforge.report.blocks import Picture
from caloforge.report.drawn import ending, histograms, shown_note, title_of, varies
from caloforge.report.figures.layers import Panel, distributions
from caloforge.report.panels import Grid, columns

# Last parts of keys that name a direction.
ENDINGS = ("x", "y", "r", "eta", "phi", "along", "across", "eta1", "eta2")


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
    "edge": Shape(
        ("edge_cell",),
        "Hottest cell at the edge of the read-out",
        "Bright cells far from the shower are outliers of the generator.",
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


def of(family: str) -> partial[Picture | None]:
    """The picture of one group of observables, a key of `SHAPES`."""
    return partial(_shapes, SHAPES[family], family)


def _shapes(shape: Shape, family: str, result: Result) -> Picture | None:
    """Distributions of one group of observables in the shown layers."""
    panels: list[Panel] = []
    of_layers = False
    for observable in result.shown.frame.table.values():
        if _quantity(observable) not in shape.families or not varies(result, observable.key):
            continue
        data = histograms(result, observable.key)
        if data is not None:
            panels.append((_title(result, observable), data, _axis_name(observable)))
            of_layers = of_layers or observable.layer is not None
    if not panels:
        return None
    grid = Grid(columns=columns(len(panels), 4), height=1.9, left=0.56)
    return Picture(
        f"shape-{family}",
        f"{shape.title}. {shape.look_for} {ending(result)}"
        + (shown_note(result) if of_layers else ""),
        f"{shape.title}: histograms for Geant4 and generators, with ratios.",
        distributions(result, panels, grid, log_y=shape.log_y, y_label="fraction of showers"),
    )


def _quantity(observable: Observable) -> str:
    """centre_x/1 -> centre; a name of its own (shower_depth_width, cells_above_10) stays whole."""
    name = observable.key.partition("/")[0]
    for family in (f for shape in SHAPES.values() for f in shape.families):
        if name == family:
            return family
    first, _, last = name.rpartition("_")
    return first if last in ENDINGS or last.isdigit() else name


def _title(result: Result, observable: Observable) -> str:
    if observable.layer is not None:
        return title_of(result, observable)
    text = observable.label.partition(":")[0]
    symbol = "_" in text.partition(" ")[0]
    return text if symbol else text[0].upper() + text[1:]


def _axis_name(observable: Observable) -> str:
    unit = f" [{observable.unit}]" if observable.unit else ""
    if observable.layer is None:
        return (observable.label.partition(": ")[2] or observable.label) + unit
    first, _, last = observable.key.partition("/")[0].rpartition("_")
    return (f"{first} in {last}" if last in ENDINGS else last) + unit
