"""Sentences on what makes the metrics of two samples hard to read, or the samples suspicious."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.judge.summary import Summary
from caloforge.metrics.base import Case
from caloforge.metrics.separation import same_voxels
from caloforge.metrics.twins import are_twins

Array = NDArray[Any]

UNLIKELY = 1e-6  # probability below which chance is no explanation
OTHER_UNIT = 100.0  # times: a response that far off is one of another unit of energy
NAMED = 5  # cells that are named in one sentence


def notices(
    case: Case, reference: Summary, generated: Summary, others: Sequence[Summary | None]
) -> list[str]:
    """All sentences on a judged sample; `others` are the floor and the training showers."""
    train = others[-1]
    return [
        *_mixtures(case),
        *_units(case),
        *_twins(case),
        *_cells(reference, generated),
        *_duplicates([generated, reference, *(s for s in others if s is not None)]),
        *([] if train is None else _copies(reference, generated, train)),
    ]


def shared_showers(sample: Summary, other: Summary) -> int:
    """How many showers of a sample are exactly those of another; showers without energy aside."""
    return int(np.isin(sample.digests[sample.digests > 0], other.digests).sum())


def duplicates(sample: Summary) -> int:
    """How many showers of a sample repeat an earlier one of it exactly."""
    with_energy = sample.digests[sample.digests > 0]
    return len(with_energy) - len(np.unique(with_energy))


def _mixtures(case: Case) -> list[str]:
    from scipy.stats import ks_2samp

    reference, judged = case.samples
    result = []
    # The exact p-value is out of reach for large samples with many ties, and warns of it.
    if ks_2samp(reference.incident, judged.incident, method="asymp").pvalue < UNLIKELY:
        result.append(
            "The incident energies of reference and generated showers are distributed "
            "differently: metrics over all energies compare different mixtures; generate with the "
            "conditions of the reference."
        )
    if not 0.5 <= len(judged) / len(reference) <= 2:
        result.append(
            f"{len(judged)} generated showers meet {len(reference)} of the reference: "
            "chi-square grows when the sizes differ; judge it against its floor."
        )
    if not same_voxels(case):
        result.append(
            "The voxel distribution was left out: summarise the generated showers with "
            "like=reference."
        )
    return result


def _units(case: Case) -> list[str]:
    first, second = (float(np.mean(sample.values("response"))) for sample in case.samples)
    if first > 0 and not 1 / OTHER_UNIT < second / first < OTHER_UNIT:
        return [
            f"The generated showers deposit {second:.2g} of their incident energy, those of the "
            f"reference {first:.2g}: are their cells in another unit than MeV?"
        ]
    return []


def _twins(case: Case) -> list[str]:
    if are_twins(*(sample.conditions for sample in case.samples)):
        return [
            "The generated showers have exactly the conditions of reference showers. The samples "
            "are then more alike than independent ones, so that distances such as FPD and the "
            "separation powers may lie below the floor of a perfect generator; generate with "
            "other conditions of the same distribution."
        ]
    return []


def _cells(reference: Summary, generated: Summary) -> list[str]:
    """Cells that one sample fills and the other one never does."""
    result = []
    sets = (reference, generated), (generated, reference)
    for (filled, empty), what in zip(sets, ("never", "alone"), strict=True):
        rate = filled.filled / len(filled)
        chance = (1 - rate) ** len(empty)  # that none of the other showers fills the cell
        cells = np.flatnonzero((empty.filled == 0) & (chance * len(rate) < UNLIKELY))
        if not len(cells):
            continue
        worst = cells[np.argsort(-rate[cells], kind="stable")]
        names = ", ".join(_cell_name(reference, cell) for cell in worst[:NAMED])
        more = f" and {len(cells) - NAMED} more" if len(cells) > NAMED else ""
        share = f"{100 * rate[worst[0]]:.2g} %"
        if what == "never":
            result.append(
                f"Dead cells: no generated shower has energy in {names}{more}; up to {share} of "
                "the reference showers have."
            )
        else:
            result.append(
                f"No reference shower has energy in {names}{more}; up to {share} of the generated "
                "showers have."
            )
    return result


def _cell_name(summary: Summary, cell: int) -> str:
    geometry = summary.geometry
    position = int(geometry.layer_of_cell[cell])
    within = int(cell) - geometry.slices[position].start
    return f"cell {within} of layer {geometry.layers[position].id}"


def _duplicates(samples: Sequence[Summary]) -> list[str]:
    result = {}
    for sample in samples:
        repeated = duplicates(sample)
        if repeated:
            result[sample.name] = (
                f"Duplicates: {repeated} of the {len(sample)} showers of '{sample.name}' repeat "
                "another one of the same file exactly."
            )
    return list(result.values())


def _copies(reference: Summary, generated: Summary, train: Summary) -> list[str]:
    result = []
    copied = shared_showers(generated, train)
    if copied:
        result.append(
            f"Copies: {copied} of the {len(generated)} generated showers are exactly showers of "
            f"the training sample '{train.name}'."
        )
    held = shared_showers(reference, train)
    if held:
        result.append(
            f"{held} of the {len(reference)} reference showers are showers of the training sample "
            f"'{train.name}': copies cannot be told from them; expected showers that were not "
            "trained on."
        )
    return result
