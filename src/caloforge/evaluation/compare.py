"""Judging generated showers against a reference: every figure with its error and its floor.

The floor of a figure is its value for two samples of the reference simulation at the same number
of showers: nothing can be better than that but by chance. A second reference sample, cut down to
the size of the generated one, gives it directly. Without one the reference is halved, and half
against half is the floor; because a figure depends on the number of showers, the generated one is
then also given at that size, in `details["at_floor_size"]`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation.chi2 import RANGE_RMS, RANGE_RMS_PIONS, Chi2, energy_chi2
from caloforge.evaluation.distances import wasserstein
from caloforge.evaluation.observables import observables, response_edges
from caloforge.evaluation.resolution import Response, fit_resolution, response
from caloforge.evaluation.separation import counts, histogram_separation, separation_error
from caloforge.evaluation.slices import energy_slices
from caloforge.evaluation.summary import Summary

Array = NDArray[Any]

FEWEST = 4  # two halves of two showers: the least a floor can be made of
VOXELS = "voxel_energy"
PIONS = ("pi+", "pi-", "piplus", "piminus", "pion", "pions")


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
        of all voxel energies has the key `voxel_energy`.
    per_energy
        Energy point (or median of a slice) in MeV -> numbers of showers, `separation/response`,
        chi-square and its degrees of freedom or why it was left out, response and resolution of
        reference and generated showers.
    details
        Figures per energy as `separation/response@ENERGY`, the resolution fits, the making of the
        floor, the figures at its size, and `warnings`.
    """

    name: str
    metrics: dict[str, Value]
    per_energy: dict[float, dict[str, Any]] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Sample:
    """The rows of a summary that figures are made of, and counts of voxel energies with flow."""

    summary: Summary
    rows: Array
    voxels: Array

    def __len__(self) -> int:
        return len(self.rows)

    def values(self, key: str) -> Array:
        return self.summary.observables[key][self.rows]

    @property
    def incident(self) -> Array:
        return self.summary.incident_energy[self.rows]


def compare(
    reference: Summary,
    generated: Sequence[Summary],
    floor: Summary | None = None,
    seed: int = 0,
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
        Of the halves and of the choices.

    Raises
    ------
    DataError
        For different read-outs or fewer than four showers in a sample.
    """
    for sample in [*generated, *([floor] if floor is not None else [])]:
        if sample.geometry.hash != reference.geometry.hash:
            raise DataError(
                f"'{sample.name}' has the read-out '{sample.geometry.name}' but the reference "
                f"'{reference.name}' has '{reference.geometry.name}'; expected one for both."
            )
    for sample in [reference, *generated, *([floor] if floor is not None else [])]:
        if len(sample) < FEWEST:
            raise DataError(
                f"'{sample.name}' holds {len(sample)} showers; expected at least {FEWEST} to "
                "judge them with a floor."
            )
    return [_compare_one(reference, sample, floor, seed) for sample in generated]


def _compare_one(
    reference: Summary, generated: Summary, floor: Summary | None, seed: int
) -> Comparison:
    whole, judged = _whole(reference), _whole(generated)
    if floor is not None:
        kind, base, second = f"second reference sample '{floor.name}'", whole, _whole(floor)
    else:
        kind, (base, second) = "halves of the reference", _halves(reference, seed)
    n = min(len(judged), len(second))
    floors = _figures(base, _part(second, n, seed))
    details: dict[str, Any] = {
        "warnings": _warnings(reference, generated),
        "floor": {"kind": kind, "n_reference": len(base), "n": n},
    }
    if n < len(judged) or len(base) < len(whole):
        small = _figures(base, _part(judged, n, seed))
        details["at_floor_size"] = _with_floor(small, floors, n)
    per_energy, more = _per_energy(whole, judged)
    details.update(more)
    metrics = _with_floor(_figures(whole, judged), floors, len(judged))
    if "chi2_ndf_energy" not in metrics:
        details["warnings"].append(
            "Chi-square of the total energy was left out: no energy has enough showers in both "
            "samples."
        )
    return Comparison(generated.name, metrics, per_energy, details)


def _figures(reference: _Sample, judged: _Sample) -> dict[str, tuple[float, float | None]]:
    """All metrics of two samples, key -> (value, error), in the edges of the whole reference."""
    result: dict[str, tuple[float, float | None]] = {}
    chi2 = _chi2(reference, judged)
    if chi2.ndf:
        result["chi2_ndf_energy"] = (chi2.chi2_ndf, chi2.error)
    table = observables(reference.summary.geometry)
    histograms = {}
    for observable in table:
        edges = observable.edges(reference.summary.observables[observable.key])
        histograms[observable.key] = [
            counts(sample.values(observable.key), edges, flow=True)
            for sample in (reference, judged)
        ]
    if _same_voxels(reference.summary, judged.summary):
        histograms[VOXELS] = [reference.voxels, judged.voxels]
    for family, inside in (("separation", slice(1, -1)), ("separation_with_flow", slice(None))):
        for key, (first, second) in histograms.items():
            result[f"{family}/{key}"] = (
                histogram_separation(first[inside], second[inside]),
                # The voxels of one shower are not independent: no error is known for theirs.
                None if key == VOXELS else separation_error(first[inside], second[inside]),
            )
    for observable in table:
        result[f"wasserstein/{observable.key}"] = wasserstein(
            reference.values(observable.key), judged.values(observable.key)
        )
    return result


def _with_floor(
    figures: dict[str, tuple[float, float | None]],
    floors: dict[str, tuple[float, float | None]],
    n: int,
) -> dict[str, Value]:
    return {
        key: Value(value, error, floors[key][0] if key in floors else None, n)
        for key, (value, error) in figures.items()
    }


def _chi2(reference: _Sample, judged: _Sample) -> Chi2:
    summary = reference.summary
    particles = summary.provenance.get("particle") or summary.geometry.particles
    names = [particles] if isinstance(particles, str) else list(particles)
    pions = bool(names) and all(str(name).lower() in PIONS for name in names)
    return energy_chi2(
        reference.values("total_energy"),
        reference.incident,
        judged.values("total_energy"),
        judged.incident,
        range_rms=RANGE_RMS_PIONS if pions else RANGE_RMS,
    )


def _per_energy(
    reference: _Sample, judged: _Sample
) -> tuple[dict[float, dict[str, Any]], dict[str, Any]]:
    """Figures per energy, and the details that follow from them."""
    slices = energy_slices(reference.incident, judged.incident)
    chi2 = _chi2(reference, judged)
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


def _warnings(reference: Summary, generated: Summary) -> list[str]:
    """What makes the figures of this pair hard to read, in sentences."""
    from scipy.stats import ks_2samp

    result = []
    # The exact p-value is out of reach for large samples with many ties, and warns of it.
    energies = (reference.incident_energy, generated.incident_energy)
    if ks_2samp(*energies, method="asymp").pvalue < 1e-6:
        result.append(
            "The incident energies of reference and generated showers are distributed "
            "differently: figures over all energies compare different mixtures; generate with the "
            "conditions of the reference."
        )
    if not 0.5 <= len(generated) / len(reference) <= 2:
        result.append(
            f"{len(generated)} generated showers meet {len(reference)} of the reference: "
            "chi-square grows when the sizes differ; judge it against its floor."
        )
    if not _same_voxels(reference, generated):
        result.append(
            "The voxel distribution was left out: summarise the generated showers with "
            "like=reference."
        )
    return result


def _same_voxels(reference: Summary, other: Summary) -> bool:
    return np.array_equal(reference.cell_separation_edges, other.cell_separation_edges)


def _whole(summary: Summary) -> _Sample:
    return _Sample(summary, np.arange(len(summary)), summary.cell_separation_counts.sum(axis=0))


def _halves(summary: Summary, seed: int) -> tuple[_Sample, _Sample]:
    """Two halves with the same mixture of energies; their voxels are of even and odd showers."""
    order = _mixed(_whole(summary), seed)
    even, odd = summary.cell_separation_counts
    return _Sample(summary, order[0::2], even), _Sample(summary, order[1::2], odd)


def _part(sample: _Sample, n: int, seed: int) -> _Sample:
    """`n` showers chosen at random with the mixture of energies kept.

    The voxels stay those of the whole sample: a summary has no cells to choose from.
    """
    if n >= len(sample):
        return sample
    order = _mixed(sample, seed)
    return replace(sample, rows=order[np.arange(n) * len(order) // n])


def _mixed(sample: _Sample, seed: int) -> Array:
    """The rows ordered by incident energy, those of equal energy in random order."""
    random = np.random.default_rng(seed).random(len(sample))
    return sample.rows[np.lexsort((random, sample.incident))]
