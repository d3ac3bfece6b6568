"""Kinds of particles in one sample: what a categorical condition tells apart is judged apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.geometry import Geometry

if TYPE_CHECKING:
    from caloforge.evaluation.summary import Summary

Array = NDArray[Any]

CONDITION = "particle"


def kinds(geometry: Geometry) -> dict[str, float]:
    """Name of each particle -> its value of the condition "particle"; nothing for one alone."""
    found = [c for c in geometry.conditions if c.name == CONDITION and c.scale == "category"]
    if not found:
        return {}
    values = np.arange(round(found[0].low), round(found[0].high) + 1).tolist()
    names = geometry.particles if len(geometry.particles) == len(values) else map(str, values)
    return dict(zip(names, map(float, values), strict=True)) if len(values) > 1 else {}


def is_kind(geometry: Geometry, conditions: Array, name: str) -> NDArray[np.bool_]:
    """Which of the showers with these conditions (N, C) are of a kind, (N,)."""
    there: NDArray[np.bool_] = (
        np.rint(conditions[:, geometry.column(CONDITION)]) == kinds(geometry)[name]
    )
    return there


def of_kind(summary: Summary, name: str) -> Summary | None:
    """The part of a summary that is of one kind; None without such showers.

    Spectra of cells stay those of all showers.
    """
    geometry = summary.geometry
    rows = is_kind(geometry, summary.conditions, name)
    if not rows.any():
        return None
    shown = is_kind(geometry, summary.example_conditions, name)
    whole = rows[summary.cell_rows]
    return replace(
        summary,
        conditions=summary.conditions[rows],
        incident_energy=summary.incident_energy[rows],
        observables={key: values[rows] for key, values in summary.observables.items()},
        points=summary.points[:0],
        mean_cells=summary.kind_cells[name][None],
        examples=summary.examples[shown],
        example_conditions=summary.example_conditions[shown],
        cells=summary.cells[whole],
        cell_rows=(np.cumsum(rows) - 1)[summary.cell_rows[whole]],
        kind_cells={},
    )
