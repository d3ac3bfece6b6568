"""The floor: drawn at the reference's conditions, with a scatter, never the reference itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_evaluation_compare import toy

from caloforge.data import read_showers, sample_path
from caloforge.errors import DataError
from caloforge.judge.compare import compare
from caloforge.judge.floor import (
    apportion,
    bins_of,
    floor_pair,
    matching_size,
    of_floor_size,
)
from caloforge.judge.merit import judge
from caloforge.judge.sample import whole
from caloforge.judge.summary import Summary, summarise
from caloforge.metrics.table import metrics
from caloforge.showers import Showers

KEY = "wasserstein/total_energy"


@pytest.fixture(scope="module")
def photons() -> tuple[Showers, Showers]:
    """The shipped test and training photons: their mixtures of energies differ a little."""
    first, second = (read_showers(sample_path(f"ds1-photons-{p}")) for p in ("test", "train"))
    return first, second


def counts(sample: Summary, rows: np.ndarray) -> dict[float, int]:
    energies, numbers = np.unique(sample.incident_energy[rows], return_counts=True)
    return dict(zip(energies.tolist(), numbers.tolist(), strict=True))


def test_shares_are_whole_and_proportional() -> None:
    found = apportion(10, np.array([300, 300, 1, 1]))
    assert found.sum() == 10 and found.tolist() == [5, 5, 0, 0]
    assert apportion(602, np.array([300, 300, 1, 1])).tolist() == [300, 300, 1, 1]


def test_the_floor_has_the_reference_s_counts_at_every_energy(
    photons: tuple[Showers, Showers],
) -> None:
    first, second = (summarise(showers) for showers in photons)
    n = matching_size(first, second, len(first))
    assert n == len(first)
    _, drawn = floor_pair(first, second, n, 0)
    assert counts(second, drawn.rows) == counts(first, np.arange(len(first)))
    # A second draw takes others; half as many have half of each energy.
    assert set(floor_pair(first, second, n, 0, 1)[1].rows) != set(drawn.rows)
    half = counts(second, floor_pair(first, second, n // 2, 0)[1].rows)
    assert half[256.0] == pytest.approx(150, abs=1) and half[524288.0] == 7


@pytest.mark.parametrize("number", [800, 300])
def test_the_floor_has_as_many_cells_as_the_generator(
    photons: tuple[Showers, Showers], number: int
) -> None:
    """Cells of 400 showers are kept, fewer than there are."""
    first, second = photons
    reference = summarise(first[:800], "reference", keep=400)
    generated = summarise(second[:800], "generated", like=reference, keep=400)
    floor = summarise(second[800 : 800 + 4 * number], "floor", like=reference, keep=400)
    n = min(matching_size(reference, floor, number), 790)
    _, drawn = floor_pair(reference, floor, n, 0)
    sized = of_floor_size(whole(generated, reference), drawn, 0)
    assert len(sized) == len(drawn) == n == len(set(sized.rows))
    assert len(sized.with_cells()) == len(drawn.with_cells())
    # Of an energy that few showers have none may have been kept.
    assert min(n, 400) - 5 <= len(drawn.with_cells()) <= min(n, 400)


def test_halves_have_as_many_cells_as_the_generator_s_part(
    photons: tuple[Showers, Showers],
) -> None:
    first, second = photons
    reference = summarise(first[:800], "reference", keep=400)
    generated = summarise(second[:800], "generated", like=reference, keep=400)
    _, half = floor_pair(reference, None, 400, 0)
    sized = of_floor_size(whole(generated, reference), half, 0)
    assert len(sized) == 400 and 150 < len(half.with_cells()) < 250
    assert len(sized.with_cells()) == len(half.with_cells())


def test_a_wrong_scale_is_above_the_floor_of_the_total_energy(
    photons: tuple[Showers, Showers],
) -> None:
    """The floor's own mixture of energies hid scales that were wrong by five percent."""
    first, second = photons
    # The floor has the training mixture, the judged sample has the conditions of the reference.
    reference = summarise(first, "reference")
    _, rows = floor_pair(reference, summarise(second), len(first), 7)
    good = second[rows.rows]
    floor = second[np.setdiff1d(np.arange(len(second)), rows.rows)]
    floor = floor[np.isin(floor.incident_energy, first.incident_energy)]
    keep = first.incident_energy < 3e5
    reference = summarise(first[keep], "reference")
    good = good[good.incident_energy < 3e5]
    samples = [
        summarise(replace(good, energies=scale * good.energies), f"{scale}", like=reference)
        for scale in (1.0, 0.95)
    ]
    known, wrong = compare(reference, samples, summarise(floor, "floor", like=reference))
    value = wrong.metrics[KEY]
    assert value.floor is not None and value.floor_error is not None
    assert value.value > value.floor + 5 * value.floor_error
    assert known.metrics[KEY].value < value.floor + 4 * value.floor_error
    assert judge(KEY, value.value, value.joint_error, value.floor)[0] in ("off", "far")
    value = known.metrics[KEY]
    assert judge(KEY, value.value, value.joint_error, value.floor)[0] in ("good", "near")
    assert not known.details.warnings


def test_halves_have_one_mixture_in_every_condition() -> None:
    showers = read_showers(sample_path("lhcb-train"))
    summary = summarise(showers)
    bins = bins_of(summary, summary)
    assert np.bincount(bins.leaves).min() >= 8 and bins.leaves.max() >= 15
    np.testing.assert_array_equal(bins.leaves, bins.other_leaves)
    first, second = (
        np.bincount(bins.leaves[half.rows]) for half in floor_pair(summary, None, len(summary), 0)
    )
    assert np.abs(first - second).max() <= 1


def test_a_spectrum_is_drawn_in_bins_of_every_condition() -> None:
    """A second sample of another spectrum: what is drawn from it has that of the reference."""
    rng = np.random.default_rng(0)
    flat, falling = toy(800, seed=1, spectrum=True), toy(4000, seed=2, spectrum=True)
    falling = falling[rng.random(4000) < (falling.incident_energy / 1e3) ** -0.3]
    reference, floor = summarise(flat), summarise(falling)
    n = matching_size(reference, floor, 400)
    rows = floor_pair(reference, floor, n, 0)[1].rows
    logs = [np.log(s.incident_energy) for s in (reference, floor)]
    far = abs(logs[1].mean() - logs[0].mean())
    near = abs(logs[1][rows].mean() - logs[0].mean())
    assert len(rows) == 400 and near < 0.1 * far


def test_a_floor_is_made_smaller_where_an_energy_runs_out() -> None:
    reference, second = toy(1200), toy(2400, seed=3)
    few = second[(second.incident_energy != 8192) | (np.arange(2400) % 16 == 3)]
    base, floor = summarise(reference, "reference"), summarise(few, "few")
    assert (few.incident_energy == 8192).sum() == 150
    n = matching_size(base, floor, 1200)
    assert 590 <= n <= 604
    (result,) = compare(base, [summarise(toy(seed=1), "good", like=base)], floor)
    assert result.details.floor is not None and result.details.floor.n == n
    assert not any("floor" in text for text in result.details.warnings)


def test_a_floor_of_other_energies_is_told() -> None:
    base = summarise(toy(1200), "reference")
    other = replace(toy(1200, seed=3), conditions=toy(1200).conditions * 1.5)
    good = summarise(toy(seed=1), "good", like=base)
    (result,) = compare(base, [good], summarise(other, "others", like=base))
    assert any("lacks 1200 of the 1200 showers" in text for text in result.details.warnings)
    spectrum = summarise(toy(1200, spectrum=True), "reference")
    high = toy(1200, seed=4, spectrum=True)
    high = summarise(high[high.incident_energy > 2e4], "high", like=spectrum)
    good = summarise(toy(seed=1, spectrum=True), "good", like=spectrum)
    (result,) = compare(spectrum, [good], high)
    assert any("energy could not be drawn" in text for text in result.details.warnings)


def test_the_reference_is_no_floor_of_itself() -> None:
    showers = toy(1200)
    base, good = summarise(showers, "reference"), summarise(toy(seed=1), "good")
    for same in (showers, showers[::-1], showers[:900]):
        with pytest.raises(DataError, match="showers of the reference 'reference'; expected a"):
            compare(base, [good], summarise(same, "again", like=base))
    mixed = Showers.concatenate([showers[:120], toy(1200, seed=5)])
    (result,) = compare(base, [good], summarise(mixed, "mixed", like=base))
    assert any("120 of the 1320 showers of 'mixed'" in text for text in result.details.warnings)


def test_a_floor_has_the_scatter_of_single_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors of many independent second samples scatter as one floor says it does."""
    alone = [metric for metric in metrics() if metric.key == "wasserstein/"]
    monkeypatch.setattr("caloforge.judge.pairs.metrics", lambda: alone)
    base = summarise(toy(600), "reference")
    key = "wasserstein/response"
    floors, spreads = [], []
    for seed in range(8):
        (comparison,) = compare(
            base,
            [summarise(toy(300, seed=500), like=base)],
            summarise(toy(900, seed=600 + seed), "second", like=base),
        )
        value = comparison.metrics[key]
        assert value.floor is not None and value.floor_error is not None
        floors.append(value.floor)
        spreads.append(value.floor_error)
    singles = [
        compare(base, [summarise(toy(300, seed=700 + k), like=base)])[0].metrics[key].value
        for k in range(8)
    ]
    assert 0.5 < np.mean(spreads) / np.std(singles, ddof=1) < 2
    assert np.std(floors, ddof=1) < np.std(singles, ddof=1)


def test_the_voxels_have_the_floor_of_their_number_of_showers() -> None:
    """Of real showers few were far above a floor that was that of all of them."""
    first, second = (read_showers(sample_path(f"ds1-photons-{p}")) for p in ("train", "test"))
    first, second = (s[s.incident_energy < 6e4] for s in (first, second))
    base = summarise(first, "reference")
    rows = [np.flatnonzero(second.incident_energy == e)[:60] for e in 2.0 ** np.arange(8, 16)]
    few = second[np.concatenate(rows)]
    (result,) = compare(base, [summarise(few, "few", like=base)])
    figures = {**result.metrics, **result.details.at_floor_size}
    value = figures["separation/voxel_energy"]
    assert value.floor is not None and value.floor_error is not None
    assert abs(value.value - value.floor) < 5 * value.floor_error
    assert value.value < 3 * value.floor
