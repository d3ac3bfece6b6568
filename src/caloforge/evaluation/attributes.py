"""How well requested attributes are realised: impact, angles and energy read back from showers.

A regressor is trained on Geant4 showers alone and gives for each shower the attributes it looks
like. What it says minus what was requested is compared with the same for held-out Geant4 showers:
a generator that follows its conditions as Geant4 does has the same bias, spread and slope.

Reference: L. de Oliveira, M. Paganini, B. Nachman, arXiv:1711.08813 (an attribute regressor as
part of the training; here it is independent of the generator).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from caloforge.evaluation.histograms import FEWEST_PER_ENERGY, Measured
from caloforge.evaluation.observables import observables as rows_of
from caloforge.evaluation.sample import Sample, whole
from caloforge.geometry import Geometry

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison
    from caloforge.evaluation.summary import Summary

Array = NDArray[Any]

# Observables that are computed with the conditions: a regressor that saw them would be told.
TELLING = ("response", "offset", "along", "across")
MOST_TRAINING = 20_000
FEWEST_TRAINING = 200
# Share of an attribute's variance that the regressor explains for Geant4: below, the showers do
# not tell it and its figures would say nothing about the generator.
LEAST_POWER = 0.1
CLIP = 5.0  # standard deviations: showers unlike any of Geant4 must not be extrapolated to
TREES, LEAVES, RATE = 60, 15, 0.1
PROFILE_BINS = 10


@dataclass(frozen=True)
class Attribute:
    """One quantity a shower can be asked for.

    Parameters
    ----------
    name, label, unit
        The condition's; `tx` and `ty` for px / pz and py / pz. The energy's bias and spread are
        relative, those of an angle are arcs in rad.
    components
        Conditions (N, C) -> what is regressed, (N, D): the value, its logarithm (energy), or
        cosine and sine times the sine of the polar angle where there is one (an angle), so that
        an azimuth that means nothing weighs nothing.
    """

    name: str
    label: str
    unit: str
    components: Callable[[Array], Array]


def attributes_of(geometry: Geometry) -> list[Attribute]:
    """Energy and all further conditions but categories; none where there is the energy alone."""
    found = []
    names = geometry.condition_names
    momentum = {"px", "py", "pz"} <= set(names)
    for column, condition in enumerate(geometry.conditions):
        label = condition.label or condition.name
        if condition.name in ("energy", "pz") or condition.scale == "category":
            continue
        if momentum and condition.name in ("px", "py"):
            way = condition.name[1]
            found.append(Attribute(f"t{way}", f"slope {way}", "", _ratio(column, names)))
        elif condition.scale == "angle":
            found.append(Attribute(condition.name, label, "rad", _direction(column, names)))
        else:
            found.append(Attribute(condition.name, label, condition.unit, _plain(column)))
    if not found:
        return []

    def energy(conditions: Array) -> Array:
        return np.log(geometry.incident_energy(conditions))[:, None]

    return [Attribute("energy", "incident energy", "", energy), *found]


def _plain(column: int) -> Callable[[Array], Array]:
    return lambda conditions: conditions[:, [column]]


def _ratio(column: int, names: Sequence[str]) -> Callable[[Array], Array]:
    forward = names.index("pz")
    return lambda conditions: conditions[:, [column]] / conditions[:, [forward]]


def _direction(column: int, names: Sequence[str]) -> Callable[[Array], Array]:
    polar = names.index("theta") if "theta" in names else None

    def components(conditions: Array) -> Array:
        size = 1.0 if polar is None else np.sin(conditions[:, [polar]])
        angle = conditions[:, column]
        return size * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    return components


# --- regression ----------------------------------------------------------------------------------
class Regressor:
    """Attributes from observables: ridge regression, and boosted trees for what it leaves over.

    The trees see what the ridge says as well: differences between layers, which trees find hard,
    are in it.
    """

    def __init__(self, trained_on: Sample, seed: int) -> None:
        """Fit to Geant4 showers, 20 000 at most; `seed` of their choice and of the trees."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import RidgeCV
        from sklearn.preprocessing import StandardScaler

        geometry = trained_on.summary.geometry
        self.attributes = attributes_of(geometry)
        self.rows = [
            row for row in rows_of(geometry) if not any(word in row.key for word in TELLING)
        ]
        sample = trained_on.part(MOST_TRAINING, seed)
        self.n = len(sample)
        wanted = np.hstack([a.components(sample.conditions) for a in self.attributes])
        self.inputs, self.outputs = StandardScaler(), StandardScaler()
        self.inputs.fit(self._observables(sample))
        seen, scaled = self._scaled(sample), self.outputs.fit_transform(wanted)
        self.ridge = RidgeCV(np.logspace(-3, 4, 8), alpha_per_target=True).fit(seen, scaled)
        guess = self.ridge.predict(seen)
        self.trees = [
            HistGradientBoostingRegressor(
                max_iter=TREES,
                max_leaf_nodes=LEAVES,
                learning_rate=RATE,
                early_stopping=False,
                random_state=seed,
            ).fit(np.hstack([seen, guess]), rest)
            for rest in (scaled - guess).T
        ]

    def _observables(self, sample: Sample) -> Array:
        columns = [sample.values(row.key) for row in self.rows]
        return np.stack(
            [
                np.log1p(values) if row.unit == "MeV" else values
                for row, values in zip(self.rows, columns, strict=True)
            ],
            axis=1,
        )

    def _scaled(self, sample: Sample) -> Array:
        scaled: Array = self.inputs.transform(self._observables(sample))
        return np.clip(scaled, -CLIP, CLIP)

    def __call__(self, sample: Sample) -> dict[str, Array]:
        """Attribute -> regressed components (n, D) of a sample."""
        seen = self._scaled(sample)
        guess = self.ridge.predict(seen)
        both = np.hstack([seen, guess])
        scaled = guess + np.stack([trees.predict(both) for trees in self.trees], axis=1)
        found = self.outputs.inverse_transform(scaled)
        sizes = [a.components(sample.conditions[:1]).shape[1] for a in self.attributes]
        parts = np.split(found, np.cumsum(sizes)[:-1], axis=1)
        return {a.name: part for a, part in zip(self.attributes, parts, strict=True)}


# --- figures -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Realised:
    """Bias (mean), spread (half width of the central 68.3 %) of regressed minus requested, and
    slope of regressed against requested, each with its standard deviation, from `n` showers.
    """

    bias: tuple[float, float]
    spread: tuple[float, float]
    slope: tuple[float, float]
    n: int


@dataclass(frozen=True)
class AttributeFigures:
    """One attribute: Geant4's held-out showers beside the judged ones.

    Parameters
    ----------
    name, label, unit
        As in `Attribute`.
    power
        Share of the variance that the regressor explains for held-out Geant4 showers.
    reference, judged
        Over all energies.
    at
        Energy point (or median of a slice) in MeV -> the same of both, in that order.
    tenths
        The same in tenths of a spectrum, fewer where they would hold less than 50 showers of the
        reference; for energy points as `at`.
    profile
        Empty for an angle; else `requested` (B,), means and standard deviations `reference_mean`,
        `reference_std`, `judged_mean`, `judged_std` (B,) of the regressed value in tenths of the
        reference (energies in MeV).
    """

    name: str
    label: str
    unit: str
    power: float
    reference: Realised
    judged: Realised
    at: dict[float, tuple[Realised, Realised]]
    tenths: dict[float, tuple[Realised, Realised]]
    profile: dict[str, Array] = field(default_factory=dict)


def attribute_figures(
    reference: Sample, judged: Sample, trained_on: Sample | Regressor, seed: int = 0
) -> list[AttributeFigures]:
    """Bias, spread and slope of each attribute that Geant4 showers show.

    Parameters
    ----------
    reference
        Held-out Geant4 showers: none of those the regressor was trained on.
    judged
        Showers under judgement.
    trained_on
        Other Geant4 showers, or a regressor already trained on them.
    seed
        Of the regressor.

    Returns
    -------
    Nothing for geometries with the energy alone, and for fewer than 200 showers to train on or 50
    to judge.
    """
    few = min(len(reference), len(judged)) < FEWEST_PER_ENERGY
    if few or not attributes_of(reference.summary.geometry):
        return []
    if isinstance(trained_on, Sample):
        if len(trained_on) < FEWEST_TRAINING:
            return []
        trained_on = Regressor(trained_on, seed)
    samples = reference, judged
    said = [trained_on(sample) for sample in samples]
    groups = [sample.groups(reference.summary) for sample in samples]
    spectrum = not len(reference.summary.points)
    tenths = _tenths(*(sample.incident for sample in samples)) if spectrum else groups
    result = []
    for attribute in trained_on.attributes:
        pairs = [
            (attribute.components(sample.conditions), found[attribute.name])
            for sample, found in zip(samples, said, strict=True)
        ]
        wanted, got = pairs[0]
        around = float(np.square(wanted - wanted.mean(axis=0)).sum())
        power = 1 - float(np.square(got - wanted).sum()) / around if around else 0.0
        if power < LEAST_POWER:
            continue
        result.append(
            AttributeFigures(
                attribute.name,
                attribute.label,
                attribute.unit,
                power,
                realised(*pairs[0]),
                realised(*pairs[1]),
                _in_groups(pairs, groups),
                _in_groups(pairs, tenths),
                {} if wanted.shape[1] > 1 else _profile(pairs, attribute.name == "energy"),
            )
        )
    return result


def _in_groups(
    pairs: Sequence[tuple[Array, Array]], groups: Sequence[Array]
) -> dict[float, tuple[Realised, Realised]]:
    """Figures of both samples in each group that has 50 showers of both."""
    found = {}
    for energy in np.unique(groups[0][~np.isnan(groups[0])]).tolist():
        chosen = [np.flatnonzero(group == energy) for group in groups]
        if min(map(len, chosen)) >= FEWEST_PER_ENERGY:
            first, second = (
                realised(wanted[rows], got[rows])
                for (wanted, got), rows in zip(pairs, chosen, strict=True)
            )
            found[energy] = first, second
    return found


def _tenths(reference: Array, judged: Array) -> list[Array]:
    """Median energy of its tenth of the reference for each shower of both; NaN for none."""
    number = max(1, min(10, len(reference) // FEWEST_PER_ENERGY))
    edges = np.quantile(reference, np.linspace(0, 1, number + 1))
    labels = []
    for incident in (reference, judged):
        index = np.searchsorted(edges, incident, side="right") - 1
        index[incident == edges[-1]] = number - 1
        labels.append(index)
    medians = [float(np.median(reference[labels[0] == k])) for k in range(number)]
    named = np.array([*medians, np.nan, np.nan])  # beyond the last edge, and -1 below the first
    return [named[np.minimum(index, number)] for index in labels]


def realised(wanted: Array, got: Array) -> Realised:
    """Figures of requested (n, D) and regressed (n, D) components of one attribute.

    For D = 2 the residual is the arc: the difference of the two azimuths times the length of the
    requested vector; the slope is then that of the components through the origin.
    """
    n = len(wanted)
    if wanted.shape[1] == 1:
        rest = (got - wanted)[:, 0]
        x, y = wanted[:, 0] - wanted.mean(), got[:, 0] - got.mean()
    else:
        cross = wanted[:, 0] * got[:, 1] - wanted[:, 1] * got[:, 0]
        turn = np.arctan2(cross, (wanted * got).sum(axis=1))
        rest = np.hypot(wanted[:, 0], wanted[:, 1]) * turn
        x, y = wanted.ravel(), got.ravel()
    square = float(x @ x)
    slope = (np.nan, np.nan)
    if square > 0:
        value = float(x @ y) / square
        slope = value, float(np.sqrt(np.square(x * (y - value * x)).sum())) / square
    bias = float(rest.mean()), float(rest.std(ddof=1) / n**0.5)
    return Realised(bias, _half_width(rest), slope, n)


def _half_width(values: Array) -> tuple[float, float]:
    """Half the distance between the quantiles at 15.9 % and 84.1 %, and its standard deviation.

    The deviation of a quantile is read off the order statistics around it (no density needed);
    the two quantiles are correlated by p / (1 - p).
    """
    p = 0.158655
    step = (p * (1 - p) / len(values)) ** 0.5
    low, high = np.quantile(values, [p, 1 - p])
    ends = [np.clip([q - step, q + step], 0, 1) for q in (p, 1 - p)]
    first, second = (0.5 * float(np.diff(np.quantile(values, end))[0]) for end in ends)
    variance = first**2 + second**2 - 2 * p / (1 - p) * first * second
    return 0.5 * float(high - low), 0.5 * variance**0.5


def _profile(pairs: Sequence[tuple[Array, Array]], log: bool) -> dict[str, Array]:
    """Mean and standard deviation of the regressed value in tenths of the reference's requests."""
    edges = np.quantile(pairs[0][0], np.linspace(0, 1, PROFILE_BINS + 1))
    rows: dict[str, list[float]] = {"requested": []}
    for name, (wanted, got) in zip(("reference", "judged"), pairs, strict=True):
        asked, said = wanted[:, 0], got[:, 0]
        index = np.clip(np.searchsorted(edges, asked, side="right") - 1, 0, PROFILE_BINS - 1)
        inside = (asked >= edges[0]) & (asked <= edges[-1])
        for k in range(PROFILE_BINS):
            values, centre = said[inside & (index == k)], asked[inside & (index == k)]
            if log:
                values, centre = np.exp(values), np.exp(centre)
            some = len(values) > 1
            if name == "reference":
                rows["requested"].append(float(centre.mean()) if some else np.nan)
            rows.setdefault(f"{name}_mean", []).append(float(values.mean()) if some else np.nan)
            rows.setdefault(f"{name}_std", []).append(float(values.std()) if some else np.nan)
    return {name: np.array(values) for name, values in rows.items()}


# --- into a comparison ---------------------------------------------------------------------------
KINDS = ("bias", "spread", "slope")


def add_attributes(
    reference: Summary,
    generated: Sequence[Summary],
    floor: Summary | None,
    comparisons: Sequence[Comparison],
    seed: int = 0,
) -> None:
    """Write the attributes of the generated samples into their comparisons, one a sample.

    The regressor is trained on the second reference sample, or without one on half of the
    reference, and is the same for all. Adds the keys of `as_measured` to the metrics, over all
    energies and at each, with Geant4's own as the floor, and everything to
    `details["attributes"]`. Adds nothing where `attribute_figures` finds nothing.
    """
    from caloforge.evaluation.compare import Value

    if not attributes_of(reference.geometry):
        return
    held_out = whole(reference)
    if floor is None:
        held_out, other = held_out.halves(seed)
    else:
        other = whole(floor)
    if len(other) < FEWEST_TRAINING:
        return
    regressor = Regressor(other, seed)

    def with_floor(figures: dict[str, Measured], floors: dict[str, float]) -> dict[str, Value]:
        return {k: Value(m.value, m.error, floors[k], m.n) for k, m in figures.items()}

    for sample, comparison in zip(generated, comparisons, strict=True):
        found = attribute_figures(held_out, whole(sample), regressor, seed)
        comparison.metrics.update(with_floor(*as_measured(found)))
        for energy, point in comparison.per_energy.items():
            point.setdefault("metrics", {}).update(with_floor(*as_measured_at(found, energy)))
        if found:
            comparison.details["attributes"] = as_details(found)


def as_measured(found: Sequence[AttributeFigures]) -> tuple[dict[str, Measured], dict[str, float]]:
    """Keys `attribute_bias/NAME`, `attribute_spread/NAME`, `attribute_slope/NAME` -> the judged
    figure, and -> Geant4's own, which is its floor.
    """
    return _measured([(f.name, f.reference, f.judged) for f in found])


def as_measured_at(
    found: Sequence[AttributeFigures], energy: float
) -> tuple[dict[str, Measured], dict[str, float]]:
    """The same at one energy (MeV); nothing where it has too few showers."""
    return _measured([(f.name, *f.at[energy]) for f in found if energy in f.at])


def _measured(
    rows: Sequence[tuple[str, Realised, Realised]],
) -> tuple[dict[str, Measured], dict[str, float]]:
    figures, floors = {}, {}
    for kind in KINDS:
        for name, reference, judged in rows:
            key, (value, error) = f"attribute_{kind}/{name}", getattr(judged, kind)
            figures[key] = Measured(value, error, judged.n)
            floors[key] = getattr(reference, kind)[0]
    return figures, floors


def as_details(found: Sequence[AttributeFigures]) -> dict[str, Any]:
    """All of it as plain data, by name: for `Comparison.details["attributes"]`."""
    return {f.name: asdict(f) for f in found}
