"""Energy points and slices, by their names and ranges, and means of observables in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge import units
from caloforge.observables import slices as judged
from caloforge.showers import SAME_ENERGY

Array = NDArray[Any]

FEWEST = 20  # showers below which a mean or a panel shows nothing one could judge


@dataclass(frozen=True)
class EnergySlice:
    """Showers of one incident energy, or of a range (`low` < `high`) of a spectrum, in MeV.

    `energy` is the energy itself, or the median of the reference in the range.
    """

    energy: float
    low: float
    high: float

    @property
    def is_point(self) -> bool:
        """True for a discrete energy."""
        return self.low == self.high

    @property
    def label(self) -> str:
        """The energy with its unit, or the range."""
        if self.is_point:
            return energy_text(self.energy)
        return f"{energy_text(self.low)} – {energy_text(self.high)}"

    def select(self, incident: Array) -> NDArray[np.bool_]:
        """Which of the showers with these incident energies (N,) in MeV belong here, (N,)."""
        if self.is_point:
            return np.isclose(incident, self.energy, rtol=SAME_ENERGY, atol=0.0)
        return (incident >= self.low) & (incident <= self.high)


def energy_text(energy: float) -> str:
    """An energy in MeV, written in MeV, GeV or TeV with three digits."""
    for unit, size in (("TeV", units.TEV), ("GeV", units.GEV)):
        if energy >= 0.9995 * size:
            return f"{energy / size:.3g} {unit}"
    return f"{energy:.3g} MeV"


def energy_slices(incident: Array) -> tuple[EnergySlice, ...]:
    """The energy points of a scan, or the slices of a spectrum, of incident energies (N,) in MeV.

    They are those that are judged: see `caloforge.observables.slices.energy_slices`.
    """
    cut = judged.energy_slices(incident, incident[:0])
    if not cut.spectrum:
        return tuple(EnergySlice(point, point, point) for point in cut.members)
    # The upper edge of a slice belongs to the next one.
    high = np.append(np.nextafter(cut.edges[1:-1], 0), cut.edges[-1])
    return tuple(
        EnergySlice(median, float(low), float(high))
        for median, low, high in zip(cut.members, cut.edges[:-1], high, strict=True)
    )


def three_energies(incident: Array, slices: tuple[EnergySlice, ...]) -> tuple[EnergySlice, ...]:
    """Lowest, middle and highest slice with enough showers for a mean; none for one slice alone.

    `incident` (N,) are the incident energies of the reference in MeV.
    """
    usable = [part for part in slices if int(part.select(incident).sum()) >= 2 * FEWEST]
    if len(slices) < 2 or not usable:
        return ()
    return tuple(usable[k] for k in sorted({0, len(usable) // 2, len(usable) - 1}))


@dataclass(frozen=True)
class Means:
    """Mean and its statistical error per energy slice; NaN where too few showers, both (K,)."""

    mean: Array
    error: Array


def means(values: Array, incident: Array, slices: tuple[EnergySlice, ...]) -> Means:
    """Mean of `values` (N,) in each slice of incident energy (N,); NaN below 20 showers."""
    rows = []
    for part in slices:
        inside = values[part.select(incident)]
        rows.append(
            (inside.mean(), inside.std(ddof=1) / len(inside) ** 0.5)
            if len(inside) >= FEWEST
            else (np.nan, np.nan)
        )
    mean, error = np.array(rows, dtype=np.float64).reshape(-1, 2).T
    return Means(mean, error)
