"""Neighbours: points by hand, the public package's numbers, copies and lack of spread."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from caloforge.data import read_showers, sample_path
from caloforge.errors import DataError
from caloforge.metrics import matrices
from caloforge.metrics.memorising import fractions, memorising, nearest
from caloforge.metrics.neighbours import log_voxels, prdc, random_halves
from caloforge.showers import Showers

Matrix = NDArray[np.float64]


@pytest.fixture(scope="module")
def halves() -> tuple[Showers, Showers]:
    first, second = (read_showers(sample_path(f"ds1-photons-{p}")) for p in ("train", "test"))
    return first, second


def test_log_voxels() -> None:
    energies = np.array([[0.0, 0.5, 1.0], [10.0, 1000.0, 0.99]])
    voxels = log_voxels(energies, 1.0)
    assert voxels.dtype == np.float32
    np.testing.assert_allclose(voxels, [[-1, -1, 0], [1, 3, -1]], atol=1e-7)
    assert energies[0, 1] == 0.5  # untouched


def test_points_by_hand() -> None:
    # Reference 0, 1, 3, 7: nearest neighbours at 1, 1, 2, 4. Generated 0.5, 2, 20: 1.5, 1.5, 18.
    reference = np.array([[0.0], [1.0], [3.0], [7.0]])
    generated = np.array([[0.5], [2.0], [20.0]])
    scores = prdc(reference, generated, k=1)
    # 0.5 lies in the balls of 0, 1; 2 in that of 3 (2 is on the edge of the ball of 1).
    np.testing.assert_array_equal(scores.density_of, [2, 1, 0])
    np.testing.assert_array_equal(scores.precision_of, [1, 1, 0])
    # 0, 1 in the ball of 0.5; 1, 3 in that of 2; 7, 3 in that of 20 (radius 18).
    np.testing.assert_array_equal(scores.recall_of, [1, 1, 1, 1])
    np.testing.assert_array_equal(scores.coverage_of, [1, 1, 1, 0])
    assert scores.precision[0] == pytest.approx(2 / 3)
    assert scores.coverage == (0.75, pytest.approx(0.25))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_numbers_are_those_of_the_public_package(dtype: type) -> None:
    """compute_prdc of prdc 0.2 (scikit-learn 1.9.1, NumPy 2.4.6) on this sample in float64."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(800, 12)).astype(dtype)
    y = (1.1 * rng.normal(size=(700, 12)) + 0.1).astype(dtype)
    for k, numbers in (
        (5, (0.7828571428571428, 0.96, 0.7065714285714286, 0.88)),
        (3, (0.6985714285714286, 0.91, 0.7138095238095238, 0.72875)),
    ):
        scores = prdc(x, y, k)
        values = [v[0] for v in (scores.precision, scores.recall, scores.density, scores.coverage)]
        np.testing.assert_allclose(values, numbers, rtol=1e-12)


def test_real_showers_as_the_public_package(halves: tuple[Showers, Showers]) -> None:
    """compute_prdc of prdc 0.2, k = 5, on log_voxels of the shipped samples."""
    x, y = (log_voxels(s.energies, s.geometry.cut) for s in halves)
    scores = prdc(x, y)
    values = [v[0] for v in (scores.precision, scores.recall, scores.density, scores.coverage)]
    numbers = [0.7537449762513702, 0.7843677494199536, 1.0556814029959811, 0.834106728538283]
    np.testing.assert_allclose(values, numbers, rtol=1e-12)


def test_identical_distributions_have_known_density_and_coverage() -> None:
    rng = np.random.default_rng(8)
    scores = prdc(rng.normal(size=(3000, 3)), rng.normal(size=(3000, 3)))
    # Naeem et al., lemmas 1 and 2: density 1, coverage 1 - 2^-5 for N = M to infinity.
    assert scores.density[0] == pytest.approx(1.0, abs=4 * scores.density[1])
    assert scores.coverage[0] == pytest.approx(1 - 2**-5, abs=4 * scores.coverage[1])
    far = prdc(rng.normal(size=(300, 3)), rng.normal(size=(300, 3)) + 100)
    assert [far.precision[0], far.recall[0], far.density[0], far.coverage[0]] == [0, 0, 0, 0]


def test_the_error_is_the_scatter_of_independent_samples() -> None:
    rng = np.random.default_rng(15)
    keys = ("precision", "recall", "density", "coverage")
    values, halves, given = [], [], []
    for seed in range(60):
        x, y = rng.normal(size=(300, 3)), 1.2 * rng.normal(size=(300, 3))
        scores = prdc(x, y, halves=random_halves((np.zeros(300), np.zeros(300)), seed))
        values.append([getattr(scores, key)[0] for key in keys])
        halves.append([getattr(scores, key)[1] for key in keys])
        given.append([getattr(prdc(x, y), key)[1] for key in keys])
    scatter = np.std(values, axis=0, ddof=1)
    ratio, without = (np.mean(errors, axis=0) / scatter for errors in (halves, given))
    assert (ratio > 0.75).all() and (ratio < 1.5).all(), ratio
    # For given neighbourhoods alone the error of the coverage is too small.
    assert without[3] < 0.75, without


def test_halves_have_neighbourhoods_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(16)
    x, y = rng.normal(size=(90, 4)), 1.2 * rng.normal(size=(70, 4))
    groups = rng.integers(3, size=90).astype(float), rng.integers(3, size=70).astype(float)
    halves = random_halves(groups, 3)
    monkeypatch.setattr(matrices, "TILE", (16, 24))
    scores = prdc(x, y, halves=halves)
    for (first, second), half in zip(halves, scores.halves, strict=True):
        # Half of each group.
        for of, chosen in zip(groups, (first, second), strict=True):
            twice = 2 * np.bincount(of[chosen].astype(int), minlength=3)
            assert np.abs(twice - np.bincount(of.astype(int))).max() <= 1
        alone = prdc(x[first], y[second])
        np.testing.assert_array_equal(half.found.density_of, alone.density_of)
        np.testing.assert_array_equal(half.found.coverage_of, alone.coverage_of)
        np.testing.assert_array_equal(half.found.recall_of, alone.recall_of)
        np.testing.assert_array_equal(half.found.precision_of, alone.precision_of)
    part = scores.among(groups[0] == 1, groups[1] == 1)
    assert part.coverage[0] == scores.coverage_of[groups[0] == 1].mean()
    means = [
        half.found.coverage_of[groups[0][first] == 1].mean()
        for (first, _), half in zip(halves, scores.halves, strict=True)
    ]
    given = np.std(scores.coverage_of[groups[0] == 1], ddof=1) / np.sqrt((groups[0] == 1).sum())
    assert part.coverage[1] == pytest.approx(max(given, np.std(means, ddof=1)))
    # Halves are drawn anew each time, and of each sample by itself.
    alike = random_halves((groups[0], groups[0]), 3)
    assert len({tuple(chosen.tolist()) for pair in alike for chosen in pair}) == 20
    # A half of 11 showers would have no five neighbours.
    assert random_halves((np.zeros(11), np.zeros(90)), 0) == []


def test_order_and_tiles_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(9)
    x, y = rng.normal(size=(150, 6)), 1.2 * rng.normal(size=(130, 6))
    scores = prdc(x, y)
    order = rng.permutation(150)
    monkeypatch.setattr(matrices, "TILE", (16, 24))
    again = prdc(x[order], y)
    np.testing.assert_array_equal(again.coverage_of, scores.coverage_of[order])
    np.testing.assert_array_equal(again.recall_of, scores.recall_of[order])
    np.testing.assert_array_equal(again.density_of, scores.density_of)
    np.testing.assert_array_equal(again.precision_of, scores.precision_of)
    index, distance = nearest(x, y)
    np.testing.assert_array_equal(index, cdist(x, y).argmin(axis=1))
    np.testing.assert_allclose(distance, cdist(x, y).min(axis=1), rtol=1e-14)


def test_distances_keep_their_digits_far_from_zero() -> None:
    rng = np.random.default_rng(10)
    x, y = rng.normal(size=(2, 60, 20)) + 1e6
    tiles = np.zeros((60, 60))
    for rows, columns, tile in matrices.squared_distances(x, y):
        tiles[rows, columns] = tile
    np.testing.assert_allclose(tiles, cdist(x, y, "sqeuclidean"), rtol=1e-9)
    # A copy is at distance 0 exactly, wherever it is.
    for rows, columns, tile in matrices.squared_distances(x, x.copy()):
        tiles[rows, columns] = tile
    assert (np.diag(tiles) == 0).all()
    assert (tiles[~np.eye(60, dtype=bool)] > 0).all()


def test_nearest_within_groups() -> None:
    x, y = np.array([[0.0], [5.0], [9.0]]), np.array([[4.0], [1.0], [6.0]])
    index, distance = nearest(x, y)
    np.testing.assert_array_equal(index, [1, 0, 2])
    np.testing.assert_array_equal(distance, [1, 1, 3])
    index, distance = nearest(x, y, (np.array([1, 2, 3]), np.array([1, 1, 2])))
    np.testing.assert_array_equal(index, [1, 2, -1])
    np.testing.assert_array_equal(distance, [1, 1, np.inf])


def gaussians(seed: int, *sizes: int) -> list[Matrix]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(n, 8)) for n in sizes]


def test_an_independent_sample_is_no_copy() -> None:
    pulls = []
    for seed in range(20):
        check = memorising(*gaussians(seed, 600, 300, 400))
        pulls.append(
            [
                (check.closer - 0.5) / check.closer_error,
                check.copied / check.copied_error,
                check.close - check.close_expected,
            ]
        )
        assert check.ratio == pytest.approx(1, abs=0.1)
    mean, spread = np.mean(pulls, axis=0), np.std(pulls, axis=0, ddof=1)
    assert np.all(np.abs(mean[:2]) < 4 / np.sqrt(20))
    # The errors are right: pulls of width 1.
    assert np.all((spread[:2] > 0.6) & (spread[:2] < 1.5))
    assert abs(mean[2]) < 4 * spread[2] / np.sqrt(20)


def test_copies_are_found_and_part_of_them_too() -> None:
    train, held, fresh, noise = gaussians(30, 600, 300, 400, 600)
    check = memorising(train, held, train)
    assert (check.closer, check.ratio, check.close, check.copied) == (1, 0, 1, 1)
    assert (check.generated == 0).all()
    # Slightly varied copies, and a quarter of copies among fresh showers.
    check = memorising(train, held, train + 0.05 * noise)
    assert check.closer > 0.99
    assert check.copied > 0.95
    check = memorising(train, held, np.concatenate([fresh[:300], train[:100]]))
    assert check.copied == pytest.approx(0.25, abs=4 * check.copied_error)
    assert check.copied > 3 * check.copied_error
    assert check.close == pytest.approx(0.25, abs=0.05)


def test_too_little_spread_looks_like_copying_to_distances_alone() -> None:
    train, held, fresh = gaussians(31, 900, 600, 500)
    check = memorising(train, held, 0.5 * fresh)
    assert check.closer > 0.8
    assert check.ratio < 0.8
    assert abs(check.copied) < 4 * check.copied_error


def test_slices_are_judged_apart() -> None:
    """Distances ten times larger in one slice: a mixture of slices must not look like copying."""
    train, held, fresh = gaussians(32, 600, 300, 400)
    labels = [np.arange(len(x)) % 2 for x in (train, held, fresh)]
    labels[2] = (np.arange(400) % 8 == 0).astype(int)
    scaled = [x * np.where(k == 1, 10.0, 1.0)[:, None] for x, k in zip((train, held, fresh), labels, strict=True)]  # noqa: E501  # fmt: skip
    check = memorising(*scaled, groups=(labels[0], labels[1], labels[2]))
    assert check.used == (0, 1)
    assert check.closer == pytest.approx(0.5, abs=4 * check.closer_error)
    assert check.ratio == pytest.approx(1, abs=0.1)
    together = memorising(*scaled)
    assert together.closer > 0.5 + 4 * together.closer_error
    # A slice with a few showers only is left out.
    labels[2][:] = 0
    labels[2][:10] = 1
    assert memorising(*scaled, groups=(labels[0], labels[1], labels[2])).used == (0,)


def test_geant4_does_not_memorise_itself(halves: tuple[Showers, Showers]) -> None:
    train, held = halves
    cells = [fractions(s.energies, s.incident_energy) for s in (train, held)]
    energy = [np.ravel(s.incident_energy) for s in (train, held)]
    odd = np.arange(len(cells[0])) % 2 == 1
    check = memorising(
        cells[0][~odd], cells[1], cells[0][odd], (energy[0][~odd], energy[1], energy[0][odd])
    )
    assert check.closer == pytest.approx(0.5, abs=4 * check.closer_error)
    assert abs(check.copied) < 4 * check.copied_error
    assert check.closer_error < 0.01
    assert check.ratio == pytest.approx(1, abs=0.03)
    assert check.close == pytest.approx(check.close_expected, abs=0.01)
    copies = memorising(*(cells[k] for k in (0, 1, 0)), (energy[0], energy[1], energy[0]))
    assert copies.closer == pytest.approx(1)
    assert copies.copied == pytest.approx(1)


def test_empty_showers_are_equal_showers() -> None:
    empty = np.zeros((40, 5))
    scores = prdc(empty, empty)
    assert scores.precision[0] == 0  # open balls of radius 0
    check = memorising(empty, empty, empty)
    assert check.closer == 0.5
    assert np.isnan(check.ratio)
    assert check.copied == 0


def test_bad_input_is_answered_in_one_sentence() -> None:
    good = np.random.default_rng(0).normal(size=(30, 4))
    nan = good.copy()
    nan[2, 2] = np.inf
    with pytest.raises(DataError, match="NaN or infinite"):
        prdc(good, nan)
    with pytest.raises(DataError, match="features"):
        prdc(good, good[:, :3])
    with pytest.raises(DataError, match="at least 6"):
        prdc(good, good[:5])
    with pytest.raises(DataError, match="k = 0"):
        prdc(good, good, 0)
    with pytest.raises(DataError, match="at least 1"):
        nearest(good[:0], good)
    with pytest.raises(DataError, match="one label"):
        nearest(good, good, (np.zeros(3), np.zeros(30)))
    with pytest.raises(DataError, match="No slice"):
        memorising(good, good[:10], good)
    with pytest.raises(DataError, match="held-out"):
        memorising(good, good[:0], good)


def test_ties_with_the_shower_without_energy_are_exact() -> None:
    """Of pions, many leave no cell above the cut: distances to them tie in both samples."""
    rng = np.random.default_rng(11)

    def sample(size: int) -> Matrix:
        cells = rng.exponential(50.0, (size, 40)) * (rng.random((size, 40)) < 0.3)
        cells[: size // 4] = 0
        return np.asarray(log_voxels(cells, 1.0), dtype=np.float64)

    x, y = sample(300), sample(260)
    scores = prdc(x, y, centre=log_voxels(np.zeros((1, 40)), 1.0)[0].astype(np.float64))
    gaps = [((a[:, None] - b[None]) ** 2).sum(axis=2) for a, b in ((x, x), (y, y), (x, y))]
    radii = [np.sort(gap, axis=1)[:, 5] for gap in gaps[:2]]  # the first is the shower itself
    # Sums of squares in one order: ties with the empty shower are ties to the last bit.
    np.testing.assert_array_equal(scores.recall_of, (gaps[2] < radii[1]).any(axis=1))
    np.testing.assert_array_equal(scores.precision_of, (gaps[2] < radii[0][:, None]).any(axis=0))
    assert (radii[1][65:] == gaps[1][65:, 0]).any()  # some balls reach to the empty showers
