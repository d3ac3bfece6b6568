"""Ranks that know of errors, the worst metric, divergences near 0, odd showers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_evaluation_compare import toy
from test_report_tables import BAD, GOOD, comparison

from caloforge.detector.shipped import load_geometry
from caloforge.judge.compare import compare
from caloforge.judge.merit import distance, judge, mean_ranks, worst
from caloforge.judge.summary import summarise
from caloforge.metrics.base import Value
from caloforge.metrics.separation import separation_power
from caloforge.observables.table import observables


def test_ranks_tie_within_errors() -> None:
    """Three generators that differ by less than their errors, and one that is worse."""
    names = ("a", "b", "c")
    close = [comparison(n, {"fpd": v}) for n, v in zip(names, (1.0, 1.01, 0.99), strict=True)]
    assert mean_ranks(close) == [2.0, 2.0, 2.0]
    assert mean_ranks([*close, comparison("d", {"fpd": 2.0})]) == [2.0, 2.0, 2.0, 4.0]
    exact = [
        replace(c, metrics={k: replace(v, error=1e-9) for k, v in c.metrics.items()})
        for c in close
    ]
    assert mean_ranks(exact) == [2.0, 3.0, 1.0]


def test_the_worst_metric_is_counted_in_its_floor() -> None:
    """The mean rank of a generator with one metric that is far off hides it."""
    assert worst(comparison("bad", {"fpd": BAD["fpd"], "coverage": GOOD["coverage"]})) == (
        "fpd",
        pytest.approx(0.05 / 5e-4),
    )
    key, times = worst(comparison("good", {"coverage": GOOD["coverage"]})) or ("", 9.0)
    assert key == "coverage" and times <= 1
    bare = replace(comparison("x", {"fpd": 1.0}), metrics={"fpd": Value(1.0, None, None, 9)})
    assert worst(bare) is None


def test_errors_of_value_and_floor_count() -> None:
    value = Value(0.012, 0.003, 0.004, 500, floor_error=0.004)
    assert value.joint_error == pytest.approx(0.005)
    assert judge("fpd", value.value, value.error, value.floor)[0] != "good"
    assert judge("fpd", value.value, value.joint_error, value.floor) == ("good", "3.0 × floor")


def test_a_divergence_near_zero_is_not_made_large() -> None:
    """The root of 0.002 is 4.5 % of the way to 1, for a difference that is nothing."""
    assert judge("jsd_low", 0.002, None, -0.001)[0] == "good"
    # Few held-out showers: the bound is far below 0, which is no floor to be compared with.
    assert judge("jsd_low", 0.007, 0.01, -3.01) == ("good", "at its floor")
    assert judge("jsd_low", 0.5, 0.01, -3.01)[0] == "far"
    assert distance("jsd_low", 1e-4) == pytest.approx(1e-3, rel=0.02)
    assert distance("jsd_low", 0.25) == pytest.approx(0.5, rel=0.02)
    assert distance("jsd_low", 1.0) == pytest.approx(1.0)


def test_one_odd_shower_does_not_make_the_correlations() -> None:
    base = summarise(toy(), "reference")
    odd = toy(seed=1)
    energies = odd.energies.copy()
    energies[0] = 0
    energies[0, odd.geometry.slices[-1]] = 50 * odd.incident_energy[0]
    values = [
        compare(base, [summarise(s, "x", like=base)])[0].metrics["correlations"]
        for s in (odd, replace(odd, energies=energies))
    ]
    assert values[0].error is not None
    assert abs(values[1].value - values[0].value) < values[0].error


# --- bins of the challenge -----------------------------------------------------------------------
@pytest.mark.parametrize(
    ("geometry", "layer", "ends"),
    [
        ("ds1-photons", 1, (500.0, 500.0)),
        ("ds1-photons", 12, (1500.0, 1500.0)),
        ("ds1-pions", 14, (1500.0, 1500.0)),
        ("ds2", 44, (42.0, 20.0)),
        ("ds3", 0, (42.0, 20.0)),
    ],
)
def test_the_published_bins(geometry: str, layer: int, ends: tuple[float, float]) -> None:
    rows = {row.key: row for row in observables(load_geometry(geometry))}
    none = np.zeros(0)
    for name, end in zip(("centre_r", "width_r"), ends, strict=True):
        edges = rows[f"{name}/{layer}"].published_edges(none)
        assert (edges[0], edges[-1], len(edges)) == (0.0, end, 101)
    np.testing.assert_allclose(
        rows[f"sparsity/{layer}"].published_edges(none), np.linspace(0, 1, 21)
    )
    centre = rows.get(f"centre_x/{layer}")
    assert centre is None or centre.published_edges(none) is centre.edges(none)


def test_separations_use_the_published_bins() -> None:
    base, other = summarise(toy(), "reference"), summarise(toy(seed=1, scale=0.5), "half")
    (comparison,) = compare(base, [other])
    for key, edges in (
        ("centre_r/1", np.linspace(0, 500, 101)),
        ("sparsity/2", np.linspace(0, 1, 21)),
    ):
        expected = separation_power(base.observables[key], other.observables[key], edges)
        assert comparison.metrics[f"separation/{key}"].value == pytest.approx(expected, rel=1e-12)
        assert comparison.metrics[f"separation_with_flow/{key}"].value != pytest.approx(expected)
