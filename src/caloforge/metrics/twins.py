"""Twins: showers of two samples with the same condition, which a classifier must not see apart.

A generated shower that was made with exactly the condition of a reference shower is its twin. A
classifier that has seen one of the two remembers the condition and calls the other one wrongly,
so that the AUC comes out too small. Twins are therefore kept in the same part of every split. A
condition that occurs often, as the energies of a scan do, is a point and makes no twins: its
showers are dealt evenly to the parts. `Units` says where the border is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.showers import MOST_POINTS

Array = NDArray[Any]

MOST_TWINS = 10  # showers of one sample with the same condition; more make it a point
# Conditions pass through float32 files and logarithmic labels: equal means equal to this.
SAME = 1e-6
FEW_TWINS = 0.01  # of the showers: too few to move a metric
GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Units:
    """What must stay together when showers of two samples are split.

    Showers with the same row of conditions are twins and one unit, unless that row is a point. A
    row is a point if one of the samples has more than 10 showers with it, or if there are at most
    40 different rows with at least two showers of each sample on average. Every shower of a point
    is a unit of its own.

    Parameters
    ----------
    unit
        Number of the unit that each shower belongs to, (N,) integers from 0.
    kinds
        Kind of each unit, two arrays (U,): units of one kind are dealt evenly. They are the
        showers of one sample at one point, or twins with the same numbers of showers of both.
    """

    unit: Array
    kinds: tuple[Array, Array]

    @property
    def twins(self) -> bool:
        """Whether a unit holds more than one shower."""
        return len(self.kinds[0]) < len(self.unit)

    def excess(self, labels: Array) -> float:
        """Share of the showers that have twins of the other sample, beyond what chance explains.

        In a spectrum some conditions agree by chance, within one sample as often as between
        two: the share of showers that are together with their own sample alone is taken off.
        `labels` (N,) are 0 or 1, by sample.
        """
        size, ones = np.bincount(self.unit), np.bincount(self.unit, labels > 0.5)
        both = (ones > 0) & (ones < size)
        alone = (size > 1) & ~both
        return float((size[both].sum() - size[alone].sum()) / len(labels))


def units_of(conditions: Array, labels: Array) -> Units:
    """The units of showers with conditions (N, C) and labels (N,) 0 or 1, by sample."""
    _, row, counts = np.unique(_alike(conditions), axis=0, return_inverse=True, return_counts=True)
    row, rows = row.ravel(), len(counts)
    few = rows <= MOST_POINTS and len(labels) >= 4 * rows
    ones = np.bincount(row[labels > 0.5], minlength=rows)
    point = (np.maximum(ones, counts - ones) > MOST_TWINS) | few
    unit = np.where(point[row], rows + np.arange(len(row)), row)
    _, first, unit = np.unique(unit, return_index=True, return_inverse=True)
    kinds = (
        np.where(point[row], -1 - row, ones[row])[first],
        np.where(point[row], labels, (counts - ones)[row])[first],
    )
    return Units(unit.ravel(), kinds)


def are_twins(reference: Array, generated: Array) -> bool:
    """Whether samples were made with the same conditions (N, C) and (M, C), point by point aside.

    A few showers that agree do not count, nor those that chance explains.
    """
    labels = np.repeat([1.0, 0.0], [len(reference), len(generated)])
    units = units_of(np.concatenate([reference, generated]), labels)
    return units.excess(labels) > FEW_TWINS


def deal(units: Units, number: int, rng: np.random.Generator) -> Array:
    """The fold of each shower, (N,) integers from 0 to `number` - 1.

    The showers of a spectrum are not dealt evenly in energy: that would carry every chance excess
    of one sample from training to test.
    """
    count = len(units.kinds[0])
    order = np.lexsort((rng.random(count), units.kinds[1], units.kinds[0]))
    fold = np.empty(count, dtype=np.int64)
    # Blocks of one number each, in a random order: what is over of one kind favours no fold.
    blocks = -(-count // number)
    turns = rng.permuted(np.tile(np.arange(number), (blocks, 1)), axis=1).ravel()
    fold[order] = turns[:count]
    return fold[units.unit]


def split(units: Units, shares: tuple[float, ...], rng: np.random.Generator) -> list[Array]:
    """Rows of the showers in parts with these shares, each in random order; twins together."""
    count = len(units.kinds[0])
    order = np.lexsort((rng.random(count), units.kinds[1], units.kinds[0]))
    # Multiples of the golden ratio fill every stretch of the order evenly, so every kind.
    place = (rng.random() + GOLDEN * np.arange(count)) % 1.0
    part = np.empty(count, dtype=np.int64)
    part[order] = np.searchsorted(np.cumsum(shares)[:-1] / sum(shares), place, side="right")
    rows = rng.permutation(len(units.unit))
    of_row = part[units.unit[rows]]
    return [rows[of_row == k] for k in range(len(shares))]


def _alike(conditions: Array) -> Array:
    """Numbers that are the same where a condition is the same but for rounding, (N, C)."""
    out = np.empty(conditions.shape, dtype=np.int64)
    for k, values in enumerate(np.asarray(conditions, dtype=np.float64).T):
        order = np.argsort(values, kind="stable")
        ahead = values[order]
        new = np.diff(ahead) > SAME * np.maximum(np.abs(ahead[1:]), np.abs(ahead[:-1]))
        out[order, k] = np.concatenate([[0], np.cumsum(new)])
    return out
