"""Figures of all features together: identical and disjoint samples, floors, small samples."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from caloforge.data import read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError
from caloforge.judge.compare import compare
from caloforge.judge.comparison import Comparison
from caloforge.judge.estimate import estimate_minutes
from caloforge.judge.floor import floor_size
from caloforge.judge.pairs import How
from caloforge.judge.summary import Summary, summarise
from caloforge.metrics.effort import EFFORTS, FAST, FULL, Effort, choose_effort
from caloforge.metrics.prd import physics_keys
from caloforge.showers import Showers

SMALL = replace(
    FAST,
    protocol=replace(FAST.protocol, hidden=(64, 64), epochs=10, repeats=2, most=1200),
    inputs=("high",),
    neighbours=400,
    features=1,
)
JOINT = {
    "auc_high",
    "jsd_high",
    "fpd",
    "kpd",
    "precision",
    "recall",
    "density",
    "coverage",
    "prd_auc",
    "prd_auc_raw",
    "prd_auc_physics",
}


@pytest.fixture(scope="module", autouse=True)
def _few_clusterings() -> Iterator[None]:
    """Fewer starts than published: the tests compare samples far apart, or the same one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("caloforge.metrics.prd.STARTS", 2)
        yield


def digest(showers: Showers, name: str, like: Summary | None = None) -> Summary:
    return summarise(showers, name, like=like, keep=SMALL.keep)


@pytest.fixture(scope="module")
def geant4() -> tuple[Showers, Showers]:
    """Two independent samples of 600 photons at six energies, alike in their mixture."""
    samples = [read_showers(sample_path(f"ds1-photons-{part}")) for part in ("test", "train")]
    chosen = []
    for showers in samples:
        rows = [
            np.flatnonzero(showers.incident_energy == 2.0**k)[:100]
            for k in (8, 10, 12, 13, 14, 15)
        ]
        chosen.append(showers[np.concatenate(rows)])
    return chosen[0], chosen[1]


@pytest.fixture(scope="module")
def judged(_few_clusterings: None, geant4: tuple[Showers, Showers]) -> list[Comparison]:
    """Real showers and broken ones, judged with halves of the reference as floor."""
    first, second = geant4
    # All energy of a layer in its first cell.
    energies = np.zeros_like(second.energies)
    for where in second.geometry.slices:
        energies[:, where.start] = second.energies[:, where].sum(axis=1)
    broken = replace(second, energies=energies)
    reference = digest(first, "reference")
    samples = [digest(second, "real", reference), digest(broken, "broken", reference)]
    return compare(reference, samples, how=How(effort=SMALL, device="cpu"), train=samples[0])


def test_two_geant4_samples_are_at_the_floor(judged: list[Comparison]) -> None:
    real = judged[0].metrics
    assert set(real) > JOINT
    auc = real["auc_high"]
    assert auc.value == pytest.approx(0.5, abs=3.5 * auc.error)
    assert abs(real["fpd"].value) < 3 * real["fpd"].floor + 1e-3
    assert real["density"].value == pytest.approx(1.0, abs=0.15)
    assert real["coverage"].value > 0.85
    assert real["prd_auc"].value > 0.9
    assert real["prd_auc"].value == min(real["prd_auc_raw"].value, real["prd_auc_physics"].value)
    assert {real[key].n for key in ("auc_high", "precision", "prd_auc")} == {600, 400}


def test_showers_without_a_shape_are_found_out(judged: list[Comparison]) -> None:
    real, broken = (comparison.metrics for comparison in judged)
    assert broken["auc_high"].value > 0.99 and broken["jsd_high"].value > 0.9
    assert broken["fpd"].value > 20 * real["fpd"].value
    for key in ("coverage", "recall", "prd_auc_physics"):
        assert broken[key].value < 0.3 * real[key].value, key


def test_the_training_showers_themselves_are_copies(judged: list[Comparison]) -> None:
    """The real sample was given as the training file."""
    assert judged[0].metrics["memorising"].value > 0.95
    assert judged[0].metrics["memorising"].floor == 0.5
    assert judged[0].details.notes.memorising.copied > 0.9


def test_floor_at_the_same_size_and_per_energy(judged: list[Comparison]) -> None:
    comparison = judged[0]
    small = comparison.details.at_floor_size
    for key in JOINT:
        assert comparison.metrics[key].floor == small[key].floor is not None
        assert small[key].n <= 300
    at = comparison.per_energy[4096.0].metrics
    assert {"auc_high", "precision", "coverage", "prd_auc_raw"} < set(at)
    assert at["wasserstein/response"].floor > 0
    # Of 100 showers at each energy a floor has half, and the value beside it as many.
    assert at["separation_with_flow/width_r/1"].n == 50
    assert comparison.details.notes.effort == "fast"
    assert comparison.details.notes.reduced == ("fpd", "kpd")


def test_same_seed_same_figures_and_no_order_of_showers(
    geant4: tuple[Showers, Showers], judged: list[Comparison]
) -> None:
    first, second = (showers[::2] for showers in geant4)
    protocol = replace(SMALL.protocol, epochs=2)
    effort = replace(SMALL, inputs=("high",), protocol=protocol, neighbours=200)
    reference = digest(first, "reference")
    floor = digest(replace(first, energies=1.001 * first.energies), "floor", reference)

    def figures(order: np.ndarray) -> dict[str, float]:
        sample = digest(second[order], "real", reference)
        (comparison,) = compare(reference, [sample], floor, how=How(effort=effort, device="cpu"))
        return {key: value.value for key, value in comparison.metrics.items()}

    order = np.arange(len(second))
    one, two = figures(order), figures(order)
    assert one == two
    turned = figures(order[::-1])
    for key in ("precision", "recall", "density", "coverage"):
        # Of 300 showers 200 enter: which, depends on their order.
        assert turned[key] == pytest.approx(one[key], abs=0.15)
    assert turned["fpd"] == pytest.approx(one["fpd"], rel=0.5, abs=1e-3)


def test_what_is_too_small_is_left_out_with_a_reason(geant4: tuple[Showers, Showers]) -> None:
    first, second = (showers[::80] for showers in geant4)
    reference = digest(first, "reference")
    (comparison,) = compare(
        reference, [digest(second, "few", reference)], how=How(effort=SMALL, device="cpu")
    )
    assert "auc_high" not in comparison.metrics and "fpd" not in comparison.metrics
    assert "wasserstein/response" in comparison.metrics
    told = " ".join(comparison.details.warnings)
    assert "Classifier of high features left out" in told and "FPD and KPD left out" in told


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": "quick"}, "Unknown metrics 'quick'"),
        ({"name": "fast", "inputs": ("hihg",)}, "did you mean 'high'"),
        ({"name": "fast", "repeats": 0}, "expected at least 1"),
        ({"name": "full", "most": -5}, "expected at least 1"),
    ],
)
def test_efforts_are_checked(arguments: dict, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        choose_effort(**arguments)


def test_efforts_and_what_they_keep() -> None:
    assert set(EFFORTS) == {"fast", "full"}
    assert FAST.keep == 20_000 and FULL.keep > 10**9
    chosen = choose_effort("full", ("low",), repeats=1, most=500)
    assert isinstance(chosen, Effort) and chosen.inputs == ("low",)
    assert (chosen.protocol.repeats, chosen.protocol.most, chosen.neighbours) == (1, 500, 500)
    assert chosen.protocol.hidden == (2048, 2048, 2048) and chosen.protocol.dtype == "float64"


def test_the_estimate_grows_with_the_work(geant4: tuple[Showers, Showers]) -> None:
    reference = digest(geant4[0], "reference")
    sample = digest(geant4[1], "real", reference)
    once = estimate_minutes(reference, [sample], sample, SMALL, "cpu")
    often = replace(SMALL, protocol=replace(SMALL.protocol, repeats=40))
    assert 0 < 5 * once < estimate_minutes(reference, [sample], sample, often, "cpu")


def test_the_estimate_counts_every_training(
    geant4: tuple[Showers, Showers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a floor smaller than the sample: the floor, the sample, and a part of that size."""
    sizes: list[int] = []
    monkeypatch.setattr(
        "caloforge.judge.estimate.estimate_seconds", lambda _, n, *__: sizes.append(n) or 0.0
    )
    reference = digest(geant4[0], "reference")
    sample = digest(geant4[1], "real", reference)
    floor = digest(geant4[1][::2], "floor", reference)
    estimate_minutes(reference, [sample], floor, replace(SMALL, inputs=("high",)), "cpu")
    n = floor_size(reference, sample, floor)
    assert sizes == [n, min(len(reference), len(sample)), n]


def test_physics_observables_of_lhcb_are_those_of_its_study() -> None:
    keys = physics_keys(load_geometry("lhcb"))
    assert {key.partition("_")[0] for key in keys} == {"asymmetry", "width", "cells"}
    assert len(physics_keys(load_geometry("ds1-photons"))) > 30
