"""What nearest neighbours say: precision, recall, density, coverage, and copies of the training.

References: M. F. Naeem et al., "Reliable Fidelity and Diversity Metrics for Generative Models",
2020, arXiv:2002.09797; T. Kynkäänniemi et al., 2019, arXiv:1904.06991 (precision, recall); for
copies C. Meehan et al., "A Non-Parametric Test to Detect Data-Copying in Generative Models", 2020,
arXiv:2004.05675.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation.matrices import check_matrix, check_pair, squared_distances

Array = NDArray[Any]
Vector = NDArray[np.float64]

NEIGHBOURS = 5
# What a voxel without energy is counted as, MeV.
EMPTY = 0.1
# The held-out showers nearest to the training ones, as a share.
CLOSE = 0.01
# An energy slice says something about copies with as many showers of each sample.
SLICE = 20


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


def fractions(energies: Array, incident: Array) -> NDArray[np.float32]:
    """Cell energies (N, V) over the incident energy (N,), both MeV: (N, V) float32.

    The space of `memorising`: a distance is then the energy that sits in other cells, as a share
    of the incident energy, and the cells that hold the shower decide, not its faint halo.
    """
    cells = np.asarray(energies).astype(np.float32)
    cells /= np.asarray(incident, dtype=np.float32).reshape(-1, 1)
    return cells


def prdc(reference: Array, generated: Array, k: int = NEIGHBOURS) -> PRDC:
    """Precision, recall, density and coverage of (N, F) and (M, F) features (2-norm).

    The neighbourhood of a shower is the open ball up to its k-th nearest neighbour in its own
    sample. Identical distributions have density 1 and, for many showers, coverage 1 - 2^-k;
    precision and recall depend on the sizes and the number of dimensions.

    Raises
    ------
    DataError
        For k < 1, fewer than k + 1 showers in a sample, different numbers of features, NaN or
        infinite values.
    """
    if k < 1:
        raise DataError(f"Got k = {k} neighbours; expected at least 1.")
    first, second = check_pair(reference, generated, k + 1)
    radii1, radii2 = _radii(first, k), _radii(second, k)
    inside = np.zeros(len(second))
    recalled = np.zeros(len(first), dtype=bool)
    nearest_of = np.full(len(first), np.inf)
    for rows, columns, tile in squared_distances(first, second):
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


def nearest(
    reference: Array, generated: Array, groups: tuple[Array, Array] | None = None
) -> tuple[NDArray[np.int64], Vector]:
    """For each reference row its nearest generated one: index (N,) and distance (N,), 2-norm.

    With `groups`, labels (N,) and (M,) such as slices of incident energy, only rows of the same
    label are compared; a row without a partner gets index -1 and distance inf.

    Raises
    ------
    DataError
        For empty samples, different numbers of features, NaN or infinite values, or labels that
        are not one a row.
    """
    first, second = check_pair(reference, generated, 1)
    labels1, labels2 = (
        (np.asarray(groups[0]), np.asarray(groups[1]))
        if groups
        else (np.zeros(len(first)), np.zeros(len(second)))
    )
    for labels, rows in ((labels1, first), (labels2, second)):
        if labels.shape != (len(rows),):
            raise DataError(
                f"Got group labels of shape {labels.shape} for {len(rows)} showers; expected "
                "one label a shower."
            )
    index = np.full(len(first), -1, dtype=np.int64)
    distance = np.full(len(first), np.inf)
    for label in np.intersect1d(labels1, labels2):
        here, there = np.flatnonzero(labels1 == label), np.flatnonzero(labels2 == label)
        index[here] = there[_nearest(_take(first, here), _take(second, there))]
    found = np.flatnonzero(index >= 0)
    for k in range(0, len(found), 256):
        # The distance itself by differences: exact where showers are close.
        part = found[k : k + 256]
        gap = first[part].astype(np.float64) - second[index[part]]
        distance[part] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    return index, distance


@dataclass(frozen=True)
class Memorising:
    """Whether generated showers are nearer to the training showers than fresh Geant4 ones are.

    Parameters
    ----------
    closer, closer_error
        P(distance of a generated shower < that of a held-out one), ties half (Mann-Whitney AUC):
        0.5 without memorising, 1 for copies.
    ratio
        Median of the generated distances, each over the median held-out distance of its slice.
    close, close_expected
        Share of generated showers closer than the nearest 1 % of the held-out ones, and what it
        is without memorising.
    copied, copied_error
        Excess of generated showers whose nearest Geant4 shower is a training one and not a
        held-out one: 0 without memorising whatever the spread of the generator, 1 for copies. The
        error is that of 0.
    generated, held_out
        Distance of each generated (G,) and held-out (H,) shower to its nearest training shower;
        inf where its slice has none.
    used
        Labels of the slices that entered.
    """

    closer: float
    closer_error: float
    ratio: float
    close: float
    close_expected: float
    copied: float
    copied_error: float
    generated: Vector
    held_out: Vector
    used: tuple[Any, ...]


def memorising(
    train: Array,
    held_out: Array,
    generated: Array,
    groups: tuple[Array, Array, Array] | None = None,
) -> Memorising:
    """Compare distances to the nearest training shower: of generated and of held-out showers.

    Take `fractions` as features, and slices of incident energy as `groups`: distances are only
    compared within a slice. `closer`, `ratio` and `close` also move for a generator with too
    little spread, whose showers sit in the middle of all others, near the training showers
    without any having been copied. `copied` does not: who has seen neither sample cannot tell
    training from held-out showers, so the nearest of all T + H is a training shower with
    probability T / (T + H). A generator that memorises has `copied` above 0.

    Parameters
    ----------
    train, held_out, generated
        Features (T, F), (H, F), (G, F): training showers, Geant4 showers that were not trained on,
        and generated showers.
    groups
        Labels (T,), (H,), (G,). Slices with fewer than 20 showers of one sample are left out.

    Raises
    ------
    DataError
        For empty samples, different numbers of features, NaN or infinite values, or when no slice
        has enough showers.
    """
    check_matrix(held_out, "held-out", 1)
    check_matrix(train, "training", 1)
    samples = (train, held_out, generated)
    labels = [np.asarray(k) for k in groups or [np.zeros(len(s), dtype=int) for s in samples]]
    of_train, of_held, of_generated = labels
    _, held_distance = nearest(held_out, train, (of_held, of_train))
    near_train, distance = nearest(generated, train, (of_generated, of_train))
    near_held, to_held = nearest(generated, held_out, (of_generated, of_held))
    slices: dict[Any, _Slice] = {}
    for label in np.unique(of_generated):
        training, fresh, here = (part == label for part in labels)
        if min(training.sum(), fresh.sum(), here.sum()) < SLICE:
            continue
        first = (distance[here] < to_held[here]) + 0.5 * (distance[here] == to_held[here])
        hit = np.where(first > 0, near_train[here], len(train) + near_held[here])
        slices[label.item()] = _Slice(
            *_closer(distance[here], held_distance[fresh]),
            *_copied(first, hit, int(training.sum()), int(fresh.sum())),
        )
    if not slices:
        raise DataError(
            f"No slice of incident energy has {SLICE} showers of the training, the held-out and "
            "the generated sample; expected at least one: give more showers or wider slices."
        )
    return _combine(slices, distance, held_distance)


@dataclass(frozen=True)
class _Slice:
    """One slice of incident energy: G generated and H held-out showers."""

    held_out: int
    closer: float
    closer_variance: float
    # Generated distances over the median held-out one, (G,); empty where that is 0.
    scaled: Vector
    close: float
    share: float
    share_variance: float
    expected: float
    generated: int


def _closer(generated: Vector, held_out: Vector) -> tuple[int, float, float, Vector, float]:
    """H, AUC, variance of the AUC, scaled distances and share of close ones of a slice."""
    # Placement values: their means are the AUC, their variances its error (DeLong et al., 1988).
    of_generated = 1 - _placement(generated, held_out)
    of_held = _placement(held_out, generated)
    variance = of_generated.var(ddof=1) / len(generated) + of_held.var(ddof=1) / len(held_out)
    median = np.median(held_out)
    scaled = generated / median if median > 0 else np.empty(0)
    close = float((1 - of_generated < CLOSE).mean())
    return len(held_out), float(of_generated.mean()), float(variance), scaled, close


def _copied(first: Vector, hit: Array, train: int, held: int) -> tuple[float, float, float, int]:
    """Share of showers nearest to training, its variance, its expectation and G of a slice.

    The variance is that over all ways to call `train` of the T + H showers training, with the hits
    each gets as they are (sampling without replacement): a shower that many are nearest to counts
    as one.
    """
    total, size = train + held, len(first)
    hits = np.unique(hit, return_counts=True)[1].astype(np.float64)
    spread = (hits**2).sum() - size**2 / total
    variance = train * held / (total * (total - 1)) * spread / size**2
    return float(first.mean()), float(variance), train / total, size


def _combine(slices: dict[Any, _Slice], generated: Vector, held_out: Vector) -> Memorising:
    """Averages over slices, by generated showers; the AUC by the inverse of its null variance."""
    parts = list(slices.values())
    size = np.array([part.generated for part in parts], dtype=np.float64)
    held = np.array([part.held_out for part in parts], dtype=np.float64)
    auc = size * held / (size + held)
    auc /= auc.sum()
    scaled = np.concatenate([part.scaled for part in parts])
    room = (size * [1 - part.expected for part in parts]).sum()
    excess = (size * [part.share - part.expected for part in parts]).sum()
    # A rank among H held-out showers is each of 0 ... H with probability 1 / (H + 1).
    chance = np.ceil(CLOSE * held) / (held + 1)
    return Memorising(
        closer=min(1.0, float(auc @ [part.closer for part in parts])),
        closer_error=float(np.sqrt(auc**2 @ [part.closer_variance for part in parts])),
        ratio=float(np.median(scaled)) if len(scaled) else float("nan"),
        close=float(size @ [part.close for part in parts] / size.sum()),
        close_expected=float(size @ chance / size.sum()),
        copied=float(excess / room),
        copied_error=float(np.sqrt(size**2 @ [part.share_variance for part in parts]) / room),
        generated=generated,
        held_out=held_out,
        used=tuple(slices),
    )


def _placement(values: Vector, others: Vector) -> Vector:
    """Share of `others` below each value, ties half."""
    ordered = np.sort(others)
    below = np.searchsorted(ordered, values, side="left")
    return (below + np.searchsorted(ordered, values, side="right")) / (2 * len(ordered))


def _radii(values: Array, k: int) -> Vector:
    """Squared distance of each row to its k-th nearest other row, (N,)."""
    best = np.full((len(values), k), np.inf)
    for rows, columns, tile in squared_distances(values):
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


def _nearest(first: Array, second: Array) -> NDArray[np.int64]:
    """Index of the nearest row of `second` for each row of `first`."""
    index = np.zeros(len(first), dtype=np.int64)
    best = np.full(len(first), np.inf)
    for rows, columns, tile in squared_distances(first, second):
        column = tile.argmin(axis=1)
        value = tile[np.arange(len(tile)), column]
        better = value < best[rows]
        index[rows][better] = column[better] + columns.start
        best[rows][better] = value[better]
    return index


def _take(values: Array, rows: Array) -> Array:
    """The rows, without a copy where they are all."""
    return values if len(rows) == len(values) else values[rows]


def _mean(values: Vector) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
