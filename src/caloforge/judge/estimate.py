"""How long judging will take."""

from __future__ import annotations

from collections.abc import Sequence

from caloforge.judge.floor import floor_size
from caloforge.judge.pairs import needed_pairs
from caloforge.judge.summary import Summary
from caloforge.metrics.classifier import estimate_seconds
from caloforge.metrics.effort import Effort


def estimate_minutes(
    reference: Summary,
    generated: Sequence[Summary],
    floor: Summary | None,
    effort: Effort,
    device: str = "auto",
) -> float:
    """Expected minutes for the classifiers of `compare`, from a few training steps timed now."""
    geometry = reference.geometry
    width = {
        "low": 1 + geometry.n_cells,
        "low_normed": 1 + geometry.n_cells + geometry.n_layers,
        "high": 2 + len(reference.observables),
    }
    sizes = []
    for pair in needed_pairs(reference, generated, floor, memorising=False):
        sample = generated[pair.sample]
        smaller = len(sample) if pair.kind == "all" else floor_size(reference, sample, floor)
        sizes.append(min(len(reference), smaller))
    # What differs between the pairs is the number of showers: time is proportional to it.
    return sum(
        estimate_seconds(effort.protocol, n, width[name], device) / 60
        for n in sizes
        for name in effort.inputs
    )
