"""The boosted AUC: how well gradient-boosted trees tell generated showers from the reference's.

A dense network on a few thousand showers misses differences in single cells that trees find at
once. The trees (scikit-learn's `HistGradientBoostingClassifier`) see the conditions, the
detector's observables and, layer by layer, the number of filled cells, the three largest shares
of the layer's energy and the smallest filled cell, all after the geometry's cut. Each shower is
scored by trees that were grown without it, in four folds.

**Twins.** A generated shower that was made with exactly the condition of a reference shower is
its twin. Trees that have seen one of the two remember the condition and call the other one
wrongly, so that the AUC comes out too small. Twins are therefore kept in the same fold. A
condition that occurs often, as the energies of a scan do, is a point and makes no twins: its
showers are dealt evenly to the folds. `folds` says where the border is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation.classifier import FEWEST, FEWEST_IN_GROUP, hanley_mcneil
from caloforge.evaluation.features import compute
from caloforge.evaluation.inputs import for_trees
from caloforge.showers import MOST_POINTS, Showers

Array = NDArray[Any]

TREES, RATE, FOLDS = 120, 0.06, 4
SINGLE_TREES, SINGLE_FOLDS = 40, 2  # of one feature with the conditions: it needs less
WORST = 10  # features in the list of what gives a generator away
SLICES, BINS = 8, 20  # of a condition and of a feature, for the choice of what is tried alone
MOST_TWINS = 10  # showers of one sample with the same condition; more make it a point
# Conditions pass through float32 files and logarithmic labels: equal means equal to this.
SAME = 1e-6


@dataclass(frozen=True)
class Boosted:
    """What the trees found.

    Parameters
    ----------
    auc
        Mean over the folds, each with trees that did not see it. 0.5 means that the trees cannot
        tell the samples apart, 1 that they always can. It scatters below 0.5 too.
    error
        The larger of the standard error of the mean over the folds and that of an AUC of so many
        showers by Hanley and McNeil (1982); at each group the latter. Folds share what they were
        trained on: AUCs near 0.5 scatter by up to 1.4 times the latter.
    n
        Showers of the smaller sample.
    per_group
        Group (an energy in MeV) -> (AUC, error, showers of the sample that has fewer).
    """

    auc: float
    error: float
    n: int
    per_group: dict[float, tuple[float, float, int]] = field(default_factory=dict)


def boosted_of(reference: Showers, generated: Showers, seed: int = 0) -> Boosted:
    """Boosted AUC of two sets of showers in memory."""
    tables = [
        for_trees(compute(s), s.after_cut().energies, s.conditions, s.geometry)
        for s in (reference, generated)
    ]
    return boosted_auc(tables[0], tables[1], reference.geometry.condition_names, seed)


def boosted_auc(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    conditions: Sequence[str],
    seed: int = 0,
    groups: tuple[Array, Array] | None = None,
    *,
    trees: int = TREES,
    number: int = FOLDS,
) -> Boosted:
    """AUC of trees that tell two samples apart, by cross-validation in folds that keep twins.

    Parameters
    ----------
    reference, generated
        Name -> (N,) and name -> (M,), the same names, as `inputs.for_trees` gives them.
    conditions
        Names of the features that are conditions; by them twins are recognised.
    seed
        Of the folds. The trees have no randomness of their own.
    groups
        Group of each shower of both samples, such as its energy point; NaN is none.
    trees, number
        How many trees are grown, and in how many folds.

    Raises
    ------
    DataError
        For fewer than 20 showers in a sample or different features.
    """
    sizes = _check(reference, generated)
    labels = np.repeat([1.0, 0.0], sizes)  # the reference is 1, as for the networks
    both = {name: np.concatenate([reference[name], generated[name]]) for name in reference}
    fold = folds(np.stack([both[name] for name in conditions], axis=1), labels, seed, number)
    scores = _scores(np.stack(list(both.values()), axis=1), labels, fold, trees)
    area = _auc(labels, scores, fold)
    each = [_auc(*(x[fold == k] for x in (labels, scores, fold))) for k in np.unique(fold)]
    spread = float(np.std(each, ddof=1)) / len(each) ** 0.5
    found = Boosted(area, max(spread, hanley_mcneil(area, *sizes)), min(sizes))
    for group in [] if groups is None else np.unique(np.concatenate(groups)):
        mine = np.concatenate(groups or ()) == group  # never so for NaN
        counts = [int((mine & (labels == label)).sum()) for label in (1.0, 0.0)]
        if min(counts) >= FEWEST_IN_GROUP:
            area = _auc(labels[mine], scores[mine], fold[mine])
            found.per_group[float(group)] = area, hanley_mcneil(area, *counts), min(counts)
    return found


def giveaways(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    conditions: Sequence[str],
    seed: int = 0,
    most: int = 40,
) -> dict[str, Boosted]:
    """What gives the generator away: the boosted AUC of single features with the conditions.

    The ten features with the largest AUC, the largest first; name -> what fewer trees (40, in two
    folds) found. Only the `most` features are tried whose histograms at given conditions differ
    most. Parameters are those of `boosted_auc`.
    """
    _check(reference, generated)
    found = {}
    for name in _most_different(reference, generated, conditions, most):
        first, second = (
            {key: t[key] for key in (*conditions, name)} for t in (reference, generated)
        )
        found[name] = boosted_auc(
            first, second, conditions, seed, trees=SINGLE_TREES, number=SINGLE_FOLDS
        )
    worst = sorted(found, key=lambda name: -found[name].auc)[:WORST]
    return {name: found[name] for name in worst}


def _most_different(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    conditions: Sequence[str],
    most: int,
) -> list[str]:
    """Names of the features with the largest mean distance of histograms in slices of conditions.

    Each condition is sliced for itself. Features that do not differ at all are left out.
    """
    both = {name: np.concatenate([reference[name], generated[name]]) for name in reference}
    sizes = len(reference[conditions[0]]), len(generated[conditions[0]])
    first = np.repeat([True, False], sizes)
    slices = []
    for condition in conditions:
        edges = np.unique(np.quantile(both[condition], np.linspace(0, 1, SLICES + 1)[1:-1]))
        place = np.searchsorted(edges, both[condition])
        slices += [np.flatnonzero(place == k) for k in np.unique(place)]
    found = {}
    for name in (name for name in both if name not in conditions):
        found[name] = sum(len(s) * _distance(both[name][s], first[s]) for s in slices)
    return sorted((name for name in found if found[name] > 0), key=lambda x: -found[x])[:most]


def _distance(values: Array, first: Array) -> float:
    """Total difference of the histograms of two samples, in bins of equal numbers of both."""
    sizes = np.count_nonzero(first), np.count_nonzero(~first)
    if not min(sizes):
        return 0.0
    cuts = np.unique(np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1]))
    place, bins = np.searchsorted(cuts, values), len(cuts) + 1
    one, two = (np.bincount(place[x], minlength=bins) for x in (first, ~first))
    return float(np.abs(one / sizes[0] - two / sizes[1]).sum())


def folds(conditions: Array, labels: Array, seed: int, number: int = FOLDS) -> Array:
    """The fold of each shower, (N,) integers from 0, for conditions (N, C) and labels (N,) 0 or 1.

    Showers with the same row of conditions are twins and share a fold, unless that row is a
    point. A row is a point if one of the samples has more than 10 showers with it, or if there
    are at most 40 different rows with at least two showers of each sample on average. The showers
    of each sample at a point are dealt evenly to the folds. All other showers are dealt at
    random, each sample evenly: to deal the showers of a spectrum evenly in energy would carry
    every chance excess of one sample from training to test.
    """
    _, row, counts = np.unique(_alike(conditions), axis=0, return_inverse=True, return_counts=True)
    row, rows = row.ravel(), len(counts)
    few = rows <= MOST_POINTS and len(labels) >= 4 * rows
    ones = np.bincount(row[labels > 0.5], minlength=rows)
    point = (np.maximum(ones, counts - ones) > MOST_TWINS) | few
    # A unit is what must stay together: the showers of a row, or one shower of a point.
    unit = np.where(point[row], rows + np.arange(len(row)), row)
    _, first, unit = np.unique(unit, return_index=True, return_inverse=True)
    # Units of one kind are dealt evenly: showers of one sample at one point, or rows of the same
    # numbers of showers of the two samples.
    kinds = (
        np.where(point[row], -1 - row, ones[row]),
        np.where(point[row], labels, (counts - ones)[row]),
    )
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(first)), kinds[1][first], kinds[0][first]))
    deal = np.empty(len(first), dtype=np.int64)
    # Blocks of one number each, in a random order: what is over of one kind favours no fold.
    blocks = -(-len(first) // number)
    turns = rng.permuted(np.tile(np.arange(number), (blocks, 1)), axis=1).ravel()
    deal[order] = turns[: len(first)]
    return deal[unit.ravel()]


def _alike(conditions: Array) -> Array:
    """Numbers that are the same where a condition is the same but for rounding, (N, C)."""
    out = np.empty(conditions.shape, dtype=np.int64)
    for k, values in enumerate(np.asarray(conditions, dtype=np.float64).T):
        order = np.argsort(values, kind="stable")
        ahead = values[order]
        new = np.diff(ahead) > SAME * np.maximum(np.abs(ahead[1:]), np.abs(ahead[:-1]))
        out[order, k] = np.concatenate([[0], np.cumsum(new)])
    return out


def _scores(features: Array, labels: Array, fold: Array, trees: int) -> Array:
    """Score of each shower from trees grown on the other folds, (N,)."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    scores = np.empty(len(labels))
    for k in np.unique(fold):
        model = HistGradientBoostingClassifier(
            max_iter=trees, learning_rate=RATE, early_stopping=False, random_state=0
        )
        model.fit(features[fold != k], labels[fold != k])
        scores[fold == k] = model.decision_function(features[fold == k])
    return scores


def _auc(labels: Array, scores: Array, fold: Array) -> float:
    """AUC of pairs of showers in the same fold: scores of different trees are not compared."""
    from scipy.stats import rankdata

    wins, pairs = 0.0, 0
    for k in np.unique(fold):
        ones = labels[fold == k] > 0.5
        n1, n0 = int(ones.sum()), int((~ones).sum())
        wins += float(rankdata(scores[fold == k])[ones].sum()) - n1 * (n1 + 1) / 2
        pairs += n1 * n0
    return wins / pairs if pairs else 0.5


def _check(reference: Mapping[str, Array], generated: Mapping[str, Array]) -> tuple[int, int]:
    if list(reference) != list(generated):
        raise DataError(
            f"The reference has {len(reference)} features and the generated showers "
            f"{len(generated)}, or others; expected the same features of one geometry."
        )
    sizes = len(next(iter(reference.values()))), len(next(iter(generated.values())))
    if min(sizes) < FEWEST:
        raise DataError(
            f"Got {sizes[0]} reference and {sizes[1]} generated showers; expected at least "
            f"{FEWEST} of each for boosted trees."
        )
    return sizes
