"""The classifier test: known AUC and divergence, its errors, and the inputs of the challenge."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from caloforge.data import read_showers, sample_names, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError
from caloforge.metrics import inputs
from caloforge.metrics.classifier import auc, classify, estimate_seconds, hanley_mcneil
from caloforge.metrics.protocol import FAST, PUBLISHED, Protocol
from caloforge.observables.features import compute
from caloforge.showers import Showers

TINY = Protocol("tiny", (16,), 12, 100, 5e-3, 2, "float32", (0.5, 0.2, 0.3), standardise=True)


def gaussians(n: int, shift: float, seed: int = 0) -> tuple[NDArray[np.float64], ...]:
    """Two samples of three unit Gaussians; the first of the second sample is shifted."""
    first, second = np.random.default_rng(seed).normal(size=(2, n, 3))
    second[:, 0] += shift
    return first, second


# --- the judge ---------------------------------------------------------------------------------


@pytest.mark.parametrize("shift", [0.7, 1.5])
def test_shifted_gaussians_have_the_known_auc_and_divergence(shift: float) -> None:
    result = classify(*gaussians(3000, shift), TINY, seed=1)
    area = NormalDist().cdf(shift / math.sqrt(2))
    assert result.auc == pytest.approx(area, abs=3 * result.auc_error + 0.01)
    x = np.linspace(-10, 10, 20001)
    p, q = (np.exp(-((x - m) ** 2) / 2) / math.sqrt(2 * math.pi) for m in (0.0, shift))
    m = (p + q) / 2
    bits = 0.5 * np.trapezoid(p * np.log2(p / m) + q * np.log2(q / m), x)
    assert result.jsd == pytest.approx(bits, abs=3 * result.jsd_error + 0.02)
    assert (result.n, result.n_train, result.n_held_out, result.repeats) == (3000, 1500, 900, 2)


def test_equal_samples_are_told_apart_by_chance_only() -> None:
    result = classify(*gaussians(3000, 0.0), TINY, seed=2)
    assert abs(result.auc - 0.5) < 3 * result.auc_error
    assert result.jsd < 0.01
    assert result.auc_error >= hanley_mcneil(result.auc, 900, 900)


def test_disjoint_samples_have_auc_1_and_one_bit() -> None:
    first, second = gaussians(1000, 0.0)
    result = classify(first, second + 50.0, TINY)
    assert result.auc == 1.0
    assert result.jsd == pytest.approx(1.0, abs=1e-3)


def test_seeds_reproduce_and_leave_the_global_random_state_alone() -> None:
    samples = gaussians(200, 1.0)
    state, kind = torch.get_rng_state(), torch.get_default_dtype()
    first = classify(*samples, TINY, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_default_dtype() == kind
    assert classify(*samples, TINY, seed=5) == first
    assert classify(*samples, TINY, seed=6).aucs != first.aucs


def test_the_order_of_showers_and_of_samples_does_not_matter() -> None:
    first, second = gaussians(1000, 1.0)
    rng = np.random.default_rng(3)
    plain = classify(first, second, TINY)
    turned = classify(rng.permutation(second), rng.permutation(first), TINY)
    assert plain.auc == pytest.approx(turned.auc, abs=3 * plain.auc_error)


def test_samples_are_cut_to_one_size() -> None:
    first, second = gaussians(300, 1.0)
    assert classify(first, second[:200], TINY).n == 200
    assert classify(first, second, replace(TINY, most=100)).n == 100


def test_large_inputs_are_converted_batch_by_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = gaussians(200, 1.0)
    resident = classify(*samples, TINY)
    monkeypatch.setattr("caloforge.metrics.dense.RESIDENT_BYTES", 0)
    assert classify(*samples, TINY) == resident


def test_a_group_that_differs_is_found() -> None:
    first, second = gaussians(3000, 0.0)
    group = np.arange(3000) % 3 * 1.0
    second[group == 2.0, 0] += 3.0
    first, second = (np.column_stack([s, group]) for s in (first, second))
    group[group == 0.0] = np.nan
    group[1] = 7.0
    result = classify(first, second, TINY, groups=(group, group)).per_group
    assert set(result) == {1.0, 2.0}
    (same, error, n), (different, _, _) = result[1.0], result[2.0]
    assert abs(same - 0.5) < 3 * error
    # 900 of 3000 are held out in each of two repeats: of 1000, 510 different ones.
    assert n == pytest.approx(510, abs=60)
    assert different == pytest.approx(NormalDist().cdf(3 / math.sqrt(2)), abs=0.03)


def test_auc_counts_pairs() -> None:
    labels = np.array([0, 0, 1, 1, 0, 1.0])
    scores = np.array([0.1, 0.4, 0.4, 0.8, 0.9, 0.4])
    pairs = [
        1.0 if s > t else 0.5 if s == t else 0.0
        for s in scores[labels == 1]
        for t in scores[labels == 0]
    ]
    assert auc(labels, scores) == pytest.approx(np.mean(pairs))


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_hanley_mcneil_is_the_scatter_of_the_auc(shift: float) -> None:
    rng = np.random.default_rng(4)
    labels = np.repeat([1.0, 0.0], [80, 120])
    areas = [auc(labels, rng.normal(size=200) + shift * labels) for _ in range(2000)]
    mean = float(np.mean(areas))
    assert hanley_mcneil(mean, 80, 120) == pytest.approx(np.std(areas), rel=0.08)


def test_the_scatter_of_the_repeats_is_the_error_of_many() -> None:
    samples = gaussians(150, 1.0)
    many = classify(*samples, replace(TINY, repeats=5))
    assert many.auc_error == pytest.approx(np.std(many.aucs, ddof=1))
    assert many.auc == pytest.approx(np.mean(many.aucs))
    one = classify(*samples, replace(TINY, repeats=1))
    assert one.auc_error == pytest.approx(hanley_mcneil(one.auc, one.n_held_out, one.n_held_out))


def test_the_published_protocol() -> None:
    assert PUBLISHED.hidden == (2048, 2048, 2048)
    assert (PUBLISHED.epochs, PUBLISHED.batch, PUBLISHED.learning_rate) == (50, 1000, 2e-4)
    assert (PUBLISHED.repeats, PUBLISHED.dtype, PUBLISHED.standardise) == (10, "float64", False)
    small = replace(PUBLISHED, hidden=(8,), epochs=1, repeats=1)
    result = classify(*gaussians(1210, 0.5), small)
    assert (result.n_train, result.n_held_out) == (800, 210)


def test_estimate_grows_with_the_work() -> None:
    small = replace(TINY, hidden=(64,))
    seconds = [estimate_seconds(replace(small, epochs=e), 5000, 30) for e in (1, 100)]
    assert 0 < 10 * seconds[0] < seconds[1]


def test_progress_ends_at_the_last_epoch() -> None:
    told: list[tuple[int, int]] = []
    classify(*gaussians(60, 50.0), TINY, progress=lambda done, of: told.append((done, of)))
    assert told[-1] == (24, 24)
    assert told == sorted(told)


def test_bad_inputs_are_answered_in_one_sentence() -> None:
    first, second = gaussians(50, 0.0)
    with pytest.raises(DataError, match="at least 20 showers"):
        classify(first, second[:19], TINY)
    with pytest.raises(DataError, match="3 features and the generated showers 2"):
        classify(first, second[:, :2], TINY)
    for bad in (np.nan, np.inf, -np.inf):
        broken = second.copy()
        broken[7, 1] = bad
        with pytest.raises(DataError, match="generated inputs hold a NaN"):
            classify(first, broken, TINY)
    with pytest.raises(DataError, match="one group a shower"):
        classify(first, second, TINY, groups=(np.zeros(50), np.zeros(49)))


def test_constant_inputs_do_no_harm() -> None:
    first, second = gaussians(500, 1.0)
    with_constant = (np.column_stack([s, np.full(500, 1e-3)]) for s in (first, second))
    expected = classify(first, second, TINY)
    assert classify(*with_constant, TINY).auc == pytest.approx(expected.auc, abs=0.1)


# --- the inputs --------------------------------------------------------------------------------


def cells(showers: Showers) -> NDArray[np.float64]:
    """Cell energies after the cut, in float64."""
    energies = showers.energies.astype(np.float64)
    energies[energies < showers.geometry.cut] = 0.0
    return energies


@pytest.mark.parametrize(("name", "columns"), [("ds1-photons", 30), ("ds1-pions", 46)])
def test_high_is_the_vector_of_the_challenge(name: str, columns: int) -> None:
    showers = read_showers(sample_path(f"{name}-test"))
    features = inputs.high(compute(showers), showers.conditions, showers.geometry)
    assert features.dtype == np.float64
    assert features.shape == (len(showers), columns)
    plain = plain_high(showers)
    # Widths are roots of differences: those of one cell are rounding noise in a plain writing.
    np.testing.assert_allclose(features, plain, rtol=1e-9, atol=2e-6)


def plain_high(showers: Showers) -> NDArray[np.float64]:
    """Formula by formula, from the cells."""
    energies, layers = cells(showers), showers.geometry.layers
    parts = [energies[:, where] for where in showers.geometry.slices]
    split = [k for k, layer in enumerate(layers) if layer.shape[0] > 1]

    def moments(k: int, x: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
        total = parts[k].sum(axis=1) + 1e-16
        mean = (parts[k] * x).sum(axis=1) / total
        return mean, np.sqrt(np.clip((parts[k] * x * x).sum(axis=1) / total - mean**2, 0, None))

    eta = [moments(k, layers[k].centres[1] * np.cos(layers[k].centres[0])) for k in split]
    phi = [moments(k, layers[k].centres[1] * np.sin(layers[k].centres[0])) for k in split]
    r = [moments(k, layer.centres[1]) for k, layer in enumerate(layers)]
    columns: Sequence[NDArray[np.float64]] = [
        np.log10(showers.incident_energy),
        *(np.log10(part.sum(axis=1) + 1e-8) for part in parts),
        *(m[0] / 100 for m in eta),
        *(m[0] / 100 for m in phi),
        *(m[1] / 100 for m in eta),
        *(m[1] / 100 for m in phi),
        np.log10(energies.sum(axis=1) + 1e-8),
        *(1 - (part > 0).mean(axis=1) for part in parts),
        *(m[0] / 100 for m in r),
        *(m[1] / 100 for m in r),
    ]
    return np.stack(columns, axis=1)


def test_high_matches_what_the_public_evaluation_prints(shared: Path, published: Path) -> None:
    printed = json.loads((published / "evaluate_reference.json").read_text())["features"]
    showers = read_showers(shared / printed["file"])
    observables = {key: values[:20] for key, values in compute(showers).items()}
    features = inputs.high(observables, showers.conditions[:20], showers.geometry)
    expected = [np.log10(showers.incident_energy[:20])]
    expected += [np.log10(np.array(v) + 1e-8) for v in printed["E_layer"].values()]
    for family in ("EC_eta", "EC_phi", "width_eta", "width_phi"):
        expected += [np.array(v) / 100 for v in printed[family].values()]
    expected.append(np.log10(np.array(printed["E_tot"]) + 1e-8))
    expected += [np.array(v) for v in printed["sparsity"].values()]
    for family in ("EC_r", "width_r"):
        expected += [np.array(v) / 100 for v in printed[family].values()]
    np.testing.assert_allclose(features, np.stack(expected, axis=1), rtol=1e-6, atol=2e-6)


def test_low_and_low_normed_formula_by_formula(photons: Showers) -> None:
    showers = Showers(photons.energies[:50], photons.conditions[:50], photons.geometry)
    energies, incident = cells(showers), showers.incident_energy[:, None]
    features = inputs.low(showers.energies, showers.conditions, showers.geometry)
    np.testing.assert_array_equal(features, np.hstack([np.log10(incident), energies / incident]))
    layers = [energies[:, where] for where in showers.geometry.slices]
    total = np.stack([layer.sum(axis=1) for layer in layers], axis=1)
    normed = [
        layer / (energy[:, None] + 1e-16) for layer, energy in zip(layers, total.T, strict=True)
    ]
    expected = np.hstack([np.log10(incident), *normed, np.log10(total + 1e-8)])
    features = inputs.low_normed(showers.energies, showers.conditions, showers.geometry)
    assert features.shape == (50, 374)
    np.testing.assert_allclose(features, expected, rtol=1e-12)
    small = inputs.low_normed(showers.energies, showers.conditions, showers.geometry, np.float32)
    assert small.dtype == np.float32
    np.testing.assert_array_equal(small, features.astype(np.float32))


def test_cells_below_the_cut_do_not_count(photons: Showers) -> None:
    noisy = photons.energies[:20].copy()
    noisy[noisy < 1.0] = 0.99
    for make in (inputs.low, inputs.low_normed):
        with_noise = make(noisy, photons.conditions[:20], photons.geometry)
        clean = make(photons.energies[:20], photons.conditions[:20], photons.geometry)
        np.testing.assert_array_equal(with_noise, clean)


@pytest.mark.parametrize("sample", [name for name in sample_names() if name.endswith("-test")])
def test_inputs_of_every_detector_are_finite_and_of_order_one(sample: str) -> None:
    showers = read_showers(sample_path(sample))
    some = Showers(showers.energies[:20].copy(), showers.conditions[:20], showers.geometry)
    some.energies[0] = 0.0
    more = 0 if some.geometry.format == "calochallenge" else len(some.geometry.conditions) - 1
    for make in (inputs.low, inputs.low_normed):
        found = make(some.energies, some.conditions, some.geometry)
        assert np.isfinite(found).all()
        assert found.shape[1] >= 1 + some.geometry.n_cells + more
    found = inputs.high(compute(some), some.conditions, some.geometry)
    assert np.isfinite(found).all()
    assert np.abs(found[:, len(found[0]) - more :]).max(initial=0) <= 1.0 + 1e-9
    assert np.abs(found).max() <= 10.0


def test_angles_become_sine_and_cosine() -> None:
    geometry = load_geometry("calogan")
    conditions = np.array([[5e4, 60.0, -30.0, 0.0, 2.0], [1e3, 0.0, 0.0, 0.349065850398866, -2.0]])
    features = inputs.low(np.zeros((2, geometry.n_cells)), conditions, geometry)[:, -5:]
    sine, cosine = math.sin(2.0), math.cos(2.0)
    np.testing.assert_allclose(features[0], [1.0, -0.5, -1.0, sine, cosine])
    np.testing.assert_allclose(features[1], [0.0, 0.0, 1.0, -sine, cosine], atol=1e-12)


def test_inputs_that_do_not_fit_are_refused(photons: Showers) -> None:
    geometry, conditions = photons.geometry, photons.conditions[:5]
    energies = photons.energies[:5]
    with pytest.raises(DataError, match=r"expected \(N, 368\)"):
        inputs.low(energies[:, :300], conditions, geometry)
    with pytest.raises(DataError, match="5 showers and 4 rows"):
        inputs.low_normed(energies, conditions[:4], geometry)
    with pytest.raises(DataError, match="not positive"):
        inputs.low(energies, 0 * conditions, geometry)
    with pytest.raises(DataError, match="'layer_energy/0' has the shape"):
        inputs.high({}, conditions, geometry)


def test_real_halves_cannot_be_told_apart(photons: Showers) -> None:
    """Two halves of the same Geant4 showers, with a narrow network of the fast protocol."""
    features = inputs.high(compute(photons), photons.conditions, photons.geometry)
    narrow = replace(FAST, hidden=(64, 64), epochs=4, repeats=1)
    result = classify(features[::2], features[1::2], narrow)
    assert abs(result.auc - 0.5) < 3 * result.auc_error
