"""Judging generated showers against a reference: every metric with its error and its floor.

The floor of a metric is its value for two samples of the reference simulation at the same number
of showers and at the conditions of the reference: nothing can be better than that but by chance.
A second reference sample, drawn down to the size of the generated one, gives it directly. Without
one the reference is halved, and half against half is the floor; because a metric depends on the
number of showers, the generated one is then also given at that size, in `Details.at_floor_size`.
`caloforge.judge.floor` says how a floor is drawn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray

from caloforge.detector.same import check_same_read_out
from caloforge.errors import DataError
from caloforge.judge.comparison import Comparison, Details, Floor, Point
from caloforge.judge.floor import FEWEST, check_floor, floor_pair, floor_size, floor_warnings
from caloforge.judge.notices import notices
from caloforge.judge.pairs import (
    DEFAULT,
    How,
    Kind,
    Measure,
    Pair,
    Tell,
    compute,
    measure_pair,
    needed_pairs,
)
from caloforge.judge.plain import plain_dict
from caloforge.judge.sample import whole
from caloforge.judge.summary import Summary
from caloforge.metrics.base import Case, Measured, Measurements, Value
from caloforge.metrics.chi2 import total_energy_chi2
from caloforge.metrics.resolution import fit_resolution, response
from caloforge.metrics.separation import counts, histogram_separation, separation_error
from caloforge.observables.slices import energy_slices
from caloforge.observables.table import response_edges

Array = NDArray[Any]


def compare(
    reference: Summary,
    generated: Sequence[Summary],
    floor: Summary | None = None,
    how: How = DEFAULT,
    *,
    train: Summary | None = None,
    tell: Tell = lambda what: None,
    measure: Measure | None = None,
) -> list[Comparison]:
    """Judge each of the generated samples against the reference.

    Parameters
    ----------
    reference
        Summary of the reference showers; it sets all histogram edges.
    generated
        Summaries of the showers to judge, made with `summarise(..., like=reference)` (without it
        the metric of the voxel distribution is left out, with a warning).
    floor
        A second, independent reference sample. As many showers as each generated sample has are
        drawn from it, at the conditions of the reference; fewer where it lacks some.
    how
        Effort, seed and device; without an effort one observable is compared at a time.
    train
        The showers the generators were trained on, for the check of memorising.
    tell
        Function that is called with what is being done.
    measure
        Gives the metrics of pairs by `measure_pair`, in their order; by default one after the
        other.

    Raises
    ------
    DataError
        For different read-outs, fewer than four showers in a sample, and a floor that is the
        reference itself.
    """
    _check(reference, [s for s in (*generated, floor, train) if s is not None])
    check_floor(reference, floor)

    def one_by_one(pairs: Sequence[Pair]) -> Iterator[Measurements]:
        for pair in pairs:
            other = train if pair.kind == "memorising" else floor
            yield measure_pair(pair, reference, generated[pair.sample], other, how, tell)

    # Memorising looks at cells, of which nothing is kept where no effort is made.
    memorising = train is not None and how.effort is not None
    pairs = needed_pairs(reference, generated, floor, memorising)
    figures = dict(zip(pairs, (measure or one_by_one)(pairs), strict=True))
    floors = {
        floor_size(reference, generated[pair.sample], floor): part
        for pair, part in figures.items()
        if pair.kind == "floor"
    }
    further = _on_further_showers(reference, generated, floor, how, tell)
    result = []
    for index, sample in enumerate(generated):
        of_sample = {pair.kind: part for pair, part in figures.items() if pair.sample == index}
        of_sample["floor"] = floors[floor_size(reference, sample, floor)]
        warnings = [
            *notices(
                Case(whole(reference), whole(sample, reference)), reference, sample, (floor, train)
            ),
            *floor_warnings(reference, floor, floor_size(reference, sample, floor), how.seed),
        ]
        result.append(_compare_one(reference, sample, floor, of_sample, further[index], warnings))
    return result


def _on_further_showers(
    reference: Summary, generated: Sequence[Summary], floor: Summary | None, how: How, tell: Tell
) -> list[Measurements]:
    """Metrics that need further reference showers, such as attributes, one a generated sample.

    Those are the second reference sample, or without one half of the reference, against whose
    other half the generated showers are then held.
    """
    if how.effort is None:
        return [Measurements()] * len(generated)
    tell("attributes")
    held_out, other = (
        floor_pair(reference, None, len(reference), how.seed)
        if floor is None
        else (whole(reference), whole(floor, reference))
    )
    return [
        compute(
            Case(
                held_out, whole(sample, reference), how.effort, how.seed, how.device, other=other
            ),
            ("second reference",),
        )
        for sample in generated
    ]


def _check(reference: Summary, others: Sequence[Summary]) -> None:
    for sample in others:
        check_same_read_out(
            sample.geometry,
            reference.geometry,
            (f"'{sample.name}' has the read-out", f"the reference '{reference.name}' has"),
            "compare showers of one calorimeter",
            DataError,
        )
    for sample in (reference, *others):
        if len(sample) < FEWEST:
            raise DataError(
                f"'{sample.name}' holds {len(sample)} showers; expected at least {FEWEST} to "
                "judge them with a floor."
            )


def _compare_one(
    reference: Summary,
    generated: Summary,
    floor: Summary | None,
    pairs: Mapping[Kind, Measurements],
    further: Measurements,
    earlier_warnings: Sequence[str],
) -> Comparison:
    """The comparison of one sample, from the metrics of its pairs; `earlier_warnings` were given
    before there were any metrics.
    """
    case = Case(whole(reference), whole(generated, reference))
    kind, n_base = "halves of the reference", (len(reference) + 1) // 2
    if floor is not None:
        kind, n_base = f"second reference sample '{floor.name}'", len(reference)
    main, floors = pairs["all"], pairs["floor"]
    copies = pairs.get("memorising", Measurements())
    total = {**main.total, **copies.total, **further.total}
    warnings = [
        *earlier_warnings,
        *(text for part in (main, copies, further) for text in part.notes.warnings),
    ]
    if "chi2_ndf_energy" not in total:
        warnings.append(
            "Chi-square of the total energy was left out: no energy has enough showers in both "
            "samples."
        )
    at = {energy: {**values} for energy, values in main.at.items()}
    if "small" in pairs:
        # Beside a floor of fewer showers a value needs as few of them.
        for energy, values in pairs["small"].at.items():
            # A group may have too few showers of the one sample and enough of the other.
            at.setdefault(energy, {}).update(values)
    for energy, values in further.at.items():
        at.setdefault(energy, {}).update(values)
    points = {
        energy: replace(point, metrics=_with_floor(at.get(energy, {}), floors.at.get(energy, {})))
        for energy, point in _points(case).items()
    }
    slices = energy_slices(reference.incident_energy, generated.incident_energy)
    details = Details(
        warnings=tuple(warnings),
        floor=Floor(kind, n_base, floor_size(reference, generated, floor), floors.notes),
        provenance=plain_dict(generated.provenance),
        at_floor_size=_with_floor(pairs["small"].total, floors.total) if "small" in pairs else {},
        notes=replace(main.notes | copies.notes | further.notes, warnings=()),
        spectrum=slices.spectrum,
        chi2_left_out=total_energy_chi2(case).left_out,
        resolution_fit_reference=fit_resolution({e: p.reference for e, p in points.items()}),
        resolution_fit_generated=fit_resolution({e: p.generated for e, p in points.items()}),
    )
    return Comparison(generated.name, _with_floor(total, floors.total), points, details)


def _with_floor(
    figures: Mapping[str, Measured], floors: Mapping[str, Measured]
) -> dict[str, Value]:
    """Metrics with their floors: the one that a metric returns itself, or that of the same key."""
    result = {}
    for key, (value, error, n, floor, floor_error) in figures.items():
        if floor is None and key in floors:
            floor, floor_error = floors[key].value, floors[key].error
        result[key] = Value(value, error, floor, n, floor_error)
    return result


def _points(case: Case) -> dict[float, Point]:
    """Numbers of showers, response, resolution and chi-square at each energy, without metrics."""
    reference, judged = case.samples
    chi2 = total_energy_chi2(case)
    first, second = reference.values("response"), judged.values("response")
    points = {}
    slices = energy_slices(reference.incident, judged.incident)
    for energy, (rows1, rows2) in slices.members.items():
        value, ndf = chi2.per_energy.get(energy, (None, None))
        outside = chi2.outside.get(energy, (None, None))
        points[energy] = Point(
            len(rows1),
            len(rows2),
            response(first[rows1]),
            response(second[rows2]),
            chi2=value,
            ndf=ndf,
            outside_reference=outside[0],
            outside_generated=outside[1],
            chi2_left_out=chi2.left_out.get(energy, ""),
            separation_response=_separation_at(case, energy, first[rows1], second[rows2]),
        )
    return points


def _separation_at(case: Case, energy: float, first: Array, second: Array) -> Value | None:
    """Separation power of responses (n,), (m,) in the bins for this energy; None without any."""
    if not len(second):
        return None
    edges = response_edges(case.geometry, energy, first)
    both = [counts(values, edges) for values in (first, second)]
    return Value(histogram_separation(*both), separation_error(*both), None, len(second))
