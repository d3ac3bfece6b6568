"""The contract of `models/base.py`, for every model: a new one is tested by its smoke recipe."""

import builtins
import io
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import learners, sample_showers
from safetensors import safe_open

from caloforge.config import load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ExportError
from caloforge.export.lwtnn import export_lwtnn
from caloforge.export.onnx import export_onnx
from caloforge.generate import Conditions, generate_showers
from caloforge.models import MODELS, Refusal, ShowerModel, make_model, parameter_count
from caloforge.models.base import Batch, Fit, Phase
from caloforge.models.file import ModelFile, load_model, save_model
from caloforge.noise import normals
from caloforge.training.train import build

every_model = pytest.mark.parametrize("name", sorted(MODELS))
every_learner = pytest.mark.parametrize("name", learners())
every_fitted_model = pytest.mark.parametrize("name", sorted(set(MODELS) - set(learners())))


@pytest.fixture(autouse=True)
def nonsense_is_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models of a few steps make showers of more energy than their particle has."""
    monkeypatch.setattr("caloforge.export.parity.NONSENSE_SHARE", 1.0)


@pytest.fixture
def model(name: str) -> ShowerModel:
    """Fresh, seeded, in training mode."""
    recipe = load_recipe(f"smoke-{name}")
    return build(recipe, sample_showers(recipe.geometry))


@pytest.fixture
def trained(name: str, smoke) -> ModelFile:
    return load_model(smoke(name) / "model.safetensors")


def rows(geometry: str, count: int) -> torch.Tensor:
    conditions = sample_showers(geometry).conditions
    chosen = np.random.default_rng(1).permutation(len(conditions))[
        np.arange(count) % len(conditions)
    ]
    return torch.from_numpy(conditions[chosen]).float()


def toy_batch(geometry: str, count: int = 256) -> Batch:
    showers = sample_showers(geometry)
    chosen = np.random.default_rng(2).permutation(len(showers))[:count]  # or all there are
    return Batch(
        torch.from_numpy(showers.energies[chosen]),
        torch.from_numpy(showers.conditions[chosen]).float(),
    )


def players(model: ShowerModel, batch: Batch) -> list[Phase]:
    """The phases of a model that is fitted already."""
    turns = model.phases()
    for turn in turns:
        if isinstance(turn, Fit):
            turn.fit([batch], torch.Generator().manual_seed(0))
    return [turn for turn in turns if isinstance(turn, Phase)]


@every_model
def test_showers_have_the_right_shape_and_are_energies(trained: ModelFile) -> None:
    model = trained.model
    condition = rows(model.geometry.name, 64)
    noise = torch.from_numpy(normals(0, 0, 64, model.noise_size))
    for scale in (1.0, 30.0):  # noise that never occurs must not make NaN either
        with torch.inference_mode():
            energies = model.sample(condition, scale * noise)
        assert energies.shape == (64, model.geometry.n_cells)
        assert energies.dtype == torch.float32
        assert torch.isfinite(energies).all()
        assert (energies >= 0).all()
        assert energies.sum() > 0


@every_model
def test_a_shower_depends_on_its_condition_and_noise_alone(trained: ModelFile) -> None:
    model = trained.model
    condition = rows(model.geometry.name, 50)
    noise = torch.from_numpy(normals(3, 0, 50, model.noise_size))
    with torch.inference_mode():
        together = model.sample(condition, noise)
        again = model.sample(condition, noise)
        alone = torch.cat(
            [model.sample(condition[k : k + 1], noise[k : k + 1]) for k in range(50)]
        )
        turned = model.sample(condition.flip(0), noise.flip(0)).flip(0)
        other = model.sample(condition, -noise)
    assert torch.equal(together, again)
    tolerance = 1e-5 * model.incident(condition)
    assert ((alone - together).abs() <= tolerance).all()
    assert ((turned - together).abs() <= tolerance).all()
    assert not torch.equal(other, together)


@every_model
def test_saved_and_loaded_is_the_same_generator(trained: ModelFile, tmp_path: Path) -> None:
    path = tmp_path / "again.safetensors"
    about = {"condition_range": trained.about["condition_range"]}
    save_model(path, trained.model, about)
    again = load_model(path)
    conditions = Conditions(trained.model.geometry, rows(trained.model.geometry.name, 40).numpy())
    first = generate_showers(trained, conditions, seed=5, extrapolate=True)
    second = generate_showers(again, conditions, seed=5, extrapolate=True)
    assert np.array_equal(first.energies, second.energies)
    assert again.about["hyper"] == trained.model.hyper.to_dict()


@every_model
def test_the_file_holds_the_generator_and_nothing_else(trained: ModelFile, smoke, name) -> None:
    with safe_open(smoke(name) / "model.safetensors", framework="pt") as file:
        keys = set(file.keys())
    assert keys == set(trained.model.generator_state())
    for part in trained.model.training_only:
        assert not [key for key in keys if part in key.split(".")]
        assert [key for key in trained.model.state_dict() if part in key.split(".")]


@every_learner
def test_half_precision_files_are_smaller_and_nearly_the_same(
    trained: ModelFile, tmp_path: Path
) -> None:
    about = {"condition_range": trained.about["condition_range"]}
    save_model(tmp_path / "full.safetensors", trained.model, about)
    save_model(tmp_path / "half.safetensors", trained.model, about, half=True)
    assert (tmp_path / "half.safetensors").stat().st_size < (
        tmp_path / "full.safetensors"
    ).stat().st_size
    half = load_model(tmp_path / "half.safetensors").model
    buffers = dict(trained.model.named_buffers())
    for key, value in half.named_buffers():
        assert torch.equal(value, buffers[key]), key
    for key, value in half.generator_state().items():
        torch.testing.assert_close(
            value, trained.model.generator_state()[key], rtol=1e-3, atol=1e-6
        )


@every_learner
def test_gradients_reach_every_parameter(model: ShowerModel) -> None:
    model.train()
    batch = toy_batch(model.geometry.name)
    reached: dict[int, torch.Tensor] = {}
    for phase in players(model, batch):
        loss, extra = phase.loss(batch, torch.Generator().manual_seed(0))
        assert loss.ndim == 0
        assert all(value.ndim == 0 and not value.requires_grad for value in extra.values())
        gradients = torch.autograd.grad(loss, phase.parameters)
        for parameter, gradient in zip(phase.parameters, gradients, strict=True):
            assert id(parameter) not in reached, "two phases train the same parameter"
            reached[id(parameter)] = gradient
    for key, parameter in model.named_parameters():
        assert id(parameter) in reached, f"no phase trains {key}"
        assert torch.isfinite(reached[id(parameter)]).all(), key
        if parameter.ndim > 1:  # a bias before batch normalisation has gradient zero, and may
            assert reached[id(parameter)].abs().max() > 0, key


@every_learner
def test_a_few_updates_lower_each_loss(model: ShowerModel) -> None:
    model.train()
    batch = Batch(*(values[:16] for values in toy_batch(model.geometry.name)))
    for phase in players(model, batch):  # the other players stand still
        optimiser = torch.optim.Adam(phase.parameters, lr=1e-3)
        losses = []
        for _ in range(20):
            loss, _ = phase.loss(batch, torch.Generator().manual_seed(0))
            gradients = torch.autograd.grad(loss, phase.parameters)
            for parameter, gradient in zip(phase.parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()
            losses.append(loss.item())
        assert losses[-1] < losses[0], phase.name
        assert np.isfinite(losses).all()


@every_learner
def test_losses_take_their_noise_from_the_generator_given(model: ShowerModel) -> None:
    model.train()
    batch = toy_batch(model.geometry.name)
    before = torch.get_rng_state()
    for phase in players(model, batch):
        first, second, third = (
            phase.loss(batch, torch.Generator().manual_seed(seed))[0].item() for seed in (1, 1, 2)
        )
        assert first == second
        assert first != third
    assert torch.equal(torch.get_rng_state(), before)


@every_fitted_model
def test_a_fit_sets_buffers_from_the_showers_alone(model: ShowerModel) -> None:
    """Whatever the state before and however the showers are cut into batches."""
    batch = toy_batch(model.geometry.name)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    halves = [Batch(*(v[k : k + 128] for v in batch)) for k in (0, 128)]
    fits = [phase for phase in model.phases() if isinstance(phase, Fit)]
    assert fits
    assert not list(model.parameters())
    seen = []
    for showers in ([batch], halves):
        for fit in fits:
            numbers = fit.fit(showers, torch.Generator().manual_seed(0))
            assert all(np.isfinite(value) for value in numbers.values())
        seen.append({k: v.clone() for k, v in model.state_dict().items()})
    assert any(not torch.equal(v, before[k]) for k, v in seen[0].items())
    for key, value in seen[0].items():
        assert torch.isfinite(value.double()).all(), key
        torch.testing.assert_close(seen[1][key], value, msg=key)


@every_model
def test_more_incident_energy_gives_more_energy(trained: ModelFile) -> None:
    geometry = trained.model.geometry
    conditions = sample_showers(geometry.name).conditions
    order = np.argsort(geometry.incident_energy(conditions))
    size = len(order) // 4
    quarters = [order[k * size : (k + 1) * size] for k in range(4)]
    means = []
    for quarter in quarters:
        made = generate_showers(trained, Conditions(geometry, conditions[quarter]), 200, seed=1)
        means.append(made.energies.sum(axis=1, dtype=np.float64).mean())
    assert means[0] < means[1] < means[2] < means[3]


@every_model
def test_core_is_the_sampler_or_a_reasoned_refusal(trained: ModelFile) -> None:
    model = trained.model
    core = model.core()
    if isinstance(core, Refusal):
        assert len(core.reason.split()) > 3
        return
    condition = rows(model.geometry.name, 16)
    noise = torch.from_numpy(normals(0, 0, 16, model.noise_size))
    with torch.inference_mode():
        made, expected = core.eval()(noise, condition), model.sample(condition, noise)
    assert ((made - expected).abs() <= 1e-5 * model.incident(condition)).all()


# These have thousands of operators, which take up to minutes to write, or are exported in
# tests/test_export.py as well.
LARGE_GRAPHS = ("rnn", "calogan-conditional", "sagan", "copula", "vae")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow) if n in LARGE_GRAPHS else n for n in sorted(MODELS)],
)
def test_export_is_what_pytorch_makes_or_refused_with_a_reason(
    trained: ModelFile, tmp_path: Path
) -> None:
    out = tmp_path / "generator.onnx"
    refusal = trained.model.core()
    if isinstance(refusal, Refusal):
        with pytest.raises(ExportError, match=re.escape(refusal.reason)):
            export_onnx(trained, out)
        assert not out.exists()
    else:
        assert export_onnx(trained, out).worst <= 2e-5
        assert out.exists()


@every_model
def test_dense_layers_are_what_the_model_makes_or_refused_with_a_reason(
    trained: ModelFile, name: str, tmp_path: Path
) -> None:
    parts = [part.model for part in trained.model.energy_ranges()]
    cores = [part.dense_core() for part in parts]
    out = tmp_path / "generator.json"
    reasons = [core.reason for core in cores if isinstance(core, Refusal)]
    if reasons:
        with pytest.raises(ExportError, match=re.escape(reasons[0])):
            export_lwtnn(trained, out)
        assert not list(tmp_path.iterdir())
        return
    assert export_lwtnn(trained, out).worst <= 2e-5
    assert len(list(tmp_path.iterdir())) == len(parts)
    for part, core in zip(parts, cores, strict=True):
        assert not isinstance(core, Refusal)
        condition = rows(trained.model.geometry.name, 16)
        noise = torch.from_numpy(normals(0, 0, 16, part.noise_size))
        with torch.inference_mode():
            outputs = core.network(core.inputs(noise, condition))
            made, expected = core.finish(outputs, noise, condition), part.sample(condition, noise)
        assert outputs.shape[1] == len(core.outputs)
        assert ((made - expected).abs() <= 1e-5 * part.incident(condition)).all()


@every_model
def test_hyper_parameters_are_kept_unchanged(model: ShowerModel, name: str) -> None:
    hyper = load_recipe(f"smoke-{name}").hyper()
    plain = model.hyper.to_dict()
    assert {key: plain[key] for key in hyper} == hyper
    assert json.loads(json.dumps(plain)) == plain
    again = make_model(name, model.geometry, model.transform, **plain)
    assert again.hyper == model.hyper
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


@every_model
def test_a_model_is_made_without_files_and_without_the_global_generator(
    model: ShowerModel, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe(f"smoke-{name}")
    showers = sample_showers(recipe.geometry)
    before = torch.get_rng_state()
    first, second = build(recipe, showers), build(recipe, showers)
    assert torch.equal(torch.get_rng_state(), before)
    for key, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a model opened a file")

    for module in (builtins, io):
        monkeypatch.setattr(module, "open", refuse)
    make_model(name, model.geometry, model.transform, **recipe.hyper())


@every_model
def test_the_parts_of_a_model_cover_all_energies(model: ShowerModel) -> None:
    ranges = model.energy_ranges()
    assert ranges[0].low == 0.0
    assert ranges[-1].high == float("inf")
    for below, above in pairwise(ranges):
        assert below.high == above.low


@pytest.mark.parametrize(
    ("recipe", "generator", "critic"),
    [
        ("caloshowergan-photon", 260_504, 408_113),
        ("caloshowergan-pion", 871_333, 828_801),
    ],
)
def test_published_parameter_counts(recipe: str, generator: int, critic: int) -> None:
    loaded = load_recipe(recipe)
    model = make_model(
        loaded.model["name"], load_geometry(loaded.geometry), None, **loaded.hyper()
    )
    assert parameter_count(model.generator) == generator
    assert parameter_count(model.critic) == critic


def test_batch_normalisation_in_the_critic_is_an_option() -> None:
    """Three hidden layers of 368 nodes then have a gain and a shift for each node."""
    geometry = load_geometry("ds1-photons")
    model = make_model("caloshowergan", geometry, None, critic_batch_norm=True)
    assert parameter_count(model.critic) == 408_113 + 3 * 2 * 368
    assert parameter_count(model.generator) == 260_504


@pytest.mark.parametrize(
    ("recipe", "published"),
    [("caloshowergan-photon-2", 367_380), ("caloshowergan-photon-3", 472_120)],
)
def test_published_parameter_counts_of_split_generators(recipe: str, published: int) -> None:
    """The talk counts the statistics of the batch normalisation too, as Keras does."""
    loaded = load_recipe(recipe)
    model = make_model(
        loaded.model["name"], load_geometry(loaded.geometry), None, **loaded.hyper()
    )
    count = 0
    for part in model.gans():
        count += parameter_count(part.generator)
        count += sum(
            v.numel()
            for k, v in part.generator.named_buffers()
            if k.split(".")[-1].startswith("running")
        )
    assert count == published


def test_a_split_model_samples_each_shower_from_its_own_part(smoke) -> None:
    model = load_model(smoke("caloshowergan-split") / "model.safetensors").model
    condition = torch.tensor([[256.0], [4096.0], [4097.0], [1e6]])
    noise = torch.from_numpy(normals(0, 0, 4, model.noise_size))
    low, high = (part.model for part in model.energy_ranges())
    with torch.inference_mode():
        showers = model.sample(condition, noise)
        expected = torch.cat(
            [low.sample(condition[:2], noise[:2]), high.sample(condition[2:], noise[2:])]
        )
    assert ((showers - expected).abs() <= 1e-5 * condition).all()


def test_the_label_is_0_and_1_at_the_ends_of_its_range() -> None:
    geometry = load_geometry("ds1-photons")
    model = make_model("caloshowergan", geometry, None, label_range=[256.0, 4096.0])
    label = model.label(torch.tensor([[256.0], [1024.0], [4096.0]]))
    torch.testing.assert_close(label, torch.tensor([[0.0], [0.5], [1.0]]))


def test_the_noise_of_the_gan_has_mean_and_spread_one_half() -> None:
    model = make_model(
        "caloshowergan", load_geometry("ds1-photons"), None, latent=4, generator=[4]
    )
    seen: list[torch.Tensor] = []
    model.generator[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    noise = torch.from_numpy(normals(0, 0, 20_000, 4))
    model.generate(torch.zeros(20_000, 1), noise)
    assert float(seen[0][:, :4].mean()) == pytest.approx(0.5, abs=0.01)
    assert float(seen[0][:, :4].std()) == pytest.approx(0.5, abs=0.01)


def test_a_shipped_test_sample_is_never_a_training_sample() -> None:
    """The smoke trainings above use the train samples: no test shower is among them."""
    train = {row.tobytes() for row in sample_showers("ds1-photons").energies}
    test = read_showers(sample_path("ds1-photons-test"))
    assert not [row for row in test.energies if row.any() and row.tobytes() in train]
