"""Pairs of samples whose metrics a comparison is made of: with the reference, and the floor.

The metrics of each pair are a function of their arguments alone, so that pairs can be measured
side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from caloforge.errors import DataError
from caloforge.judge.floor import (
    floor_pair,
    floor_size,
    number_of_draws,
    of_floor_size,
    with_scatter,
)
from caloforge.judge.sample import whole
from caloforge.judge.summary import Summary
from caloforge.metrics.base import Case, Measurements, Metric, Needs, joined
from caloforge.metrics.notes import Notes
from caloforge.metrics.table import metrics

if TYPE_CHECKING:
    from caloforge.metrics.effort import Effort

Tell = Callable[[str], None]
Kind = Literal["all", "floor", "small", "memorising"]


class Pair(NamedTuple):
    """A comparison to be made for one of the generated samples, counted from 0.

    "all": with the whole reference. "floor": the reference with itself, at the sample's size.
    "small": with the reference, both at the size of the floor. "memorising": with the training
    showers.
    """

    kind: Kind
    sample: int


@dataclass(frozen=True)
class How:
    """How samples are compared.

    Parameters
    ----------
    effort
        `FAST` or `FULL` of `caloforge.metrics.effort`: adds the metrics that look at all
        features or cells together (classifiers, distances in many dimensions). They need summaries
        that kept whole showers. None: one observable at a time only.
    seed
        Seed of the halves, the choices and the classifiers.
    device
        Device of the classifiers: "auto" (a GPU where there is one), "cpu" or "cuda".
    """

    effort: Effort | None = None
    seed: int = 0
    device: str = "auto"


DEFAULT = How()
# Metrics of pairs, in their order. The caller may make them one by one or side by side.
Measure = Callable[[Sequence[Pair]], Iterable[Measurements]]


def measure_pair(
    pair: Pair,
    reference: Summary,
    generated: Summary,
    other: Summary | None,
    how: How,
    tell: Tell = lambda what: None,
) -> Measurements:
    """Metrics of one pair, a function of its arguments alone.

    `other` holds the training showers for "memorising", and else the second reference sample, if
    there is one.
    """
    everything, judged = whole(reference), whole(generated, reference)
    what, n = generated.name, floor_size(reference, generated, other)
    if pair.kind in ("floor", "small"):
        everything, second = floor_pair(reference, other, n, how.seed)
        judged = second if pair.kind == "floor" else of_floor_size(judged, second, how.seed)
        what = "the floor" if pair.kind == "floor" else f"{generated.name}, floor's size"
    case = Case(
        everything,
        judged,
        how.effort,
        how.seed,
        how.device,
        closely=pair.kind == "all",
        tell=lambda step: tell(f"{what}: {step}"),
    )
    if pair.kind == "memorising":
        assert other is not None
        return compute(replace(case, other=whole(other, reference)), ("training",))
    figures = compute(case, ("observables",) if how.effort is None else ("observables", "effort"))
    if pair.kind != "floor":
        return figures
    further = []
    for draw in range(1, number_of_draws(other, n)):
        tell(f"the floor: draw {draw + 1}")
        first, second = floor_pair(reference, other, n, how.seed, draw)
        again = replace(case, reference=first, generated=second, values_only=True)
        further.append(compute(again, ("observables",)))
    return with_scatter(figures, further, other, n)


def compute(case: Case, needs: Sequence[Needs]) -> Measurements:
    """All metrics that need one of these things, each function called once.

    Where the samples are too small for a metric that looks at all features together, or at
    further showers, a warning stands in its place.
    """
    chosen: dict[object, Metric] = {}
    for metric in metrics():
        if metric.needs in needs:
            chosen.setdefault(metric.compute, metric)
    figures = joined(_compute_one(case, metric) for metric in chosen.values())
    effort = case.effort.name if case.effort is not None and "effort" in needs else ""
    return replace(figures, notes=replace(figures.notes, effort=effort))


def _compute_one(case: Case, metric: Metric) -> Measurements:
    try:
        return metric.compute(case)
    except DataError as error:
        if metric.needs == "observables":
            raise
        text = f"{metric.together or metric.name} left out: {error}"
        return Measurements(notes=Notes(warnings=(text,)))


def needed_pairs(
    reference: Summary, generated: Sequence[Summary], floor: Summary | None, memorising: bool
) -> list[Pair]:
    """What has to be compared; generators of one size share a floor."""
    pairs, sizes = [], set()
    for index, sample in enumerate(generated):
        n = floor_size(reference, sample, floor)
        if n not in sizes:
            pairs.append(Pair("floor", index))
            sizes.add(n)
        pairs.append(Pair("all", index))
        if n < len(sample) or floor is None:
            pairs.append(Pair("small", index))
        if memorising:
            pairs.append(Pair("memorising", index))
    return pairs
