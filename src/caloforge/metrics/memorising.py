"""Whether a generator memorises: distances of its showers to those that it was trained on.

Reference: C. Meehan et al., "A Non-Parametric Test to Detect Data-Copying in Generative Models",
2020, arXiv:2004.05675.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics.base import Case, Measured, Measurements
from caloforge.metrics.matrices import check_matrix, check_pair
from caloforge.metrics.notes import Memorising, Notes

Array = NDArray[Any]
Vector = NDArray[np.float64]

# The held-out showers nearest to the training ones, as a share.
CLOSE = 0.01
# An energy slice says something about copies with as many showers of each sample.
SLICE = 20
MEMORISING_SHOWERS = 10_000  # of each sample: distances between more take minutes


def fractions(energies: Array, incident: Array) -> NDArray[np.float32]:
    """Cell energies (N, V) over the incident energy (N,), both MeV: (N, V) float32.

    The space of `memorising`: a distance is then the energy that sits in other cells, as a share
    of the incident energy, and the cells that hold the shower decide, not its faint halo.
    """
    cells = np.asarray(energies).astype(np.float32)
    cells /= np.asarray(incident, dtype=np.float32).reshape(-1, 1)
    return cells


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
    from sklearn.metrics import pairwise_distances_argmin

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
        closest = pairwise_distances_argmin(_take(first, here), _take(second, there))
        index[here] = there[closest]
    with_partner = np.flatnonzero(index >= 0)
    for k in range(0, len(with_partner), 256):
        # The distance itself by differences: exact where showers are close.
        part = with_partner[k : k + 256]
        gap = first[part].astype(np.float64) - second[index[part]]
        distance[part] = np.sqrt(np.einsum("ij,ij->i", gap, gap))
    return index, distance


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
            _close_variance(distance[here], held_distance[fresh], near_train[here]),
        )
    if not slices:
        raise DataError(
            f"No slice of incident energy has {SLICE} showers of the training, the held-out and "
            "the generated sample; expected at least one: give more showers or wider slices."
        )
    return _combine(slices, distance, held_distance)


def copies(case: Case) -> Measurements:
    """`copies` and `memorising` of cells over incident energy; the notes hold the rest.

    They are `Memorising.close`, whose floor is the share that is expected without memorising, and
    `Memorising.closer`: fresh showers of the reference simulation are as near to the training
    showers as held-out ones are, so that its floor is 0.5.
    """
    assert case.other is not None  # the table says so: `Metric.needs`
    case.tell("distances to the training showers")
    parts = [
        sample.with_cells().part(MEMORISING_SHOWERS, case.seed)
        for sample in (case.other, case.reference, case.generated)
    ]
    train, held_out, generated = (fractions(part.cells, part.incident) for part in parts)
    labels = parts[0].groups, parts[1].groups, parts[2].groups
    result = memorising(train, held_out, generated, labels)
    n = len(parts[2])
    total = {
        "copies": Measured(
            result.close,
            result.close_error,
            n,
            floor=result.close_expected,
            floor_error=result.close_expected_error,
        ),
        "memorising": Measured(result.closer, result.closer_error, n, floor=0.5),
    }
    rounded = replace(result, generated=_short(result.generated), held_out=_short(result.held_out))
    return Measurements(total, notes=Notes(memorising=rounded))


def _short(distances: Vector) -> Vector:
    """Distances with four digits, which will do for drawing."""
    return np.array([float(f"{distance:.4g}") for distance in distances])


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
    close_variance: float


def _closer(generated: Vector, held_out: Vector) -> tuple[int, float, float, Vector, float]:
    """H, AUC, variance of the AUC, scaled distances and share of close ones of a slice."""
    # Placement values: their means are the AUC, their variances its error (DeLong et al., 1988).
    of_generated = 1 - _placement(generated, held_out)
    of_held = _placement(held_out, generated)
    variance = of_generated.var(ddof=1) / len(generated) + of_held.var(ddof=1) / len(held_out)
    median = np.median(held_out)
    scaled = generated / median if median > 0 else np.empty(0)
    close = float(_is_close(generated, held_out).mean())
    return len(held_out), float(of_generated.mean()), float(variance), scaled, close


def _is_close(generated: Vector, held_out: Vector) -> NDArray[np.bool_]:
    """Which distances are below those of the nearest 1 % of held-out showers."""
    return _placement(generated, held_out) < CLOSE


def _close_variance(generated: Vector, held_out: Vector, nearest_train: Array) -> float:
    """Variance of the share of close showers; those close to one training shower count as one."""
    close = _is_close(generated, held_out)
    hits = np.unique(nearest_train[close], return_counts=True)[1].astype(np.float64)
    size, share = len(close), float(close.mean())
    # One shower more or less is the least that chance does.
    return max(float((hits**2).sum()) / size**2 * (1 - share), 1 / size**2)


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
        close_error=float(np.sqrt(size**2 @ [part.close_variance for part in parts]) / size.sum()),
        close_expected_error=float(
            np.sqrt(size**2 @ (chance * (1 - chance) / (held + 2))) / size.sum()
        ),
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


def _take(values: Array, rows: Array) -> Array:
    """The rows, without a copy where they are all."""
    return values if len(rows) == len(values) else values[rows]
