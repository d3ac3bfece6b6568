"""Fréchet and kernel physics distances of two samples of features.

Reference: R. Kansal et al., "Evaluating generative models in high energy physics", 2023,
arXiv:2211.10295; settings of the CaloChallenge, arXiv:2410.21611. With the same seed the same
showers are drawn as by the package `jetnet`, which the challenge used: the numbers are the same.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.metrics import inputs
from caloforge.metrics.base import Case, Measured, Measurements
from caloforge.metrics.matrices import check_pair
from caloforge.metrics.notes import Notes

Array = NDArray[Any]
Matrix = NDArray[np.float64]
Stream = Literal["legacy", "pcg64"]

# The published protocol needs this many showers of each sample; with fewer it is reduced.
FULL = 50_000
SIZES = (10_000, 50_000)
POINTS = 10
REPEATS = 20
BATCHES = 10
BATCH = 10_000
MINIMUM = 50
FEWEST = 200  # showers at an energy point for a Fréchet distance there
# Half of what 1 sigma holds of a normal distribution, as the public evaluation has it.
PERCENTILES = (16.275, 83.725)
TILE = 512
BLOCKS = 10  # parts of a sample that are left out in turn for the error of the Fréchet distance


@dataclass(frozen=True)
class Distance:
    """A distance between two samples.

    Parameters
    ----------
    value, error
        The distance and its error. Published tables quote both times 1000.
    reduced
        Whether sizes were reduced because a sample has fewer than 50 000 showers.
    n
        Showers of the smaller sample.
    seed
        Seed of the draws.
    """

    value: float
    error: float
    reduced: bool
    n: int
    seed: int


def fpd(
    reference: Array, generated: Array, *, seed: int = 42, stream: Stream = "legacy"
) -> Distance:
    """Fréchet physics distance of features (N, F) and (M, F), extrapolated to infinite samples.

    The Fréchet distance of two Gaussians with the samples' means and covariances,
    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), is biased by a term proportional to 1/N. It is taken
    at 10 sizes from 10 000 to 50 000, equally spaced in 1/N, the mean of 20 draws with
    replacement each; the value is the intercept of a line in 1/N, both of its parameters >= 0, the
    error that of the fit, done as the public evaluation does it. Each feature is divided by its
    max |reference| before. With fewer than 50 000 showers in a sample the sizes go from N/5 to N
    (`reduced`), N of the smaller sample, and the fit is exact.

    Parameters
    ----------
    reference, generated
        Features, (N, F) and (M, F), in any unit.
    seed, stream
        How showers are drawn: as `jetnet` did up to 0.2.4, the time of the published tables
        ("legacy", NumPy's RandomState), or as it does since 0.2.5 ("pcg64").

    Raises
    ------
    DataError
        For fewer than 50 showers in a sample, different numbers of features, NaN or infinite
        values.
    """
    first, second, n = _scaled(reference, generated)
    low, high = (n / 5, n) if n < FULL else SIZES
    # Truncated, as the public evaluation does.
    sizes = (1 / np.linspace(1 / low, 1 / high, POINTS)).astype(np.int32)
    draws = _draws(seed, stream)
    means = []
    for size in sizes:
        values = []
        for _ in range(REPEATS):
            # The order of the draws is part of the definition: reference, then generated.
            a = draws.choice(len(first), size=size)
            b = draws.choice(len(second), size=size)
            values.append(frechet_distance(*_moments(first, a), *_moments(second, b)))
        means.append(float(np.mean(values)))
    if not np.isfinite(means).all():
        raise DataError(
            "The Fréchet distance overflows; expected features that are not larger than 1e100 "
            "times those of the reference: check the generated showers."
        )
    fit = _least_squares if n < FULL else _public_fit
    value, error = fit(1 / sizes, np.array(means))
    return Distance(value, error, n < FULL, n, seed)


def kpd(
    reference: Array, generated: Array, *, seed: int = 42, stream: Stream = "legacy"
) -> Distance:
    """Kernel physics distance of features (N, F) and (M, F).

    The unbiased squared maximum mean discrepancy with the kernel (x.y / F + 1)^4, of 10 batches of
    10 000 showers drawn with replacement: the median, and half of the distance of the 16.3 and
    83.7 percentiles. Each feature is divided by its max |reference| before. With fewer than 50 000
    showers in a sample the batches have N/2 (`reduced`), N of the smaller sample. Being unbiased
    it may be negative.

    Parameters and errors are those of `fpd`.
    """
    first, second, n = _scaled(reference, generated)
    size = n // 2 if n < FULL else BATCH
    values = []
    for batch in range(BATCHES):
        draws = _draws(seed + 1000 * batch, stream)
        a = draws.choice(len(first), size=size)
        b = draws.choice(len(second), size=size)
        values.append(_mmd(*_distinct(first, a), *_distinct(second, b)))
    low, high = np.percentile(values, PERCENTILES)
    return Distance(float(np.median(values)), float(high - low) / 2, n < FULL, n, seed)


def frechet_distance(mean1: Array, cov1: Array, mean2: Array, cov2: Array) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two Gaussians, means (F,), covariances (F, F).

    The trace of (S1 S2)^1/2 is the sum of the roots of the eigenvalues of R S2 R^T with
    S1 = R^T R, which is symmetric, so that no imaginary part can appear.
    """
    values, vectors = np.linalg.eigh(cov1)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    inner = np.linalg.eigvalsh(root.T @ cov2 @ root)
    overlap = np.sqrt(np.maximum(inner, 0.0)).sum()
    shift = mean1 - mean2
    return float(shift @ shift + np.trace(cov1) + np.trace(cov2) - 2.0 * overlap)


def sampling_error(reference: Array, generated: Array) -> float:
    """Standard deviation of the Fréchet distance among samples of these sizes.

    The showers that `fpd` draws are always those of the same two samples, so that the error of its
    fit does not know how other samples would differ: for two samples of one log-normal
    distribution it is 0.6 of their scatter, and this error 0.9 to 1.3 of it. A tenth of both
    samples is left out in turn (the delete-a-block jackknife). Features are those of `fpd`, (N, F)
    and (M, F).
    """
    samples = _scaled(reference, generated)[:2]
    values = []
    for block in range(BLOCKS):
        parts = [np.delete(x, np.s_[block::BLOCKS], axis=0) for x in samples]
        moments = [m for x in parts for m in _moments(x, np.arange(len(x)))]
        values.append(frechet_distance(*moments))
    return float(np.sqrt((BLOCKS - 1) * np.var(values)))


def measure(case: Case) -> Measurements:
    """`fpd` and `kpd` of all showers; `fpd` also at each energy that has showers enough.

    The features are the vector `inputs.high`. The error of `fpd` is that of the fit and that of
    the samples together.
    """
    features = [inputs.high(s.observables, s.conditions, case.geometry) for s in case.samples]
    total, reduced = {}, []
    for key, distance in (("fpd", fpd), ("kpd", kpd)):
        case.tell(key.upper())
        measured: Distance = distance(features[0], features[1])
        error = measured.error
        if key == "fpd":
            error = math.hypot(error, sampling_error(features[0], features[1]))
        total[key] = Measured(measured.value, error, len(case.generated))
        if measured.reduced:
            reduced.append(key)
    at = {}
    # With fewer showers than features a covariance says nothing.
    for energy, rows1, rows2 in case.energies(max(FEWEST, 5 * features[0].shape[1])):
        pair = features[0][rows1], features[1][rows2]
        measured = fpd(*pair)
        error = math.hypot(measured.error, sampling_error(*pair))
        at[energy] = {"fpd": Measured(measured.value, error, measured.n)}
    return Measurements(total, at, Notes(reduced=tuple(reduced)))


def _draws(seed: int, stream: Stream) -> np.random.RandomState | np.random.Generator:
    """Source of random numbers of one stream."""
    return np.random.RandomState(seed) if stream == "legacy" else np.random.default_rng(seed)


def _scaled(reference: Array, generated: Array) -> tuple[Matrix, Matrix, int]:
    """Both samples in float64 divided by max |reference|, and the size of the smaller one."""
    first, second = check_pair(reference, generated, MINIMUM)
    scale = np.abs(first).max(axis=0).astype(np.float64)
    scale[scale == 0] = 1.0
    return first / scale, second / scale, min(len(first), len(second))


def _distinct(values: Matrix, index: Array) -> tuple[Matrix, Matrix]:
    """The rows that were drawn, (n, F), and how often, (n,).

    In order of the sample: less to compute and faster to read than the draws themselves.
    """
    counts = np.bincount(index, minlength=len(values))
    drawn = np.flatnonzero(counts)
    return values[drawn], counts[drawn].astype(np.float64)


def _moments(values: Matrix, index: Array) -> tuple[Matrix, Matrix]:
    """Mean (F,) and covariance (F, F) of the rows that were drawn."""
    rows, counts = _distinct(values, index)
    mean = counts @ rows / len(index)
    rows -= mean
    rows *= np.sqrt(counts)[:, None]
    return mean, rows.T @ rows / (len(index) - 1)


def _public_fit(x: Matrix, y: Matrix) -> tuple[float, float]:
    """Intercept and error of the public evaluation's fit: SciPy's `curve_fit` with its defaults.

    With 1/N of 1e-5 the slope hardly moves the gradient, and the search from (1, 1) stops where
    the intercept is still up to 5e-5 (published as 0.05) from that of `_least_squares`.
    """
    from scipy.optimize import curve_fit

    parameters, covariance = curve_fit(
        lambda x, intercept, slope: intercept + slope * x, x, y, bounds=([0, 0], [np.inf, np.inf])
    )
    return float(parameters[0]), float(np.sqrt(covariance[0, 0]))


def _least_squares(x: Matrix, y: Matrix) -> tuple[float, float]:
    """Intercept of the best line with both parameters >= 0, and its error without the bounds."""
    dx = x - x.mean()
    slope = dx @ y / (dx @ dx)
    intercept = y.mean() - slope * x.mean()
    if slope < 0:
        slope, intercept = 0.0, y.mean()
    if intercept < 0:
        slope, intercept = max(x @ y / (x @ x), 0.0), 0.0
    residual = y - intercept - slope * x
    variance = residual @ residual / (len(x) - 2) * (1 / len(x) + x.mean() ** 2 / (dx @ dx))
    return float(intercept), float(np.sqrt(variance))


def _mmd(x: Matrix, count_x: Matrix, y: Matrix, count_y: Matrix) -> float:
    """Unbiased squared MMD of rows (n, F) and (m, F) that count as often as the counts say."""
    features = x.shape[1]
    # x.y / F + 1 as one scalar product.
    x, y = (np.column_stack([np.ones(len(a)), a / np.sqrt(features)]) for a in (x, y))
    n, m = count_x.sum(), count_y.sum()
    pairs = (features + 1) * (features + 2) // 2
    # Both ways are exact; which is cheaper is known from their products and passes.
    if pairs**2 < (len(x) + len(y)) * (features + 20):
        xx, yy, xy = _sums_by_moments(x, count_x, y, count_y)
    else:
        xx, yy = _sum_of_kernel(x, count_x), _sum_of_kernel(y, count_y)
        xy = _sum_of_kernel(x, count_x, y, count_y)
    self_x = count_x @ np.einsum("ij,ij->i", x, x) ** 4
    self_y = count_y @ np.einsum("ij,ij->i", y, y) ** 4
    return float((xx - self_x) / (n * (n - 1)) + (yy - self_y) / (m * (m - 1)) - 2 * xy / (n * m))


def _sums_by_moments(
    x: Matrix, count_x: Matrix, y: Matrix, count_y: Matrix
) -> tuple[float, float, float]:
    """Sums of (x.y)^4 over all pairs within x, within y and between, from fourth moments.

    With u(x) the products x_a x_b, a <= b, those with a < b times sqrt 2, (x.y)^2 = u(x).u(y), and
    the sum of its square over all pairs is the scalar product of the matrices sum u u^T. That
    costs N F^4 / 4, not N^2 F.
    """
    first, second = _fourth_moments(x, count_x), _fourth_moments(y, count_y)
    return (
        float(np.vdot(first, first)),
        float(np.vdot(second, second)),
        float(np.vdot(first, second)),
    )


def _fourth_moments(x: Matrix, count: Matrix) -> Matrix:
    """Sum over showers of u u^T, (P, P) with P = F (F + 1) / 2."""
    width = x.shape[1]
    pairs = width * (width + 1) // 2
    total = np.zeros((pairs, pairs))
    rows = 1024
    u = np.empty((rows, pairs))
    for k in range(0, len(x), rows):
        block, part = x[k : k + rows], u[: len(x[k : k + rows])]
        start = 0
        for a in range(width):
            stop = start + width - a
            # Counts enter as their root, once for each of the two factors u.
            lead = block[:, a : a + 1] * np.sqrt(count[k : k + rows])[:, None]
            np.multiply(block[:, a:], lead * np.sqrt(2.0), out=part[:, start:stop])
            part[:, start] = block[:, a] * lead[:, 0]
            start = stop
        total += part.T @ part
    return total


def _sum_of_kernel(
    x: Matrix, count_x: Matrix, y: Matrix | None = None, count_y: Matrix | None = None
) -> float:
    """Sum of (x.y)^4 over all pairs, counted, in tiles that stay in the cache; y = x if absent."""
    other, count = (x, count_x) if y is None or count_y is None else (y, count_y)
    total = 0.0
    for i in range(0, len(x), TILE):
        for j in range(i if y is None else 0, len(other), TILE):
            tile = x[i : i + TILE] @ other[j : j + TILE].T
            tile *= tile
            tile *= tile
            part = float(count_x[i : i + TILE] @ tile @ count[j : j + TILE])
            total += 2 * part if y is None and i != j else part
    return total
