"""Traps: samples that look good at first sight, and what must catch each of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_evaluation_compare import toy

from caloforge.data import read_showers, sample_path
from caloforge.errors import DataError
from caloforge.judge.compare import compare
from caloforge.judge.comparison import Comparison
from caloforge.judge.merit import judge
from caloforge.judge.pairs import How
from caloforge.judge.summary import summarise
from caloforge.metrics import boosted, chi2, memorising, resolution, separation, table, wasserstein
from caloforge.metrics.boosted import boosted_of
from caloforge.metrics.classifier import classify
from caloforge.metrics.effort import FAST
from caloforge.metrics.protocol import PUBLISHED
from caloforge.metrics.twins import are_twins, split, units_of
from caloforge.showers import Showers

EFFORT = replace(FAST, inputs=(), neighbours=600, features=0)
ENERGIES = 2.0 ** np.arange(8, 16)
PROTOCOL = replace(
    FAST.protocol, hidden=(64, 64), repeats=4, epochs=40, learning_rate=3e-3, batch=50
)


@pytest.fixture(scope="module")
def photons() -> list[Showers]:
    """Four independent samples of photons with the same 800 conditions: reference, generator,
    training, floor.
    """
    test, train = (read_showers(sample_path(f"ds1-photons-{p}")) for p in ("test", "train"))
    parts = []
    for showers, k in ((test, 0), (train, 0), (train, 1), (train, 2)):
        rows = [
            np.flatnonzero(showers.incident_energy == e)[100 * k : 100 * k + 100] for e in ENERGIES
        ]
        parts.append(showers[np.concatenate(rows)])
    return parts


def judged(
    parts: list[Showers], generated: Showers, *computes: object, train: bool = False
) -> Comparison:
    """The sample judged with a floor, by the metrics of these functions alone."""
    chosen = [m for m in table.METRICS if m.compute in computes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(table, "METRICS", chosen)
        base = summarise(parts[0], "reference", keep=EFFORT.keep)
        sample, training, floor = (
            summarise(s, name, like=base, keep=EFFORT.keep)
            for s, name in ((generated, "trap"), (parts[2], "train"), (parts[3], "floor"))
        )
        (comparison,) = compare(
            base,
            [sample],
            floor,
            how=How(effort=EFFORT, device="cpu"),
            train=training if train else None,
        )
    return comparison


def level(found: Comparison, key: str) -> str:
    value = found.sized[key]
    return judge(key, value.value, value.joint_error, value.floor)[0]


# --- scale, cells, conditions --------------------------------------------------------------------
CHEAP = (chi2.measure, separation.measure, wasserstein.measure, resolution.measure)


def test_geant4_itself_is_at_its_floor(photons: list[Showers]) -> None:
    comparison = judged(photons, photons[1], *CHEAP, memorising.copies, train=True)
    assert level(comparison, "response_bias") == "good"
    assert level(comparison, "copies") == "good"
    assert level(comparison, "chi2_ndf_energy") == "good"
    assert not comparison.details.warnings
    far = [k for k in comparison.metrics if level(comparison, k) in ("off", "far")]
    assert len(far) <= 0.02 * len(comparison.metrics), far


@pytest.mark.parametrize("scale", [0.99, 1.01])
def test_a_scale_wrong_by_one_percent(photons: list[Showers], scale: float) -> None:
    """The bias of the response is measured in its errors, energy by energy."""
    wrong = replace(photons[1], energies=scale * photons[1].energies)
    comparison = judged(photons, wrong, *CHEAP)
    value = comparison.metrics["response_bias"]
    assert value.floor is not None and value.value > 2 * value.floor
    assert level(comparison, "response_bias") in ("near", "off", "far")
    highest = comparison.per_energy[ENERGIES[-1]].metrics["response_bias"]
    assert np.sign(highest.value) == np.sign(scale - 1) and abs(highest.value) > 4


def test_a_dead_cell_is_named(photons: list[Showers]) -> None:
    cell = int(photons[1].energies.mean(axis=0).argmax())
    energies = photons[1].energies.copy()
    energies[:, cell] = 0
    comparison = judged(photons, replace(photons[1], energies=energies), *CHEAP)
    (told,) = [text for text in comparison.details.warnings if "Dead cells" in text]
    layer = photons[0].geometry.layers[int(photons[0].geometry.layer_of_cell[cell])]
    assert f"of layer {layer.id};" in told
    assert level(comparison, "response_bias") in ("near", "off", "far")


def test_energies_shuffled(photons: list[Showers]) -> None:
    order = np.random.default_rng(0).permutation(len(photons[1]))
    wrong = replace(photons[1], conditions=photons[1].conditions[order])
    comparison = judged(photons, wrong, *CHEAP)
    assert level(comparison, "separation_with_flow/response") == "far"
    assert level(comparison, "response_bias") in ("near", "off", "far")


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("calogan-eplus", ("theta", "phi")),
        ("calogan-eplus", ("x0", "y0")),
        ("atlas-cells", ("impact_eta",)),
        ("atlas-cells", ("alignment_phi",)),
        ("lhcb", ("x", "y")),
    ],
)
def test_conditions_shuffled(name: str, columns: tuple[str, ...]) -> None:
    """Angles, impact points and alignments: boosted trees see conditions and showers together."""
    parts = [read_showers(sample_path(f"{name}-{p}")) for p in ("train", "test")]
    first = Showers.concatenate(parts)
    even, odd = first[0::2], first[1::2]
    order = np.random.default_rng(0).permutation(len(odd))
    conditions = odd.conditions.copy()
    for column in columns:
        k = odd.geometry.column(column)
        conditions[:, k] = conditions[order, k]
    right, wrong = (
        boosted_of(even, replace(odd, conditions=c)) for c in (odd.conditions, conditions)
    )
    assert right.auc < 0.5 + 3 * right.error
    assert wrong.auc > 0.5 + 4 * wrong.error


def test_other_energies_are_told(photons: list[Showers]) -> None:
    low = photons[1][photons[1].incident_energy < 3000]
    comparison = judged(photons, low, *CHEAP)
    assert any("different mixtures" in text for text in comparison.details.warnings)
    assert set(comparison.details.chi2_left_out) == set(ENERGIES[4:].tolist())


def test_half_the_showers_of_a_perfect_sample_are_at_their_floor(photons: list[Showers]) -> None:
    comparison = judged(photons, photons[1][::2], *CHEAP)
    assert comparison.details.floor is not None and comparison.details.floor.n == 400
    assert level(comparison, "response_bias") == "good"
    assert level(comparison, "separation_with_flow/voxel_energy") in ("good", "near")


def test_cells_in_gev_are_told(photons: list[Showers]) -> None:
    wrong = replace(photons[1], energies=1e-3 * photons[1].energies)
    comparison = judged(photons, wrong, *CHEAP)
    assert any("another unit than MeV" in text for text in comparison.details.warnings)
    assert level(comparison, "separation_with_flow/response") == "far"
    with pytest.raises(DataError, match="expected cell energies in MeV"):
        low = photons[1][photons[1].incident_energy < 600]
        summarise(replace(low, energies=1e-6 * low.energies))


# --- copies --------------------------------------------------------------------------------------
@pytest.mark.parametrize("share", [1.0, 0.3, 0.2, 0.05])
def test_copies_of_training_showers(photons: list[Showers], share: float) -> None:
    """Also among showers of a poor generator, which are far from all others."""
    blurred = photons[1].energies * np.random.default_rng(0).gamma(2, 0.5, (800, 368))
    copied = np.random.default_rng(1).random(800) < share
    energies = np.where(copied[:, None], photons[2].energies, blurred).astype(np.float32)
    trap = replace(photons[2], energies=energies)
    comparison = judged(photons, trap, memorising.copies, train=True)
    value = comparison.metrics["copies"]
    assert value.value == pytest.approx(share, abs=0.03)
    assert level(comparison, "copies") in ("off", "far")
    exact = copied.sum()
    assert any(
        f"Copies: {exact} of the 800 generated showers" in text
        for text in comparison.details.warnings
    )
    if share <= 0.2:
        # What hid them: the mean closeness is below that of Geant4.
        assert level(comparison, "memorising") == "good"


def test_copies_that_are_not_exact(photons: list[Showers]) -> None:
    noise = np.random.default_rng(2).normal(1, 0.01, (800, 368))
    copied = np.arange(800) % 5 == 0
    energies = np.where(copied[:, None], photons[2].energies * noise, photons[1].energies)
    comparison = judged(
        photons, replace(photons[2], energies=energies), memorising.copies, train=True
    )
    assert comparison.metrics["copies"].value == pytest.approx(0.2, abs=0.04)
    assert level(comparison, "copies") in ("off", "far")
    assert not any("Copies" in text for text in comparison.details.warnings)


def test_duplicates_inside_a_file(photons: list[Showers]) -> None:
    rows = np.arange(800)
    rows[::10] = rows[1::10]
    comparison = judged(photons, photons[1][rows], *CHEAP)
    assert comparison.details.warnings == (
        "Duplicates: 80 of the 800 showers of 'trap' repeat another one of the same file exactly.",
    )


def test_few_training_showers_leave_out_copies_alone(photons: list[Showers]) -> None:
    """They are compared energy by energy, where a scan with many points may have few."""
    parts = [photons[0], photons[1], photons[2][::10], photons[3]]
    comparison = judged(parts, photons[1], *CHEAP, memorising.copies, train=True)
    assert "chi2_ndf_energy" in comparison.metrics and "copies" not in comparison.metrics
    (text,) = comparison.details.warnings
    assert text.startswith("copies left out: No slice of incident energy has 20 showers")


def test_without_an_effort_no_copies_are_looked_for(photons: list[Showers]) -> None:
    """Of no shower the cells are kept, so that none can be compared."""
    base = summarise(photons[0])
    sample, training = (summarise(s, like=base) for s in photons[1:3])
    (found,) = compare(base, [sample], how=How(effort=None), train=training)
    assert "chi2_ndf_energy" in found.metrics and not found.details.warnings


# --- twins ---------------------------------------------------------------------------------------
def test_twins_stay_in_one_part_of_a_split() -> None:
    rng = np.random.default_rng(3)
    conditions = rng.random((500, 2))
    both, labels = np.concatenate([conditions, conditions]), np.repeat([1.0, 0.0], 500)
    units = units_of(both, labels)
    assert units.twins
    parts = split(units, (0.6, 0.2, 0.2), rng)
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))
    for part, size in zip(parts, (600, 200, 200), strict=True):
        assert len(part) == pytest.approx(size, abs=8)
        assert set(part % 500) == set(part[part < 500]) == set(part[part >= 500] - 500)
    assert not units_of(rng.random((1000, 2)), labels).twins


def test_conditions_that_agree_by_chance_make_no_twins() -> None:
    """Of a log-uniform spectrum some energies of 20 000 always agree to a millionth."""
    rng = np.random.default_rng(8)
    first, second = (np.exp(rng.uniform(7, 14, (20_000, 1))) for _ in range(2))
    labels = np.repeat([1.0, 0.0], 20_000)
    assert units_of(np.concatenate([first, second]), labels).twins
    assert not are_twins(first, second)
    assert are_twins(first, np.concatenate([first[:1000], second[1000:]]))
    scan = np.repeat(ENERGIES[:, None], 100, axis=0)
    assert not are_twins(scan, scan)


def test_twins_are_told() -> None:
    parts = [read_showers(sample_path(f"lhcb-{p}")) for p in ("test", "train")]
    base = summarise(parts[0], "reference")
    same = replace(parts[1][: len(parts[0])], conditions=parts[0].conditions)
    told = []
    for showers in (same, parts[1][: len(parts[0])]):
        (found,) = compare(base, [summarise(showers, like=base)], how=How(effort=None))
        told.append([text for text in found.details.warnings if "exactly the conditions" in text])
    assert [len(texts) for texts in told] == [1, 0]


def test_twins_do_not_make_the_auc_of_the_networks_small() -> None:
    """Equal showers with the same conditions: a network that sees twins apart errs on them."""
    conditions = np.random.default_rng(4).normal(size=(300, 4))
    draw = np.random.default_rng(5)
    features = [np.column_stack([conditions, draw.normal(size=300)]) for _ in range(2)]
    auc = {
        grouped: classify(
            *features, replace(PROTOCOL, grouped=grouped), conditions=(conditions, conditions)
        ).auc
        for grouped in (True, False)
    }
    assert auc[True] == pytest.approx(0.5, abs=0.06)
    assert auc[False] < auc[True] - 0.04
    assert FAST.protocol.grouped and not PUBLISHED.grouped


def test_twins_of_the_same_distribution_have_an_auc_of_one_half() -> None:
    first = toy(600, seed=1, spectrum=True)
    second = toy(600, seed=2, spectrum=True)
    factor = (first.incident_energy / second.incident_energy)[:, None]
    second = replace(second, energies=second.energies * factor, conditions=first.conditions)
    result = boosted_of(first, second)
    assert result.auc == pytest.approx(0.5, abs=4 * result.error)
    assert boosted.FOLDS == 4
