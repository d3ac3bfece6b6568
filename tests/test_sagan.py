"""Self-attention, spectral norm, hinge loss and the LHCb GAN made of them: closed forms."""

from typing import Any

import numpy as np
import pytest
import torch
from conftest import sample_showers
from torch import nn

from caloforge.config import load_recipe, recipe_names
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError
from caloforge.models import make_model
from caloforge.models.base import Batch
from caloforge.models.sagan.attention import SelfAttention
from caloforge.models.sagan.beam import Beam, shower_statistics
from caloforge.models.sagan.model import SAGAN, Modulation, SAGANHyper
from caloforge.nn.spectral import SpectralNorm, leading_vectors, spectral_norm
from caloforge.objectives import hinge_critic
from caloforge.transforms import LogEnergy

SMALL = {"latent": 4, "generator": [8, 8, 8, 8], "critic": [8, 8, 8, 16]}


def small_sagan(geometry: Geometry, **hyper: Any) -> SAGAN:
    return SAGAN(geometry, None, SAGANHyper.of({**SMALL, **hyper}))


LHCB = [name for name in recipe_names() if load_recipe(name).model["name"] == "sagan"]


def draws(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(seed))


def attention(**options: object) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(16, **options)


# --- attention -------------------------------------------------------------------------------
def test_attention_is_the_identity_until_gamma_moves():
    x = draws(3, 16, 5, 7)
    layer = attention()
    assert torch.equal(layer(x), x)
    with torch.no_grad():
        layer.gamma.fill_(0.5)
    assert not torch.allclose(layer(x), x)


@pytest.mark.parametrize("pool", [False, True])
def test_attention_weights_of_each_position_sum_to_one(pool):
    beta, h = attention(pool=pool).attention(draws(3, 16, 5, 7))
    seen = 3 * 4 if pool else 35
    assert beta.shape == (3, 35, seen)
    assert h.shape == (3, 2, seen)
    torch.testing.assert_close(beta.sum(dim=2), torch.ones(3, 35))


def test_attention_does_not_know_where_positions_are():
    """Permuted positions give the permuted result: only what is there counts (Eq. 2)."""
    x, layer = draws(2, 16, 4, 6), attention(start=1.0)
    order = torch.randperm(24, generator=torch.Generator().manual_seed(1))
    turned = x.flatten(2)[:, :, order].reshape_as(x)
    expected = layer(x).flatten(2)[:, :, order].reshape_as(x)
    torch.testing.assert_close(layer(turned), expected)


def test_attention_follows_its_equations_written_out():
    x, layer = draws(1, 16, 2, 3), attention(start=0.7)
    f, g, h, v = (w.weight[:, :, 0, 0] for w in (layer.f, layer.g, layer.h, layer.v))
    places = x[0].flatten(1)
    expected = torch.empty(16, 6)
    for j in range(6):
        weights = torch.stack([((f @ places[:, i]) @ (g @ places[:, j])).exp() for i in range(6)])
        beta = weights / weights.sum()
        expected[:, j] = v @ sum(beta[i] * (h @ places[:, i]) for i in range(6))
    torch.testing.assert_close(layer(x)[0].flatten(1), places + 0.7 * expected)


# --- spectral norm ---------------------------------------------------------------------------
@pytest.mark.parametrize("shape", [(16, 5, 3, 3), (3, 40), (40, 3), (1, 9), (64, 64)])
def test_the_largest_singular_value_is_one(shape):
    normed = SpectralNorm()(3.7 * draws(*shape))
    largest = torch.linalg.matrix_norm(normed.flatten(1), ord=2)
    assert float(largest) == pytest.approx(1.0, abs=2e-3)


def test_leading_vectors_of_a_known_matrix():
    turn, other = (torch.linalg.qr(draws(6, 6, seed=k))[0] for k in range(2))
    left, right = leading_vectors(turn @ torch.diag(torch.arange(6.0) + 1) @ other.T)
    for found, expected in ((left, turn[:, 5]), (right, other[:, 5])):
        assert float((found @ expected).abs()) == pytest.approx(1.0, abs=1e-5)


def test_the_gradient_through_the_norm_is_the_true_one():
    """Eq. 11 with u and v held fixed is the derivative of W / sigma(W) with its own SVD."""
    weight, factor = draws(5, 8).requires_grad_(), draws(5, 8, seed=3)
    (got,) = torch.autograd.grad((SpectralNorm()(weight) * factor).sum(), weight)
    exact = weight / torch.linalg.svdvals(weight)[0]
    (expected,) = torch.autograd.grad((exact * factor).sum(), weight)
    torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4)


def test_a_zero_weight_stays_zero():
    assert torch.equal(SpectralNorm()(torch.zeros(4, 4)), torch.zeros(4, 4))


def test_normalised_dense_layers_never_stretch():
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(20, 30, bias=False))
    x, y = draws(100, 20), draws(100, 20, seed=1)
    stretch = (layer(x) - layer(y)).norm(dim=1) / (x - y).norm(dim=1)
    assert float(stretch.detach().max()) <= 1.002


# --- hinge -----------------------------------------------------------------------------------
def test_hinge_loss_at_closed_values():
    """Eq. 5: scores beyond +-1 on the right side cost nothing, 0 costs 1 for each kind."""
    one = torch.ones(4)
    assert float(hinge_critic(2 * one, -2 * one)) == 0.0
    assert float(hinge_critic(0 * one, 0 * one)) == 2.0
    assert float(hinge_critic(-one, 3 * one)) == 2.0 + 4.0
    mixed = hinge_critic(torch.tensor([0.5, 2.0]), torch.tensor([-3.0, -0.25]))
    assert float(mixed) == pytest.approx(0.25 + 0.375)


def test_hinge_gradients_vanish_beyond_the_margin():
    real = torch.tensor([0.5, 2.0], requires_grad=True)
    fake = torch.tensor([-3.0, -0.25], requires_grad=True)
    on_real, on_fake = torch.autograd.grad(hinge_critic(real, fake), (real, fake))
    assert on_real.tolist() == [-0.5, 0.0]
    assert on_fake.tolist() == [0.0, 0.5]


# --- transform -------------------------------------------------------------------------------
def test_log_energy_is_the_logarithm_of_one_plus_the_energy():
    """Eq. 4; and its inverse, also of what no shower has."""
    geometry = load_geometry("lhcb")
    transform = LogEnergy(geometry, 0.01)
    energies = torch.tensor([[0.0, 0.005, 1.0, np.e - 1, 1e4]])
    x = transform(energies, energies)
    expected = [0.0, 0.0, np.log(2), 1.0, np.log(10001)]
    torch.testing.assert_close(x, torch.tensor([expected], dtype=torch.float32))
    back = transform.inverse(x, energies)
    torch.testing.assert_close(
        back, torch.where(energies < 0.01, 0.0, energies), rtol=1e-5, atol=0
    )
    assert transform.inverse(torch.tensor([[-3.0, 0.005]]), energies).tolist() == [[0.0, 0.0]]
    assert torch.isfinite(transform.inverse(torch.tensor([[1e30]]), energies)).all()
    with pytest.raises(ModelError, match="low_cut"):
        LogEnergy(geometry, -1.0)


# --- what the condition says -----------------------------------------------------------------
def test_maps_are_zero_where_the_particle_goes():
    """A line through the centre of a cell at a third of the depth: its maps are 0."""
    beam = Beam(load_geometry("lhcb"), maps=True)
    slope = 0.1
    condition = torch.tensor([[slope * 1e4, 0.0, 1e4, 50.0 - slope * 132.0, -30.0]])
    maps = beam.maps(condition, 0)
    assert maps.shape == (1, 5, 30, 30)
    torch.testing.assert_close(maps[0, :, 17, 13], torch.zeros(5), atol=1e-5, rtol=0)
    distances = maps[0, 4].flatten()
    assert int(distances.argmin()) == 17 * 30 + 13
    torch.testing.assert_close(maps[0, 3, 17, 15], torch.tensor(2.0).asinh())
    assert beam.maps(condition, 2).shape == (1, 5, 8, 8)


def test_statistics_of_a_shower_of_three_cells():
    """Quarters two cells ahead and one aside, half on the line: all moments by hand."""
    geometry = load_geometry("lhcb")
    beam = Beam(geometry, maps=False)
    energies = torch.zeros(1, 900)
    energies[0, [13 * 30 + 17, 13 * 30 + 19, 14 * 30 + 17]] = torch.tensor([50.0, 25.0, 25.0])
    # Inclined along y, through a point just short of the centre of cell (13, 17).
    condition = torch.tensor([[0.0, 1e3, 1e4, -30.0 + 2e-3, 50.0 - 13.2 - 2e-3]])
    incident = torch.full((1, 1), 1000.0)
    got = shower_statistics(energies, incident, condition, beam, [50.0])
    # Along y: cells at 0, 2 (ahead) and 0, all "in front"; the cell aside is off the line.
    along = [1.0, 0.5, np.log(0.75 + 1e-3), np.log(8 / 9 + 1e-3)]
    # Across: y to the right is minus x; the cell at +1 in x is at -1, alone on that side.
    across = [0.5, -0.25, np.log(3 / 16 + 1e-3), np.log(2 / 9 + 1e-3)]
    expected = [np.log(0.1), np.log(0.1), *along, *across, 0.5 + 2 / 3]
    torch.testing.assert_close(got, torch.tensor([expected]).float(), atol=2e-3, rtol=1e-3)


def test_statistics_turn_with_the_shower():
    """Along and across are the particle's own: the mirrored or swapped shower has the same."""
    showers = sample_showers("lhcb")
    geometry = showers.geometry
    beam = Beam(geometry, maps=False)
    energies = torch.from_numpy(showers.energies[:50])
    condition = torch.from_numpy(showers.conditions[:50]).float()
    incident = torch.from_numpy(showers.incident_energy[:50]).float()[:, None]
    swapped = energies.reshape(-1, 30, 30).transpose(1, 2).flatten(1)
    other = condition[:, [1, 0, 2, 4, 3]]
    first = shower_statistics(energies, incident, condition, beam, [1.0])
    second = shower_statistics(swapped, incident, other, beam, [1.0])
    second[:, [6, 7]] *= -1  # the mirror turns left into right
    torch.testing.assert_close(first, second, atol=1e-3, rtol=1e-3)


# --- the model -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("spectral", "in_generator", "in_critic"),
    [("both", True, True), ("critic", False, True), ("none", False, False)],
)
def test_spectral_norm_is_where_it_is_asked_for(spectral, in_generator, in_critic):
    torch.manual_seed(0)
    model = small_sagan(load_geometry("lhcb"), spectral=spectral)
    for network, expected in ((model.generator, in_generator), (model.critic, in_critic)):
        free = {id(m) for part in network.modules() if isinstance(part, Modulation)
                for m in part.modules()}  # fmt: skip
        for part in network.modules():
            if isinstance(part, nn.Conv2d | nn.Linear) and id(part) not in free:
                largest = torch.linalg.matrix_norm(part.weight.detach().flatten(1), ord=2)
                assert (abs(float(largest) - 1) < 2e-3) == expected


def test_two_attention_layers_in_either_network_or_none():
    geometry = load_geometry("lhcb")
    for attention, count in ((True, 2), (False, 0)):
        model = small_sagan(geometry, attention=attention)
        for network in (model.generator, model.critic):
            layers = [m for m in network.modules() if isinstance(m, SelfAttention)]
            assert len(layers) == count
            assert all(float(layer.gamma.detach()) == 0.0 for layer in layers)


def test_attention_sees_15_x_15_and_8_x_8_positions():
    torch.manual_seed(0)
    model = small_sagan(load_geometry("lhcb"))
    for network in (model.generator, model.critic):
        sizes = []
        for layer in network.attention.values():
            layer.register_forward_pre_hook(lambda _, x, s=sizes: s.append(tuple(x[0].shape[2:])))
        batch = _batch(4)
        model.generator_loss(batch, torch.Generator().manual_seed(0))
        assert sorted(sizes) == [(8, 8), (15, 15)]


def test_the_exported_core_has_plain_weights_and_no_critic():
    torch.manual_seed(0)
    model = small_sagan(load_geometry("lhcb")).eval()
    core = model.core()
    names = set(core.state_dict())
    assert not [name for name in names if "parametrizations" in name or "critic" in name]
    assert [name for name in model.state_dict() if "parametrizations" in name]
    batch = _batch(8)
    noise = draws(8, model.noise_size)
    with torch.inference_mode():
        assert torch.equal(core(noise, batch.condition), model.sample(batch.condition, noise))


def test_wasserstein_adds_its_penalty_and_hinge_has_none():
    torch.manual_seed(0)
    geometry = load_geometry("lhcb")
    batch = _batch(16)
    losses = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        model = small_sagan(geometry, loss="wasserstein", spectral="none", penalty=weight)
        loss, extra = model.critic_loss(batch, torch.Generator().manual_seed(0))
        losses[weight] = float(loss.detach())
        assert losses[weight] == pytest.approx(
            -float(extra["distance"]) + weight * float(extra["penalty"]), rel=1e-4
        )
        assert float(extra["penalty"]) > 0
    assert losses[10.0] > losses[0.0]
    assert "penalty" not in small_sagan(geometry).critic_loss(batch, torch.Generator())[1]


def test_maps_and_cell_noise_act_where_they_should():
    """Without maps nothing but the features knows the impact; noise of one cell stays local."""
    torch.manual_seed(0)
    model = small_sagan(load_geometry("lhcb"), maps=True, cell_noise=1, attention=False).eval()
    assert model.noise_size == 4 + 900
    condition = _batch(1).condition
    noise = draws(1, model.noise_size)
    with torch.no_grad():
        model.generator.last.shift.bias += 5.0  # every cell filled: the ReLU hides nothing
        first = model.generate(condition, noise).reshape(30, 30)
        noise[0, 4 + 10 * 30 + 12] += 3.0
        change = (model.generate(condition, noise).reshape(30, 30) - first).abs()
    near = change[7:14, 9:16]  # three 3 x 3 convolutions reach that far
    far = (change.sum() - near.sum()) / (change.numel() - near.numel())
    assert float(near.mean()) > 20 * float(far)  # the common normalisation alone is felt outside


def test_the_cluster_follows_the_impact_after_a_short_training(smoke):
    from caloforge.models.file import load_model

    model = load_model(smoke("sagan") / "model.safetensors").model
    condition = _batch(1).condition.repeat(200, 1)
    condition[:, :2], condition[:, 2] = 0.0, 20_000.0
    condition[:, 3:] = 0.0
    condition[:100, 3], condition[100:, 3] = -55.0, 55.0
    noise = draws(100, model.noise_size).repeat(2, 1)
    with torch.inference_mode():
        showers = model.sample(condition, noise)
    x = torch.from_numpy(model.geometry.layers[0].xy[0]).float()
    centre = (showers * x).sum(dim=1) / showers.sum(dim=1)
    assert float((centre[100:] - centre[:100]).mean()) > 10.0


@pytest.mark.parametrize("name", ["ds1-photons", "calogan"])
def test_other_read_outs_are_refused_in_one_sentence(name):
    with pytest.raises(ModelError, match=r"expected one grid of at least 8 x 8") as error:
        make_model("sagan", load_geometry(name), None)
    assert str(error.value).count(". ") == 0


@pytest.mark.parametrize("hyper", [{"spectral": "generator"}, {"loss": "hing"}, {"critic": [8]}])
def test_wrong_options_are_refused(hyper):
    with pytest.raises(ModelError):
        make_model("sagan", load_geometry("lhcb"), None, **hyper)


def test_the_published_recipe_has_the_published_settings():
    recipe = load_recipe("lhcb-sagan-published")
    assert recipe.training.batch_size == 512
    hyper = recipe.hyper()
    assert hyper["critic_steps"] == 3
    assert hyper["critic_optimiser"]["lr"] == 4e-4
    assert hyper["generator_optimiser"]["lr"] == 1e-4
    assert (hyper["loss"], hyper["spectral"], hyper["attention"]) == ("hinge", "both", True)
    assert recipe.transform["name"] == "log-energy"


@pytest.mark.parametrize("name", LHCB)
def test_every_recipe_makes_showers(name):
    recipe = load_recipe(name)
    torch.manual_seed(0)
    model = make_model("sagan", load_geometry(recipe.geometry), None, **recipe.hyper()).eval()
    batch = _batch(2)
    with torch.inference_mode():
        showers = model.sample(batch.condition, draws(2, model.noise_size))
    assert showers.shape == (2, 900)
    assert torch.isfinite(showers).all()


def _batch(count: int) -> Batch:
    showers = sample_showers("lhcb")
    return Batch(
        torch.from_numpy(showers.energies[:count]),
        torch.from_numpy(showers.conditions[:count]).float(),
    )
