"""What pictures and tables read from a comparison: figures beside their floors, at one size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.judge.comparison import Comparison
from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import EnergySlice
from caloforge.metrics.base import Value
from caloforge.metrics.notes import AttributeValues

Array = NDArray[Any]

SEPARATION = "separation_with_flow/"


def at_floor_size(comparison: Comparison, key: str) -> float:
    """A figure at the number of showers its floor was made with; NaN where it is missing."""
    value = comparison.details.at_floor_size.get(key, comparison.metrics.get(key))
    return float("nan") if value is None else value.value


def floor_of(comparison: Comparison, key: str) -> float | None:
    """The floor of a figure."""
    value = comparison.metrics.get(key)
    return None if value is None else value.floor


def at_size(comparison: Comparison, start: str) -> str:
    """At how many showers the figures stand beside their floor; empty where that is all of them.

    `start` begins the keys of the figures.
    """
    sized = comparison.details.at_floor_size
    numbers = {v.n for key, v in sized.items() if key.startswith(start)}
    numbers -= {v.n for key, v in comparison.metrics.items() if key.startswith(start)}
    return f"at {max(numbers)} showers" if numbers else ""


def above_floor(comparison: Comparison, key: str) -> float:
    """A figure over its floor, both of one number of showers; the figure without a floor."""
    return at_floor_size(comparison, key) / (floor_of(comparison, key) or 1.0)


def separations(comparison: Comparison) -> list[str]:
    """Keys of the separation powers of all observables, under- and overflow counted."""
    return [key for key in comparison.metrics if key.startswith(SEPARATION)]


def metrics_at(comparison: Comparison, energy: float) -> Mapping[str, Value]:
    """The figures at an energy point or slice (MeV), by key."""
    point = comparison.per_energy.get(energy)
    return {} if point is None else point.metrics


def energies_of(comparisons: Sequence[Comparison]) -> list[float]:
    """All energies in MeV at which one of the generators was judged, increasing."""
    return sorted({energy for comparison in comparisons for energy in comparison.per_energy})


def curve_at(
    comparison: Comparison, energies: Sequence[float], key: str
) -> tuple[Array, Array, Array]:
    """Values, errors (0 where unknown) and floors at the energies, NaN where there is none."""
    rows = []
    for energy in energies:
        value = metrics_at(comparison, energy).get(key)
        rows.append(
            (np.nan, np.nan, np.nan)
            if value is None
            else (value.value, value.error or 0.0, np.nan if value.floor is None else value.floor)
        )
    values, errors, floors = np.array(rows, dtype=np.float64).reshape(-1, 3).T
    return values, errors, floors


def chi2_at(comparison: Comparison, part: EnergySlice) -> tuple[float, float]:
    """Chi-square of the total energy in a slice and its degrees of freedom; NaN without."""
    for energy, point in comparison.per_energy.items():
        if point.chi2 is not None and point.ndf and part.select(np.array([energy]))[0]:
            return point.chi2, float(point.ndf)
    return float("nan"), float("nan")


def floor_chi2(result: Result) -> Array:
    """Chi-square per degree of freedom of Geant4 against Geant4 in each slice, (K,)."""
    floor = result.shown.floor
    ratio: Array = floor.chi2 / floor.ndf
    return ratio


def attributes_of(result: Result) -> tuple[list[dict[str, AttributeValues]], list[str]]:
    """The attributes read back from each generator's showers, and the names of all of them."""
    attributes = [c.details.notes.attributes for c in result.comparisons]
    return attributes, list(dict.fromkeys(name for one in attributes for name in one))
