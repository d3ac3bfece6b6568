"""Attributes read back from showers: closed forms, blind regressors, generators that fail."""

from dataclasses import replace

import numpy as np
import pytest

from caloforge.detector.shipped import load_geometry
from caloforge.judge.compare import compare
from caloforge.judge.comparison import Details
from caloforge.judge.folder import result_of
from caloforge.judge.pairs import How
from caloforge.judge.sample import whole
from caloforge.judge.summary import summarise
from caloforge.metrics import attributes
from caloforge.metrics.attributes import (
    TELLING,
    _tenths,
    attribute_values,
    attributes_of,
    realised,
)
from caloforge.metrics.base import Case
from caloforge.metrics.effort import FAST
from caloforge.observables.features import compute
from caloforge.observables.table import observables
from caloforge.report.contents import section
from caloforge.report.style import style
from caloforge.report.tables.attributes import distance_level
from caloforge.showers import Showers

CALOGAN = load_geometry("calogan")
NO_CELLS = replace(FAST, inputs=())


def toy(number=600, seed=0, blur=15.0, shift=0.0, scale=1.0):
    """Gaussian spots around the particle's line in the three layers of CaloGAN."""
    rng = np.random.default_rng(seed)
    low, high = np.array([(c.low, c.high) for c in CALOGAN.conditions]).T
    conditions = rng.uniform(low, high, (number, len(low)))
    energy, x0, y0, theta, phi = conditions.T
    blocks = []
    for layer, part, depth in zip(CALOGAN.layers, (0.3, 0.6, 0.1), (45, 264, 460), strict=True):
        x, y = layer.xy
        centres = [
            start + depth * np.tan(theta) * turn + rng.normal(0, blur, number) + shift
            for start, turn in ((x0, np.cos(phi)), (y0, np.sin(phi)))
        ]
        distance = (x - centres[0][:, None]) ** 2 + (y - centres[1][:, None]) ** 2
        shape = np.exp(-0.5 * distance / 40.0**2)
        blocks.append(part * shape / shape.sum(axis=1, keepdims=True))
    noise = scale * rng.normal(1, 0.02, number)
    cells = np.hstack(blocks) * (energy * noise)[:, None]
    return Showers(cells, conditions, CALOGAN, {"producer": "toy", "seed": seed})


@pytest.fixture(scope="module")
def geant4():
    reference = summarise(toy(), "toy 0")
    return [whole(reference), whole(summarise(toy(seed=1), "toy 1"), reference)]


def figures(geant4, showers):
    judged = whole(summarise(showers, "judged"), summarise(toy(), "toy 0"))
    values = attribute_values(geant4[0], judged, geant4[1])
    return {f.name: f for f in values}


def test_bias_spread_and_slope_of_a_known_response():
    rng = np.random.default_rng(3)
    wanted = rng.uniform(-60, 60, (40_000, 1))
    values = realised(wanted, 0.5 * wanted + rng.normal(2.0, 5.0, wanted.shape))
    assert abs(values.bias[0] - 2.0) < 5 * values.bias[1]
    assert abs(values.slope[0] - 0.5) < 5 * values.slope[1]
    # Var = (0.5 * 120)^2 / 12 + 25; the error of the slope is 5 / (34.6 sqrt(n)).
    assert values.slope[1] == pytest.approx(5 / (120 / 12**0.5) / 200, rel=0.05)
    assert values.bias[1] == pytest.approx((300 + 25) ** 0.5 / 200, rel=0.02)
    exact = realised(wanted, wanted + rng.normal(0.0, 5.0, wanted.shape))
    # A Gaussian's half width is its sigma, known to 0.96 sigma / sqrt(n).
    assert abs(exact.spread[0] - 5.0) < 5 * exact.spread[1]
    assert exact.spread[1] == pytest.approx(0.964 * 5 / 200, rel=0.25)


def test_an_azimuth_without_a_direction_weighs_nothing():
    """A turn by 0.2 rad is an arc of 0.2 sin(theta); opposite ends of the period are close."""
    azimuth = next(a for a in attributes_of(CALOGAN) if a.name == "phi")
    conditions = np.zeros((3, 5))
    conditions[:, 3], conditions[:, 4] = (0.0, 0.3, 0.3), (1.0, 1.0, np.pi - 0.1)
    turned = conditions.copy()
    turned[:, 4] += 0.2
    turned[2, 4] -= 2 * np.pi
    values = realised(azimuth.components(conditions), azimuth.components(turned))
    assert values.bias[0] == pytest.approx(0.2 * np.sin(0.3) * 2 / 3)
    assert values.slope[0] == pytest.approx(np.cos(0.2))


@pytest.mark.parametrize("name", ["calogan", "lhcb", "atlas-cells"])
def test_the_regressor_is_never_told(name):
    """Other conditions beside the same cells leave all it sees as it is."""
    geometry = load_geometry(name)
    rng = np.random.default_rng(1)
    low, high = np.array([(c.low, c.high) for c in geometry.conditions]).T
    conditions = rng.uniform(low, high, (20, len(low)))
    other = conditions[::-1].copy()
    for column, condition in enumerate(geometry.conditions):
        if condition.scale == "category":  # which cells were read out is no attribute
            other[:, column] = conditions[:, column] = round(condition.low)
    cells = rng.gamma(0.3, 100.0, (20, geometry.n_cells))
    first, second = (compute(Showers(cells, c, geometry, {})) for c in (conditions, other))
    changed = {k for k in first if not np.array_equal(first[k], second[k])}
    shown = {o.key for o in observables(geometry) if not any(w in o.key for w in TELLING)}
    assert changed
    assert not changed & shown
    assert len(shown) > 8


def test_which_attributes_there_are():
    def known(name):
        return [a.name for a in attributes_of(load_geometry(name))]

    assert known("calogan") == ["energy", "x0", "y0", "theta", "phi"]
    assert known("lhcb") == ["energy", "tx", "ty", "x", "y"]
    assert known("atlas-cells") == ["energy", "impact_eta", "impact_phi"]
    assert known("ds1-photons") == known("lcd") == []


def test_showers_of_the_same_simulation_are_as_good_as_geant4(geant4):
    numbers = figures(geant4, toy(seed=2))
    assert set(numbers) == {"energy", "x0", "y0", "theta", "phi"}
    for figure in numbers.values():
        for kind in ("bias", "spread", "slope"):
            (a, da), (b, db) = getattr(figure.judged, kind), getattr(figure.reference, kind)
            assert abs(a - b) < 4.5 * np.hypot(da, db), (figure.name, kind)
    # Centroids of three layers scatter by 15 mm each: no line through them is better than 10 mm.
    assert 10 < numbers["y0"].reference.spread[0] < 25
    assert numbers["energy"].reference.spread[0] < 0.04
    assert numbers["x0"].reference.slope[0] > 0.6


def test_failures_show_where_they_are(geant4):
    moved = figures(geant4, toy(seed=2, shift=12.0))
    assert moved["y0"].judged.bias[0] == pytest.approx(12.0, abs=4.0)
    hot = figures(geant4, toy(seed=2, scale=1.1))["energy"]
    assert hot.judged.bias[0] - hot.reference.bias[0] == pytest.approx(np.log(1.1), abs=0.02)
    blurred = figures(geant4, toy(seed=2, blur=45.0))
    assert blurred["y0"].judged.spread[0] > 1.5 * blurred["y0"].reference.spread[0]
    showers = toy(seed=2)
    deaf = replace(showers, conditions=np.roll(showers.conditions, 1, axis=0))
    numbers = figures(geant4, deaf)["y0"]
    assert abs(numbers.judged.slope[0]) < 4 * numbers.judged.slope[1]
    assert numbers.reference.slope[0] > 0.5


def test_tenths_of_a_spectrum_with_one_frequent_energy() -> None:
    energies = np.concatenate([np.full(4000, 5e4), np.geomspace(1e3, 1e5, 1000)])
    medians = _tenths(energies, energies)[0]
    assert np.isfinite(medians).all()
    assert set(medians[:4000]) == {5e4}


def test_keys_and_floors(geant4):
    result = attributes.measure(Case(geant4[0], geant4[1], other=geant4[1]))
    (chosen,) = (f for f in attribute_values(*geant4, geant4[1]) if f.name == "y0")
    value = result.total["attribute_spread/y0"]
    assert value.n == 600 and (value.floor, value.floor_error) == chosen.reference.spread
    energy, (_, judged) = next(iter(chosen.at.items()))
    assert result.at[energy]["attribute_bias/y0"].value == judged.bias[0]
    assert set(result.at) == set(chosen.at)


def test_what_showers_do_not_tell_is_left_out(geant4, monkeypatch):
    monkeypatch.setattr(attributes, "LEAST_POWER", 1.1)
    assert attribute_values(*geant4, geant4[1]) == []


def test_few_showers_and_energy_alone_give_nothing(geant4):
    assert attribute_values(geant4[0], geant4[1].part(20, 0), geant4[1]) == []
    assert attribute_values(geant4[0], geant4[1], geant4[1].part(100, 0)) == []


# --- comparison and report -----------------------------------------------------------------------
@pytest.fixture(scope="module")
def judged():
    """A generator that blurs and one that is as good as Geant4, judged."""
    reference, floor = (summarise(toy(seed=seed), f"toy {seed}") for seed in (0, 1))
    generated = [
        summarise(toy(seed=2, blur=60.0), "blurred", like=reference),
        summarise(toy(seed=3), "good", like=reference),
    ]
    comparisons = compare(reference, generated, floor, how=How(effort=NO_CELLS, device="cpu"))
    return reference, generated, comparisons


def test_a_comparison_gets_figures_with_geant4_beside(judged):
    blurred, good = judged[2]
    for comparison in judged[2]:
        value = comparison.metrics["attribute_spread/y0"]
        assert value.floor == good.details.notes.attributes["y0"].reference.spread[0]
        for point in comparison.per_energy.values():
            assert point.metrics["attribute_spread/y0"].n == point.n_generated
    value = blurred.metrics["attribute_spread/y0"]
    assert value.value > 1.5 * value.floor


def test_without_a_second_sample_half_of_the_reference_trains(judged):
    reference, generated, _ = judged
    (one,) = compare(reference, [generated[1]], how=How(effort=NO_CELLS, device="cpu"))
    found = one.details.notes.attributes["y0"]
    assert found.reference.n == 300
    assert found.judged.n == 600


def test_the_section_says_who_is_off(judged):
    with style():
        shown = section(result_of(*judged), "Attributes")
    assert [p.name for p in shown.pictures] == ["attributes-requested", "attributes-energy"]
    rows = {row[0].text: row for row in shown.tables[0].rows}
    spread = rows["impact y at the front face: spread [mm]"]
    assert spread[2].level in ("off", "far")
    assert spread[3].level in ("good", "near")
    assert len(rows) == 15


def test_levels_count_in_geant4s_own():
    assert distance_level((1.0, 0.1), (1.1, 0.1), 1.0) == ("good", "-10 %, within errors")
    assert distance_level((1.15, 0.01), (1.0, 0.01), 1.0) == ("near", "+15 %")
    assert distance_level((3.0, 0.01), (1.0, 0.01), 1.0) == ("far", "+2 times")
    assert distance_level((float("nan"), 0.1), (1.0, 0.1), 1.0) == ("", "")


def test_the_section_is_empty_without_attributes(judged):
    reference, generated, comparisons = judged
    bare = [replace(c, details=Details()) for c in comparisons]
    shown = section(result_of(reference, generated, bare), "Attributes")
    assert not shown.tables and not shown.pictures


def test_a_spectrum_is_cut_into_tenths(geant4):
    reference = geant4[0]
    values = attribute_values(reference, geant4[1], geant4[1])[0]
    low, high = np.quantile(reference.incident, (0.1, 0.9))
    energies = sorted(values.tenths)
    assert energies[0] < low and energies[-1] > high
    assert sum(r.n for r, _ in values.tenths.values()) == 600
