"""The classifier test: how well a neural network tells generated showers from the reference's.

Reference: the CaloChallenge (arXiv:2410.21611) and the code of its public evaluation. A network is
trained on one part of both samples, its best epoch is chosen and its output calibrated on a second
and judged on a third: AUC 0.5 means it cannot tell them apart, 1 that it always can. A network
learns more from more showers, so an AUC goes with the number of showers it came from, and is read
beside that of two samples of the reference simulation of the same size.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.devices import find_device
from caloforge.errors import DataError
from caloforge.metrics import inputs
from caloforge.metrics.base import Case, Measured, Measurements, Sample
from caloforge.metrics.notes import ClassifierNotes, Notes
from caloforge.metrics.protocol import FAST, Protocol
from caloforge.metrics.twins import are_twins, split, units_of

if TYPE_CHECKING:
    from caloforge.metrics.dense import Inputs

Array = NDArray[Any]

FEWEST = 20  # showers of each sample: three of them, at least, are then held out
FEWEST_IN_GROUP = 10  # held-out showers of each sample for a group to have an AUC
# The spread of so few repeats is often small by chance: see `ClassifierResult.auc_error`.
FEW_REPEATS = 5
TWINS_APART = (
    "The AUC of the networks are too small: generated showers have exactly the conditions of "
    "reference showers, and the public protocol does not keep these in the same part of a split; "
    "generate with other conditions of the same distribution, or see the metrics `fast`."
)
CLIP = 1e-6  # calibrated scores lie in [CLIP, 1 - CLIP], as in the public evaluation


@dataclass(frozen=True)
class ClassifierResult:
    """Result of the classifier test.

    Parameters
    ----------
    auc, jsd
        Means over the repeats, on held-out showers with calibrated scores. The Jensen-Shannon
        divergence is that of the public evaluation, 1 - BCE / ln 2 with BCE the binary cross
        entropy: in bits, 0 for equal samples (it scatters below) and 1 for disjoint ones.
    auc_error, jsd_error
        Standard deviation over the repeats, as published. Below five repeats, at least the
        standard error of one held-out split: of an AUC that of Hanley and McNeil
        (doi:10.1148/radiology.143.1.7063747), of the divergence that of the mean of its terms.
    n, n_train, n_held_out
        Showers of each sample: in all, trained on, and judged with in each repeat.
    repeats
        Number of trainings.
    per_group
        Group -> (AUC, its Hanley-McNeil error, different held-out showers of the sample that has
        fewer). The scores of all repeats are pooled, which calibration makes comparable.
    aucs, jsds
        AUC and divergence of each repeat.
    """

    auc: float
    auc_error: float
    jsd: float
    jsd_error: float
    n: int
    n_train: int
    n_held_out: int
    repeats: int
    per_group: dict[float, tuple[float, float, int]] = field(default_factory=dict)
    aucs: tuple[float, ...] = ()
    jsds: tuple[float, ...] = ()


@dataclass(frozen=True)
class _HeldOut:
    """Held-out showers of one repeat: row in the inputs, label, calibrated score."""

    rows: Array
    labels: Array
    scores: Array


def classify(
    reference: Array,
    generated: Array,
    protocol: Protocol = FAST,
    seed: int = 0,
    *,
    device: str = "cpu",
    groups: tuple[Array, Array] | None = None,
    conditions: tuple[Array, Array] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> ClassifierResult:
    """Train classifiers of `reference` (N, F) against `generated` (M, F) and judge them.

    Both samples are cut to the same number of showers by a seeded choice. Their incident energies
    should be drawn alike: what differs between them is found like any other difference.

    Parameters
    ----------
    reference, generated
        Inputs as `metrics.inputs` makes them, of any floating dtype; they are converted to the
        protocol's batch by batch where they are large, and never changed.
    device
        Device of torch; "auto" takes a GPU where there is one.
    groups
        Group of each shower of both samples, (N,) and (M,) numbers, such as its energy point.
        NaN is no group.
    conditions
        Conditions of the showers of both samples, (N, C) and (M, C), by which the protocol keeps
        those with the same condition in the same part of a split.
    progress
        It is called with the epochs done and the epochs in all.

    Raises
    ------
    DataError
        For fewer than 20 showers in a sample, different numbers of features, or NaN and infinite
        inputs, and groups that are not one a shower.
    """
    from caloforge.metrics.dense import Inputs

    _check(reference, generated, groups)
    rng = np.random.default_rng(seed)
    n = min(len(reference), len(generated), protocol.most or len(reference))
    kept = _choose(len(reference), n, rng), _choose(len(generated), n, rng)
    labels = np.repeat([1.0, 0.0], n)  # as in the public evaluation: the reference is 1
    data = Inputs((reference, generated), kept, protocol, find_device(device))
    apart = partial(_split, n, protocol)
    if conditions is not None and protocol.grouped:
        rows = [c[k] for c, k in zip(conditions, kept, strict=True)]
        units = units_of(np.concatenate(rows), labels)
        if units.twins:
            apart = partial(split, units, protocol.splits)
    held_out: list[_HeldOut] = []
    for repeat in range(protocol.repeats):

        def tell(epoch: int, done: int = repeat * protocol.epochs) -> None:
            if progress is not None:
                progress(done + epoch, protocol.repeats * protocol.epochs)

        held_out.append(_repeat(data, labels, apart(rng), protocol, rng, tell))
    of_rows = np.concatenate([g[k] for g, k in zip(groups, kept, strict=True)]) if groups else None
    return _result(held_out, n, protocol, of_rows)


def estimate_seconds(
    protocol: Protocol, n_showers: int, n_features: int, device: str = "cpu"
) -> float:
    """Expected seconds of `classify` with `n_showers` of each sample, from a few steps timed now.

    Training steps and the passes over the selection showers count; what else there is to do is
    small beside them.
    """
    import torch

    from caloforge.metrics.dense import Discriminator

    place = find_device(device)
    train, select, _ = _sizes(min(n_showers, protocol.most or n_showers), protocol)
    batch = max(1, min(protocol.batch, 2 * train))
    network = Discriminator(n_features, protocol, 0, place)
    # Random numbers: arithmetic on zeros can be faster, or slower where weights run to denormals.
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(batch, n_features)))
    x = noise.to(place, network.dtype)
    y = (x[:, 0] > 0).to(network.dtype)

    def seconds(work: Callable[[], object], times: int) -> float:
        taken = []
        for _ in range(times):
            begin = time.perf_counter()
            work()
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            taken.append(time.perf_counter() - begin)
        return float(np.median(taken[1:]))  # the first sets things up

    step = seconds(lambda: network.step(x, y), 4)
    forward = seconds(lambda: network.scores(x), 4)
    epoch = (2 * train * step + 2 * select * forward) / batch
    return protocol.repeats * protocol.epochs * epoch


def measure(case: Case, name: str) -> Measurements:
    """`auc_NAME` and `jsd_NAME` of one of the three inputs, the AUC also at each energy.

    Nothing where the effort leaves this input out. The AUC at an energy comes from the held-out
    scores of the classifier that was trained on all energies.
    """
    assert case.effort is not None  # the table says so: `Metric.needs`
    if name not in case.effort.inputs:
        return Measurements()
    case.tell(f"classifier, {name} features")
    protocol, cut = case.effort.protocol, case.for_networks()
    features = [_inputs(name, sample, protocol) for sample in cut.samples]
    result = classify(
        features[0],
        features[1],
        protocol,
        case.seed,
        device=case.device,
        groups=(cut.reference.groups, cut.generated.groups),
        conditions=(cut.reference.conditions, cut.generated.conditions),
    )
    total = {
        f"auc_{name}": Measured(result.auc, result.auc_error, result.n),
        f"jsd_{name}": Measured(result.jsd, result.jsd_error, result.n),
    }
    at = {e: {f"auc_{name}": Measured(*figure)} for e, figure in result.per_group.items()}
    training = ClassifierNotes(result.n_train, result.n_held_out, result.repeats, protocol)
    warnings: tuple[str, ...] = ()
    if (
        name == case.effort.inputs[0]
        and not protocol.grouped
        and are_twins(*(sample.conditions for sample in cut.samples))
    ):
        warnings = (TWINS_APART,)
    return Measurements(total, at, Notes(classifier={name: training}, warnings=warnings))


low = partial(measure, name="low")
low_normed = partial(measure, name="low_normed")
high = partial(measure, name="high")


def _inputs(name: str, sample: Sample, protocol: Protocol) -> Array:
    """What a network sees of the showers, (N, F)."""
    if name == "high":
        return inputs.high(sample.observables, sample.conditions, sample.geometry)
    make = inputs.low if name == "low" else inputs.low_normed
    dtype = np.float64 if protocol.dtype == "float64" else np.float32
    return make(sample.cells, sample.conditions, sample.geometry, dtype)


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve of scores (N,) with labels (N,) 1 and 0; ties count one half."""
    from scipy.stats import rankdata

    ones = labels > 0.5
    n1, n0 = int(ones.sum()), int((~ones).sum())
    return float((rankdata(scores)[ones].sum() - n1 * (n1 + 1) / 2) / (n1 * n0))


def hanley_mcneil(area: float, first: int, second: int) -> float:
    """Standard error of an AUC from `first` and `second` showers of the two kinds.

    Hanley and McNeil 1982, equations 1 and 2 (doi:10.1148/radiology.143.1.7063747).
    """
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area) + (first - 1) * (q1 - area**2) + (second - 1) * (q2 - area**2)
    return float(np.sqrt(max(0.0, variance) / (first * second)))


def _result(
    held_out: list[_HeldOut], n: int, protocol: Protocol, groups: Array | None
) -> ClassifierResult:
    n_train, _, n_held_out = _sizes(n, protocol)
    aucs = [auc(h.labels, h.scores) for h in held_out]
    jsds = [_divergence(h) for h in held_out]
    mean = float(np.mean(aucs))
    return ClassifierResult(
        auc=mean,
        auc_error=_error(aucs, hanley_mcneil(mean, n_held_out, n_held_out)),
        jsd=float(np.mean([value for value, _ in jsds])),
        jsd_error=_error([value for value, _ in jsds], jsds[0][1]),
        n=n,
        n_train=n_train,
        n_held_out=n_held_out,
        repeats=protocol.repeats,
        per_group={} if groups is None else _per_group(held_out, groups),
        aucs=tuple(aucs),
        jsds=tuple(value for value, _ in jsds),
    )


def _repeat(
    data: Inputs,
    labels: Array,
    parts: Sequence[Array],
    protocol: Protocol,
    rng: np.random.Generator,
    tell: Callable[[int], None],
) -> _HeldOut:
    """One training: train, choose the epoch, calibrate, score the held-out showers.

    `parts` are the rows to train on, to choose with and to hold out.
    """
    import torch
    from sklearn.isotonic import IsotonicRegression

    from caloforge.metrics.dense import Discriminator

    train, select, held = parts
    network = Discriminator(data.features, protocol, int(rng.integers(2**63)), data.device)
    if protocol.standardise:
        network.standardise(data, train)
    targets = torch.from_numpy(labels).to(data.dtype)
    best, best_scores = -1.0, (np.empty(0), np.empty(0))
    for epoch in range(protocol.epochs):
        order = rng.permutation(train)
        for start in range(0, len(order), protocol.batch):
            rows = order[start : start + protocol.batch]
            network.step(data(rows), targets[torch.from_numpy(rows)].to(data.device))
        scores = network.scores_of(data, select)
        accuracy = float(((scores > 0.5) == (labels[select] > 0.5)).mean())
        if accuracy > best:
            best, best_scores = accuracy, (scores, network.scores_of(data, held))
        tell(epoch + 1)
        if accuracy == 1.0:
            break
    tell(protocol.epochs)
    calibration = IsotonicRegression(y_min=CLIP, y_max=1 - CLIP, out_of_bounds="clip")
    calibration.fit(best_scores[0], labels[select])
    return _HeldOut(held, labels[held], calibration.predict(best_scores[1]))


def _split(n: int, protocol: Protocol, rng: np.random.Generator) -> list[Array]:
    """Rows of both samples to train on, to choose with and to hold out, in one random order."""
    sizes = _sizes(n, protocol)
    parts = [np.split(n * s + rng.permutation(n), np.cumsum(sizes[:2])) for s in (0, 1)]
    return [np.concatenate(both) for both in zip(*parts, strict=True)]


def _sizes(n: int, protocol: Protocol) -> tuple[int, int, int]:
    """Showers of each sample in the three parts; whatever is over is held out."""
    total = sum(protocol.splits)
    train, select = (int(n * part / total + 1e-9) for part in protocol.splits[:2])
    return train, select, n - train - select


def _divergence(held_out: _HeldOut) -> tuple[float, float]:
    """Jensen-Shannon divergence in bits and the standard error of the mean it is."""
    ones = held_out.labels > 0.5
    terms = np.log2(np.where(ones, held_out.scores, 1 - held_out.scores))
    return 1 + float(terms.mean()), float(terms.std() / np.sqrt(len(terms)))


def _error(values: list[float], of_one: float) -> float:
    """Standard deviation of the repeats, not below that of one of them where they are few."""
    spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
    return spread if len(values) >= FEW_REPEATS else max(spread, of_one)


def _per_group(held_out: list[_HeldOut], groups: Array) -> dict[float, tuple[float, float, int]]:
    rows, labels, scores = (
        np.concatenate([getattr(h, name) for h in held_out])
        for name in ("rows", "labels", "scores")
    )
    areas = {}
    for group in np.unique(groups[~np.isnan(groups)]).tolist():
        members = groups[rows] == group
        distinct = [len(np.unique(rows[members & (labels == label)])) for label in (0.0, 1.0)]
        if min(distinct) >= FEWEST_IN_GROUP:
            area = auc(labels[members], scores[members])
            areas[group] = (area, hanley_mcneil(area, *distinct), min(distinct))
    return areas


def _choose(have: int, want: int, rng: np.random.Generator) -> Array:
    return np.sort(rng.choice(have, want, replace=False)) if want < have else np.arange(have)


def _check(reference: Array, generated: Array, groups: tuple[Array, Array] | None) -> None:
    for name, sample in (("reference", reference), ("generated", generated)):
        if sample.ndim != 2 or len(sample) < FEWEST:
            raise DataError(
                f"The {name} inputs have the shape {sample.shape}; expected (N, F) with at least "
                f"{FEWEST} showers for a classifier."
            )
        # Sums are NaN or infinite when anything is, and need no mask of the size of the inputs.
        if not np.isfinite(sample.min()) or not np.isfinite(sample.max()):
            raise DataError(
                f"The {name} inputs hold a NaN or infinite number; expected finite features: "
                "check the showers."
            )
    if reference.shape[1] != generated.shape[1]:
        raise DataError(
            f"The reference has {reference.shape[1]} features and the generated showers "
            f"{generated.shape[1]}; expected the same inputs of one geometry."
        )
    lengths = len(reference), len(generated)
    if groups is not None and tuple(len(g) for g in groups) != lengths:
        raise DataError(
            f"Got groups of {len(groups[0])} and {len(groups[1])} showers for samples of "
            f"{lengths[0]} and {lengths[1]}; expected one group a shower."
        )
