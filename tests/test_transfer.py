"""Transfer: trainings that begin from a trained generator, with parts that keep their weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import sample_showers
from test_training import StopAt, assert_same, final_state

from caloforge.config import Recipe, load_recipe
from caloforge.errors import ModelError, TrainingError
from caloforge.models.base import Phase
from caloforge.models.file import load_model
from caloforge.showers import Showers
from caloforge.training.train import build, train
from caloforge.training.transfer import freeze, load_start, still, trainable

SHORT = ("training.steps=6", "training.log_every=3", "training.selection.every=100")


def recipe(*changes: str, model: str = "dnncalogan") -> Recipe:
    return load_recipe(f"smoke-{model}", [*SHORT, *changes])


def few(model: str = "dnncalogan") -> Showers:
    return sample_showers(recipe(model=model).geometry)[::3]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the newest checkpoint: model weights, critics too."""
    state = final_state(folder)
    return {k.split("/model.", 1)[1]: v for k, v in state.items() if "/model." in k}


def begun(folder: Path) -> dict[str, torch.Tensor]:
    return load_model(folder / "model.safetensors").model.generator_state()


def run(out: Path, start: Path, *changes: str, model: str = "dnncalogan", **more: Any) -> None:
    train(
        recipe(*changes, model=model),
        few(model),
        out,
        device="cpu",
        init=start / "model.safetensors",
        **more,
    )


def test_a_training_begins_with_the_weights_of_the_generator(smoke, tmp_path: Path) -> None:
    """With a learning rate that moves nothing, the generator is the one begun from."""
    start = smoke("dnncalogan")
    run(tmp_path, start, "model.generator_optimiser={'name':'adam','lr':1e-30}")
    for key, value in begun(start).items():
        assert torch.equal(value, weights(tmp_path)[key]), key
    about = load_model(tmp_path / "model.safetensors").about
    told = about["trained_on"]["init"]
    assert told.startswith("smoke-dnncalogan, step ")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert f"- init: {told}" in text
    assert "--init MODEL" in text


@pytest.mark.parametrize("part", ["generator", "generator.0", "critics.1"])
def test_frozen_weights_are_bit_identical_and_all_others_move(
    part: str, smoke, tmp_path: Path
) -> None:
    start = smoke("dnncalogan")
    run(tmp_path / "run", start, f"training.freeze=('{part}',)")
    run(tmp_path / "still", start, f"training.freeze=('{part}',)", "training.steps=1")
    before, after = begun(start), weights(tmp_path / "run")
    # Critics begin afresh: where they were is seen after one step.
    first = weights(tmp_path / "still")
    for key, value in after.items():
        if key.startswith("transform") or key.endswith("network.4.bias"):
            continue  # a constant added to a critic's verdict has no gradient
        frozen = key.startswith(f"{part}.")
        origin = first.get(key) if key.startswith("critics") else before[key]
        assert torch.equal(value, origin) == frozen, key


def test_the_critics_of_a_generator_may_be_others(smoke, tmp_path: Path) -> None:
    """A critic on chosen observables is attached to a generator that had another."""
    critics = "model.critics=[{'hidden':[8],'observables':['layers','widths']}]"
    run(tmp_path, smoke("dnncalogan"), critics)
    assert weights(tmp_path)["critics.0.network.0.weight"].shape[0] == 8
    assert not any(key.startswith("critics.1") for key in weights(tmp_path))


def test_the_transform_is_that_of_the_generator(smoke, tmp_path: Path) -> None:
    """Fitted to other showers it would be another; the generator's weights belong to its own."""
    source, balanced = tmp_path / "source", "transform={'name':'balanced-fraction'}"
    train(recipe(balanced), few(), source, device="cpu")
    late = few()[few().incident_energy > 30_000.0]
    train(recipe(balanced), late, tmp_path / "fresh", device="cpu")
    begin = source / "model.safetensors"
    train(recipe(balanced), late, tmp_path / "begun", device="cpu", init=begin)
    scales = [weights(tmp_path / n)["transform.cell_scale"] for n in ("source", "begun", "fresh")]
    assert torch.equal(scales[0], scales[1])
    assert not torch.equal(scales[0], scales[2])


def test_a_transfer_is_resumed_exactly_and_only_from_the_same(smoke, tmp_path: Path) -> None:
    start, frozen = smoke("dnncalogan"), "training.freeze=('generator.0','critics.0')"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(whole, start, frozen)
    run(cut, start, frozen, observer=StopAt(3))
    with pytest.raises(TrainingError, match=r"another training\.freeze"):
        run(cut, start, resume=True)
    with pytest.raises(TrainingError, match="'init': 'smoke-dnncalogan, step"):
        run(cut, whole, frozen, resume=True)
    run(cut, start, frozen, resume=True)
    assert_same(whole, cut)


def test_batch_statistics_of_a_frozen_part_stand_still(smoke, tmp_path: Path) -> None:
    start = smoke("caloshowergan")
    run(tmp_path / "a", start, "training.freeze=('generator',)", model="caloshowergan")
    for key, value in begun(start).items():
        assert torch.equal(value, weights(tmp_path / "a")[key]), key
    run(tmp_path / "b", start, "training.selection.every=2", model="caloshowergan")
    moved = [k for k, v in begun(start).items() if not torch.equal(v, weights(tmp_path / "b")[k])]
    assert any("running" in key for key in moved)


def test_a_generator_is_given_by_folder_or_name_as_everywhere(smoke, tmp_path: Path) -> None:
    start = smoke("dnncalogan")
    train(recipe(), few(), tmp_path, device="cpu", init=start)
    about = load_model(tmp_path / "model.safetensors").about
    assert about["trained_on"]["init"] == load_start(start / "model.safetensors").name
    with pytest.raises(ModelError, match="did you mean 'atlas-gan'"):
        train(recipe(), few(), tmp_path / "other", device="cpu", init="atlas-gann")


def test_the_second_stage_of_lhcb_begins_with_another_critic() -> None:
    """Its critic has spectral norms and sees statistics; the generator is the same."""
    chosen, start = load_recipe("lhcb-sagan-refined"), load_start("lhcb-sagan-cells-no-norm")
    model = build(chosen, sample_showers("lhcb"), start)
    assert model.hyper.thresholds != start.file.model.hyper.thresholds
    assert model.generator.training


def test_a_model_split_in_energy_takes_over_all_its_parts(smoke, tmp_path: Path) -> None:
    start, name = smoke("caloshowergan-split"), "caloshowergan-split"
    run(tmp_path, start, "training.freeze=('parts.0.generator','parts.1.generator')", model=name)
    for key, value in begun(start).items():
        assert torch.equal(value, begun(tmp_path)[key]), key


# --- errors ----------------------------------------------------------------------------------
def test_an_unknown_part_is_named_with_the_nearest(smoke, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no part 'generatr'.*did you mean 'generator'"):
        run(tmp_path, smoke("dnncalogan"), "training.freeze=('generatr',)")
    with pytest.raises(ModelError, match=r"no part 'zzz'.*valid are: critics, generator"):
        run(tmp_path, smoke("dnncalogan"), "training.freeze=('zzz',)")
    with pytest.raises(ModelError, match="no part 'transform' with weights"):
        run(tmp_path, smoke("dnncalogan"), "training.freeze=('transform',)")


def test_nothing_left_to_train_is_an_error(smoke, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="leaves nothing to train"):
        run(tmp_path, smoke("dnncalogan"), "training.freeze=('generator','critics')")


def test_frozen_without_a_beginning_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="give --init MODEL"):
        train(recipe("training.freeze=('generator',)"), few(), tmp_path, device="cpu")


def test_another_geometry_is_an_error(smoke, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"is of 'ds1-photons', the showers are of 'atlas-cel"):
        run(tmp_path, smoke("caloshowergan"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("model.latent=5", r"generator\.0\.weight has the shape"),
        ("model.generator=[32,32,32,32,32,32]", r"generator\.\d+\.\w+ has the shape"),
        ("transform={'name':'balanced-fraction'}", "transform.name = 'incident-fraction'"),
        ("model.output_activation=softplus", r"model\.output_activation = 'relu' \(the rec.*same"),
    ],
)
def test_another_generator_is_an_error(change: str, named: str, smoke, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=named):
        run(tmp_path, smoke("dnncalogan"), change)


def test_another_model_is_an_error(smoke, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"model = 'caloshowergan'.* 'flow-matching'"):
        run(tmp_path, smoke("caloshowergan"), model="flow-matching")


# --- parts -----------------------------------------------------------------------------------
def test_a_phase_keeps_the_rates_of_the_parameters_left() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    freeze(model, ["0"])
    parameters = list(model.parameters())
    phase = Phase(
        "all", parameters, lambda b, r: (torch.zeros(()), {}), rates=(1.0, 2.0, 3.0, 4.0)
    )
    left = trainable(phase)
    assert left is not None
    assert left.rates == (3.0, 4.0)
    assert [id(p) for p in left.parameters] == [id(p) for p in parameters[2:]]
    assert still(model) == [model[0]]
    freeze(model, ["1"])
    assert trainable(phase) is None
    assert still(model) == [model, model[0], model[1]]
