"""Figures that look at all features or all cells of a shower together.

Classifiers, boosted trees, Frechet and kernel distances, precision and recall, and the check of
memorising: what `caloforge.evaluation.compare` adds to the figures of one observable at a time.
Each is left out, with its reason, where the samples are too small for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation import inputs, neighbours
from caloforge.evaluation.boosted import boosted_auc, giveaways
from caloforge.evaluation.classifier import FEWEST, classify, estimate_seconds
from caloforge.evaluation.effort import Effort
from caloforge.evaluation.frechet import Distance, fpd, kpd
from caloforge.evaluation.histograms import FEWEST_PER_ENERGY, Measured
from caloforge.evaluation.physics import prd_of
from caloforge.evaluation.prd import PRD, prd_area
from caloforge.evaluation.sample import Sample, whole
from caloforge.evaluation.summary import Summary

Array = NDArray[Any]
Tell = Callable[[str], None]

FEWEST_FOR_FPD = 200  # showers at an energy point for a Frechet distance there
MEMORISING_SHOWERS = 10_000
FRACTIONS = (4, 2)  # of the showers: where the boosted AUC is measured again


@dataclass
class Joint:
    """Figures over all energies, at each energy (MeV), and how they were made."""

    total: dict[str, Measured] = field(default_factory=dict)
    at: dict[float, dict[str, Measured]] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)

    def add(self, energy: float, key: str, found: Measured) -> None:
        """A figure at one energy."""
        self.at.setdefault(energy, {})[key] = found

    @contextmanager
    def or_left_out(self, what: str) -> Iterator[None]:
        """Note why a figure cannot be made, instead of stopping."""
        try:
            yield
        except DataError as error:
            self.notes["warnings"].append(f"{what} left out: {error}")


def joint_figures(
    reference: Sample,
    judged: Sample,
    effort: Effort,
    seed: int,
    *,
    device: str = "auto",
    tell: Tell = lambda what: None,
    closely: bool = False,
) -> Joint:
    """All figures of two samples in many dimensions.

    Keys: `auc_low`, `auc_low_normed`, `auc_high`, the `jsd_` of each, `auc_boosted`, `fpd`, `kpd`,
    `precision`, `recall`, `density`, `coverage`, `prd_auc_raw`, `prd_auc_physics` and `prd_auc`,
    the smaller of the two.

    Parameters
    ----------
    reference, judged
        Of summaries that kept whole showers. Both are cut to one size for everything but FPD and
        KPD, which take all.
    effort
        What to spend.
    seed
        Of choices, classifiers and clusters. FPD and KPD draw with the seed of the public
        evaluation.
    device
        Of the classifiers.
    tell
        Called with each step.
    closely
        Whether to note which features give the generator away, and the boosted AUC of fewer
        showers.
    """
    result = Joint(notes={"metrics": effort.name, "warnings": []})
    _distances(result, reference, judged, tell)
    first, second = reference.with_cells(), judged.with_cells()
    pair = _cut(first, second, effort.protocol.most, seed)
    for name in effort.inputs:
        _classifier(result, name, pair, effort, seed, device, tell)
    pair = _cut(*pair, effort.neighbours, seed)
    with result.or_left_out("Boosted AUC"):
        tell("boosted trees")
        _boosted(result, pair, seed, effort.features if closely else 0)
    with result.or_left_out("Precision and recall"):
        tell("precision, recall, density, coverage")
        _precision_recall(result, *pair)
    with result.or_left_out("PRD-AUC"):
        tell("PRD-AUC")
        _prd(result, *pair, seed)
    return result


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
    sizes = [min(len(reference), len(sample)) for sample in generated]
    if floor is None:
        sizes += [min(len(reference) // 2, n) for n in sizes] + [len(reference) // 2]
    else:
        sizes.append(min(len(floor), max(sizes)))
    # What differs between the pairs is the number of showers: time is proportional to it.
    return sum(
        estimate_seconds(effort.protocol, n, width[name], device) / 60
        for n in sizes
        for name in effort.inputs
    )


def memorising_figure(
    reference: Summary, generated: Summary, train: Summary, seed: int
) -> tuple[Measured, dict[str, Any]]:
    """`neighbours.memorising` of cells over incident energy: its `closer`, and all it found."""
    trained, held_out, judged = (
        whole(s).with_cells().part(MEMORISING_SHOWERS, seed) for s in (train, reference, generated)
    )
    found = neighbours.memorising(
        neighbours.fractions(trained.cells, trained.incident),
        neighbours.fractions(held_out.cells, held_out.incident),
        neighbours.fractions(judged.cells, judged.incident),
        (trained.groups(reference), held_out.groups(reference), judged.groups(reference)),
    )
    notes = asdict(found)
    for key in ("generated", "held_out"):  # for drawing: four digits will do
        notes[key] = np.array([float(f"{d:.4g}") for d in notes[key]])
    return Measured(found.closer, found.closer_error, len(judged)), notes


def _cut(first: Sample, second: Sample, most: int | None, seed: int) -> tuple[Sample, Sample]:
    n = min(len(first), len(second), len(first) if most is None else most)
    return first.part(n, seed), second.part(n, seed)


def _high(sample: Sample) -> Array:
    return inputs.high(sample.observables, sample.conditions, sample.summary.geometry)


def _inputs(name: str, sample: Sample, effort: Effort) -> Array:
    if name == "high":
        return _high(sample)
    make = inputs.low if name == "low" else inputs.low_normed
    exact = effort.protocol.dtype == "float64"
    dtype = np.float64 if exact else np.float32
    return make(sample.cells, sample.conditions, sample.summary.geometry, dtype)


def _classifier(
    result: Joint,
    name: str,
    pair: tuple[Sample, Sample],
    effort: Effort,
    seed: int,
    device: str,
    tell: Tell,
) -> None:
    """Classifier of one of the three inputs, also at each energy from its held-out scores."""
    tell(f"classifier, {name} features")
    with result.or_left_out(f"Classifier of {name} features"):
        found = classify(
            _inputs(name, pair[0], effort),
            _inputs(name, pair[1], effort),
            effort.protocol,
            seed,
            device=device,
            groups=_groups(*pair),
        )
        result.total[f"auc_{name}"] = Measured(found.auc, found.auc_error, found.n)
        result.total[f"jsd_{name}"] = Measured(found.jsd, found.jsd_error, found.n)
        for energy, (area, error, n) in found.per_group.items():
            result.add(energy, f"auc_{name}", Measured(area, error, n))
        result.notes.setdefault("classifier", {})[name] = {
            "n_train": found.n_train,
            "n_held_out": found.n_held_out,
            "repeats": found.repeats,
            "protocol": asdict(effort.protocol),
        }


def _boosted(result: Joint, pair: tuple[Sample, Sample], seed: int, features: int) -> None:
    """Boosted AUC, also at each energy; with `features` to try alone, notes on what it comes from.

    The notes have the AUC against the number of showers, what the conditions alone give, and the
    features that give the generator away.
    """
    names = pair[0].summary.geometry.condition_names
    first, second = _tables(pair)
    found = boosted_auc(first, second, names, seed, _groups(*pair))
    result.total["auc_boosted"] = Measured(found.auc, found.error, found.n)
    for energy, (area, error, n) in found.per_group.items():
        result.add(energy, "auc_boosted", Measured(area, error, n))
    if not features:
        return
    curve = []
    for fraction in FRACTIONS:
        part = _cut(*pair, len(pair[0]) // fraction, seed)
        if len(part[0]) >= FEWEST:
            fewer = _tables(part)
            curve.append(boosted_auc(fewer[0], fewer[1], names, seed))
    alone = [{name: table[name] for name in names} for table in (first, second)]
    conditions = boosted_auc(alone[0], alone[1], names, seed)
    worst = giveaways(first, second, names, seed, features)
    result.notes["boosted"] = {
        "curve": [Measured(f.auc, f.error, f.n)._asdict() for f in (*curve, found)],
        "conditions": {"value": conditions.auc, "error": conditions.error},
        "features": [
            {"name": name, "value": f.auc, "error": f.error} for name, f in worst.items()
        ],
    }


def _tables(pair: tuple[Sample, Sample]) -> list[dict[str, Array]]:
    return [
        inputs.for_trees(s.observables, s.cells, s.conditions, s.summary.geometry) for s in pair
    ]


def _distances(result: Joint, reference: Sample, judged: Sample, tell: Tell) -> None:
    """FPD and KPD of the high vector, over all energies and at each with showers enough."""
    features = _high(reference), _high(judged)
    with result.or_left_out("FPD and KPD"):
        for key, distance in (("fpd", fpd), ("kpd", kpd)):
            tell(key.upper())
            found: Distance = distance(*features)
            result.total[key] = Measured(found.value, found.error, len(judged))
            if found.reduced:
                result.notes.setdefault("reduced", []).append(key)
    groups = _groups(reference, judged)
    # With fewer showers than features a covariance says nothing.
    for energy in _shared(*groups, max(FEWEST_FOR_FPD, 5 * features[0].shape[1])):
        first, second = (x[group == energy] for x, group in zip(features, groups, strict=True))
        found = fpd(first, second)
        result.add(energy, "fpd", Measured(found.value, found.error, found.n))


def _precision_recall(result: Joint, reference: Sample, judged: Sample) -> None:
    """Precision, recall, density and coverage of the logarithms of the cells."""
    cut = reference.summary.geometry.cut
    found = neighbours.prdc(
        neighbours.log_voxels(reference.cells, cut), neighbours.log_voxels(judged.cells, cut)
    )
    groups = _groups(reference, judged)
    for key, which in (("precision", 1), ("recall", 0), ("density", 1), ("coverage", 0)):
        value, error = getattr(found, key)
        result.total[key] = Measured(value, error, len(judged))
        contributions = getattr(found, f"{key}_of")
        for energy in _shared(*groups, FEWEST_PER_ENERGY):
            mine = contributions[groups[which] == energy]
            spread = float(mine.std() / len(mine) ** 0.5)
            result.add(energy, key, Measured(float(mine.mean()), spread, len(mine)))


def _prd(result: Joint, reference: Sample, judged: Sample, seed: int) -> None:
    """PRD-AUC of cells and of observables; at each energy with the clusters of all."""
    geometry = reference.summary.geometry
    cells, tables = (reference.cells, judged.cells), (reference.observables, judged.observables)
    found = dict(zip(("raw", "physics"), prd_of(cells, tables, geometry, seed), strict=True))
    groups = _groups(reference, judged)
    for name, prd in found.items():
        result.total[f"prd_auc_{name}"] = Measured(prd.value, prd.error, len(judged))
        for energy in _shared(*groups, FEWEST_PER_ENERGY):
            result.add(energy, f"prd_auc_{name}", _prd_at(prd, energy, groups))
    worst = min(found.values(), key=lambda prd: prd.value)
    result.total["prd_auc"] = Measured(worst.value, worst.error, len(judged))
    # Every tenth of the 1001 angles is enough to draw.
    result.notes["prd"] = {
        name: {"recall": prd.recall[::10].round(4), "precision": prd.precision[::10].round(4)}
        for name, prd in found.items()
    }


def _prd_at(prd: PRD, energy: float, groups: tuple[Array, Array]) -> Measured:
    first = prd.reference_labels[:, groups[0][prd.reference] == energy]
    second = prd.generated_labels[:, groups[1][prd.generated] == energy]
    areas = [prd_area(a, b, prd.clusters) for a, b in zip(first, second, strict=True)]
    return Measured(float(np.mean(areas)), float(np.std(areas, ddof=1)), second.shape[1])


def _groups(reference: Sample, judged: Sample) -> tuple[Array, Array]:
    """Energy point or slice of each shower of both samples."""
    return reference.groups(reference.summary), judged.groups(reference.summary)


def _shared(first: Array, second: Array, fewest: int) -> list[float]:
    """Energies with at least so many showers in both samples of labels."""
    return [
        energy
        for energy in np.intersect1d(first[~np.isnan(first)], second).tolist()
        if min((first == energy).sum(), (second == energy).sum()) >= fewest
    ]
