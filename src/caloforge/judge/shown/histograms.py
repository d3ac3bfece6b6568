"""Histograms for drawing: bins that the reference sets, and counts with under- and overflow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.judge.shown.energies import FEWEST, EnergySlice
from caloforge.metrics.chi2 import RANGE_RMS
from caloforge.observables.axes import Observable, whole_edges

Array = NDArray[Any]

MOST_BINS = 40  # of an observable that takes whole numbers, and of sparsities
SHOWN_QUANTILES = (0.001, 0.999)
WIDE = "response@full range"  # the response over the full range of the reference


@dataclass(frozen=True)
class Bins:
    """Edges (B+1,) in the unit of the observable, and whether the axis is logarithmic."""

    edges: Array
    log: bool = False

    def count(self, values: Array) -> Array:
        """Numbers of the values (N,) below, in each bin and above, (B+2,)."""
        inside, _ = np.histogram(values, bins=self.edges)
        below = int(np.count_nonzero(values < self.edges[0]))
        above = int(np.count_nonzero(values > self.edges[-1]))
        return np.concatenate([[below], inside, [above]]).astype(np.int64)


def at(key: str, part: EnergySlice) -> str:
    """The name of the histogram of an observable in one energy slice."""
    return f"{key}@{part.energy:.10g}"


def split(name: str, slices: tuple[EnergySlice, ...]) -> tuple[str, EnergySlice | None]:
    """Observable and energy slice of the histogram with this name; None for all showers."""
    key, _, energy = name.partition("@")
    return key, next((part for part in slices if at(key, part) == f"{key}@{energy}"), None)


def shown_edges(
    values: Array, *, log: bool = False, bins: int | None = None, most: int = 100
) -> Array:
    """Bin edges (B+1,) that show the central 99.8 % of `values` (N,), with a margin.

    `bins` defaults to what N showers can fill: twice their cube root, at least 20 and at most
    `most`. With `log` only positive values count and the edges are equal in the logarithm. Values
    that cannot span an axis (none, or all equal) get one around them.
    """
    shown = values[np.isfinite(values)]
    shown = np.log10(shown[shown > 0]) if log else shown
    count = bins or int(np.clip(2 * len(values) ** (1 / 3), 20, max(most, 20)))
    low, high = np.quantile(shown, SHOWN_QUANTILES).tolist() if len(shown) else (-1.0, 1.0)
    if not high - low > 1e-9 * max(abs(low), abs(high), 1e-30):
        low, high = low - 0.5 * max(abs(low), 1.0), high + 0.5 * max(abs(high), 1.0)
    margin = 0.04 * (high - low)
    start = 0.0 if not log and 0 <= low < 0.15 * (high - low) else low - margin
    edges = np.linspace(start, high + margin, count + 1)
    return 10**edges if log else edges


def observable_bins(observable: Observable, reference: Array, geometry: Geometry) -> Bins:
    """Bins that show the reference values (N,) of an observable; N > 0."""
    if observable.whole:
        return Bins(whole_edges(reference, MOST_BINS))
    log = observable.log and bool(np.any(reference > 0))
    if not observable.key.startswith("sparsity") or observable.layer is None:
        return Bins(shown_edges(reference, log=log), log)
    # Sparsity counts cells: bins hold equal numbers of its possible values, or they would show
    # combs.
    size = geometry.layers[observable.layer].size
    low, high = (round(float(q) * size) for q in np.quantile(reference, SHOWN_QUANTILES))
    step = max(1, -(-(high - low + 1) // MOST_BINS))
    edges = np.arange(max(low - step, 0), min(high + 2 * step, size + step + 1), step) - 0.5
    return Bins(edges / size, log)


def wide_bins(response: Array) -> Bins:
    """Bins over the full range of the responses (N,) of the reference, with a margin."""
    low, high = float(response.min()), float(response.max())
    margin = max(0.05 * (high - low), 1e-9)
    return Bins(np.linspace(max(0.0, low - margin), high + margin, _bins(response, 60) + 1))


def peak_bins(response: Array) -> Bins:
    """Bins over the peak of the responses (N,) at one energy.

    They reach three RMS about the mean, as for chi-square, and are wide enough to be filled.
    """
    mean, rms = float(response.mean()), float(response.std())
    if not rms > 1e-12 * abs(mean):
        return Bins(shown_edges(response))
    low, high = mean - RANGE_RMS[0] * rms, mean + RANGE_RMS[1] * rms
    return Bins(np.linspace(max(low, 0.0), high, _bins(response, 40) + 1))


def _bins(values: Array, most: int) -> int:
    """Bins that N showers can fill: 2.4 times their cube root, from 12 to `most`."""
    return int(np.clip(2.4 * len(values) ** (1 / 3), 12, most))


def choose_bins(
    geometry: Geometry,
    table: Mapping[str, Observable],
    observables: Mapping[str, Array],
    incident: Array,
    slices: tuple[tuple[EnergySlice, ...], tuple[EnergySlice, ...]],
) -> dict[str, Bins]:
    """The bins of every histogram, by its name (see `at`).

    All observables of `table` have one of all showers, the response one at every energy slice with
    enough showers, the layer energies one at each of the three energies. Values of the reference
    are (N,) each; `slices` are all of them and the three.
    """
    response = observables["response"]
    bins = {
        key: observable_bins(row, observables[key], geometry) for key, row in table.items()
    } | {WIDE: wide_bins(response)}
    for part in slices[0]:
        values = response[part.select(incident)]
        if len(values) >= FEWEST:
            bins[at("response", part)] = peak_bins(values)
    for part in slices[1]:
        rows = part.select(incident)
        for key, row in table.items():
            if key.startswith("layer_energy/"):
                bins[at(key, part)] = observable_bins(row, observables[key][rows], geometry)
    return bins
