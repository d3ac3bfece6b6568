"""The table [data] of a recipe: what a training is shown, and what it tells of that."""

import numpy as np
import pytest
from conftest import sample_showers

from caloforge.config import Data, Recipe, dump_recipe, load_recipe, parse_recipe
from caloforge.errors import RecipeError, TrainingError
from caloforge.generate import Conditions, generate_showers
from caloforge.models.file import load_model
from caloforge.showers import Showers
from caloforge.training import train
from caloforge.training.dataset import prepare_showers


def recipe(**data: object) -> Recipe:
    plain = load_recipe("smoke-caloshowergan").model_dump()
    settings = {**plain["training"], "steps": 2}
    return parse_recipe({**plain, "data": data, "training": settings})


def points(showers: Showers) -> dict[float, int]:
    energies, counts = np.unique(showers.incident_energy, return_counts=True)
    return dict(zip(energies.tolist(), counts.tolist(), strict=True))


def test_left_out_energies_are_gone_and_all_else_stays(photons: Showers) -> None:
    before = points(photons)
    left = prepare_showers(photons, recipe(leave_out=[4096.0, 256]).data, 0)
    assert points(left) == {e: n for e, n in before.items() if e not in (4096.0, 256.0)}
    there = np.isin(photons.incident_energy, list(points(left)))
    assert np.array_equal(left.energies, photons.energies[there])


def test_at_most_keeps_a_seeded_choice_in_the_order_of_the_file(photons: Showers) -> None:
    data = recipe(at_most=[{"energy": 1024.0, "showers": 7}, {"energy": 512, "showers": 10**6}])
    first, again, other = (prepare_showers(photons, data.data, seed) for seed in (3, 3, 4))
    assert points(first) == {**points(photons), 1024.0: 7}
    assert np.array_equal(first.energies, again.energies)
    assert points(other) == points(first)
    assert not np.array_equal(other.energies, first.energies)
    rows = {row.tobytes(): number for number, row in enumerate(photons.energies)}
    order = [rows[row.tobytes()] for row in first.energies if row.any()]
    assert order == sorted(order)


def test_energies_rounded_to_32_bits_are_recognised(photons: Showers) -> None:
    odd = Showers(
        photons.energies[:40],
        np.full((40, 1), np.float32(16384.1), dtype=np.float64),
        photons.geometry,
    )
    with pytest.raises(TrainingError, match="leaves 0 of 40 showers"):
        prepare_showers(odd, Data(leave_out=(16384.1,)), 0)


def test_an_energy_that_is_not_there_is_an_error_with_the_nearest(photons: Showers) -> None:
    for table in ({"leave_out": [4000.0]}, {"at_most": [{"energy": 4000.0, "showers": 3}]}):
        with pytest.raises(TrainingError, match=r"4000 MeV.*nearest is 4096 MeV"):
            prepare_showers(photons, recipe(**table).data, 0)


@pytest.mark.parametrize(
    ("table", "named"),
    [
        ({"leaveout": [1.0]}, "did you mean 'leave_out'"),
        ({"leave_out": 5.0}, "data.leave_out"),
        ({"leave_out": ["a"]}, "data.leave_out.0"),
        ({"at_most": [{"energy": 1.0, "shower": 3}]}, "did you mean 'showers'"),
        ({"at_most": [{"energy": 1.0, "showers": 0}]}, "data.at_most.0.showers"),
        ({"at_most": [{"energy": -1.0, "showers": 1}]}, "data.at_most.0.energy"),
        ({"at_most": [{"energy": 1.0}]}, "data.at_most.0.showers"),
    ],
)
def test_a_wrong_key_or_value_is_named(table: dict, named: str) -> None:
    with pytest.raises(RecipeError, match=named):
        recipe(**table)


def test_the_table_survives_a_recipe_file_and_set(tmp_path) -> None:
    wanted = recipe(leave_out=[4096.0], at_most=[{"energy": 512.0, "showers": 9}])
    path = tmp_path / "recipe.toml"
    path.write_text(dump_recipe(wanted), encoding="utf-8")
    assert load_recipe(path) == wanted
    assert load_recipe(path, ["data.leave_out=[512.0]"]).data.leave_out == (512.0,)


def test_a_training_tells_what_it_was_not_shown_and_generates_there(tmp_path) -> None:
    showers = sample_showers("ds1-photons")
    chosen = recipe(leave_out=[4096.0], at_most=[{"energy": 512.0, "showers": 9}])
    train(chosen, showers, tmp_path, device="cpu")
    loaded = load_model(tmp_path / "model.safetensors")
    told = loaded.about["trained_on"]
    before = points(showers)
    assert told["showers"] + told["held_out"] == len(showers) - before[4096.0] - before[512.0] + 9
    assert (told["left_out"], told["at_most"]) == ("4096 MeV", "9 showers at 512 MeV")
    assert "- left_out: 4096 MeV" in (tmp_path / "README.md").read_text(encoding="utf-8")
    # Energies between trained ones are no extrapolation.
    conditions = Conditions(loaded.model.geometry, np.array([[4096.0], [3000.0]]))
    assert generate_showers(loaded, conditions, seed=1).energies.any()


def test_the_trained_range_is_that_of_the_showers_shown(tmp_path) -> None:
    showers = sample_showers("ds1-photons")
    highest = float(showers.incident_energy.max())
    train(recipe(leave_out=[highest]), showers, tmp_path, device="cpu")
    high = load_model(tmp_path / "model.safetensors").condition_range["energy"][1]
    assert high == sorted(points(showers))[-2]


def test_a_resumed_training_must_be_shown_the_same(tmp_path) -> None:
    showers = sample_showers("ds1-photons")
    train(recipe(leave_out=[4096.0]), showers, tmp_path, device="cpu")
    with pytest.raises(TrainingError, match=r"begun with another data\.leave_out"):
        train(recipe(), showers, tmp_path, device="cpu", resume=True)
