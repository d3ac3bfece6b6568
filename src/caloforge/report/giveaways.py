"""Tables of the boosted AUC: what gives a generator away, and how the AUC grows with size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from caloforge.evaluation.merit import judge
from caloforge.report.blocks import Cell, Table
from caloforge.report.energy_figures import observable_label
from caloforge.report.samples import Samples

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison

# Features of a layer that are no observables: see `caloforge.evaluation.inputs.layer_features`.
OF_LAYER = {
    "filled_cells": "number of filled cells",
    "share_1": "share of the largest cell",
    "share_2": "share of the second largest cell",
    "share_3": "share of the third largest cell",
    "smallest_cell": "energy of the smallest filled cell",
}
SAME = 0.5  # the AUC of equal samples


def giveaway_table(samples: Samples, comparisons: Sequence[Comparison]) -> Table | None:
    """The features that boosted trees, shown one at a time, know each generator by."""
    lists = [_notes(c).get("features", []) for c in comparisons]
    if not any(lists):
        return None
    rows = [
        (
            Cell(str(place + 1)),
            *(_feature(samples, f[place]) if place < len(f) else Cell("–") for f in lists),
        )
        for place in range(max(map(len, lists)))
    ]
    alone = [_notes(c).get("conditions", {}) for c in comparisons]
    rows.append((Cell("conditions alone"), *(Cell(_auc(a) if a else "–") for a in alone)))
    return Table(
        "What gives the generator away",
        ("", *(s.name for s in samples.generated)),
        tuple(rows),
        note="AUC of boosted trees that see one feature together with the conditions, the largest "
        "first: 0.5 cannot tell, 1 always can. AUC boosted itself is larger where features differ "
        "together. Conditions alone give 0.5 where both samples have the same ones.",
    )


def size_table(samples: Samples, comparisons: Sequence[Comparison]) -> Table | None:
    """The boosted AUC of a quarter, a half and all of the showers."""
    curves = [_notes(c).get("curve", []) for c in comparisons]
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
        ("", *(s.name for s in samples.generated)),
        tuple(rows),
        note="Trees learn more from more showers. An AUC that still grows would be larger with a "
        "larger sample; one that stays is what there is to find.",
    )


def feature_label(samples: Samples, name: str) -> str:
    """The label of an observable, or of one of the features of a layer."""
    kind, _, layer = name.partition("/")
    if kind not in OF_LAYER:
        return observable_label(samples, name)
    where = observable_label(samples, f"layer_energy/{layer}").removeprefix("energy in ")
    return f"{OF_LAYER[kind]}, {where}"


def _notes(comparison: Comparison) -> dict[str, Any]:
    return dict(comparison.details.get("boosted") or {})


def _feature(samples: Samples, found: dict[str, Any]) -> Cell:
    level, _ = judge("auc_boosted", found["value"], found["error"], SAME)
    return Cell(feature_label(samples, found["name"]), level, f"AUC {_auc(found)}")


def _of_size(found: dict[str, Any]) -> Cell:
    return Cell(_auc(found), note=f"N\u00a0=\u00a0{found['n']}")


def _auc(found: dict[str, Any]) -> str:
    return f"{found['value']:.3g} ± {found['error']:.1g}"
