"""PRD-AUC: curves known in closed form, floor of real halves, standardisation."""

import numpy as np
import pytest

from caloforge.data import read_showers, sample_path
from caloforge.errors import DataError
from caloforge.metrics import prd
from caloforge.metrics.prd import physics_matrix, prd_area, prd_auc, prd_curve


def test_curve_of_two_coins() -> None:
    """P = (1, 0), Q = (1/2, 1/2): precision 1/2 at any recall."""
    recall, precision = prd_curve(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    assert recall.shape == precision.shape == (1001,)
    # precision = min(s, 1/2), recall = min(1, 1 / 2 s).
    np.testing.assert_allclose(precision[500:], 0.5)
    slope = np.tan(np.linspace(0, np.pi / 2, 1001)[1:-1])
    np.testing.assert_allclose(recall[1:-1], np.minimum(1, 0.5 / slope), rtol=1e-6)
    labels = np.zeros(100, dtype=int), np.repeat([0, 1], 50)
    assert prd_area(*labels) == pytest.approx(0.5, abs=1e-5)
    # Reference and generated exchanged, precision and recall are.
    assert prd_area(labels[1], labels[0]) == pytest.approx(0.5, abs=1e-4)
    back = prd_curve(np.array([0.5, 0.5]), np.array([1.0, 0.0]))
    np.testing.assert_allclose(back[0][::-1][1:-1], precision[1:-1], rtol=1e-6)


def test_area_of_three_quarters() -> None:
    """P = (1/2, 1/2), Q = (3/4, 1/4), in closed form.

    precision = min(s/2, 3/4) + min(s/2, 1/4): s up to 1/2, (s + 1/2)/2 up to 3/2, 1 beyond, and
    recall = precision / s: 1, 1/2 + 1/(4 s), 1/s. With r = 1/s the area is the sum of
    int_0^(2/3) 1 dr and int_(2/3)^2 (1/(2 r) + 1/4) dr / 4.
    """
    labels = np.repeat([0, 1], [2, 2]), np.repeat([0, 1], [3, 1])
    expected = 2 / 3 + (np.log(3) / 2 + 1 / 3) / 4
    assert prd_area(*labels) == pytest.approx(expected, abs=1e-5)


def test_identical_and_disjoint_samples() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(500, 4))
    same = prd_auc(x, x)
    assert same.value == pytest.approx(1.0, abs=1e-8)
    apart = prd_auc(x, x + 100)
    assert (apart.value, apart.error) == (0.0, 0.0)
    floor = prd_auc(x, rng.normal(size=(500, 4)))
    assert 0.93 < floor.value < 1
    # Half of the modes: recall at most 1/2, precision 1.
    modes = np.where(rng.random(2000) < 0.5, 0.0, 100.0)[:, None] + rng.normal(size=(2000, 2))
    half = prd_auc(modes, modes[modes[:, 0] < 50])
    assert half.value == pytest.approx(0.5, abs=0.04)
    assert half.recall.max() < 0.55
    assert half.precision.max() == pytest.approx(1.0)
    assert len(half.reference) == len(half.generated) < 1100
    # The area is that of its labels, so a caller can take part of the showers.
    areas = [
        prd_area(a, b) for a, b in zip(half.reference_labels, half.generated_labels, strict=True)
    ]
    assert np.mean(areas) == half.value
    assert np.std(areas, ddof=1) == half.error


def test_seed_and_order() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(400, 3)), rng.normal(size=(300, 3)) + 0.5
    result = prd_auc(x, y)
    again = prd_auc(x, y)
    assert (result.value, result.error) == (again.value, again.error)
    np.testing.assert_array_equal(result.generated_labels, again.generated_labels)
    other = prd_auc(x[rng.permutation(400)], y[::-1], seed=9)
    spread = np.hypot(result.error, other.error) + 0.02
    assert other.value == pytest.approx(result.value, abs=3 * spread)


def test_a_rotation_changes_no_distance() -> None:
    """Few showers of many cells are turned into their own space before clustering."""
    rng = np.random.default_rng(3)
    x = rng.exponential(size=(60, 500))
    x -= x.mean(axis=0)
    turned = prd._rotated(x)
    assert turned.shape == (60, 60)
    np.testing.assert_allclose(turned @ turned.T, x @ x.T, atol=1e-9)
    assert prd._rotated(x[:, :100]).shape == (60, 100)
    wide = prd_auc(np.c_[x[:, :4], np.zeros((60, 800))], np.c_[x[:, :4], np.zeros((60, 800))])
    assert wide.value == pytest.approx(1.0, abs=1e-8)


def test_real_halves_sit_on_the_floor() -> None:
    first, second = (
        read_showers(sample_path(f"ds1-photons-{part}")) for part in ("train", "test")
    )
    result = prd_auc(first.energies, second.energies, repeats=3)
    assert 0.98 < result.value < 1
    assert result.error < 0.01
    # Showers of the wrong energy scale do not.
    assert prd_auc(first.energies, 2 * second.energies, repeats=3).value < 0.97


def test_physics_matrix() -> None:
    rng = np.random.default_rng(4)
    ours = {"a": rng.normal(5, 2, 300), "flat": np.full(300, 0.1), "b": rng.normal(size=300)}
    theirs = {"flat": rng.normal(size=200), "b": rng.normal(size=200), "a": np.full(200, 5.0)}
    first, second = physics_matrix(ours, theirs)
    assert first.shape == (300, 2)
    assert second.shape == (200, 2)
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(first.std(axis=0), 1)
    # Columns go by name, scaled by the reference alone.
    np.testing.assert_allclose(second[:, 0], (5 - ours["a"].mean()) / ours["a"].std())
    with pytest.raises(DataError, match="Only one sample has b"):
        physics_matrix(ours, {"a": theirs["a"], "flat": theirs["flat"]})
    with pytest.raises(DataError, match="constant"):
        physics_matrix({"flat": np.ones(5)}, {"flat": np.ones(5)})
    with pytest.raises(DataError, match="no observable"):
        physics_matrix({}, {})


def test_bad_input_is_answered_in_one_sentence() -> None:
    good = np.random.default_rng(0).normal(size=(30, 4))
    nan = good.copy()
    nan[2, 2] = np.nan
    with pytest.raises(DataError, match="NaN or infinite"):
        prd_auc(nan, good)
    with pytest.raises(DataError, match="features"):
        prd_auc(good, good[:, :3])
    with pytest.raises(DataError, match="at least 20"):
        prd_auc(good, good[:1])
    with pytest.raises(DataError, match="no shower"):
        prd_area(np.zeros(0, dtype=int), np.zeros(4, dtype=int))
    # Fewer distinct showers than clusters is no error.
    assert prd_auc(0 * good, 0 * good, repeats=2).value == pytest.approx(1.0, abs=1e-8)
