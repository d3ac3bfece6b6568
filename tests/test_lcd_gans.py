"""Wasserstein GANs of the LCD: published sizes, what conditions can and cannot do, clipping."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sample_showers, update
from torch import nn

from caloforge.config import load_recipe
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError
from caloforge.models import make_model, parameter_count
from caloforge.models.base import Batch, Phase
from caloforge.models.hyper import OptimiserSettings
from caloforge.models.mlp_wgan import centre_peak
from caloforge.models.wasserstein import UnrolledWGAN
from caloforge.noise import normals
from caloforge.training.optimisers import Player
from caloforge.training.train import build, train
from caloforge.transforms import IncidentFraction, Spiral

GEOMETRY = load_geometry("lcd")
CONDITION = torch.tensor([[0.0, 2e4], [1.0, 3e5], [1.0, 5e4], [0.0, 1e4]])


def wgan(name: str, cells: int = 25, *, others: bool = False, **hyper: object) -> UnrolledWGAN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = make_model(name, GEOMETRY, Spiral(GEOMETRY, cells=cells, others=others), **hyper)
    assert isinstance(model, UnrolledWGAN)
    return model.eval()


def noise(model: UnrolledWGAN, count: int = len(CONDITION)) -> torch.Tensor:
    return torch.from_numpy(normals(0, 0, count, model.noise_size))


def number(tensor: torch.Tensor) -> float:
    return float(tensor.detach())


# --- sizes -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("recipe", "generator", "critic"),
    [
        ("lcd-mlp-document", 2_010_800, 2_560_865),
        ("lcd-mlp-shaped-noise", 2_010_800, 2_560_865),
        ("lcd-mlp-early", 2_010_800, 2_560_865 + 4 * 400),  # embedding 2 x 400, projection 800
        ("lagan-document", 858_429 - 512, 855_067),  # without the projection of the energy
        ("lagan-averaged", 858_429, 855_067),
        ("lagan-early", 858_429, 855_067 + 4 * 25),
        ("lcd-mlp-crop", 201 * 2_500 + 800, 640_865),  # a quarter of the cells
    ],
)
def test_published_parameter_counts(recipe: str, generator: int, critic: int) -> None:
    loaded = load_recipe(recipe)
    cells = loaded.transform["cells"]
    model = wgan(loaded.model["name"], cells, **loaded.hyper())
    assert parameter_count(model.generator) == generator
    assert parameter_count(model.critic) == critic


def test_the_published_count_of_the_location_aware_generator_holds_the_energy() -> None:
    model = wgan("lagan", energy=True)
    assert parameter_count(model.generator) == 858_429
    assert parameter_count(model.critic) == 855_067


# --- conditions ------------------------------------------------------------------------------
def test_noise_is_multiplied_by_particle_and_energy() -> None:
    """Without logarithms the factor is an embedding times a E / E_max + b."""
    model = wgan("mlp-wgan")
    factor = model.generator.factor
    condition = torch.tensor([[0.0, 1e5], [1.0, 1e5], [1.0, 4e5]])
    got = factor(condition)
    weight, bias = factor.project.weight[:, 0], factor.project.bias
    for row, (particle, energy) in enumerate(condition.tolist()):
        expected = factor.embed[0][int(particle)] * (weight * energy / 5e5 + bias)
        torch.testing.assert_close(got[row], expected)
    one = noise(model, 3)
    silent = model.generate(condition, torch.zeros_like(one))
    torch.testing.assert_close(silent, model.generator.last.bias.expand_as(silent))
    once, twice = (model.generate(condition, k * one) - silent for k in (1.0, 2.0))
    torch.testing.assert_close(twice, 2 * once, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mlp-wgan", "lagan"])
def test_with_logarithms_the_factor_starts_near_one(name: str) -> None:
    more = {"energy": True} if name == "lagan" else {}
    model = wgan(name, logarithms=True, **more)
    factor = model.generator.factor(CONDITION).detach()
    assert number(factor.mean()) == pytest.approx(1.0, abs=0.02)
    assert 0.05 < number(factor.std()) < 0.3


def test_the_documents_location_aware_gan_cannot_know_the_energy() -> None:
    """Told latent numbers and particle alone, it makes one shower whatever the energy."""
    low, high = (torch.tensor([[1.0, energy]]) for energy in (1e4, 5e5))
    told, untold = wgan("lagan", energy=True), wgan("lagan", energy=False)
    one = noise(untold, 1)
    assert torch.equal(untold.sample(low, one), untold.sample(high, one))
    assert untold.sample(low, one).sum() > 0
    assert told.sample(low, one).sum() < told.sample(high, one).sum()
    photon = torch.tensor([[0.0, 1e4]])
    assert not torch.equal(untold.sample(low, one), untold.sample(photon, one))


def test_the_documents_location_aware_critic_sees_image_and_conditions_apart() -> None:
    """Concatenated before a linear layer, the condition shifts all scores alike; a hidden layer,
    or factors on the image, let it judge the image for its energy.
    """
    images = torch.rand(2, 625, generator=torch.Generator().manual_seed(0))

    def preference(energy: float, **hyper: object) -> float:
        critic = wgan("lagan", **hyper).critic
        scores = critic(images, torch.tensor([[1.0, energy]]).repeat(2, 1))
        return number(scores[0] - scores[1])

    assert preference(1e4) == pytest.approx(preference(5e5), rel=1e-4)
    for hyper in ({"early": True}, {"critic_hidden": 16}):
        assert preference(1e4, **hyper) != pytest.approx(preference(5e5, **hyper), rel=2e-3)


def test_early_conditions_multiply_every_slice_alike() -> None:
    given = wgan("mlp-wgan", early=True).critic.given
    ones = torch.ones(len(CONDITION), 625)
    image, _ = given(ones, CONDITION)
    assert image.shape == (len(CONDITION), 1, 25, 25)
    expected = given.factor(CONDITION)[:, None, None].expand_as(image)
    assert torch.equal(image, expected)


def test_other_layers_and_conditions_reach_the_dense_layer() -> None:
    given = wgan("mlp-wgan", others=True).critic.given
    x = torch.rand(len(CONDITION), 625 + 960)
    image, numbers = given(x, CONDITION)
    assert torch.equal(image.flatten(1), x[:, :625])
    assert torch.equal(numbers[:, :960], x[:, 625:])
    torch.testing.assert_close(numbers[:, 960:], CONDITION / torch.tensor([1.0, 5e5]))


@pytest.mark.parametrize("name", ["mlp-wgan", "lagan"])
def test_the_critic_of_sums_sees_sums_and_conditions_alone(name: str) -> None:
    """Moving energy about within a slice changes nothing, from slice to slice it does."""
    model = wgan(name, sums=8)
    x = torch.rand(len(CONDITION), 625)
    image = x.reshape(-1, 25, 25)
    turned, moved = image.flip(2).reshape_as(x), image.flip(1).reshape_as(x)
    sums = model.critic.sums
    torch.testing.assert_close(sums(turned, CONDITION), sums(x, CONDITION))
    assert not torch.allclose(sums(moved, CONDITION), sums(x, CONDITION), rtol=1e-3)
    seen: list[torch.Tensor] = []
    sums.dense.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    whole = model.critic(x, CONDITION)
    torch.testing.assert_close(seen[0][:, :25], image.sum(dim=2) / 5)
    torch.testing.assert_close(seen[0][:, 25], x.sum(dim=1) / 25)
    model.critic.sums = None
    torch.testing.assert_close(whole, model.critic(x, CONDITION) + sums(x, CONDITION))


# --- noise -----------------------------------------------------------------------------------
def test_shaped_noise_is_half_a_gaussian_in_each_slice() -> None:
    peak = centre_peak(200, 25, 3.0).reshape(25, 8)
    assert torch.equal(peak, peak[:1].expand_as(peak))
    expected = 3.0 * np.exp(-0.5 * (np.arange(8) / 2) ** 2)
    np.testing.assert_allclose(peak[0].numpy(), expected, rtol=1e-6)
    assert not centre_peak(201, 25, 0.0).any()
    with pytest.raises(ModelError, match="multiple of the 25 slices"):
        centre_peak(201, 25, 1.0)


def test_shaped_noise_is_added_to_the_noise() -> None:
    plain, shaped = wgan("mlp-wgan"), wgan("mlp-wgan", shaped_noise=3.0)
    shaped.load_state_dict(plain.state_dict())
    given = noise(plain)
    peak = centre_peak(200, 25, 3.0)
    expected = plain.generate(CONDITION, given + peak)
    torch.testing.assert_close(shaped.generate(CONDITION, given), expected)


# --- where it starts -------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["mlp-wgan", "lagan"])
def test_from_the_profile_the_generator_starts_near_the_mean_shower(name: str) -> None:
    showers = sample_showers("lcd")
    cells = {"cells": 25, "scaling": "fraction"}
    recipe = load_recipe(f"smoke-{name}")
    hyper = {"penalty": 1.0, "energy": True} if name == "lagan" else {"output": "relu"}
    far = []
    for profile in (False, True):
        transform = Spiral.fit(showers, profile=profile, **cells)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = make_model(recipe.model["name"], GEOMETRY, transform, **hyper)
        condition = torch.from_numpy(showers.conditions).float()
        given = torch.from_numpy(normals(0, 0, len(condition), model.noise_size))
        with torch.inference_mode():
            made = model.train().generate(condition, given).mean(dim=0)
        mean = transform(torch.from_numpy(showers.energies), condition).mean(dim=0)
        if profile:
            torch.testing.assert_close(transform.profile, mean, rtol=1e-4, atol=1e-5)
        far.append(number((made - mean).abs().sum() / mean.sum()))
    assert far[1] < 0.75 * far[0]
    assert far[1] < 0.7


# --- losses ----------------------------------------------------------------------------------
def test_what_sampling_sets_to_zero_is_logged() -> None:
    """A linear output without a bias is as often above as below zero."""
    model = wgan("mlp-wgan")
    nn.init.zeros_(model.generator.last.bias)
    batch = Batch(torch.rand(512, GEOMETRY.n_cells), CONDITION.repeat(128, 1))
    _, logged = model.generator_loss(batch, torch.Generator().manual_seed(0))
    assert number(logged["clipped_cells"]) == pytest.approx(0.5, abs=0.01)
    assert number(logged["clipped_energy"]) == pytest.approx(1.0, abs=0.05)
    assert (model.sample(CONDITION, noise(model)) >= 0).all()
    _, logged = wgan("mlp-wgan", output="relu").generator_loss(batch, torch.Generator())
    assert number(logged["clipped_cells"]) == 0.0


def test_the_linear_critic_convolves_its_weights_instead_of_the_images() -> None:
    critic = wgan("mlp-wgan", 100, others=True, early=True).double().critic
    x = torch.rand(4, 25 * 100 + 960, dtype=torch.float64)
    condition = CONDITION.double()
    quick = critic(x, condition)
    critic.linear = False  # image by image
    torch.testing.assert_close(quick, critic(x, condition))


def test_losses_follow_their_equations() -> None:
    model = wgan("mlp-wgan", penalty=7.0)
    energies = 10 * torch.rand(4, GEOMETRY.n_cells)
    batch = Batch(energies, CONDITION)
    loss, logged = model.critic_loss(batch, torch.Generator().manual_seed(3))
    rng = torch.Generator().manual_seed(3)
    real = model.transform(energies, CONDITION)
    fake = model.generate(CONDITION, torch.randn(4, model.noise_size, generator=rng)).detach()
    far = model.critic(real, CONDITION).mean() - model.critic(fake, CONDITION).mean()
    assert number(logged["distance"]) == pytest.approx(number(far), rel=1e-4)
    between = torch.lerp(fake, real, torch.rand(4, 1, generator=rng)).requires_grad_(True)
    (slope,) = torch.autograd.grad(model.critic(between, CONDITION).sum(), between)
    penalty = (slope.norm(dim=1) - 1).square().mean()
    assert number(logged["penalty"]) == pytest.approx(number(penalty), rel=1e-4)
    assert number(loss) == pytest.approx(number(7 * penalty - far), rel=1e-4)
    clipped, logged = wgan("mlp-wgan").critic_loss(batch, torch.Generator().manual_seed(3))
    assert number(clipped) == pytest.approx(-number(logged["distance"]))
    assert "penalty" not in logged


@pytest.mark.parametrize("name", ["mlp-wgan", "lagan"])
def test_a_penalty_takes_the_place_of_clipped_weights(name: str) -> None:
    def clip(penalty: float) -> float:
        critic, _ = wgan(name, penalty=penalty).phases()
        return critic.optimiser.weight_clip

    assert (clip(0.0), clip(10.0)) == (0.01, 0.0)


# --- clipping --------------------------------------------------------------------------------
def test_clipping_keeps_the_critics_weights_in_range_and_no_others() -> None:
    recipe = load_recipe("smoke-lagan")
    showers = sample_showers("lcd")
    model = build(recipe, showers)
    batch = Batch(torch.from_numpy(showers.energies), torch.from_numpy(showers.conditions).float())
    most = recipe.model["critic_optimiser"]["weight_clip"]
    rng = torch.Generator().manual_seed(0)
    for phase in model.phases():
        player = Player(phase, 0.0)
        for _ in range(5):
            largest = max(number(p.abs().max()) for p in phase.parameters)
            assert (largest <= most + 1e-7) == (phase.name == "critic")
            before = [p.detach().clone() for p in phase.parameters]
            update(player, phase.loss(batch, rng)[0])
            moved = [
                not torch.equal(p, old) for p, old in zip(phase.parameters, before, strict=True)
            ]
            assert any(moved)


def test_clipping_goes_with_lookahead() -> None:
    parameter = nn.Parameter(torch.tensor([5.0, -5.0, 0.01]))
    settings = OptimiserSettings("rmsprop", 1.0, lookahead=True, weight_clip=0.1)
    player = Player(Phase("p", [parameter], lambda *_: None, 1, settings), 0.0)
    for _ in range(12):
        assert number(parameter.abs().max()) <= 0.1 + 1e-7
        update(player, -parameter.sum())
    assert torch.equal(parameter.detach(), torch.full((3,), 0.1))


def test_stagnation_of_a_clipped_gan_is_noticed(tmp_path: Path) -> None:
    """Weights clipped to next to nothing leave neither player a gradient; at the usual range they
    learn, which must not be taken for stagnation although clipping lowers gradients at once.
    """
    showers = sample_showers("lcd")
    steps = ["training.steps=25", "training.log_every=1", "training.selection.every=100"]
    healthy = load_recipe("smoke-lagan", [*steps, "model.critic_optimiser.weight_clip=0.01"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(healthy, showers, tmp_path / "healthy", device="cpu")
    dead = load_recipe("smoke-lagan", [*steps, "model.critic_optimiser.weight_clip=1e-30"])
    with pytest.warns(UserWarning, match="nothing is learnt any more"):
        train(dead, showers, tmp_path / "dead", device="cpu")


# --- refusals --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: wgan("lagan", others=True), "other layers"),
        (lambda: wgan("lagan", latent=200), "square number"),
        (lambda: wgan("lagan", cells=100), "256 for 25 x 25"),
        (lambda: wgan("mlp-wgan", critic_optimiser={"name": "rmsprop"}), "weight_clip"),
        (
            lambda: make_model("lagan", GEOMETRY, IncidentFraction(GEOMETRY, 0.0, 0)),
            "unrolled slices",
        ),
        (lambda: make_model("mlp-wgan", load_geometry("ds1-photons")), "polar"),
    ],
)
def test_what_cannot_work_is_refused(make, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        make()
