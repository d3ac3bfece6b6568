"""What nearest neighbours say: precision, recall, density and coverage.

References: M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models",
2020, arXiv:2002.09797; T. Kynkäänniemi et al., 2019, arXiv:1904.06991 (precision, recall).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics.base import Case, Measured, Measurements
from caloforge.metrics.matrices import check_pair, squared_distances

Array = NDArray[Any]
Vector = NDArray[np.float64]

NEIGHBOURS = 5
# What a voxel without energy is counted as, MeV.
EMPTY = 0.1


@dataclass(frozen=True)
class PRDC:
    """Precision, recall, density and coverage, each a mean over showers with its error.

    The errors are those of the means, sqrt(variance / showers), for given neighbourhoods. The
    contributions of the showers are kept, so that a caller can average them by incident energy.

    Parameters
    ----------
    precision_of, density_of
        Contribution of each generated shower, (M,).
    recall_of, coverage_of
        Contribution of each reference shower, (N,).
    k
        Number of neighbours.
    """

    precision_of: Vector
    recall_of: Vector
    density_of: Vector
    coverage_of: Vector
    k: int

    @property
    def precision(self) -> tuple[float, float]:
        """Share of generated showers that lie in the neighbourhood of a reference shower."""
        return _mean(self.precision_of)

    @property
    def recall(self) -> tuple[float, float]:
        """Share of reference showers that lie in the neighbourhood of a generated shower."""
        return _mean(self.recall_of)

    @property
    def density(self) -> tuple[float, float]:
        """Mean number of reference neighbourhoods a generated shower lies in, over k."""
        return _mean(self.density_of)

    @property
    def coverage(self) -> tuple[float, float]:
        """Share of reference showers with a generated shower in their neighbourhood."""
        return _mean(self.coverage_of)


def log_voxels(energies: Array, cut: float) -> NDArray[np.float32]:
    """log10 of the voxel energies (N, V) in MeV after the cut, zeros as 0.1 MeV, (N, V) float32.

    The space in which the CaloChallenge (arXiv:2410.21611) looks for neighbours. With the cut of
    data sets 2 and 3, 15.15 keV, an empty voxel counts as more than a faint one; that is theirs.
    """
    voxels = np.asarray(energies).astype(np.float32)
    voxels[voxels < cut] = 0.0
    voxels[voxels == 0] = EMPTY
    return np.log10(voxels, out=voxels)


def prdc(
    reference: Array, generated: Array, k: int = NEIGHBOURS, centre: Array | None = None
) -> PRDC:
    """Precision, recall, density and coverage of (N, F) and (M, F) features (2-norm).

    The neighbourhood of a shower is the open ball up to its k-th nearest neighbour in its own
    sample. Identical distributions have density 1 and, for many showers, coverage 1 - 2^-k;
    precision and recall depend on the sizes and the number of dimensions. `centre` (F,) is a point
    that many showers share, such as the shower without energy: ties with those are exact. By
    default all distances are taken about the mean of the reference.

    Raises
    ------
    DataError
        For k < 1, fewer than k + 1 showers in a sample, different numbers of features, NaN or
        infinite values.
    """
    if k < 1:
        raise DataError(f"Got k = {k} neighbours; expected at least 1.")
    first, second = check_pair(reference, generated, k + 1)
    if centre is None:
        centre = first.mean(axis=0, dtype=np.float64)
    radii1, radii2 = _radii(first, k, centre), _radii(second, k, centre)
    inside = np.zeros(len(second))
    recalled = np.zeros(len(first), dtype=bool)
    nearest_of = np.full(len(first), np.inf)
    for rows, columns, tile in squared_distances(first, second, centre):
        inside[columns] += (tile < radii1[rows, None]).sum(axis=0)
        recalled[rows] |= (tile < radii2[columns]).any(axis=1)
        np.minimum(nearest_of[rows], tile.min(axis=1), out=nearest_of[rows])
    return PRDC(
        precision_of=(inside > 0).astype(np.float64),
        recall_of=recalled.astype(np.float64),
        density_of=inside / k,
        coverage_of=(nearest_of < radii1).astype(np.float64),
        k=k,
    )


def precision_recall(case: Case) -> Measurements:
    """`precision`, `recall`, `density` and `coverage` of the logarithms of the cells.

    At each energy with 50 showers of both samples they are means over the showers there, in the
    neighbourhoods of all.
    """
    case.tell("precision, recall, density, coverage")
    cut = case.for_neighbours()
    first, second = (log_voxels(sample.cells, case.geometry.cut) for sample in cut.samples)
    empty = log_voxels(np.zeros((1, case.geometry.n_cells)), case.geometry.cut)[0]
    result = prdc(first, second, centre=empty.astype(np.float64))
    total: dict[str, Measured] = {}
    at: dict[float, dict[str, Measured]] = {}
    for key, which in (("precision", 1), ("recall", 0), ("density", 1), ("coverage", 0)):
        value, error = getattr(result, key)
        total[key] = Measured(value, error, len(cut.generated))
        of_shower = getattr(result, f"{key}_of")
        for energy, *rows in cut.energies():
            values = of_shower[rows[which]]
            mean, spread = float(values.mean()), float(values.std() / len(values) ** 0.5)
            at.setdefault(energy, {})[key] = Measured(mean, spread, len(values))
    return Measurements(total, at)


def _radii(values: Array, k: int, centre: Array) -> Vector:
    """Squared distance of each row to its k-th nearest other row, (N,)."""
    best = np.full((len(values), k), np.inf)
    for rows, columns, tile in squared_distances(values, centre=centre):
        if rows == columns:
            np.fill_diagonal(tile, np.inf)
        else:
            _keep_smallest(best, columns, tile.T, k)
        _keep_smallest(best, rows, tile, k)
    return best.max(axis=1)


def _keep_smallest(best: Array, rows: slice, tile: Array, k: int) -> None:
    """Merge new distances (n, m) into the k smallest of each row so far."""
    if tile.shape[1] > k:
        tile = np.partition(tile, k - 1, axis=1)[:, :k]
    best[rows] = np.partition(np.hstack([best[rows], tile]), k - 1, axis=1)[:, :k]


def _mean(values: Vector) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
