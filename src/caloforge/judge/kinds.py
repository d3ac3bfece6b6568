"""Kinds of particles in one sample: what a categorical condition tells apart is judged apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry

if TYPE_CHECKING:
    from caloforge.judge.summary import Summary

Array = NDArray[Any]

ROLE = "particle"  # of the condition whose values are judged apart


def kinds(geometry: Geometry) -> dict[str, float]:
    """Name of each particle -> its value of the condition with the role "particle"; nothing for
    one alone.
    """
    column = geometry.find(ROLE)
    if column is None or geometry.conditions[column].scale != "category":
        return {}
    condition = geometry.conditions[column]
    values = np.arange(round(condition.low), round(condition.high) + 1).tolist()
    names = geometry.particles if len(geometry.particles) == len(values) else map(str, values)
    return dict(zip(names, map(float, values), strict=True)) if len(values) > 1 else {}


def is_kind(geometry: Geometry, conditions: Array, name: str) -> NDArray[np.bool_]:
    """Which of the showers with these conditions (N, C) are of a kind, (N,)."""
    there: NDArray[np.bool_] = (
        np.rint(conditions[:, geometry.column_of(ROLE)]) == kinds(geometry)[name]
    )
    return there


def of_kind(summary: Summary, name: str) -> Summary | None:
    """The part of a summary that is of one kind; None without such showers.

    The spectrum of cells for drawing stays that of all showers.
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
        cell_separation_counts=summary.cell_separation_counts[rows],
        digests=summary.digests[rows],
        mean_cells=summary.kind_cells[name][None],
        examples=summary.examples[shown],
        example_conditions=summary.example_conditions[shown],
        cells=summary.cells[whole],
        cell_rows=(np.cumsum(rows) - 1)[summary.cell_rows[whole]],
        kind_cells={},
    )
