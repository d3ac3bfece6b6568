"""What a row of the table of observables is: name, unit, axis, histogram edges, source."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.showers import Showers

Array = NDArray[Any]

LOG_EDGES = 40
VOXEL_EDGES = 50
BINS = 100
RESPONSE = (0.0, 1.5)  # range of the response of a detector that states none
RESPONSE_BINS = 20  # of the response at one incident energy, as in the CaloChallenge
RESPONSE_RMS = 3.0  # standard deviations on either side of the mean where no range is stated


@dataclass(frozen=True)
class Observable:
    """One number of a shower.

    Parameters
    ----------
    key
        Name in tables and results: "response", "layer_energy/12", "centre_x/1", ... (the number is
        the layer's id).
    label, unit
        For axes; the unit is MeV, mm, "mm √MeV" or empty.
    layer
        Position of the layer in the geometry, None for the whole shower.
    bins
        (number, low, high) of a sensible axis, known without data.
    log
        Whether that axis is logarithmic.
    separation_bins
        Edges of the separation power where they are fixed, None where they follow the reference:
        see `edges`.
    source
        Where the definition and the axis come from.
    whole
        Whether the values are whole numbers: bins then hold equally many of them.
    published_bins
        Edges of the published histograms, where they are others than those of `edges`.
    """

    key: str
    label: str
    unit: str
    layer: int | None
    bins: tuple[int, float, float]
    log: bool
    separation_bins: Array | None = field(compare=False)
    source: str
    whole: bool = False
    published_bins: Array | None = field(default=None, compare=False)

    def published_edges(self, reference: Array) -> Array:
        """Edges of the published separation power, given the reference values (N,)."""
        return self.edges(reference) if self.published_bins is None else self.published_bins

    def edges(self, reference: Array) -> Array:
        """Edges of the separation power, given the reference values (N,) in the observable's unit.

        Energies have 40 log-spaced edges from the cut (without a cut: from the smallest value
        above 0) to the largest reference value. Whole numbers have at most 100 bins over the
        range of the reference. Other observables without a fixed axis, such as the response of a
        read-out that is not calibrated to 1, have 100 bins over the mean +- 5 RMS of the
        reference.
        """
        if self.separation_bins is not None:
            return self.separation_bins
        values = np.asarray(reference, dtype=np.float64)
        if self.log:
            return log_edges(values, self.bins[1], LOG_EDGES)
        if self.whole:
            return whole_edges(values, BINS)
        return spread_edges(values, 5.0, self.bins[0])


@dataclass(frozen=True)
class Family:
    """Observables that are defined and computed together.

    Parameters
    ----------
    name
        What the observables are, in a few words.
    rows
        Function that gives the table's rows for a geometry; there are none where the family does
        not apply.
    values
        Pure function of the showers and of the values of the families before. It gives for the
        key of every row an array (N,) of float64 in the row's unit, finite also for a shower
        without energy.
    """

    name: str
    rows: Callable[[Geometry], list[Observable]]
    values: Callable[[Showers, Mapping[str, Array]], dict[str, Array]]


def linear(
    key: str,
    label: str,
    axis: tuple[float, float],
    source: str,
    *,
    unit: str = "",
    layer: int | None = None,
    fixed: bool = True,
    published: float | None = None,
) -> Observable:
    """A row with 100 bins on a linear axis. Where it is not `fixed`, the separation power has bins
    that follow the reference; `published` is the upper end of the published axis from 0, if it is
    another one.
    """
    low, high = axis
    edges = np.linspace(low, high, BINS + 1) if fixed else None
    theirs = None if published is None else np.linspace(0.0, published, BINS + 1)
    return Observable(
        key, label, unit, layer, (BINS, low, high), False, edges, source, published_bins=theirs
    )


def energy(key: str, label: str, geometry: Geometry, source: str) -> Observable:
    """A row for an energy in MeV: log axis from the cut to the highest incident energy."""
    axis = (LOG_EDGES - 1, geometry.cut, highest_energy(geometry))
    return Observable(key, label, "MeV", None, axis, True, None, source)


def number_of_cells(key: str, label: str, cells: int, source: str) -> Observable:
    """A row for a number of cells out of `cells`."""
    return Observable(key, label, "", None, whole_bins(cells), False, None, source, whole=True)


def whole_bins(most: int) -> tuple[int, float, float]:
    """(number, low, high) of at most 100 bins of equally many whole numbers from 0 to `most`."""
    step = -(-(most + 1) // BINS)
    number = -(-(most + 1) // step)
    return number, -0.5, number * step - 0.5


def whole_edges(values: Array, most: int) -> Array:
    """Edges of at most `most` bins of equally many whole numbers over the range of `values`."""
    low, high = float(np.floor(values.min())), float(np.ceil(values.max()))
    step = max(1.0, np.ceil((high - low + 1) / most))
    number = int(np.ceil((high - low + 1) / step))
    return low - 0.5 + step * np.arange(number + 1)


def log_edges(values: Array, low: float, number: int) -> Array:
    """`number` log-spaced edges from `low` (0: the smallest value > 0) to the largest value.

    The logarithm is taken in the precision of `values`, because the public evaluation does.
    """
    positive = values[values > 0]
    if low <= 0:
        low = float(positive.min()) if len(positive) else 1.0
    # A layer that is never hit still needs an axis.
    high = positive.max() if len(positive) and positive.max() > low else 10 * low
    edges = np.logspace(np.log10(low), np.log10(high), number)
    # 10**log10(x) rounds either way; the largest reference value belongs to the last bin.
    edges[-1] = max(edges[-1], float(high))
    return edges


def spread_edges(values: Array, rms: float, number: int) -> Array:
    """Edges of `number` bins over the mean +- `rms` standard deviations of `values`."""
    mean, spread = float(values.mean()), float(values.std())
    if not spread > 1e-12 * abs(mean):
        spread = 0.02 * abs(mean) or 1.0
    return np.linspace(mean - rms * spread, mean + rms * spread, number + 1)


def response_edges(geometry: Geometry, energy: float, reference: Array) -> Array:
    """Edges for the response at one energy point (MeV), given the reference responses (N,).

    There are 20 bins. They span the range that the geometry states for this energy
    (`Limits.response_at`), and otherwise three standard deviations about the reference's mean.
    """
    stated = [entry for entry in geometry.limits.response_at if entry.energy <= energy]
    if stated:
        return np.linspace(stated[-1].low, stated[-1].high, RESPONSE_BINS + 1)
    return spread_edges(np.asarray(reference, dtype=np.float64), RESPONSE_RMS, RESPONSE_BINS)


def highest_energy(geometry: Geometry) -> float:
    """Incident energy in MeV at the upper end of all conditions."""
    highest = np.array([[max(abs(c.low), abs(c.high)) for c in geometry.conditions]])
    return float(geometry.incident_energy(highest)[0])


def share(part: Array, whole: Array) -> Array:
    """part / whole, 0 where the whole is 0: shapes alike."""
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
