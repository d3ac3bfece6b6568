"""Tables of the boosted AUC: what gives a generator away, and how the AUC grows with size."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from caloforge.judge.folder import Result
from caloforge.judge.merit import SIGMAS, judge
from caloforge.metrics.classifier import hanley_mcneil
from caloforge.metrics.inputs import for_trees
from caloforge.metrics.notes import Auc, AucOfSize, Giveaway
from caloforge.report.blocks import Cell, Table
from caloforge.report.drawn import observable_label
from caloforge.report.tables.cells import count, generators

# Features of a layer that are no observables: see `caloforge.metrics.inputs.layer_features`.
OF_LAYER = {
    "filled_cells": "number of filled cells",
    "share_1": "share of the largest cell",
    "share_2": "share of the second largest cell",
    "share_3": "share of the third largest cell",
    "smallest_cell": "energy of the smallest filled cell",
}
SAME = 0.5  # the AUC of equal samples
STANDS_OUT = 3.0  # standard errors
ASKED = (0.6, 0.55, 0.51)  # AUCs of which the page says how many showers show them
MANY = 100_000  # showers for which the error is worked out


def giveaway_table(result: Result) -> Table | None:
    """The features that boosted trees, shown one at a time, know each generator by."""
    lists = [b.features if (b := c.details.notes.boosted) else () for c in result.comparisons]
    if not any(lists):
        return None
    number = number_of_features(result)
    sigmas = sigmas_of_largest(number)
    rows = [
        (
            Cell(str(place + 1)),
            *(_feature(result, f[place], sigmas) if place < len(f) else Cell("–") for f in lists),
        )
        for place in range(max(map(len, lists)))
    ]
    alone = [
        _auc(b.conditions) if (b := c.details.notes.boosted) else "–" for c in result.comparisons
    ]
    rows.append((Cell("conditions alone"), *map(Cell, alone)))
    return Table(
        "What gives the generator away",
        ("", *generators(result)),
        tuple(rows),
        note="AUC of boosted trees that see one feature together with the conditions, the largest "
        "first: 0.5 cannot tell, 1 always can. AUC boosted itself is larger where features differ "
        "together. Conditions alone give 0.5 where both samples have the same ones. The list has "
        f"the largest of {number} features, which lie above 0.5 for equal samples too: coloured "
        f"is an AUC more than {sigmas:.1f} standard errors above it, which for the largest of "
        f"{number} is as rare as {SIGMAS:g} for a single one.",
    )


def number_of_features(result: Result) -> int:
    """How many features, without the conditions, the boosted trees see."""
    frame = result.shown.frame
    conditions = len(frame.geometry.conditions)
    table = for_trees(
        {key: np.empty(0) for key in frame.rows},
        np.empty((0, frame.geometry.n_cells)),
        np.empty((0, conditions)),
        frame.geometry,
    )
    return len(table) - conditions


def sigmas_of_largest(count: int) -> float:
    """Standard errors that the largest of so many AUCs of equal samples exceeds as rarely as a
    single one exceeds `SIGMAS`.

    Z. Sidak 1967, doi:10.1080/01621459.1967.10482935, for independent features; features that go
    together exceed it more rarely. All are counted, and not only those tried alone: these were
    chosen because they differ most.
    """
    within = NormalDist().cdf(SIGMAS) ** (1 / count)
    return NormalDist().inv_cdf(within)


def size_table(result: Result) -> Table | None:
    """The boosted AUC of a quarter, a half and all of the showers."""
    curves = [b.curve if (b := c.details.notes.boosted) else () for c in result.comparisons]
    if not any(curves):
        return None
    rows = []
    for k in range(max(map(len, curves))):
        cells = []
        for curve in curves:
            place = len(curve) - max(map(len, curves)) + k  # all of the showers come last
            cells.append(_of_size(curve[place]) if place >= 0 else Cell("–"))
        part = 2 ** (max(map(len, curves)) - 1 - k)
        rows.append((Cell("all showers" if part == 1 else f"1/{part} of them"), *cells))
    return Table(
        "Boosted AUC against the number of showers",
        ("", *generators(result)),
        tuple(rows),
        note="Trees learn more from more showers. An AUC that still grows would be larger with a "
        f"larger sample; one that stays is what there is to find. {showers_needed(result)}",
    )


def showers_needed(result: Result) -> str:
    """How many showers an AUC needs before it means something, in sentences."""
    sizes = [b.curve[-1].n for c in result.comparisons if (b := c.details.notes.boosted)]
    error = hanley_mcneil(SAME, min(sizes), min(sizes))
    text = (
        f"With {min(sizes)} showers of each sample an AUC below {SAME + STANDS_OUT * error:.3f} "
        "does not stand out from 0.5 by three standard errors. "
    )
    needed = []
    for area in ASKED:
        # The error falls with the root of the number of showers.
        of_many = hanley_mcneil(SAME, MANY, MANY)
        number = MANY * (STANDS_OUT * of_many / (area - SAME)) ** 2
        needed.append(f"{count(int(float(f'{number:.2g}')))} for {area:g}")
    return f"{text}Showers of each sample that are needed: {', '.join(needed)}."


def feature_label(result: Result, name: str) -> str:
    """The label of an observable, or of one of the features of a layer."""
    kind, _, layer = name.partition("/")
    if kind not in OF_LAYER:
        return observable_label(result, name)
    where = observable_label(result, f"layer_energy/{layer}").removeprefix("energy in ")
    return f"{OF_LAYER[kind]}, {where}"


def _feature(result: Result, one: Giveaway, sigmas: float) -> Cell:
    level, _ = judge("auc_boosted", one.value, one.error * sigmas / SIGMAS, SAME)
    return Cell(feature_label(result, one.name), level, f"AUC {_auc(one)}")


def _of_size(one: AucOfSize) -> Cell:
    return Cell(_auc(one), note=f"N\u00a0=\u00a0{one.n}")


def _auc(one: Auc | AucOfSize | Giveaway) -> str:
    return f"{one.value:.3g} ± {one.error:.1g}"
