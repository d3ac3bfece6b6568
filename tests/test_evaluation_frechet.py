"""Fréchet and kernel distances: closed forms, the public package's numbers, real halves."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.linalg import sqrtm

from caloforge.errors import DataError
from caloforge.metrics import frechet
from caloforge.metrics.frechet import Distance, fpd, frechet_distance, kpd, sampling_error

Matrix = NDArray[np.float64]


def correlated(n: int, features: int) -> tuple[Matrix, Matrix]:
    """Two samples of correlated features, the second 2 % wider and shifted by 0.01."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(features, features)) / np.sqrt(features)
    first = rng.normal(size=(n, features)) @ mix + 1
    return first, rng.normal(size=(n, features)) @ mix * 1.02 + 1.01


# What jetnet prints for correlated(60_000, 30), in the settings of the CaloChallenge:
#   jetnet.evaluation.fpd(x, y, min_samples=10_000)
#   jetnet.evaluation.kpd(x, y, batch_size=10_000)
# Version 0.2.4 draws from NumPy's RandomState, 0.2.5 from PCG64; NumPy 2.4.6, SciPy 1.17.1.
JETNET = {
    "legacy": (
        (0.0009040023564045037, 1.8766296826034417e-05),
        (3.876689159332258e-05, 1.310415509257606e-05),
    ),
    "pcg64": (
        (0.0008708932707365558, 1.578165336272666e-05),
        (5.091157739745e-05, 1.6936761524022903e-05),
    ),
}


@pytest.mark.parametrize("stream", ["legacy", "pcg64"])
def test_the_numbers_are_those_of_the_public_package(stream: frechet.Stream) -> None:
    x, y = correlated(60_000, 30)
    for distance, (value, error) in zip((fpd, kpd), JETNET[stream], strict=True):
        found = distance(x, y, stream=stream)
        # jetnet sums 1e8 kernels of about 1 one by one and takes a general root of a matrix:
        # absolute rounding of 1e-11.
        assert found.value == pytest.approx(value, rel=0, abs=2e-11)
        assert found.error == pytest.approx(error, rel=0, abs=2e-11)
        assert (found.reduced, found.n, found.seed) == (False, 60_000, 42)


def test_frechet_distance_of_gaussians() -> None:
    rng = np.random.default_rng(1)
    a, b = (m @ m.T for m in rng.normal(size=(2, 5, 5)))
    zero = np.zeros(5)
    # Shifted: the squared shift. Scaled: tr S (1 - s)^2. Diagonal: sum of (s1 - s2)^2.
    assert frechet_distance(zero, a, np.full(5, 2.0), a) == pytest.approx(20.0)
    assert frechet_distance(zero, a, zero, 9 * a) == pytest.approx(4 * np.trace(a))
    s1, s2 = rng.uniform(0.1, 3, size=(2, 5))
    diagonal = frechet_distance(zero, np.diag(s1**2), zero, np.diag(s2**2))
    assert diagonal == pytest.approx(((s1 - s2) ** 2).sum())
    # Any two: the general matrix root.
    general = np.trace(a + b) - 2 * np.trace(sqrtm(a @ b)).real
    assert frechet_distance(zero, a, zero, b) == pytest.approx(general)
    assert frechet_distance(zero, b, zero, a) == pytest.approx(general)
    # Singular covariances: one direction each, at right angles.
    assert (
        frechet_distance(zero, np.diag([4.0, 0, 0, 0, 0]), zero, np.diag([0, 9.0, 0, 0, 0])) == 13
    )


def test_fpd_finds_the_distance_of_gaussians_without_bias() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(2, 20_000, 4))
    y = 1.1 * y + [0.3, 0, 0, 0]
    # In units of max |reference| of each feature.
    unit = np.abs(x).max(axis=0)
    expected = (0.3 / unit[0]) ** 2 + (0.1**2 / unit**2).sum()
    measured = fpd(x, y)
    assert measured.reduced
    assert measured.n == 20_000
    # The sample itself fluctuates: d^2 has an error of 2 d / sqrt N.
    spread = 2 * np.sqrt(expected * 2 / 20_000) / unit.min()
    assert measured.value == pytest.approx(expected, abs=3 * (spread + measured.error))
    assert measured.error < expected / 20


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_the_sampling_error_is_the_scatter_among_samples(shift: float) -> None:
    """Of one distribution and of two; uniform numbers, so that dividing by max |x| is harmless."""
    rng = np.random.default_rng(8)
    pairs = [(rng.random((400, 5)) - 1, rng.random((400, 5)) - 1 + shift) for _ in range(60)]
    found = [frechet_distance(x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)) for x, y in pairs]
    errors = [sampling_error(x, y) for x, y in pairs]
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.35)


@pytest.mark.parametrize("distance", [fpd, kpd])
def test_a_sample_against_itself(distance: Callable[..., Distance]) -> None:
    x = correlated(3000, 6)[0]
    measured = distance(x, x)
    assert abs(measured.value) <= 4 * measured.error + 1e-6
    far = distance(x, x + 1)
    assert far.value > 100 * max(abs(measured.value), measured.error)


@pytest.mark.parametrize("distance", [fpd, kpd])
def test_other_order_other_draws_same_distance(distance: Callable[..., Distance]) -> None:
    x, y = correlated(4000, 5)
    measured = distance(x, y)
    assert distance(x, y) == measured
    other = distance(x[::-1], y[np.random.default_rng(3).permutation(4000)], seed=7)
    assert other.value != measured.value
    assert other.value == pytest.approx(measured.value, abs=5 * (measured.error + other.error))
    # A unit does not matter, nor does a column of zeros.
    scaled = distance(1e3 * x, 1e3 * y)
    assert scaled.value == pytest.approx(measured.value, rel=1e-6)
    padded = fpd(np.c_[x, np.zeros(4000)], np.c_[y, np.zeros(4000)])
    assert padded.value == pytest.approx(fpd(x, y).value, rel=1e-6)


def mmd(x: Matrix, y: Matrix) -> float:
    """Unbiased squared MMD of all showers, each counted once."""
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    return frechet._mmd(x, np.ones(len(x)), y, np.ones(len(y)))


def plain_mmd(x: Matrix, y: Matrix) -> float:
    """The definition, pair by pair."""

    def kernel(a: Matrix, b: Matrix) -> float:
        return (float(a @ b) / len(a) + 1) ** 4

    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j)
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j)
    xy = sum(kernel(a, b) for a in x for b in y)
    return xx / (n * (n - 1)) + yy / (m * (m - 1)) - 2 * xy / (n * m)


def test_the_two_fits() -> None:
    x = 1 / (1 / np.linspace(1e-4, 2e-5, 10)).astype(np.int32)
    rng = np.random.default_rng(12)
    for intercept, slope in ((1e-3, 5.0), (1e-5, 0.05), (0.02, 40.0), (1e-3, 0.0)):
        y = intercept + slope * x
        assert frechet._least_squares(x, y)[0] == pytest.approx(intercept, rel=1e-9)
        assert frechet._least_squares(x, y)[1] == pytest.approx(0, abs=1e-12)
        noisy = y + 1e-5 * rng.normal(size=10)
        (value, error), (public, _) = (
            frechet._least_squares(x, noisy),
            frechet._public_fit(x, noisy),
        )
        assert value == pytest.approx(intercept, abs=4 * error + 1e-9)
        # The public fit stops early.
        assert public == pytest.approx(value, abs=1e-4)
    # Within its bounds the line is that of ordinary least squares, with its error.
    (slope, line), covariance = np.polyfit(x, noisy + 5 * x, 1, cov=True)
    assert frechet._least_squares(x, noisy + 5 * x) == pytest.approx(
        (line, np.sqrt(covariance[1, 1]))
    )
    # Bounds: a negative intercept, a negative slope.
    assert frechet._least_squares(x, 5 * x - 1e-4)[0] == 0
    assert frechet._least_squares(x, 1e-3 - x)[0] == pytest.approx((1e-3 - x).mean())


def test_mmd_pair_by_pair() -> None:
    rng = np.random.default_rng(4)
    # Few features: by fourth moments; many: by pairs. Both are the definition.
    for features in (1, 2, 40):
        x, y = rng.normal(size=(25, features)), 0.5 * rng.normal(size=(31, features)) + 0.2
        assert mmd(x, y) == pytest.approx(plain_mmd(x, y), rel=1e-10)
    # By hand, one feature: k(0, 0) = 1, k(1, 1) = 16, k(0, 1) = 1.
    assert mmd(np.zeros((2, 1)), np.ones((3, 1))) == pytest.approx(1 + 16 - 2)
    assert mmd(np.array([[0.0], [1.0]]), np.array([[0.0], [1.0]])) == pytest.approx(
        1 + 1 - 2 * (1 + 1 + 1 + 16) / 4
    )


def test_both_ways_to_sum_kernels_agree_with_repeated_showers() -> None:
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(1300, 9)), rng.normal(size=(900, 9))
    a, b = rng.integers(1, 4, size=1300) * 1.0, rng.integers(1, 4, size=900) * 1.0
    moments = frechet._sums_by_moments(x, a, y, b)
    tiles = (
        frechet._sum_of_kernel(x, a),
        frechet._sum_of_kernel(y, b),
        frechet._sum_of_kernel(x, a, y, b),
    )
    np.testing.assert_allclose(moments, tiles, rtol=1e-12)


def test_expected_mmd_of_shifted_normal_distributions() -> None:
    """k = sum of binomials times moments: E over x, y of (x y + 1)^4 from the normal moments."""
    rng = np.random.default_rng(6)
    shift, n = 0.5, 40_000
    moments = [1.0, 0.0, 1.0, 0.0, 3.0]
    shifted = [1.0, shift, 1 + shift**2, 3 * shift + shift**3, 3 + 6 * shift**2 + shift**4]
    expected = sum(
        c * (p - q) ** 2 for c, p, q in zip((1, 4, 6, 4, 1), moments, shifted, strict=True)
    )
    values = [mmd(rng.normal(size=(n, 1)), rng.normal(size=(n, 1)) + shift) for _ in range(5)]
    spread = np.std(values, ddof=1) / np.sqrt(5)
    assert np.mean(values) == pytest.approx(expected, abs=5 * spread)
    assert spread < expected / 10


def test_bad_input_is_answered_in_one_sentence() -> None:
    good = correlated(60, 3)[0]
    nan = good.copy()
    nan[3, 1] = np.nan
    for distance in (fpd, kpd):
        for bad, says in (
            (nan, "NaN"),
            (good[:, :2], "features"),
            (good[:0], "at least 50"),
            (good[:1], "at least 50"),
            (good[:, 0], "shape"),
        ):
            with pytest.raises(DataError, match=says):
                distance(good, bad)
            with pytest.raises(DataError, match=says):
                distance(bad, good)
        assert np.isfinite(distance(good[:50], good[:50]).value)
        # All zero: all equal.
        assert distance(0 * good, 0 * good).value == pytest.approx(0, abs=1e-6)
