"""What nearest neighbours say: precision, recall, density and coverage.

References: M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models",
2020, arXiv:2002.09797; T. Kynkäänniemi et al., 2019, arXiv:1904.06991 (precision, recall).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
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
# Random halves of both samples whose scatter enters the error.
HALVES = 10


@dataclass(frozen=True)
class PRDC:
    """Precision, recall, density and coverage, each a mean over showers with its error.

    The contributions of the showers are kept, so that `among` can average them by incident energy.

    Parameters
    ----------
    precision_of, density_of
        Contribution of each generated shower, (M,).
    recall_of, coverage_of
        Contribution of each reference shower, (N,).
    k
        Number of neighbours.
    halves
        The same of random halves of both samples, with neighbourhoods of their own. The error of a
        mean for given neighbourhoods is too small, because one shower changes several of them. A
        half, drawn without replacement, scatters about as much as independent samples of the whole
        size do. The error is the larger of the two, without halves the first.
    """

    precision_of: Vector
    recall_of: Vector
    density_of: Vector
    coverage_of: Vector
    k: int
    halves: tuple[Half, ...] = ()

    @property
    def precision(self) -> tuple[float, float]:
        """Share of generated showers that lie in the neighbourhood of a reference shower."""
        return self._mean("precision_of")

    @property
    def recall(self) -> tuple[float, float]:
        """Share of reference showers that lie in the neighbourhood of a generated shower."""
        return self._mean("recall_of")

    @property
    def density(self) -> tuple[float, float]:
        """Mean number of reference neighbourhoods a generated shower lies in, over k."""
        return self._mean("density_of")

    @property
    def coverage(self) -> tuple[float, float]:
        """Share of reference showers with a generated shower in their neighbourhood."""
        return self._mean("coverage_of")

    def among(self, first: Array, second: Array) -> PRDC:
        """The same means over a part of the showers, in the neighbourhoods of all.

        `first` (N,) and `second` (M,) say of each shower whether it belongs to the part.
        """
        return replace(
            self,
            precision_of=self.precision_of[second],
            recall_of=self.recall_of[first],
            density_of=self.density_of[second],
            coverage_of=self.coverage_of[first],
            halves=tuple(
                replace(half, found=half.found.among(first[half.first], second[half.second]))
                for half in self.halves
            ),
        )

    def _mean(self, which: str) -> tuple[float, float]:
        values = getattr(self, which)
        error = values.std(ddof=1) / np.sqrt(len(values))
        if self.halves:
            means = [getattr(half.found, which).mean() for half in self.halves]
            error = max(error, np.std(means, ddof=1))
        return float(values.mean()), float(error)


@dataclass(frozen=True)
class Half:
    """Showers of both samples, as sorted indices, and what their neighbourhoods say."""

    first: Array
    second: Array
    found: PRDC


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
    reference: Array,
    generated: Array,
    k: int = NEIGHBOURS,
    centre: Array | None = None,
    halves: Sequence[tuple[Array, Array]] = (),
) -> PRDC:
    """Precision, recall, density and coverage of (N, F) and (M, F) features (2-norm).

    The neighbourhood of a shower is the open ball up to its k-th nearest neighbour in its own
    sample. Identical distributions have density 1 and, for many showers, coverage 1 - 2^-k;
    precision and recall depend on the sizes and the number of dimensions. `centre` (F,) is a point
    that many showers share, such as the shower without energy: ties with those are exact. By
    default all distances are taken about the mean of the reference. `halves` are sorted indices of
    halves of both samples, see `random_halves`, whose scatter enters the error.

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
    whole = np.arange(len(first)), np.arange(len(second))
    all1, all2 = zip(whole, *halves, strict=True)
    radii1, radii2 = _radii(first, all1, k, centre), _radii(second, all2, k, centre)
    inside = [np.zeros(len(part)) for part in all2]
    recalled = [np.zeros(len(part), dtype=bool) for part in all1]
    nearest_of = [np.full(len(part), np.inf) for part in all1]
    for rows, columns, tile in squared_distances(first, second, centre):
        for i, parts in enumerate(zip(all1, all2, strict=True)):
            r, c, own = _own(tile, rows, columns, *parts)
            inside[i][c] += (own < radii1[i][r, None]).sum(axis=0)
            recalled[i][r] |= (own < radii2[i][c]).any(axis=1)
            nearest_of[i][r] = np.minimum(nearest_of[i][r], own.min(axis=1, initial=np.inf))
    found = [
        PRDC(
            precision_of=(inside[i] > 0).astype(np.float64),
            recall_of=recalled[i].astype(np.float64),
            density_of=inside[i] / k,
            coverage_of=(nearest_of[i] < radii1[i]).astype(np.float64),
            k=k,
        )
        for i in range(len(all1))
    ]
    return replace(
        found[0],
        halves=tuple(Half(*h, of_half) for h, of_half in zip(halves, found[1:], strict=True)),
    )


def random_halves(groups: tuple[Array, Array], seed: int) -> list[tuple[Array, Array]]:
    """Sorted indices of ten halves of two samples, each with half of the showers of every group.

    `groups` (N,) and (M,) are numbers that showers of one kind share, such as their incident
    energy. Samples of fewer than 12 showers have no halves: there are not five neighbours in one.
    """
    if min(map(len, groups)) < 2 * (NEIGHBOURS + 1):
        return []
    rng = np.random.default_rng(seed)

    def half(of: Array) -> Array:
        order = np.lexsort((rng.random(len(of)), of))
        return np.sort(order[rng.integers(2) :: 2])

    return [(half(groups[0]), half(groups[1])) for _ in range(HALVES)]


def precision_recall(case: Case) -> Measurements:
    """`precision`, `recall`, `density` and `coverage` of the logarithms of the cells.

    At each energy with 50 showers of both samples they are means over the showers there, in the
    neighbourhoods of all.
    """
    case.tell("precision, recall, density, coverage")
    cut = case.for_neighbours()
    first, second = (log_voxels(sample.cells, case.geometry.cut) for sample in cut.samples)
    empty = log_voxels(np.zeros((1, case.geometry.n_cells)), case.geometry.cut)[0]
    groups = cut.reference.groups, cut.generated.groups
    halves = random_halves(groups, case.seed)
    result = prdc(first, second, centre=empty.astype(np.float64), halves=halves)
    at = {
        energy: _measured(result.among(*(of == energy for of in groups)))
        for energy, *_ in cut.energies()
    }
    return Measurements(_measured(result), at)


def _measured(result: PRDC) -> dict[str, Measured]:
    figures = {}
    for key in ("precision", "recall", "density", "coverage"):
        value, error = getattr(result, key)
        figures[key] = Measured(value, error, len(getattr(result, f"{key}_of")))
    return figures


def _radii(values: Array, parts: Sequence[Array], k: int, centre: Array) -> list[Vector]:
    """Squared distance of each row of a part to its k-th nearest other row there, (n,) each."""
    best = [np.full((len(part), k), np.inf) for part in parts]
    for rows, columns, tile in squared_distances(values, centre=centre):
        if rows == columns:
            np.fill_diagonal(tile, np.inf)
        for part, nearest in zip(parts, best, strict=True):
            r, c, own = _own(tile, rows, columns, part, part)
            if rows != columns:
                _keep_smallest(nearest, c, own.T, k)
            _keep_smallest(nearest, r, own, k)
    return [nearest.max(axis=1) for nearest in best]


def _own(
    tile: Array, rows: slice, columns: slice, first: Array, second: Array
) -> tuple[slice, slice, Array]:
    """What a tile holds of two parts: their places in the parts, and the distances."""
    r, c = (
        slice(*np.searchsorted(part, (where.start, where.stop)))
        for part, where in ((first, rows), (second, columns))
    )
    return r, c, tile[np.ix_(first[r] - rows.start, second[c] - columns.start)]


def _keep_smallest(best: Array, rows: slice, tile: Array, k: int) -> None:
    """Merge new distances (n, m) into the k smallest of each row so far."""
    if tile.shape[1] > k:
        tile = np.partition(tile, k - 1, axis=1)[:, :k]
    best[rows] = np.partition(np.hstack([best[rows], tile]), k - 1, axis=1)[:, :k]
