"""Separation power of two distributions: the triangular discrimination of their histograms.

Reference: CaloChallenge (arXiv:2410.21611). 0 for equal histograms, 1 for histograms without
overlap.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics.base import Case, Measured, Measurements
from caloforge.observables.table import observables

Array = NDArray[Any]

VOXELS = "voxel_energy"
# Separation at one energy: bins that hold equal numbers of reference showers, whatever the
# observable does from 256 MeV to 4 TeV.
BINS_PER_ENERGY = 20


def counts(values: Array, edges: Array, *, flow: bool = False) -> Array:
    """Histogram of values (N,) in bins [a, b), the last one closed: (B,).

    With flow (B + 2,): underflow, bins, overflow.

    Raises
    ------
    DataError
        For NaN or infinite values.
    """
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise DataError(
            "An observable is NaN or infinite; expected finite values: check the showers."
        )
    inside = np.histogram(values, bins=edges)[0]
    if not flow:
        return inside
    below, above = np.count_nonzero(values < edges[0]), np.count_nonzero(values > edges[-1])
    return np.concatenate([[below], inside, [above]])


def separation_power(
    reference: Array, generated: Array, edges: Array, *, flow: bool = False
) -> float:
    """S = 1/2 sum_i (h1_i - h2_i)^2 / (h1_i + h2_i) of histograms of unit sum.

    Parameters
    ----------
    reference, generated
        Values of one observable, (N,) and (M,).
    edges
        Bin edges (B + 1,), increasing.
    flow
        False: values outside the edges are dropped, as in the challenge's public evaluation, which
        cannot see them. True: under- and overflow are two more bins.

    Raises
    ------
    DataError
        For empty samples and NaN or infinite values.
    """
    if len(reference) == 0 or len(generated) == 0:
        raise DataError(
            f"Got {len(reference)} reference and {len(generated)} generated values; expected at "
            "least one of each."
        )
    return histogram_separation(
        counts(reference, edges, flow=flow), counts(generated, edges, flow=flow)
    )


def histogram_separation(reference: Array, generated: Array) -> float:
    """Separation power of two histograms of counts (B,): 1 if one is empty, 0 if both are."""
    h1, h2 = _normalised(reference), _normalised(generated)
    if h1.sum() == 0 or h2.sum() == 0:
        return 0.0 if h1.sum() == h2.sum() else 1.0
    both = h1 + h2
    filled = both > 0
    return float(0.5 * ((h1 - h2)[filled] ** 2 / both[filled]).sum())


def separation_error(reference: Array, generated: Array) -> float:
    """Standard deviation of `histogram_separation` by the fluctuations of both counts (B,).

    Linear error propagation gives D = sum over both samples of Var_p(dS/dp) / N. For equal
    distributions of k degrees of freedom S is (a / 4) chi-square_k with a = 1/N + 1/M: D is then
    a^2 k / 4 on average, the true variance a^2 k / 8. Subtracting b = a^2 k / 8 from D is exact
    there and negligible where S is significant.
    """
    n1, n2 = float(np.sum(reference)), float(np.sum(generated))
    if n1 == 0 or n2 == 0:
        return 0.0
    h1, h2 = _normalised(reference), _normalised(generated)
    filled = (h1 + h2) > 0
    h1, h2 = h1[filled], h2[filled]
    slope1 = 0.5 * (h1 - h2) * (h1 + 3 * h2) / (h1 + h2) ** 2
    slope2 = 0.5 * (h2 - h1) * (h2 + 3 * h1) / (h1 + h2) ** 2
    linear = _variance(slope1, h1) / n1 + _variance(slope2, h2) / n2
    null = (1 / n1 + 1 / n2) ** 2 * (len(h1) - 1) / 8
    return float(np.sqrt(max(linear - null, null)))


# --- of all observables --------------------------------------------------------------------------
def measure(case: Case) -> Measurements:
    """`separation/KEY` and `separation_with_flow/KEY` of every observable and of the voxels.

    Over all energies the bins are those of the whole reference. `separation/KEY` has the published
    bins, where they are others, and leaves out what falls outside. The voxel distribution is
    compared where both samples have it in the same bins. At each energy with 50 showers of both
    samples there is `separation_with_flow/KEY`, in bins that hold a twentieth of the reference
    each.
    """
    n = len(case.generated)
    total: dict[str, Measured] = {}
    for family, published in (("separation", True), ("separation_with_flow", False)):
        for key, (first, second) in _histograms(case, published).items():
            # The voxels of one shower are not independent: no error is known for theirs.
            error = None if key == VOXELS else separation_error(first, second)
            total[f"{family}/{key}"] = Measured(histogram_separation(first, second), error, n)
    at: dict[float, dict[str, Measured]] = {}
    for energy, rows1, rows2 in case.energies():
        at[energy] = {}
        for row in observables(case.geometry):
            first = case.reference.values(row.key)[rows1]
            second = case.generated.values(row.key)[rows2]
            edges = equal_bins(first)
            both = [counts(values, edges, flow=True) for values in (first, second)]
            value, error = histogram_separation(*both), separation_error(*both)
            at[energy][f"separation_with_flow/{row.key}"] = Measured(value, error, len(second))
    return Measurements(total, at)


def _histograms(case: Case, published: bool) -> dict[str, list[Array]]:
    """Key of an observable, or `voxel_energy` -> histograms of both samples.

    They are as the challenge publishes them, without flow, or in our bins with flow.
    """
    filled = {}
    for row in observables(case.geometry):
        values = np.asarray(case.reference.all.observables[row.key])
        edges = row.published_edges(values) if published else row.edges(values)
        filled[row.key] = [
            counts(s.values(row.key), edges, flow=not published) for s in case.samples
        ]
    if same_voxels(case):
        inside = slice(1, -1) if published else slice(None)
        filled[VOXELS] = [
            sample.voxels.sum(axis=0, dtype=np.int64)[inside] for sample in case.samples
        ]
    return filled


def same_voxels(case: Case) -> bool:
    """Whether both samples have the voxel distribution in the same bins."""
    first, second = (sample.all.voxel_edges for sample in case.samples)
    return np.array_equal(first, second)


def equal_bins(values: Array) -> Array:
    """Edges at the quantiles of the values; a value that many showers share has its own bin."""
    quantiles = np.quantile(values, np.linspace(0, 1, BINS_PER_ENERGY + 1))
    edges, times = np.unique(quantiles, return_counts=True)
    shared = edges[times > 1]
    return np.unique(np.concatenate([edges, shared, np.nextafter(shared, np.inf)]))


def _normalised(histogram: Array) -> Array:
    histogram = np.asarray(histogram, dtype=np.float64)
    total = histogram.sum()
    return histogram / total if total > 0 else histogram


def _variance(values: Array, weights: Array) -> float:
    mean = float((weights * values).sum())
    return float((weights * (values - mean) ** 2).sum())
