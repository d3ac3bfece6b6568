"""The boosted AUC: how well gradient-boosted trees tell generated showers from the reference's.

A dense network on a few thousand showers misses differences in single cells that trees find at
once. The trees (scikit-learn's `HistGradientBoostingClassifier`) see the conditions, the
detector's observables and, layer by layer, the number of filled cells, the three largest shares
of the layer's energy and the smallest filled cell, all after the geometry's cut. Each shower is
scored by trees that were grown without it, in four folds.

Showers of both samples with the same condition stay in the same fold; see
`caloforge.metrics.twins`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics.base import Case, Measured, Measurements
from caloforge.metrics.classifier import FEWEST, FEWEST_IN_GROUP, hanley_mcneil
from caloforge.metrics.inputs import for_trees
from caloforge.metrics.notes import Auc, AucOfSize, BoostedNotes, Giveaway, Notes
from caloforge.metrics.twins import deal, units_of
from caloforge.observables.features import compute
from caloforge.showers import Showers

Array = NDArray[Any]

TREES, RATE, FOLDS = 120, 0.06, 4
SINGLE_TREES, SINGLE_FOLDS = 40, 2  # of one feature with the conditions: it needs less
WORST = 10  # features in the list of what gives a generator away
SLICES, BINS = 8, 20  # of a condition and of a feature, for the choice of what is tried alone
FRACTIONS = (4, 2)  # of the showers: the AUC is measured again with a quarter and a half


@dataclass(frozen=True)
class Boosted:
    """Result of the boosted trees.

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
        Seed of the folds. The trees draw no random numbers.
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
    result = Boosted(area, max(spread, hanley_mcneil(area, *sizes)), min(sizes))
    for group in [] if groups is None else np.unique(np.concatenate(groups)):
        members = np.concatenate(groups or ()) == group  # never so for NaN
        counts = [int((members & (labels == label)).sum()) for label in (1.0, 0.0)]
        if min(counts) >= FEWEST_IN_GROUP:
            area = _auc(labels[members], scores[members], fold[members])
            result.per_group[float(group)] = area, hanley_mcneil(area, *counts), min(counts)
    return result


def measure(case: Case) -> Measurements:
    """`auc_boosted`, also at each energy; looking closely, with notes on what it comes from."""
    assert case.effort is not None  # the table says so: `Metric.needs`
    case.tell("boosted trees")
    cut = case.for_neighbours()
    groups = cut.reference.groups, cut.generated.groups
    names, (first, second) = cut.geometry.condition_names, _tables(cut)
    result = boosted_auc(first, second, names, case.seed, groups)
    total = {"auc_boosted": Measured(result.auc, result.error, result.n)}
    at = {e: {"auc_boosted": Measured(*figure)} for e, figure in result.per_group.items()}
    if not case.closely:
        return Measurements(total, at)
    curve = []
    for fraction in FRACTIONS:
        part = cut.cut(len(cut.reference) // fraction)
        if len(part.reference) >= FEWEST:
            fewer = _tables(part)
            curve.append(boosted_auc(fewer[0], fewer[1], names, case.seed))
    alone = [{name: table[name] for name in names} for table in (first, second)]
    conditions = boosted_auc(alone[0], alone[1], names, case.seed)
    worst = giveaways(first, second, names, case.seed, case.effort.features)
    notes = BoostedNotes(
        tuple(AucOfSize(f.auc, f.error, f.n) for f in (*curve, result)),
        Auc(conditions.auc, conditions.error),
        tuple(Giveaway(name, f.auc, f.error) for name, f in worst.items()),
    )
    return Measurements(total, at, Notes(boosted=notes))


def _tables(case: Case) -> tuple[dict[str, Array], dict[str, Array]]:
    """What the trees see of both samples: name -> (n,)."""
    first, second = (
        for_trees(s.observables, s.cells, s.conditions, case.geometry) for s in case.samples
    )
    return first, second


def giveaways(
    reference: Mapping[str, Array],
    generated: Mapping[str, Array],
    conditions: Sequence[str],
    seed: int = 0,
    most: int = 40,
) -> dict[str, Boosted]:
    """What gives the generator away: the boosted AUC of single features with the conditions.

    The ten features with the largest AUC, the largest first; name -> the AUC of fewer trees (40,
    in two folds). Only the `most` features are tried whose histograms at given conditions differ
    most. Parameters are those of `boosted_auc`.
    """
    _check(reference, generated)
    results = {}
    for name in _most_different(reference, generated, conditions, most):
        first, second = (
            {key: t[key] for key in (*conditions, name)} for t in (reference, generated)
        )
        results[name] = boosted_auc(
            first, second, conditions, seed, trees=SINGLE_TREES, number=SINGLE_FOLDS
        )
    worst = sorted(results, key=lambda name: -results[name].auc)[:WORST]
    return {name: results[name] for name in worst}


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
    apart = {}
    for name in (name for name in both if name not in conditions):
        apart[name] = sum(len(s) * _distance(both[name][s], first[s]) for s in slices)
    return sorted((name for name in apart if apart[name] > 0), key=lambda x: -apart[x])[:most]


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

    Twins share a fold: see `caloforge.metrics.twins`.
    """
    return deal(units_of(conditions, labels), number, np.random.default_rng(seed))


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
