"""The boosted AUC: equal samples, one changed feature, twins, points, floors, what it sees."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from caloforge.data import read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError
from caloforge.judge.compare import compare
from caloforge.judge.pairs import How
from caloforge.judge.results import markdown_table, to_json
from caloforge.judge.summary import summarise
from caloforge.metrics import boosted
from caloforge.metrics.boosted import boosted_auc, boosted_of, folds, giveaways
from caloforge.metrics.effort import FAST
from caloforge.metrics.inputs import layer_features
from caloforge.showers import Showers

Table = dict[str, Any]


def table(rng: np.random.Generator, energy: Any) -> Table:
    """Conditions, and six features that scatter around what the energy says."""
    noise = rng.normal(size=(6, len(energy)))
    return {"energy": energy} | {f"f{k}": np.log(energy) + x for k, x in enumerate(noise)}


def spectrum(rng: np.random.Generator, n: int) -> Any:
    return np.exp(rng.uniform(5, 10, n))


def shifted(name: str, by: float, found: Table) -> Table:
    return found | {name: found[name] + by}


def test_equal_samples_give_a_half_within_the_error() -> None:
    """Ten independent pairs: the mean is a half, and the errors say how they scatter."""
    rng = np.random.default_rng(1)
    pairs = [[table(rng, spectrum(rng, 400)) for _ in range(2)] for _ in range(10)]
    found = [boosted_auc(a, b, ["energy"], trees=40) for a, b in pairs]
    pulls = [(f.auc - 0.5) / f.error for f in found]
    assert abs(np.mean(pulls)) < 3 / len(pulls) ** 0.5
    assert 0.4 < np.std(pulls) < 1.9


def test_one_changed_feature_is_seen_and_named_first() -> None:
    rng = np.random.default_rng(2)
    first, second = (table(rng, spectrum(rng, 500)) for _ in range(2))
    second = shifted("f3", 0.8, second)
    assert boosted_auc(first, second, ["energy"]).auc > 0.65
    worst = giveaways(first, second, ["energy"], most=4)
    assert next(iter(worst)) == "f3" and len(worst) <= 4
    assert worst["f3"].auc > 0.65 > 0.6 > list(worst.values())[1].auc


def test_same_seed_same_auc() -> None:
    rng = np.random.default_rng(3)
    first, second = (table(rng, spectrum(rng, 200)) for _ in range(2))
    found = [boosted_auc(first, second, ["energy"], seed, trees=20).auc for seed in (5, 5, 6)]
    assert found[0] == found[1] != found[2]


# --- twins ---------------------------------------------------------------------------------------
def test_twins_are_unbiased_in_one_fold_and_below_a_half_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The generator is perfect: the reference's conditions with noise of its own."""
    rng = np.random.default_rng(4)
    names = ["energy", "x", "angle"]
    pairs = []
    for _ in range(12):
        conditions = {"energy": spectrum(rng, 400)} | {k: rng.random(400) for k in names[1:]}
        pairs.append([table(rng, conditions["energy"]) | conditions for _ in range(2)])

    def mean() -> tuple[float, float]:
        found = [boosted_auc(a, b, names, trees=60).auc for a, b in pairs]
        return float(np.mean(found)), float(np.std(found, ddof=1)) / len(found) ** 0.5

    def ordinary(conditions: Any, labels: Any, seed: int, number: int) -> Any:
        from sklearn.model_selection import StratifiedKFold

        found = np.empty(len(labels), dtype=int)
        splits = StratifiedKFold(number, shuffle=True, random_state=seed).split(labels, labels)
        for k, (_, held_out) in enumerate(splits):
            found[held_out] = k
        return found

    kept, error = mean()
    assert abs(kept - 0.5) < 3 * error
    monkeypatch.setattr(boosted, "folds", ordinary)
    apart, error = mean()
    assert apart < 0.5 - 3 * error


def test_twins_share_a_fold_whatever_their_file_rounds() -> None:
    rng = np.random.default_rng(5)
    rows = np.stack([spectrum(rng, 90), rng.uniform(-1, 1, 90)], axis=1)
    both = np.concatenate([rows, rows.astype(np.float32)[::-1]])
    fold = folds(both, np.repeat([1.0, 0.0], 90), seed=0)
    assert (fold[:90] == fold[90:][::-1]).all()
    assert (np.bincount(fold[:90], minlength=4) >= 22).all()
    # An energy that many showers share, with an angle of their own: twins all the same.
    both[:, 0] = 1000.0
    fold = folds(both, np.repeat([1.0, 0.0], 90), seed=0)
    assert (fold[:90] == fold[90:][::-1]).all()


def test_points_of_a_scan_are_dealt_evenly_to_the_folds() -> None:
    energy = np.repeat([256.0, 512.0, 1024.0, 256.0, 512.0, 1024.0], [400, 40, 8, 400, 40, 8])
    labels = np.repeat([1.0, 0.0], 448)
    fold = folds(energy[:, None], labels, seed=0)
    for point in np.unique(energy):
        for label in (0.0, 1.0):
            mine = fold[(energy == point) & (labels == label)]
            counts = np.bincount(mine, minlength=4)
            assert counts.max() - counts.min() <= 2, (point, label)


def test_each_group_has_an_auc_of_its_own() -> None:
    """A generator that is wrong at one energy."""
    rng = np.random.default_rng(6)
    energy = np.repeat([256.0, 4096.0, 65536.0], 200)
    first, second = table(rng, energy), table(rng, energy)
    second["f0"] = second["f0"] + 1.5 * (energy == 4096.0)
    result = boosted_auc(first, second, ["energy"], groups=(energy, energy))
    at = result.per_group
    assert set(at) == {256.0, 4096.0, 65536.0}
    assert at[4096.0][0] > 0.75 and at[4096.0][2] == 200
    for point in (256.0, 65536.0):
        assert abs(at[point][0] - 0.5) < 3.5 * at[point][1]


def test_what_cannot_be_judged_is_refused() -> None:
    rng = np.random.default_rng(7)
    few, more = table(rng, spectrum(rng, 19)), table(rng, spectrum(rng, 50))
    with pytest.raises(DataError, match="expected at least 20"):
        boosted_auc(few, more, ["energy"])
    with pytest.raises(DataError, match="expected the same features"):
        boosted_auc(more, {k: v for k, v in more.items() if k != "f0"}, ["energy"])


# --- showers -------------------------------------------------------------------------------------
def test_features_of_layers_count_cells_and_shares() -> None:
    geometry = load_geometry("ds1-photons")
    cells = np.zeros((2, geometry.n_cells), dtype=np.float32)
    where = geometry.slices[2]
    cells[1, where][:4] = [2.0, 5.0, 1.0, 2.0]
    features = layer_features(cells, geometry)
    name = geometry.layers[2].id
    values = {k: features[f"{k}/{name}"][1] for k in ("filled_cells", "smallest_cell")}
    assert values == {"filled_cells": 4, "smallest_cell": 1.0}
    assert [features[f"share_{k}/{name}"][1] for k in (1, 2, 3)] == pytest.approx([0.5, 0.2, 0.2])
    # A layer, or a shower, without energy has numbers too.
    assert all(values[0] == 0 for values in features.values())
    assert all(np.isfinite(values).all() for values in features.values())


def hotter(showers: Showers, layer: int) -> Showers:
    """A tenth of a layer's energy moved to its largest cell."""
    energies = showers.energies.copy()
    cells = energies[:, showers.geometry.slices[layer]]
    total = cells.sum(axis=1)
    cells *= 0.9
    cells[np.arange(len(cells)), cells.argmax(axis=1)] += 0.1 * total
    return replace(showers, energies=energies)


@pytest.fixture(scope="module")
def geant4() -> list[Showers]:
    """Two independent samples of photons at four energies, 480 and 400 showers."""
    samples = [read_showers(sample_path(f"ds1-photons-{part}")) for part in ("test", "train")]
    points = [2.0**k for k in (10, 12, 13, 15)]
    return [
        s[np.concatenate([np.flatnonzero(s.incident_energy == p)[:n] for p in points])]
        for s, n in zip(samples, (120, 100), strict=True)
    ]


def test_a_largest_cell_gives_showers_away(geant4: list[Showers]) -> None:
    reference, second = geant4
    same = boosted_of(reference, second)
    assert abs(same.auc - 0.5) < 3.5 * same.error and same.n == 400
    assert boosted_of(reference, hotter(second, 2)).auc > same.auc + 0.15


def test_compare_has_the_floor_at_the_same_size_the_curve_and_the_list(
    geant4: list[Showers],
) -> None:
    reference, second = geant4
    effort = replace(FAST, inputs=(), features=15)
    base = summarise(reference, "reference", keep=10_000)
    broken, floor = (
        summarise(s, name, like=base, keep=10_000)
        for s, name in ((hotter(reference, 2)[::2], "broken"), (second, "second"))
    )
    (comparison,) = compare(base, [broken], floor, how=How(effort=effort, device="cpu"))
    figure = comparison.metrics["auc_boosted"]
    assert figure.n == 240 and figure.value > 0.6
    assert figure.floor is not None and abs(figure.floor - 0.5) < 0.1
    assert comparison.details.floor.n == 240
    assert set(comparison.per_energy) == {2.0**k for k in (10, 12, 13, 15)}
    assert all("auc_boosted" in point.metrics for point in comparison.per_energy.values())
    notes = comparison.details.notes.boosted
    assert [entry.n for entry in notes.curve] == [60, 120, 240]
    assert notes.curve[-1].value == figure.value
    assert len(notes.features) == 10
    assert notes.features[0].name in ("share_1/2", "eratio/2")
    assert comparison.details.floor.notes.boosted is None
    plain = to_json(base, [comparison])["generators"]["broken"]
    assert set(plain["metrics"]["auc_boosted"]) - {"floor_error"} == {
        "value",
        "error",
        "floor",
        "n",
    }
    assert plain["details"]["boosted"]["features"][0]["value"] > 0.6
    assert "AUC boosted" in markdown_table([comparison])
