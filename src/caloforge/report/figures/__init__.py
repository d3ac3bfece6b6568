"""The pictures of a page: one line each, in the order of the page.

A picture is a pure function of a `Result` that gives a `Picture`, several at once (one an
energy), or None where the result has nothing for it. To add one, write the function in a file of
this folder and a line here: `caloforge report` then draws it for every result folder.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture
from caloforge.report.figures import (
    against_energy,
    attributes,
    averages,
    cells,
    chi2,
    copies,
    correlations,
    joint_energy,
    kinds,
    layers,
    linearity,
    prd,
    profile,
    ranking,
    response,
    s_shape,
    separation_map,
    shapes,
    singles,
    unrolled,
)

Draw = Callable[[Result], Picture | Sequence[Picture | None] | None]


class Line(NamedTuple):
    """The section that shows a picture, the function that draws it, and whether it is shown only
    after a click.
    """

    section: str
    draw: Draw
    more: bool = False


FIGURES = [
    Line("Where they differ", ranking.ranking),
    Line("All features together", joint_energy.joint_energy),
    Line("All features together", prd.prd),
    Line("Per incident energy", separation_map.separation_map),
    Line("Energy response", response.response),
    Line("Energy response", response.response_per_energy),
    Line("Energy response", chi2.chi2_per_energy),
    Line("Energy response", linearity.linearity),
    Line("Layers", layers.layer_energies),
    Line("Layers", profile.longitudinal_profile),
    Line("Layers", against_energy.layer_shares),
    Line("Layers", layers.layer_energies_at, more=True),
    Line("Correlations", correlations.correlations),
    *(Line("Shower shapes", shapes.of(family)) for family in shapes.SHAPES),
    Line("Shower shapes", s_shape.s_shape),
    Line("Shower shapes", s_shape.s_shape_control, more=True),
    Line("Shower shapes", against_energy.widths, more=True),
    Line("Shower shapes", against_energy.sparsities, more=True),
    Line("Attributes", attributes.attributes_requested),
    Line("Attributes", attributes.attributes_per_energy),
    Line("Voxels", cells.cell_spectra),
    Line("Average showers", averages.average_discs),
    Line("Average showers", averages.average_maps),
    Line("Average showers", unrolled.unrolled_average),
    Line("Average showers", unrolled.unrolled_examples),
    Line("Average showers", singles.single_showers),
    Line("Average showers", singles.nearest_showers),
    Line("Average showers", averages.averages_at, more=True),
    Line("Memorising", copies.training_distances),
]

# Drawn of each kind of particle alone, where a sample has several.
OF_KIND: list[Draw] = [
    kinds.output_against_input,
    response.response,
    profile.longitudinal_profile,
    kinds.depth_curves,
    unrolled.unrolled_average,
    unrolled.unrolled_examples,
]
