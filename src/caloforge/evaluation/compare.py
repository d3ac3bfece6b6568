"""Judging generated showers against a reference: every figure with its error and its floor.

The floor of a figure is its value for two samples of the reference simulation at the same number
of showers: nothing can be better than that but by chance. A second reference sample, cut down to
the size of the generated one, gives it directly. Without one the reference is halved, and half
against half is the floor; because a figure depends on the number of showers, the generated one is
then also given at that size, in `details["at_floor_size"]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from caloforge.errors import DataError
from caloforge.evaluation.histograms import (
    Measured,
    histogram_figures,
    histogram_figures_at,
    same_voxels,
    total_energy_chi2,
)
from caloforge.evaluation.observables import response_edges
from caloforge.evaluation.resolution import Response, fit_resolution, response
from caloforge.evaluation.sample import Sample, whole
from caloforge.evaluation.separation import counts, histogram_separation, separation_error
from caloforge.evaluation.slices import energy_slices
from caloforge.evaluation.summary import Summary

if TYPE_CHECKING:
    from caloforge.evaluation.effort import Effort

FEWEST = 4  # two halves of two showers: the least a floor can be made of
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Value:
    """A figure, its standard deviation, its floor, and how many generated showers entered."""

    value: float
    error: float | None
    floor: float | None
    n: int


@dataclass(frozen=True)
class Comparison:
    """One generator judged.

    Parameters
    ----------
    name
        Of the generator.
    metrics
        Key -> figure: `chi2_ndf_energy`, and for every observable `separation/KEY`,
        `separation_with_flow/KEY`, `wasserstein/KEY` (in the observable's unit). The distribution
        of all voxel energies has the key `voxel_energy`. With an effort also those of
        `caloforge.evaluation.joint.joint_figures`, and with training showers `memorising`.
    per_energy
        Energy point (or median of a slice) in MeV -> numbers of showers, `separation/response`,
        chi-square and its degrees of freedom or why it was left out, response and resolution of
        reference and generated showers, and `metrics` at that energy as above; those of all
        features together at the number of showers of the floor.
    details
        Figures per energy as `separation/response@ENERGY`, the resolution fits, the making of the
        floor, the figures at its size, how the joint figures were made, what the file says of its
        origin, and `warnings`.
    """

    name: str
    metrics: dict[str, Value]
    per_energy: dict[float, dict[str, Any]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Figures:
    """All figures of two samples: over all energies, per energy, and notes on how."""

    total: dict[str, Measured]
    at: dict[float, dict[str, Measured]]
    notes: dict[str, Any]


class Pair(NamedTuple):
    """A comparison to be made for one of the generated samples, counted from 0.

    "all": with the whole reference. "floor": the reference with itself, at the sample's size.
    "small": with the reference, both at the size of the floor. "memorising": with the training
    showers.
    """

    kind: Literal["all", "floor", "small", "memorising"]
    sample: int


@dataclass(frozen=True)
class How:
    """Effort, seed and device of `compare`."""

    effort: Effort | None
    seed: int
    device: str


# Figures of pairs, in their order; how they are found is the caller's: one by one, or by a farm.
Find = Callable[[Sequence[Pair]], Iterable[_Figures]]


def pair_figures(
    pair: Pair,
    reference: Summary,
    generated: Summary,
    other: Summary | None,
    how: How,
    tell: Tell = lambda what: None,
) -> _Figures:
    """Figures of one pair, a function of its arguments alone.

    `other` holds the training showers for "memorising", and else the second reference sample, if
    there is one.
    """
    if pair.kind == "memorising":
        from caloforge.evaluation.joint import memorising_figure

        assert other is not None
        tell(f"{generated.name}: distances to the training showers")
        measured, notes = memorising_figure(reference, generated, other, how.seed)
        return _Figures({"memorising": measured}, {}, notes)
    everything, judged = whole(reference), whole(generated)
    if pair.kind == "all":
        return _figures(everything, judged, how, tell, generated.name, closely=True)
    base, second = _floor_samples(reference, other, how.seed)
    n = min(len(judged), len(second))
    if pair.kind == "floor":
        return _figures(base, second.part(n, how.seed), how, tell, "the floor")
    what = f"{generated.name}, floor's size"
    return _figures(base, judged.part(n, how.seed), how, tell, what)


def _figures(
    base: Sample, judged: Sample, how: How, tell: Tell, what: str, closely: bool = False
) -> _Figures:
    total = histogram_figures(base, judged)
    at = histogram_figures_at(base, judged)
    notes: dict[str, Any] = {}
    if how.effort is not None:
        from caloforge.evaluation.joint import joint_figures

        found = joint_figures(
            base,
            judged,
            how.effort,
            how.seed,
            device=how.device,
            tell=lambda step: tell(f"{what}: {step}"),
            closely=closely,
        )
        total |= found.total
        for energy, more in found.at.items():
            at.setdefault(energy, {}).update(more)
        notes = found.notes
    return _Figures(total, at, notes)


def _floor_samples(reference: Summary, floor: Summary | None, seed: int) -> tuple[Sample, Sample]:
    """The two samples of the reference simulation that the floor is made of."""
    if floor is not None:
        return whole(reference), whole(floor)
    return whole(reference).halves(seed)


def _floor_size(reference: Summary, generated: Summary, floor: Summary | None) -> int:
    """Showers of the second of the two samples of a floor."""
    return min(len(generated), len(reference) // 2 if floor is None else len(floor))


def _pairs(
    reference: Summary, generated: Sequence[Summary], floor: Summary | None, memorising: bool
) -> list[Pair]:
    """What has to be compared; generators of one size share a floor."""
    pairs, sizes = [], set()
    for index, sample in enumerate(generated):
        n = _floor_size(reference, sample, floor)
        if n not in sizes:
            pairs.append(Pair("floor", index))
            sizes.add(n)
        pairs.append(Pair("all", index))
        if n < len(sample) or floor is None:
            pairs.append(Pair("small", index))
        if memorising:
            pairs.append(Pair("memorising", index))
    return pairs


def compare(
    reference: Summary,
    generated: Sequence[Summary],
    floor: Summary | None = None,
    seed: int = 0,
    *,
    effort: Effort | None = None,
    train: Summary | None = None,
    device: str = "auto",
    tell: Tell = lambda what: None,
    find: Find | None = None,
) -> list[Comparison]:
    """Judge each of the generated samples against the reference.

    Parameters
    ----------
    reference
        Summary of the reference showers; it sets all histogram edges.
    generated
        Summaries of the showers to judge, made with `summarise(..., like=reference)` (without it
        the figure of the voxel distribution is left out, with a warning).
    floor
        A second, independent reference sample. It is cut down to the size of each generated sample
        by a seeded choice that keeps its mixture of energies; a smaller one is used whole.
    seed
        Of the halves, the choices and the classifiers.
    effort
        `FAST` or `FULL` of `caloforge.evaluation.effort`: adds the figures that look at all
        features or cells together (classifiers, distances in many dimensions). They need summaries
        that kept whole showers. None: one observable at a time only.
    train
        The showers the generators were trained on, for the check of memorising.
    device
        Of the classifiers: "auto" (a GPU where there is one), "cpu" or "cuda".
    tell
        Called with what is being done.
    find
        Gives the figures of pairs with `pair_figures`; default: here, one after the other.

    Raises
    ------
    DataError
        For different read-outs or fewer than four showers in a sample.
    """
    _check(reference, [s for s in (*generated, floor, train) if s is not None])
    how = How(effort, seed, device)

    def here(pairs: Sequence[Pair]) -> Iterator[_Figures]:
        for pair in pairs:
            other = train if pair.kind == "memorising" else floor
            yield pair_figures(pair, reference, generated[pair.sample], other, how, tell)

    pairs = _pairs(reference, generated, floor, train is not None)
    found = dict(zip(pairs, (find or here)(pairs), strict=True))
    floors = {
        _floor_size(reference, generated[pair.sample], floor): figures
        for pair, figures in found.items()
        if pair.kind == "floor"
    }
    result = []
    for index, sample in enumerate(generated):
        mine = {pair.kind: figures for pair, figures in found.items() if pair.sample == index}
        mine["floor"] = floors[_floor_size(reference, sample, floor)]
        result.append(_compare_one(reference, sample, floor, mine))
    if effort is not None:
        from caloforge.evaluation.attributes import add_attributes

        tell("attributes")
        add_attributes(reference, generated, floor, result, seed)
    return result


def _check(reference: Summary, others: Sequence[Summary]) -> None:
    for sample in others:
        if sample.geometry.hash != reference.geometry.hash:
            raise DataError(
                f"'{sample.name}' has the read-out '{sample.geometry.name}' but the reference "
                f"'{reference.name}' has '{reference.geometry.name}'; expected one for both."
            )
    for sample in (reference, *others):
        if len(sample) < FEWEST:
            raise DataError(
                f"'{sample.name}' holds {len(sample)} showers; expected at least {FEWEST} to "
                "judge them with a floor."
            )


def _compare_one(
    reference: Summary, generated: Summary, floor: Summary | None, pairs: Mapping[Any, _Figures]
) -> Comparison:
    everything, judged = whole(reference), whole(generated)
    if floor is None:
        kind, n_base = "halves of the reference", (len(reference) + 1) // 2
    else:
        kind, n_base = f"second reference sample '{floor.name}'", len(reference)
    n, main, floors = _floor_size(reference, generated, floor), pairs["all"], pairs["floor"]
    details: dict[str, Any] = {
        "warnings": _warnings(everything, judged) + main.notes.pop("warnings", []),
        "floor": {"kind": kind, "n_reference": n_base, "n": n},
        "provenance": generated.provenance,
        **main.notes,
    }
    if floors.notes:
        details["floor"]["joint"] = floors.notes
    if "small" in pairs:
        small = pairs["small"]
        details["at_floor_size"] = _with_floor(small.total, floors.total)
        # Joint figures depend on the number of showers in ways nobody can correct.
        for energy, found in small.at.items():
            # A group may have too few showers of the one sample and enough of the other.
            own = main.at.setdefault(energy, {})
            own.update({k: v for k, v in found.items() if "/" not in k})
    per_energy, more = _per_energy(everything, judged)
    details.update(more)
    for energy, point in per_energy.items():
        point["metrics"] = _with_floor(main.at.get(energy, {}), floors.at.get(energy, {}))
    metrics = _with_floor(main.total, floors.total)
    if "chi2_ndf_energy" not in metrics:
        details["warnings"].append(
            "Chi-square of the total energy was left out: no energy has enough showers in both "
            "samples."
        )
    if "memorising" in pairs:
        close = pairs["memorising"].total["memorising"]
        # Fresh Geant4 showers are as near to the training ones as held-out ones are.
        metrics["memorising"] = Value(close.value, close.error, 0.5, close.n)
        details["memorising"] = pairs["memorising"].notes
    return Comparison(generated.name, metrics, per_energy, details)


def _with_floor(
    figures: Mapping[str, Measured], floors: Mapping[str, Measured]
) -> dict[str, Value]:
    return {
        key: Value(found.value, found.error, floors[key].value if key in floors else None, found.n)
        for key, found in figures.items()
    }


def _per_energy(
    reference: Sample, judged: Sample
) -> tuple[dict[float, dict[str, Any]], dict[str, Any]]:
    """Response, resolution and chi-square per energy, and the details that follow from them."""
    slices = energy_slices(reference.incident, judged.incident)
    chi2 = total_energy_chi2(reference, judged)
    response1, response2 = reference.values("response"), judged.values("response")
    points: dict[float, dict[str, Any]] = {}
    details: dict[str, Any] = {"spectrum": slices.spectrum}
    first: dict[float, Response] = {}
    second: dict[float, Response] = {}
    for energy, (rows1, rows2) in slices.members.items():
        first[energy], second[energy] = response(response1[rows1]), response(response2[rows2])
        point: dict[str, Any] = {
            "n_reference": len(rows1),
            "n_generated": len(rows2),
            "reference": asdict(first[energy]),
            "generated": asdict(second[energy]),
        }
        if energy in chi2.per_energy:
            point["chi2"], point["ndf"] = chi2.per_energy[energy]
            point["outside_reference"], point["outside_generated"] = chi2.outside[energy]
        else:
            point["chi2_left_out"] = chi2.left_out[energy]
        if len(rows2):
            edges = response_edges(reference.summary.geometry, energy, response1[rows1])
            both = [counts(response1[rows1], edges), counts(response2[rows2], edges)]
            value = Value(histogram_separation(*both), separation_error(*both), None, len(rows2))
            point["separation/response"] = value
            details[f"separation/response@{energy:.10g}"] = value
        points[energy] = point
    details["chi2_left_out"] = chi2.left_out
    for name, responses in (("reference", first), ("generated", second)):
        fit = fit_resolution(responses)
        details[f"resolution_fit_{name}"] = asdict(fit) if fit else None
    return points, details


def _warnings(reference: Sample, judged: Sample) -> list[str]:
    """What makes the figures of this pair hard to read, in sentences."""
    from scipy.stats import ks_2samp

    result = []
    # The exact p-value is out of reach for large samples with many ties, and warns of it.
    if ks_2samp(reference.incident, judged.incident, method="asymp").pvalue < 1e-6:
        result.append(
            "The incident energies of reference and generated showers are distributed "
            "differently: figures over all energies compare different mixtures; generate with the "
            "conditions of the reference."
        )
    if not 0.5 <= len(judged) / len(reference) <= 2:
        result.append(
            f"{len(judged)} generated showers meet {len(reference)} of the reference: "
            "chi-square grows when the sizes differ; judge it against its floor."
        )
    if not same_voxels(reference, judged):
        result.append(
            "The voxel distribution was left out: summarise the generated showers with "
            "like=reference."
        )
    return result
