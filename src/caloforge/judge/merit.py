"""Reading the metrics of the judge: how far they are from the floor, in words, and ranks.

A metric says something only beside its floor, and not all of them are read in the same way. Those
that count differences (chi-square, separation powers, distances) are compared as multiples of the
floor. Those that run between the floor and a worst value everybody knows (an AUC of 1, a precision
of 0) are compared as the share of that way they have gone: their ratio to the floor says nothing.
Whatever lies within twice the error of it and its floor together counts as good.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

from caloforge.judge.comparison import Comparison
from caloforge.metrics.base import Metric, Value
from caloforge.metrics.table import metric, metrics

Level = Literal["", "good", "near", "off", "far"]

# How many times its floor a metric may be, or what share of the way to the worst value it may
# have gone; beyond the last it is "far".
LEVELS: tuple[tuple[float, float, Level], ...] = (
    (1.5, 0.05, "good"),
    (3.0, 0.20, "near"),
    (10.0, 0.50, "off"),
)
RESOLVED = 0.1  # of the error: a floor below that is 0 by chance, and no unit to count in
SIGMAS = 2.0  # errors within which metric and floor are the same


def distance(key: str, value: float, floor: float | None = None) -> float:
    """How bad a metric is, on a scale of its own: 0 for samples that are alike, larger is worse.

    The AUC counts from 0.5 to either side, precision and its like downwards from 1, density from
    its floor (1 without one). A Jensen-Shannon divergence enters by its root, which is a distance
    (by itself where it is small).
    Memorising counts above 0.5 alone: showers that are farther from the training set than Geant4
    may be poor, but they are no copies.
    """
    return metric(key).distance(value, floor)


def judge(key: str, value: float, error: float | None, floor: float | None) -> tuple[Level, str]:
    """How far a metric is from its floor, as a level and in words; empty without a floor."""
    known = metric(key)
    if floor is None or floor != floor or value != value or known.way == "none":
        return "", ""
    value, floor = known.limited(value), known.limited(floor)
    beyond = known.distance(value, floor) - known.distance(floor, floor)
    same = beyond <= 0 or (error is not None and abs(value - floor) <= SIGMAS * error)
    if known.way == "multiple":
        return _multiple(value, error, floor, same)
    if known.way == "both sides":
        share, words = beyond / abs(floor) if floor else math.inf, "off"
    else:
        room = known.distance(known.worst) - known.distance(floor)
        share, words = beyond / room if room > 0 else 1.0, f"of the way to {known.worst:g}"
    if same:
        return "good", "at its floor"
    level: Level = next((name for _, most, name in LEVELS if share <= most), "far")
    percent = 100 * min(share, 1e3)
    return level, f"{percent:.2g} % {words}" if percent < 99.5 else f"{percent:.0f} % {words}"


def _multiple(value: float, error: float | None, floor: float, same: bool) -> tuple[Level, str]:
    """As multiples of the floor; of the error where the floor is far below it, or negative."""
    resolved = floor >= RESOLVED * (error or 0.0)
    scale = floor if resolved else error or 0.0
    if not scale > 0:
        return ("good", "at its floor") if same else ("", "")
    times = value / scale
    level: Level = next((name for most, _, name in LEVELS if times <= most), "far")
    text = f"{times:.1f}" if times < 100 else f"{times:.0f}"
    words = f"{text} × {'floor' if resolved else 'error'}"
    return (
        ("good", words if resolved and times > 0 else "at its floor") if same else (level, words)
    )


def level_counts(comparison: Comparison) -> Counter[Level]:
    """How many metrics of a generator that have a floor are at each level."""
    counts: Counter[Level] = Counter()
    for key, figure in comparison.sized.items():
        level, _ = judge(key, figure.value, figure.joint_error, figure.floor)
        if level:
            counts[level] += 1
    return counts


def mean_ranks(comparisons: Sequence[Comparison]) -> list[float] | None:
    """Mean rank of each generator over the metrics that enter it and that all of them have.

    1 is the best in every metric. Values that differ by less than twice the error of their
    difference share their ranks: a generator stands behind those that are better beyond that, and
    half a place behind each that is as good. No single metric ranks generators well (A. Ghosh, D.
    Rousseau, IN2P3/IRFU ML workshop, 2019). None for fewer than two generators, or no metric in
    common.
    """
    ranks = [_ranks(distances) for _, distances in _ranked(comparisons)]
    if len(comparisons) < 2 or not ranks:
        return None
    return [float(sum(column)) / len(ranks) for column in zip(*ranks, strict=True)]


def _ranks(distances: Sequence[tuple[float, float]]) -> list[float]:
    """Ranks of distances with their errors, ties within twice the error of the difference."""
    ranks = []
    for k, (value, error) in enumerate(distances):
        rank = 1.0
        for other, (their_value, their_error) in enumerate(distances):
            if other == k:
                continue
            beyond = value - their_value
            same = abs(beyond) <= SIGMAS * math.hypot(error, their_error)
            rank += 0.5 if same else float(beyond > 0)
        ranks.append(rank)
    return ranks


def worst(comparison: Comparison) -> tuple[str, float] | None:
    """The metric that is farthest from its floor: its key, and how many times the floor it is.

    A mean over many metrics hides one that is wrong. The distance of a metric is counted in that
    of its floor, or in the error of their difference where that is larger. Metrics at their floor
    within errors come last. None without floors.
    """
    times: dict[str, float] = {}
    for key, figure in comparison.sized.items():
        floor, known = figure.floor, metric(key)
        if floor is None or not math.isfinite(floor) or known.way == "none":
            continue
        error = figure.joint_error or 0.0
        value, floor = known.limited(figure.value), known.limited(floor)
        unit = max(known.distance(floor, floor), error)
        away = known.distance(value, floor)
        if unit > 0 and math.isfinite(away):
            same = abs(value - floor) <= SIGMAS * error
            times[key] = min(away / unit, 1.0) if same else away / unit
    return max(times.items(), key=lambda item: item[1]) if times else None


def ranked_names(comparisons: Sequence[Comparison]) -> list[str]:
    """Names of the metrics that enter the mean rank of these generators."""
    return [known.short or known.name for known, _ in _ranked(comparisons)]


def _ranked(comparisons: Sequence[Comparison]) -> list[tuple[Metric, list[tuple[float, float]]]]:
    """The metrics of the mean rank that all generators have, with the distances and errors."""
    result = []
    for known in metrics():
        if known.rank:
            distances = [_distance_of(c.sized, known) for c in comparisons]
            if not any(math.isnan(value) for value, _ in distances):
                result.append((known, distances))
    return result


def _distance_of(figures: Mapping[str, Value], known: Metric) -> tuple[float, float]:
    """Distance of one value, or mean of a family, and its error; NaN where there is none."""
    if known.family:
        chosen = [v for k, v in figures.items() if known.covers(k)]
        if not chosen:
            return math.nan, 0.0
        # Observables of one sample go together: their errors do not average out.
        errors = [v.error for v in chosen if v.error is not None]
        error = sum(errors) / len(errors) if errors else 0.0
        return sum(v.value for v in chosen) / len(chosen), error
    figure = figures.get(known.key)
    if figure is None:
        return math.nan, 0.0
    value, error, floor = figure.value, figure.error or 0.0, figure.floor
    ends = [known.distance(value + side * error, floor) for side in (-1, 1)]
    return known.distance(value, floor), abs(ends[1] - ends[0]) / 2
