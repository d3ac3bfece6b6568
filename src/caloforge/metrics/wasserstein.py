"""Wasserstein distance of one observable, with its statistical error."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics.base import Case, Measured, Measurements
from caloforge.observables.table import observables

Array = NDArray[Any]


def wasserstein(reference: Array, generated: Array) -> tuple[float, float]:
    """First Wasserstein distance of (N,) and (M,) values in their unit, and its error.

    W1 = integral |F - G| dx over the two cumulative distributions (SciPy). To first order in the
    fluctuations of F and G, W1 is the difference of the means of phi, phi' = -sign(F - G), over
    the two samples: the error is sqrt(Var phi / N + Var phi / M).

    Raises
    ------
    DataError
        For empty samples and NaN or infinite values.
    """
    from scipy.stats import wasserstein_distance

    first = np.sort(np.asarray(reference, dtype=np.float64))
    second = np.sort(np.asarray(generated, dtype=np.float64))
    if len(first) == 0 or len(second) == 0:
        raise DataError(
            f"Got {len(first)} reference and {len(second)} generated values; expected at "
            "least one of each."
        )
    # Sorted, NaN is last and infinities are at the ends.
    if not np.isfinite([first[0], first[-1], second[0], second[-1]]).all():
        raise DataError(
            "An observable is NaN or infinite; expected finite values: check the showers."
        )
    value = float(wasserstein_distance(first, second))
    grid = np.sort(np.concatenate([first, second]))
    cdf1 = np.searchsorted(first, grid[:-1], side="right") / len(first)
    cdf2 = np.searchsorted(second, grid[:-1], side="right") / len(second)
    phi = np.concatenate([[0.0], np.cumsum(-np.sign(cdf1 - cdf2) * np.diff(grid))])
    variance = np.interp(first, grid, phi).var() / len(first)
    variance += np.interp(second, grid, phi).var() / len(second)
    return value, float(np.sqrt(variance))


def measure(case: Case) -> Measurements:
    """`wasserstein/KEY` of every observable, over all energies and at each with 50 showers."""
    total: dict[str, Measured] = {}
    energies = list(case.energies())
    at: dict[float, dict[str, Measured]] = {energy: {} for energy, *_ in energies}
    for row in observables(case.geometry):
        first, second = (sample.values(row.key) for sample in case.samples)
        total[f"wasserstein/{row.key}"] = Measured(*wasserstein(first, second), len(second))
        for energy, rows1, rows2 in energies:
            distance = wasserstein(first[rows1], second[rows2])
            at[energy][f"wasserstein/{row.key}"] = Measured(*distance, len(rows2))
    return Measurements(total, at)
