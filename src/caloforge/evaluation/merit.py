"""Reading the figures of the judge: names, which way is worse, how far from the floor, ranks.

A figure says something only beside its floor, and how is not the same for all of them. Those that
count differences (chi-square, separation powers, distances) are compared as multiples of the
floor. Those that run between the floor and a worst value everybody knows (an AUC of 1, a precision
of 0) are compared as the share of that way they have gone: their ratio to the floor says nothing.
Whatever lies within twice its error of the floor counts as good.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison, Value

Level = Literal["", "good", "near", "off", "far"]
Way = Literal["multiple", "share", "both sides"]

# How many times its floor a figure may be, or what share of the way to the worst value it may
# have gone; beyond the last it is "far".
LEVELS: tuple[tuple[float, float, Level], ...] = (
    (1.5, 0.05, "good"),
    (3.0, 0.20, "near"),
    (10.0, 0.50, "off"),
)
RESOLVED = 0.1  # of the error: a floor below that is 0 by chance, and no unit to count in
SIGMAS = 2.0  # errors within which figure and floor are the same


# Figures of attributes: Geant4's own spread and slope are the aim from either side, and a multiple
# of a bias near zero says nothing.
BOTH_SIDES = ("attribute_spread/", "attribute_slope/")
BIAS = "attribute_bias/"


@dataclass(frozen=True)
class Figure:
    """How a figure is called and read.

    Parameters
    ----------
    name
        In tables, with the scale.
    scale
        What it is multiplied with in tables.
    way
        "multiple": of the floor; "share": of the way from the floor to `worst`; "both sides": off
        the floor, up or down, relative to it.
    worst
        The value of samples that have nothing in common.
    """

    name: str
    scale: float = 1.0
    way: Way = "multiple"
    worst: float = math.inf


FIGURES = {
    "chi2_ndf_energy": Figure("χ²/NDF of E_tot"),
    "auc_low": Figure("AUC low", way="share", worst=1.0),
    "auc_low_normed": Figure("AUC low-normed", way="share", worst=1.0),
    "auc_high": Figure("AUC high", way="share", worst=1.0),
    "auc_boosted": Figure("AUC boosted", way="share", worst=1.0),
    "jsd_low": Figure("JSD low", way="share", worst=1.0),
    "jsd_low_normed": Figure("JSD low-normed", way="share", worst=1.0),
    "jsd_high": Figure("JSD high", way="share", worst=1.0),
    "fpd": Figure("FPD ×10³", 1e3),
    "kpd": Figure("KPD ×10³", 1e3),
    "precision": Figure("precision", way="share", worst=0.0),
    "recall": Figure("recall", way="share", worst=0.0),
    "density": Figure("density", way="both sides"),
    "coverage": Figure("coverage", way="share", worst=0.0),
    "prd_auc_raw": Figure("PRD-AUC raw", way="share", worst=0.0),
    "prd_auc_physics": Figure("PRD-AUC physics", way="share", worst=0.0),
    "prd_auc": Figure("PRD-AUC", way="share", worst=0.0),
    "memorising": Figure("memorising", way="share", worst=1.0),
}

MEAN_SEPARATION = "separation_with_flow/"
# One figure of each kind, for the mean rank; a trailing slash stands for the mean of a family.
RANKED = (
    "chi2_ndf_energy",
    MEAN_SEPARATION,
    "auc_low",
    "auc_high",
    "auc_boosted",
    "fpd",
    "coverage",
    "prd_auc",
)


def figure(key: str) -> Figure:
    """How the figure with this key is read; keys with a slash are those of one observable."""
    way: Way = "both sides" if key.startswith(BOTH_SIDES) else "multiple"
    return FIGURES.get(key) or Figure(key.replace("_", " "), way=way)


def distance(key: str, value: float, floor: float | None = None) -> float:
    """How bad a figure is, on a scale of its own: 0 for samples that are alike, larger is worse.

    The AUC counts from 0.5 to either side, precision and its like downwards from 1, density from
    its floor (1 without one). A Jensen-Shannon divergence enters by its root, which is a distance.
    Memorising counts above 0.5 alone: showers that are farther from the training set than Geant4
    may be poor, but they are no copies.
    """
    known = figure(key)
    if known.way == "both sides":
        return abs(value - (1.0 if floor is None else floor))
    if key.startswith("auc_"):
        return abs(value - 0.5)
    if key.startswith("jsd_"):
        return math.sqrt(max(value, 0.0))
    if key == "memorising":
        return max(value - 0.5, 0.0)
    return 1.0 - value if known.worst == 0.0 else value


def judge(key: str, value: float, error: float | None, floor: float | None) -> tuple[Level, str]:
    """How far a figure is from its floor, as a level and in words; empty without a floor."""
    if floor is None or floor != floor or value != value or key.startswith(BIAS):
        return "", ""
    known, beyond = figure(key), distance(key, value, floor) - distance(key, floor, floor)
    same = beyond <= 0 or (error is not None and abs(value - floor) <= SIGMAS * error)
    if known.way == "multiple":
        return _multiple(value, error, floor, same)
    if known.way == "both sides":
        share, words = beyond / abs(floor) if floor else math.inf, "off"
    else:
        room = distance(key, known.worst) - distance(key, floor)
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


def at_floor_size(comparison: Comparison) -> Mapping[str, Value]:
    """The figures of a generator at the number of showers their floor was made with."""
    return {**comparison.metrics, **comparison.details.get("at_floor_size", {})}


def mean_ranks(comparisons: Sequence[Comparison]) -> list[float] | None:
    """Mean rank of each generator over the figures of `RANKED` that all of them have.

    1 is the best in every figure; equal figures share their ranks. No single figure ranks
    generators well (A. Ghosh, D. Rousseau, IN2P3/IRFU ML workshop, 2019). None for fewer than two
    generators, or no figure in common.
    """
    from scipy.stats import rankdata

    sized = [at_floor_size(c) for c in comparisons]
    ranks = []
    for key in RANKED:
        found = [_ranked(figures, key) for figures in sized]
        if not any(math.isnan(x) for x in found):
            ranks.append(rankdata(found))
    if len(comparisons) < 2 or not ranks:
        return None
    return [float(sum(column)) / len(ranks) for column in zip(*ranks, strict=True)]


def ranked_names(comparisons: Sequence[Comparison]) -> list[str]:
    """Names of the figures that enter the mean rank of these generators."""
    sized = [at_floor_size(c) for c in comparisons]
    return [
        "mean separation" if key == MEAN_SEPARATION else figure(key).name
        for key in RANKED
        if not any(math.isnan(_ranked(figures, key)) for figures in sized)
    ]


def _ranked(figures: Mapping[str, Value], key: str) -> float:
    """Distance of one figure, or mean of a family; NaN where there is none."""
    if key.endswith("/"):
        values = [v.value for k, v in figures.items() if k.startswith(key)]
        return sum(values) / len(values) if values else math.nan
    found = figures.get(key)
    return math.nan if found is None else distance(key, found.value, found.floor)
