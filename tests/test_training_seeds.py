"""Several seeds of one recipe: side by side or in turn, the same generators."""

from pathlib import Path

import pytest
from conftest import sample_showers
from safetensors.torch import load_file
from test_training import assert_same

from caloforge.cluster import open_executor
from caloforge.config import load_recipe
from caloforge.data import sample_path
from caloforge.errors import TrainingError
from caloforge.training.several import train_seeds
from caloforge.training.train import train, with_settings

SHORT = (
    "training.steps=4",
    "training.selection.every=2",
    "training.checkpoint_every=2",
    "training.log_every=2",
)
SAMPLE = Path(sample_path("ds1-photons-train"))


def test_seeds_in_turn_and_side_by_side_are_single_trainings(tmp_path: Path) -> None:
    recipe = load_recipe("smoke-flow-matching", SHORT)
    done = list(train_seeds(recipe, SAMPLE, tmp_path / "turn", 2, device="cpu"))
    assert [run.out.name for run, _ in done] == ["seed-0", "seed-1"]
    with open_executor(1) as executor:
        list(train_seeds(recipe, SAMPLE, tmp_path / "side", 2, device="cpu", executor=executor))
    train(
        with_settings(recipe, seed=1),
        sample_showers("ds1-photons"),
        tmp_path / "alone",
        device="cpu",
    )
    assert_same(tmp_path / "turn" / "seed-1", tmp_path / "alone")
    assert_same(tmp_path / "turn" / "seed-0", tmp_path / "side" / "seed-0")
    first, second = (
        load_file(tmp_path / "turn" / f"seed-{k}" / "model.safetensors") for k in range(2)
    )
    assert any(not first[key].equal(second[key]) for key in first)


def test_seeds_are_continued_when_asked(tmp_path: Path) -> None:
    recipe = load_recipe("smoke-flow-matching", SHORT)
    list(train_seeds(recipe, SAMPLE, tmp_path / "a", 1, device="cpu"))
    with pytest.raises(TrainingError, match="--resume"):
        list(train_seeds(recipe, SAMPLE, tmp_path / "a", 2, device="cpu"))
    longer = with_settings(recipe, steps=6)
    ((_, outcome),) = train_seeds(longer, SAMPLE, tmp_path / "a", 1, device="cpu", resume=True)
    assert outcome.step == 6
    list(train_seeds(longer, SAMPLE, tmp_path / "b", 1, device="cpu"))
    assert_same(tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-0")


def test_no_seed_is_refused(tmp_path: Path) -> None:
    recipe = load_recipe("smoke-flow-matching", SHORT)
    with pytest.raises(TrainingError, match="--seeds 0"):
        list(train_seeds(recipe, SAMPLE, tmp_path, 0))
