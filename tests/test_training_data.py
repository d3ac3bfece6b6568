"""The table [data] of a recipe: what a training is shown, and what it tells of that; and which of
its showers each phase of a step is given.
"""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import sample_showers, update
from test_training import StopAt, assert_same
from torch import nn

from caloforge.config import Data, Recipe, dump_recipe, load_recipe, parse_recipe
from caloforge.errors import RecipeError, TrainingError
from caloforge.generate import Conditions, generate_showers
from caloforge.models.base import Batch, Phase
from caloforge.models.file import load_model
from caloforge.showers import Showers
from caloforge.training.dataset import TrainingSet, prepare_showers
from caloforge.training.loop import Run
from caloforge.training.optimisers import Player
from caloforge.training.selection import HeldOut
from caloforge.training.train import build, train


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


@pytest.mark.parametrize("name", ["copula", "caloshowergan"])
def test_showers_without_energy_are_refused_before_anything_is_written(
    photons: Showers, name: str, tmp_path: Path
) -> None:
    dark = replace(photons, energies=np.zeros_like(photons.energies))
    with pytest.raises(TrainingError, match=r"None of the \d+ training showers deposits any"):
        train(load_recipe(f"smoke-{name}"), dark, tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


def test_a_file_without_showers_is_called_empty(photons: Showers, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="a file of no showers"):
        train(recipe(), photons[:0], tmp_path, device="cpu")


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


def test_a_training_resumes_when_only_the_words_of_its_recipe_changed(tmp_path) -> None:
    showers, before = sample_showers("ds1-photons"), recipe()
    train(before, showers, tmp_path, device="cpu")
    after = before.model_copy(update={"description": "other words", "source": "another name"})
    resumed = train(after, showers, tmp_path, device="cpu", resume=True)
    assert resumed.step == before.training.steps


# --- which showers a phase is given ----------------------------------------------------------
class Seen:
    """The batches that each phase of a training step was given."""

    def __init__(self, *changes: str) -> None:
        recipe = load_recipe("smoke-dnncalogan", ["training.batch_size=20", *changes])
        showers = sample_showers(recipe.geometry)
        self.model = build(recipe, showers)
        self.batches: dict[str, list[set[tuple[float, ...]]]] = {}
        phases = [replace(p, loss=self._recorded(p)) for p in self.model.phases()]
        setattr(self.model, "phases", lambda: phases)  # noqa: B010  (a method, to mypy)
        self.data = TrainingSet(showers, device=torch.device("cpu"), seed=0)
        score = HeldOut(showers[:30], recipe.training.selection, 0)
        self.run = Run(
            self.model, self.data, score, recipe.training, Path("unused"), {}, nullcontext
        )

    def _recorded(self, phase: Phase) -> Any:
        def loss(batch: Batch, rng: torch.Generator) -> Any:
            rows = {tuple(row.tolist()) for row in batch.condition}
            self.batches.setdefault(phase.name, []).append(rows)
            return phase.loss(batch, rng)

        return loss

    def step(self) -> dict[str, list[set[tuple[float, ...]]]]:
        self.batches.clear()
        self.run.advance()
        return dict(self.batches)


def test_the_last_batch_is_that_of_the_last_critic() -> None:
    seen = Seen("model.generator_conditions=last-batch")
    for _ in range(3):
        batches = seen.step()
        assert batches["generator"] == [batches["critic2"][-1]]


def test_the_last_chunk_holds_the_batches_of_this_step_alone() -> None:
    seen = Seen("model.generator_conditions=last-chunk")
    for _ in range(5):
        batches = seen.step()
        chunk = set().union(*batches["critic1"], *batches["critic2"])
        (chosen,) = batches["generator"]
        assert len(chunk) == 4 * 20
        assert len(chosen) == 20  # none twice
        assert chosen <= chunk
        assert chosen != batches["critic2"][-1]


def test_the_whole_set_is_drawn_from_without_moving_the_epoch() -> None:
    seen = Seen("model.generator_conditions=whole-set")
    outside, position = 0, 0
    for _ in range(5):
        batches = seen.step()
        chunk = set().union(*batches["critic1"], *batches["critic2"])
        outside += len(batches["generator"][0] - chunk)
        position += 4 * 20
        assert seen.data.cursor == position
    assert outside > 60


def test_a_phase_that_wants_what_no_one_drew_is_an_error() -> None:
    seen = Seen()
    seen.run.players = seen.run.players[-1:]
    with pytest.raises(TrainingError, match="wants the showers of the players before"):
        seen.step()


@pytest.mark.parametrize(
    "change",
    [
        "model.generator_conditions=last-batch",
        "model.generator_conditions=whole-set",
        "model.training=reversal",
    ],
)
def test_every_mode_resumes_exactly(change: str, tmp_path) -> None:
    shorter = ["training.steps=14", "training.log_every=7", "training.selection.every=100"]
    recipe = load_recipe("smoke-dnncalogan", [*shorter, change])
    showers = sample_showers(recipe.geometry)[::2]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(recipe, showers, whole, device="cpu")
    train(recipe, showers, cut, device="cpu", observer=StopAt(7))
    train(recipe, showers, cut, device="cpu", resume=True)
    assert_same(whole, cut)


def test_each_parameter_has_its_own_learning_rate() -> None:
    weights = [nn.Parameter(torch.zeros(3)) for _ in range(4)]
    phase = Phase("all", weights, lambda b, r: (torch.zeros(()), {}), rates=(0.1, 0.1, 0.5, 0.1))
    player = Player(phase, 0.0)
    update(player, torch.stack([w.sum() for w in weights]).sum())
    moved = [round(-float(w[0].detach()), 4) for w in weights]  # Adam's first step is the rate
    assert moved == [0.1, 0.1, 0.5, 0.1]
    again = Player(phase, 0.0)
    again.load(player.state())
    assert again.state().keys() == player.state().keys()
    assert [g["lr"] for g in again.optimiser.param_groups] == [0.1, 0.5, 0.1]
