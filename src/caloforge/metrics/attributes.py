"""How well requested attributes are realised: impact, angles and energy read back from showers.

A regressor is trained on Geant4 showers alone and gives for each shower the attributes it looks
like. What it says minus what was requested is compared with the same for held-out Geant4 showers:
a generator that follows its conditions as Geant4 does has the same bias, spread and slope.

Reference: L. de Oliveira, M. Paganini, B. Nachman, arXiv:1711.08813 (an attribute regressor as
part of the training; here it is independent of the generator).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.detector.particle import ParticleLine, particle_line
from caloforge.metrics.base import FEWEST_PER_ENERGY, Case, Measured, Measurements, Sample
from caloforge.metrics.notes import AttributeValues, Notes, Realised
from caloforge.observables.table import observables as rows_of

Array = NDArray[Any]

# Observables that are computed with the conditions: a regressor that saw them would be told.
TELLING = ("response", "offset", "along", "across")
MOST_TRAINING = 20_000
FEWEST_TRAINING = 200
# Share of an attribute's variance that the regressor explains for Geant4: below, the showers do
# not tell it and its values would say nothing about the generator.
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
        Name, label and unit of the condition; `tx` and `ty` for px / pz and py / pz. The energy's
        bias and spread are relative, those of an angle are arcs in rad.
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
    attributes = []
    line = particle_line(geometry)
    for column, condition in enumerate(geometry.conditions):
        label = condition.label or condition.name
        along = condition.role == "momentum" and condition.axis == "z"
        if condition.role == "energy" or along or condition.scale == "category":
            continue
        if condition.role == "momentum" and line.momentum is not None:
            way = line.axes.index(condition.axis)
            slope = f"slope {condition.axis}"
            attributes.append(Attribute(f"t{condition.axis}", slope, "", _slope(line, way)))
        elif condition.scale == "angle":
            polar = geometry.find("polar-angle")
            attributes.append(Attribute(condition.name, label, "rad", _direction(column, polar)))
        else:
            attributes.append(Attribute(condition.name, label, condition.unit, _plain(column)))
    if not attributes:
        return []

    def energy(conditions: Array) -> Array:
        return np.log(geometry.incident_energy(conditions))[:, None]

    return [Attribute("energy", "incident energy", "", energy), *attributes]


def _plain(column: int) -> Callable[[Array], Array]:
    return lambda conditions: conditions[:, [column]]


def _slope(line: ParticleLine, way: int) -> Callable[[Array], Array]:
    return lambda conditions: line.slope(conditions)[:, [way]]


def _direction(column: int, polar: int | None) -> Callable[[Array], Array]:
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
        """Fit to Geant4 showers, 20 000 at most; `seed` chooses them and seeds the trees."""
        from sklearn.ensemble import HistGradientBoostingRegressor
        from sklearn.linear_model import RidgeCV
        from sklearn.preprocessing import StandardScaler

        geometry = trained_on.geometry
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
        regressed = self.outputs.inverse_transform(scaled)
        sizes = [a.components(sample.conditions[:1]).shape[1] for a in self.attributes]
        parts = np.split(regressed, np.cumsum(sizes)[:-1], axis=1)
        return {a.name: part for a, part in zip(self.attributes, parts, strict=True)}


# --- values --------------------------------------------------------------------------------------
def attribute_values(
    reference: Sample, judged: Sample, trained_on: Sample | Regressor, seed: int = 0
) -> list[AttributeValues]:
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
        Seed of the regressor.

    Returns
    -------
    Nothing for geometries with the energy alone, and for fewer than 200 showers to train on or 50
    to judge.
    """
    few = min(len(reference), len(judged)) < FEWEST_PER_ENERGY
    if few or not attributes_of(reference.geometry):
        return []
    if isinstance(trained_on, Sample):
        if len(trained_on) < FEWEST_TRAINING:
            return []
        trained_on = Regressor(trained_on, seed)
    samples = reference, judged
    readings = [trained_on(sample) for sample in samples]
    groups = [sample.groups for sample in samples]
    tenths = groups
    if not reference.all.scan:
        tenths = _tenths(*(sample.incident for sample in samples))
    result = []
    for attribute in trained_on.attributes:
        pairs = [
            (attribute.components(sample.conditions), reading[attribute.name])
            for sample, reading in zip(samples, readings, strict=True)
        ]
        wanted, got = pairs[0]
        around = float(np.square(wanted - wanted.mean(axis=0)).sum())
        power = 1 - float(np.square(got - wanted).sum()) / around if around else 0.0
        if power < LEAST_POWER:
            continue
        result.append(
            AttributeValues(
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
    """Values of both samples in each group that has 50 showers of both."""
    both = {}
    for energy in np.unique(groups[0][~np.isnan(groups[0])]).tolist():
        chosen = [np.flatnonzero(group == energy) for group in groups]
        if min(map(len, chosen)) >= FEWEST_PER_ENERGY:
            first, second = (
                realised(wanted[rows], got[rows])
                for (wanted, got), rows in zip(pairs, chosen, strict=True)
            )
            both[energy] = first, second
    return both


def _tenths(reference: Array, judged: Array) -> list[Array]:
    """Median energy of its tenth of the reference for each shower of both; NaN for none."""
    number = max(1, min(10, len(reference) // FEWEST_PER_ENERGY))
    # An energy that many showers have is several quantiles at once, but one edge.
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, number + 1)))
    number, labels = max(len(edges) - 1, 1), []
    for incident in (reference, judged):
        index = np.searchsorted(edges, incident, side="right") - 1
        index[incident == edges[-1]] = number - 1
        labels.append(index)
    medians = [float(np.median(reference[labels[0] == k])) for k in range(number)]
    named = np.array([*medians, np.nan, np.nan])  # beyond the last edge, and -1 below the first
    return [named[np.minimum(index, number)] for index in labels]


def realised(wanted: Array, got: Array) -> Realised:
    """Bias, spread and slope of requested (n, D) and regressed (n, D) components of one attribute.

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


# --- a metric ------------------------------------------------------------------------------------
KINDS = ("bias", "spread", "slope")
_regressors: WeakKeyDictionary[Sample, dict[int, Regressor]] = WeakKeyDictionary()


def measure(case: Case) -> Measurements:
    """`attribute_bias/NAME`, `attribute_spread/NAME`, `attribute_slope/NAME`, also per energy.

    The regressor is trained on `case.other`, further showers of the reference simulation, and
    once for all cases with the same ones. The floor is the value of the held-out reference.
    """
    assert case.other is not None  # the table says so: `Metric.needs`
    if not attributes_of(case.geometry) or len(case.other) < FEWEST_TRAINING:
        return Measurements()
    known = _regressors.setdefault(case.other, {})
    if case.seed not in known:
        known[case.seed] = Regressor(case.other, case.seed)
    rows = attribute_values(case.reference, case.generated, known[case.seed], case.seed)
    energies = dict.fromkeys(energy for one in rows for energy in one.at)
    return Measurements(
        _measured([(f.name, f.reference, f.judged) for f in rows]),
        {e: _measured([(f.name, *f.at[e]) for f in rows if e in f.at]) for e in energies},
        Notes(attributes={f.name: f for f in rows}),
    )


def _measured(rows: Sequence[tuple[str, Realised, Realised]]) -> dict[str, Measured]:
    """Values of attributes, given by name with Geant4's and the judged ones."""
    result = {}
    for kind in KINDS:
        for name, reference, judged in rows:
            value, error = getattr(judged, kind)
            floor, floor_error = getattr(reference, kind)
            measured = Measured(value, error, judged.n, floor, floor_error)
            result[f"attribute_{kind}/{name}"] = measured
    return result
