"""The floor: two samples of the reference simulation, at the conditions of the reference.

A floor from showers of other energies says nothing: where many metrics follow the mixture of
energies, it would be that of the mixtures. The second sample is therefore drawn to the numbers of
showers that the reference has at each energy point, and, in every other condition, in bins of
the reference. Without a second sample the reference is halved in the same way. The metrics of one
observable at a time are worked out for several draws; their mean is the floor, and their scatter
says how far a single sample of the reference simulation lies from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.judge.kinds import ROLE
from caloforge.judge.notices import shared_showers
from caloforge.judge.sample import whole
from caloforge.judge.summary import Summary
from caloforge.metrics.base import Measured, Measurements, Sample
from caloforge.showers import point_of

Array = NDArray[Any]

DRAWS = 5  # of a floor, for the metrics that cost little
LEAF = 16  # showers of the reference in a bin of all conditions, at least
SMALLEST = 0.25  # of the showers wanted: a floor is made smaller to match, but not below that
ROOM = 1.25  # times the showers wanted: with fewer to choose from, draws are too much alike
SAME_SHOWERS = 0.5  # of a second sample that are the reference's: it is the reference itself
FEWEST = 4  # showers: the least that a second sample is cut to
UNLIKELY = 1e-4  # probability below which two distributions of a condition are called different


# --- bins of the conditions ----------------------------------------------------------------------
@dataclass(frozen=True)
class Bins:
    """The bins of the reference's conditions, and which of them its and other showers are in.

    Parameters
    ----------
    points, other_points
        Number of the energy point (with its kind of particle) that a shower belongs to, (N,) and
        (M,); -1 for an energy that the reference does not have. A spectrum is one point.
    leaves, other_leaves
        Number of the bin of all conditions within the point, (N,) and (M,).
    """

    points: Array
    other_points: Array
    leaves: Array
    other_leaves: Array


def bins_of(reference: Summary, other: Summary) -> Bins:
    """Bins of the reference's conditions with 16 showers or more, by medians in turn."""
    points, other_points = _points(reference, other)
    values, other_values = _columns(reference), _columns(other)
    leaves, other_leaves = np.zeros(len(points), int), np.zeros(len(other_points), int)
    number = 0
    waiting = [
        (np.flatnonzero(points == p), np.flatnonzero(other_points == p), 0)
        for p in np.unique(points)
    ]
    while waiting:
        rows, other_rows, turn = waiting.pop()
        parts = _split(values, rows, turn) if len(rows) >= 2 * LEAF else None
        if parts is None:
            leaves[rows], other_leaves[other_rows] = number, number
            number += 1
            continue
        column, middle, turn = parts
        low, other_low = values[rows, column] <= middle, other_values[other_rows, column] <= middle
        waiting += [(rows[low], other_rows[other_low], turn)]
        waiting += [(rows[~low], other_rows[~other_low], turn)]
    return Bins(points, other_points, leaves, other_leaves)


def _split(values: Array, rows: Array, turn: int) -> tuple[int, float, int] | None:
    """The next column that the rows differ in, its median, and the turn after it; or None."""
    columns = values.shape[1]
    for k in range(turn, turn + columns):
        column = values[rows, k % columns]
        middle = float(np.median(column))
        if middle >= column.max():
            below = column[column < middle]
            middle = float(below.max()) if len(below) else middle
        count = int((column <= middle).sum())
        if min(count, len(rows) - count) >= LEAF // 2:
            return k % columns, middle, k + 1
    return None


def _points(reference: Summary, other: Summary) -> tuple[Array, Array]:
    labels = []
    for summary in (reference, other):
        energy, points = summary.incident_energy, reference.points
        label = point_of(energy, points) if len(points) else np.zeros(len(energy), int)
        kind = summary.geometry.find(ROLE)
        if kind is not None:
            particle = np.rint(summary.conditions[:, kind]).astype(int)
            label = np.where(label < 0, -1, label + (len(points) + 1) * particle)
        labels.append(label)
    return labels[0], labels[1]


def _columns(summary: Summary) -> Array:
    """Incident energy and conditions, (N, 1 + C): what the showers are binned in."""
    return np.column_stack([summary.incident_energy, summary.conditions])


# --- drawing -------------------------------------------------------------------------------------
def apportion(number: int, counts: Array) -> Array:
    """`number` showers in proportion to counts (K,), whole: (K,) by largest remainders."""
    quotas = number * counts / max(int(counts.sum()), 1)
    shares = np.floor(quotas + 1e-9).astype(int)
    over = number - int(shares.sum())
    shares[np.argsort(shares - quotas, kind="stable")[:over]] += 1
    return shares


def matching_size(reference: Summary, floor: Summary, wanted: int) -> int:
    """The largest number of showers up to `wanted` that can be drawn to the reference's counts.

    Where that would be less than a quarter of what is wanted and there, the floor is not made
    smaller and cannot be matched; see `floor_warnings`.
    """
    most = min(wanted, len(floor))
    points, other = _points(reference, floor)
    known = np.unique(points)
    counts = np.array([(points == p).sum() for p in known])
    there = np.array([(other == p).sum() for p in known])
    least = max(FEWEST, int(SMALLEST * most))
    n = most
    while n >= least:
        if (apportion(n, counts) <= there).all():
            return n
        n = min(n - 1, int((len(reference) * (there + 1) / counts).min()))
    return most


def floor_size(reference: Summary, generated: Summary, floor: Summary | None) -> int:
    """Showers of the second of the two samples of a floor."""
    if floor is None:
        return min(len(generated), len(reference) // 2)
    return matching_size(reference, floor, len(generated))


def floor_pair(
    reference: Summary, floor: Summary | None, n: int, seed: int, draw: int = 0
) -> tuple[Sample, Sample]:
    """The two samples of the reference simulation that a floor is made of.

    The second has `n` showers at the conditions of the first. Without a second reference sample
    they are halves of the reference, the second cut to `n`. Showers whose cells were kept are
    drawn first, so that metrics of cells have as many of them as the generator's have.
    """
    rng = np.random.default_rng([seed, draw])
    bins = bins_of(reference, reference if floor is None else floor)
    if floor is None:
        first, second = _halves(bins, rng)
        sample = whole(reference)
        half = replace(sample, rows=second)
        return replace(sample, rows=first), half.part(n, seed)
    # Of further draws no cells are needed: they differ as much as they can.
    ahead = floor.cell_rows if draw == 0 else np.arange(len(floor))
    return whole(reference), replace(whole(floor, reference), rows=_drawn(bins, n, rng, ahead))


def of_floor_size(generated: Sample, second: Sample, seed: int) -> Sample:
    """As many generated showers as the second sample of a floor has, as many of them with cells.

    Cells are kept of a random part of a large sample. Metrics of cells depend on how many showers
    they see, so that value and floor need the same number of those.
    """
    chosen = generated.with_cells().part(len(second.with_cells()), seed)
    missing = len(second) - len(chosen)
    if missing == 0:
        return chosen
    rest = replace(generated, rows=np.setdiff1d(generated.rows, chosen.rows))
    bare = replace(rest, rows=np.setdiff1d(rest.rows, rest.with_cells().rows))
    more = (bare if len(bare) >= missing else rest).part(missing, seed)
    return replace(generated, rows=np.concatenate([chosen.rows, more.rows]))


def _halves(bins: Bins, rng: np.random.Generator) -> tuple[Array, Array]:
    order = np.lexsort((rng.random(len(bins.points)), bins.leaves, bins.points))
    return order[0::2], order[1::2]


def _drawn(bins: Bins, n: int, rng: np.random.Generator, ahead: Array) -> Array:
    """Rows (n,) of the other sample in the reference's proportions, those of `ahead` first.

    What a bin lacks is drawn from the same point, and what a point lacks from everywhere.
    """
    known, point_counts = np.unique(bins.points, return_counts=True)
    wanted = apportion(n, point_counts)
    order = rng.permutation(len(bins.other_points))
    if len(ahead) < len(order):
        order = order[np.argsort(~np.isin(order, ahead), kind="stable")]
    per_leaf = np.zeros(int(bins.leaves.max()) + 1, int)
    for p, number in zip(known, wanted, strict=True):
        leaves, counts = np.unique(bins.leaves[bins.points == p], return_counts=True)
        per_leaf[leaves] = apportion(number, counts)
    there = bins.other_points >= 0
    leaf = np.where(there & np.isin(bins.other_points, known), bins.other_leaves, -1)
    taken = _first_of(leaf[order], per_leaf)
    lacking = np.zeros(int(max(known.max(), bins.other_points.max())) + 1, int)
    for p, number in zip(known, wanted, strict=True):
        lacking[p] = number - int((taken & (bins.other_points[order] == p)).sum())
    label = np.where(taken, -1, bins.other_points[order])
    taken |= _first_of(label, lacking)
    short = n - int(taken.sum())
    if short > 0:
        taken[np.flatnonzero(~taken)[:short]] = True
    return np.sort(order[taken])


def _first_of(labels: Array, most: Array) -> NDArray[np.bool_]:
    """The first `most[label]` rows of every label >= 0, (M,)."""
    order = np.argsort(labels, kind="stable")
    ahead = labels[order]
    begin = np.searchsorted(ahead, ahead, side="left")
    rank = np.empty(len(labels), int)
    rank[order] = np.arange(len(labels)) - begin
    return (labels >= 0) & (rank < most[np.maximum(labels, 0)])


# --- several draws -------------------------------------------------------------------------------
def number_of_draws(floor: Summary | None, n: int) -> int:
    """How often a floor can be drawn anew: several times, where there is room to choose."""
    return DRAWS if floor is None or len(floor) >= ROOM * n else 1


def with_scatter(
    first: Measurements, further: Sequence[Measurements], floor: Summary | None, n: int
) -> Measurements:
    """The mean over draws, with the standard deviation of one draw in place of the error.

    Draws of `n` from a sample of M showers share some of them and scatter by the root of 1 - n / M
    of what independent samples do, which is made up for. Where a metric was drawn once, its own
    error stays.
    """
    if not further:
        return first
    alike = 1.0 if floor is None else (1 - n / len(floor)) ** 0.5

    def scattered(key: str, one: Measured, others: Sequence[Measured | None]) -> Measured:
        values = [one.value, *(o.value for o in others if o is not None)]
        if len(values) < 2 or not np.isfinite(values).all():
            return one
        spread = float(np.std(values, ddof=1)) / alike
        return one._replace(value=float(np.mean(values)), error=spread)

    total = {k: scattered(k, m, [f.total.get(k) for f in further]) for k, m in first.total.items()}
    at = {
        energy: {
            k: scattered(k, m, [f.at.get(energy, {}).get(k) for f in further])
            for k, m in figures.items()
        }
        for energy, figures in first.at.items()
    }
    return replace(first, total=total, at=at)


# --- what makes a floor wrong --------------------------------------------------------------------
def check_floor(reference: Summary, floor: Summary | None) -> None:
    """Raise DataError for a floor that is the reference itself."""
    if floor is None:
        return
    shared = shared_showers(floor, reference)
    if shared and shared >= SAME_SHOWERS * min(len(floor), len(reference)):
        raise DataError(
            f"The floor '{floor.name}' holds {shared} of the {len(reference)} showers of the "
            f"reference '{reference.name}'; expected a second, independent sample: leave the "
            "floor out, and halves of the reference give it."
        )


def floor_warnings(reference: Summary, floor: Summary | None, n: int, seed: int) -> list[str]:
    """What keeps a second reference sample from being drawn to the reference's conditions."""
    if floor is None:
        return []
    result = []
    shared = shared_showers(floor, reference)
    if shared:
        result.append(
            f"The floor is too low: {shared} of the {len(floor)} showers of '{floor.name}' are "
            "showers of the reference."
        )
    points, other = _points(reference, floor)
    known, counts = np.unique(points, return_counts=True)
    wanted = apportion(n, counts)
    there = np.array([(other == p).sum() for p in known])
    lacking = int(np.maximum(wanted - there, 0).sum())
    if lacking:
        return [
            *result,
            f"The floor is not taken at the reference's incident energies: '{floor.name}' lacks "
            f"{lacking} of the {n} showers that would be needed there; expected a second "
            "reference sample of the same energies.",
        ]
    rng = np.random.default_rng([seed, 0])
    drawn = _drawn(bins_of(reference, floor), n, rng, floor.cell_rows)
    names = [
        name
        for name, first, second in zip(
            ("incident energy", *reference.geometry.condition_names),
            _columns(reference).T,
            _columns(floor)[drawn].T,
            strict=True,
        )
        if _differ(first, second)
    ]
    if names:
        result.append(
            f"The floor is not taken at the reference's conditions: in '{floor.name}' "
            f"{', '.join(dict.fromkeys(names))} could not be drawn to the distribution in the "
            "reference; expected a second reference sample of the same conditions."
        )
    return result


def _differ(first: Array, second: Array) -> bool:
    from scipy.stats import ks_2samp

    return bool(ks_2samp(first, second, method="asymp").pvalue < UNLIKELY)
