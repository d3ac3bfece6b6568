"""The CaloGANs: fixed blur, soft sparsity, minibatch discrimination, attributes, losses."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import sample_showers
from torch import Tensor

from caloforge.config import load_recipe, recipe_names
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError
from caloforge.models import make_model
from caloforge.models.base import Batch
from caloforge.models.calogan.attributes import Attributes
from caloforge.models.calogan.blur import Blur
from caloforge.models.calogan.impact import Axis, ImpactMaps
from caloforge.models.calogan.nonsaturating import energy_deviation
from caloforge.models.calogan.sparsity import occupancy, soft_occupancy
from caloforge.models.calogan.streams import Inpainting, PaintStream, Resample
from caloforge.nn.local import LocallyConnected2d
from caloforge.nn.minibatch import MinibatchDiscrimination, similarity
from caloforge.nn.moments import Moments
from caloforge.objectives import flip_labels, gan_discriminator, gan_generator
from caloforge.training.train import build
from caloforge.transforms import fit_transform

GEOMETRY = load_geometry("calogan")
ENERGY, X0, Y0, THETA, PHI = range(5)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(rows: int) -> Batch:
    showers = sample_showers("calogan")
    return Batch(
        torch.from_numpy(showers.energies[:rows]),
        torch.from_numpy(showers.conditions[:rows]).float(),
    )


# --- blur ------------------------------------------------------------------------------------
def test_blur_is_the_mean_of_neighbours_and_keeps_a_constant() -> None:
    image = torch.rand(2, 3, 6, 7, generator=rng())
    blurred = Blur((3, 5))(image)
    assert blurred[1, 2, 3, 4].item() == pytest.approx(image[1, 2, 2:5, 2:7].mean().item())
    torch.testing.assert_close(Blur((3, 3))(torch.full((1, 1, 4, 4), 2.5)).mean().item(), 2.5)
    assert torch.equal(Blur((1, 1))(image), image)


def test_blur_kernels_sum_to_one_and_training_never_touches_them() -> None:
    recipe = load_recipe("smoke-calogan-conditional")
    model = build(recipe, sample_showers("calogan"))
    kernels = [part.kernel for part in model.modules() if isinstance(part, Blur)]
    assert [tuple(k.shape[2:]) for k in kernels] == [(1, 1), (3, 3), (3, 3)]
    before = [k.clone() for k in kernels]
    for phase in model.phases():
        assert not {id(k) for k in kernels} & {id(p) for p in phase.parameters}
        optimiser = torch.optim.Adam(phase.parameters, lr=0.1)
        phase.loss(batch(16), rng())[0].backward()
        optimiser.step()
    for kernel, old in zip(kernels, before, strict=True):
        assert torch.equal(kernel, old)
        assert kernel.sum().item() == pytest.approx(1, abs=1e-6)
        assert kernel.unique().numel() == 1


@pytest.mark.parametrize("size", [(2, 3), (3, 0)])
def test_blur_of_an_even_number_of_cells_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ModelError, match="odd"):
        Blur(size)


# --- sparsity --------------------------------------------------------------------------------
IMAGE = torch.tensor([[0.0, 0.0, 1e-6, 0.2, 3.0, 500.0, 0.0, 40.0]])


def test_soft_occupancy_has_the_claimed_limits() -> None:
    """alpha -> infinity: the share of cells above the threshold; then t -> 0: Eq. 4."""
    above = soft_occupancy(IMAGE, threshold=1.0, alpha=200.0)
    assert above.item() == pytest.approx(3 / 8, abs=1e-6)
    everything = soft_occupancy(IMAGE, threshold=1e-7, alpha=20.0)
    assert everything.item() == pytest.approx(occupancy(IMAGE).item(), abs=1e-6)
    assert occupancy(IMAGE).item() == 5 / 8


def test_soft_occupancy_of_empty_and_threshold_cells() -> None:
    assert soft_occupancy(torch.zeros(1, 9), 0.1, 2.0).item() == pytest.approx(0, abs=1e-9)
    assert soft_occupancy(torch.full((1, 9), 0.1), 0.1, 2.0).item() == pytest.approx(0.5)


def test_soft_occupancy_has_a_finite_gradient_where_cells_are_empty() -> None:
    image = IMAGE.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(soft_occupancy(image, 0.1, 2.0).sum(), image)
    assert torch.isfinite(gradient).all()
    assert gradient[0, 3] > 0


def test_the_printed_form_counts_empty_cells_as_full() -> None:
    """The misprint: Eq. 5 tends to 1 for every image, and is never below 1/2."""

    def as_printed(x: Tensor, alpha: float, beta: float) -> Tensor:
        s = x.abs().pow(alpha) + x.abs().pow(-beta)
        return (1 - 1 / (s + 1)).mean(dim=1, keepdim=True)  # s / (s + 1), also at infinite s

    for image in (torch.zeros(1, 8), IMAGE, torch.full((1, 8), 0.03)):
        limit = as_printed(image, alpha=60.0, beta=60.0)
        assert limit.item() == pytest.approx(1, abs=1e-4)
    assert as_printed(torch.ones(1, 8), 60.0, 60.0).item() == pytest.approx(2 / 3)
    x = torch.logspace(-6, 6, 2001)[:, None]
    for alpha, beta in ((0.1, 5.0), (1.0, 1.0), (7.0, 0.2)):
        assert as_printed(x, alpha, beta).min() >= 0.5


# --- minibatch discrimination -------------------------------------------------------------------
def test_similarity_of_two_rows() -> None:
    rows = torch.tensor([[[0.0, 1.0]], [[0.5, -1.0]]])  # L1 distance 2.5
    expected = (1 + math.exp(-2.5)) / 2
    assert similarity(rows).flatten().tolist() == pytest.approx([expected, expected])


def test_minibatch_discrimination_follows_a_permutation_and_sees_collapse() -> None:
    layer = MinibatchDiscrimination(5)
    torch.nn.init.normal_(layer.kernel, generator=rng())
    x, order = torch.randn(16, 5, generator=rng(1)), torch.randperm(16, generator=rng(2))
    assert layer(x).shape == (16, 10)
    torch.testing.assert_close(layer(x[order]), layer(x)[order])
    same = layer(x[:1].expand(16, 5))
    torch.testing.assert_close(same, torch.ones_like(same))
    assert layer(x).max() < 1


# --- attributes ---------------------------------------------------------------------------------
def conditions(rows: int) -> Tensor:
    low, high = (
        torch.tensor([getattr(c, end) for c in GEOMETRY.conditions]) for end in ("low", "high")
    )
    return low + (high - low) * torch.rand(rows, 5, generator=rng(4))


def test_attributes_are_at_zero_when_right_and_ignore_full_turns_of_phi() -> None:
    attributes, condition = Attributes(GEOMETRY), conditions(50)
    right = attributes.targets(condition)
    assert attributes.deviations(right, condition).max() < 2e-6
    turned = condition.clone()
    turned[:, PHI] += 2 * math.pi
    estimate = torch.randn(50, 5, generator=rng(5))
    torch.testing.assert_close(
        attributes.deviations(estimate, condition), attributes.deviations(estimate, turned)
    )


def test_two_angles_on_either_side_of_pi_are_close() -> None:
    attributes, condition = Attributes(GEOMETRY), conditions(1)
    condition[:, PHI] = math.pi - 0.01
    other = condition.clone()
    other[:, PHI] = -math.pi + 0.01
    deviation = attributes.deviations(attributes.targets(other), condition)
    assert deviation[0, 3].item() == pytest.approx(2 * math.sin(0.01), rel=1e-3)  # the chord
    assert deviation[0, :3].max() < 1e-6


def test_attribute_deviations_are_in_units_of_half_the_range() -> None:
    attributes, condition = Attributes(GEOMETRY), conditions(1)
    condition[:, X0] = 10.0
    moved = condition.clone()
    moved[:, X0] = 40.0
    deviation = attributes.deviations(attributes.targets(moved), condition)
    assert deviation[0, 0].item() == pytest.approx(30 / 60)


def test_each_weight_of_eq_3_acts_on_its_attribute() -> None:
    small = load_recipe("smoke-calogan-conditional").hyper()
    weights = {"x0": 2.0, "y0": 0.0, "theta": 0.0, "phi": 0.0}
    model = make_model("calogan-conditional", GEOMETRY, None, **{**small, "xi_weights": weights})
    condition = conditions(8)
    estimate = model.attributes.targets(condition)
    estimate[:, 0] += 0.25
    estimate[:, 1] += 100.0
    assert model._xi(estimate, condition).item() == pytest.approx(0.5)
    with pytest.raises(ModelError, match="xi_weights"):
        make_model("calogan-conditional", GEOMETRY, None, **{**small, "xi_weights": {"x0": 1.0}})


def test_the_axis_and_its_maps() -> None:
    condition = torch.tensor([[5e4, 10.0, -20.0, math.atan(0.1), math.pi / 2]])
    impact, slope = Axis(GEOMETRY)(condition)
    torch.testing.assert_close(impact, torch.tensor([[10.0, -20.0]]))
    torch.testing.assert_close(slope, torch.tensor([[0.0, 0.1]]), atol=1e-6, rtol=0)
    layer = GEOMETRY.layers[1]
    maps = ImpactMaps(GEOMETRY, layer)(condition)
    assert maps.shape == (1, ImpactMaps.channels, *layer.shape)
    x, y = (torch.from_numpy(c).float().reshape(layer.shape) for c in layer.centres)
    back = -20.0 + 0.1 * layer.z[1]
    torch.testing.assert_close(maps[0, 0], (x - 10) / 60)
    torch.testing.assert_close(maps[0, ImpactMaps.channels // 2 + 1], (y - back) / 60)
    hit = maps[0, 4].flatten().argmin()  # the cell that the axis enters through
    assert layer.centres[0][hit] == 20.0
    assert layer.centres[1][hit] == -20.0
    assert maps[0, 4].min().item() == pytest.approx(-1)
    shares = (maps[0, 5:7] / 0.3).exp() - 1e-3  # of the narrow core, along x and along y
    torch.testing.assert_close(shares[0].sum(dim=0), torch.ones(layer.shape[1]))
    torch.testing.assert_close(shares[1].sum(dim=1), torch.ones(layer.shape[0]))
    assert shares[:, hit // layer.shape[1], hit % layer.shape[1]].tolist() == pytest.approx([1, 1])


def test_moments_of_showers_in_one_and_in_two_cells() -> None:
    cells = torch.zeros(2, GEOMETRY.n_cells)
    middle = GEOMETRY.slices[1].start
    cells[0, middle + 12 * 3 + 4] = 7.0  # x = -100, y = -60
    cells[1, middle + 12 * 3 + 4] = 1.0
    cells[1, middle + 12 * 5 + 4] = 3.0  # x = -20
    centres, widths = Moments(GEOMETRY)(cells)
    torch.testing.assert_close(centres[:, 1], torch.tensor([-100.0, -40.0]))
    torch.testing.assert_close(centres[:, 4], torch.tensor([-60.0, -60.0]))
    assert centres[:, [0, 2, 3, 5]].abs().max() == 0
    assert widths[0, 1].expm1().item() < 0.1
    assert widths[1, 1].expm1().item() == pytest.approx(80 * math.sqrt(3) / 4, rel=1e-4)


def test_moving_the_impact_by_a_cell_moves_the_seed() -> None:
    """Translation: what a stream of the impact form sees moves with the shower."""
    layer = GEOMETRY.layers[1]
    maps = ImpactMaps(GEOMETRY, layer)
    condition = conditions(4)
    moved = condition.clone()
    moved[:, X0] += 40.0  # one cell of the middle layer
    torch.testing.assert_close(
        maps(moved)[:, :, 1:], maps(condition)[:, :, :-1], atol=1e-4, rtol=1e-4
    )


# --- streams ---------------------------------------------------------------------------------
def test_resampling_is_average_pooling_and_up_sampling() -> None:
    front, middle, back = GEOMETRY.layers
    image = torch.rand(2, 1, 3, 96, generator=rng())
    expected = image.repeat_interleave(4, dim=2).unflatten(3, (12, 8)).mean(dim=4)
    torch.testing.assert_close(Resample(front, middle)(image), expected)
    image = torch.rand(2, 1, 12, 12, generator=rng())
    expected = image.unflatten(3, (6, 2)).mean(dim=4)
    torch.testing.assert_close(Resample(middle, back)(image), expected)


def test_inpainting_is_a_weighted_mean_of_own_and_carried() -> None:
    layer = Inpainting(torch.nn.Conv2d(2, 2, 3, padding=1))
    own = torch.rand(2, 1, 12, 12, generator=rng())
    carried = torch.rand(2, 1, 12, 12, generator=rng(1))
    out = layer(own, carried)
    assert (out <= torch.maximum(own, carried) + 1e-6).all()
    assert (out >= torch.minimum(own, carried) - 1e-6).all()
    torch.testing.assert_close(layer(own, own), own)


def test_a_locally_connected_layer_with_equal_weights_is_a_convolution() -> None:
    layer = LocallyConnected2d(3, 4, (6, 9), (2, 3), (1, 2))
    x = torch.randn(2, 3, 6, 9, generator=rng())
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:1].expand_as(layer.weight))
    kernel = layer.weight[0].T.reshape(4, 3, 2, 3)
    expected = torch.nn.functional.conv2d(x, kernel, stride=(1, 2))
    torch.testing.assert_close(layer(x), expected)
    with torch.no_grad():
        layer.weight[0] = 0.0  # of the first position alone
    changed = (layer(x) - expected).abs().amax(dim=(0, 1)) > 1e-6
    assert changed.nonzero().tolist() == [[0, 0]]


@pytest.mark.parametrize("local", [None, (6, 12)], ids=["convolution", "local"])
def test_a_shifted_seed_shifts_the_image_of_convolutions_alone(
    local: tuple[int, int] | None,
) -> None:
    torch.manual_seed(0)
    stream = PaintStream(2, (3, 3), 0, batch_norm=False, starts=(1.0,), local=local)
    seed, no_embedding = torch.randn(1, 2, 6, 12), torch.zeros(1, 0)
    with torch.no_grad():
        image = stream(seed, no_embedding)
        shifted = stream(seed.roll(1, dims=3), no_embedding)
    inside = (slice(None), slice(None), slice(None), slice(4, -4))  # the edge is padded with zeros
    difference = (shifted - image.roll(1, dims=3))[inside].abs().max()
    assert (difference < 1e-5) == (local is None)


# --- losses ----------------------------------------------------------------------------------
def test_non_saturating_losses_against_their_formulas() -> None:
    real, fake = torch.randn(2, 40, 1, generator=rng())
    p, q = real.sigmoid(), fake.sigmoid()
    expected = -(p.log().mean() + (1 - q).log().mean())  # Eq. 1
    torch.testing.assert_close(gan_discriminator(real, fake, 0.0, rng()), expected)
    torch.testing.assert_close(gan_generator(fake), -q.log().mean())  # Eq. 2


def test_the_generator_learns_most_from_showers_that_are_seen_through() -> None:
    """d/dl of -log sigmoid(l) is -(1 - D): it does not saturate where D is 0."""
    logit = torch.tensor([[-20.0], [0.0], [20.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(gan_generator(logit) * 3, logit)
    torch.testing.assert_close(gradient.flatten(), torch.tensor([-1.0, -0.5, 0.0]))


def test_label_flipping_flips_the_given_share() -> None:
    ones = torch.ones(200_000, 1)
    flipped = flip_labels(ones, 0.05, rng())
    assert set(flipped.unique().tolist()) == {0.0, 1.0}
    assert (1 - flipped).mean().item() == pytest.approx(0.05, abs=4 * math.sqrt(0.0475 / 2e5))
    assert torch.equal(flip_labels(ones, 0.0, rng()), ones)
    assert torch.equal(flip_labels(ones, 0.05, rng()), flipped)
    # With labels flipped in a share s, the loss of D = p everywhere is linear in s.
    logit = torch.full((200_000, 1), 2.0)
    loss = gan_discriminator(logit, -logit, 0.2, rng(1)).item()
    p = 1 / (1 + math.exp(-2))
    assert loss == pytest.approx(-2 * (0.8 * math.log(p) + 0.2 * math.log(1 - p)), abs=0.02)


def test_energy_deviation_in_gev() -> None:
    scale = torch.tensor([[50_000.0], [10_000.0]])  # MeV requested
    x = torch.zeros(2, 5)
    x[0, :2] = 0.45  # 45 GeV: 5 too few
    x[1, 3] = 1.1  # 11 GeV: 1 too many
    assert energy_deviation(x, scale).item() == pytest.approx((5 + 1) / 2)


@pytest.mark.parametrize("energy_scale", [False, True])
def test_the_requested_energy_is_the_printed_or_the_mean_response(energy_scale: bool) -> None:
    """Real showers of positrons are 0.4 % off the printed target, and on the fitted one."""
    showers = sample_showers("calogan")
    transform = fit_transform("incident-fraction", showers, energy_scale=energy_scale)
    small = load_recipe("smoke-calogan-conditional").hyper()
    model = make_model("calogan-conditional", GEOMETRY, transform, **small)
    condition = torch.from_numpy(showers.conditions).float()
    asked = (model.fractions.scale(condition)[:, 0] / condition[:, ENERGY]).mean().item()
    mean = (showers.energies.sum(axis=1) / showers.incident_energy).mean()
    assert asked == pytest.approx(mean if energy_scale else 1.0, abs=5e-4)
    assert mean == pytest.approx(0.996, abs=0.001)


# --- the models ------------------------------------------------------------------------------
def small_model(**changes: object) -> torch.nn.Module:
    small = {**load_recipe("smoke-calogan-conditional").hyper(), **changes}
    return make_model("calogan-conditional", GEOMETRY, None, **small).eval()


def test_showers_follow_a_moved_impact_before_any_training() -> None:
    """In the impact form a cell to the right moves a shower to the right, whatever the weights."""
    condition = torch.tensor([[5e4, -20.0, 3.0, 0.1, 0.4]])
    moved = condition.clone()
    moved[:, X0] += 40.0
    shifts = []
    for seed in range(8):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = small_model(blur=[])
        both = torch.cat([condition, moved])
        with torch.no_grad():
            drawn = model.sample(both, torch.zeros(2, model.noise_size))[:, GEOMETRY.slices[1]]
        rows = drawn.reshape(2, 12, 12).sum(dim=2)
        before, after = (rows @ torch.arange(12.0) / rows.sum(dim=1)).tolist()
        shifts.append(after - before)
    assert min(shifts) > 0
    assert sum(shifts) / 8 == pytest.approx(1, abs=0.3), shifts


def test_the_total_is_shared_out_where_the_model_draws_a_response() -> None:
    model = small_model(response_width=0.002)
    condition, noise = conditions(100), torch.randn(100, model.noise_size, generator=rng())
    with torch.no_grad():
        total = model.sample(condition, noise).sum(dim=1) / condition[:, ENERGY]
    assert (total - 1).abs().max() < 0.05
    assert total.std() > 1e-5


def test_local_blocks_have_weights_for_each_cell() -> None:
    def weights(*, local: bool) -> list[int]:
        return [
            sum(p.numel() for block in stream.blocks for p in block.conv.parameters())
            for stream in small_model(local=local).generator.streams
        ]

    sizes = [layer.size for layer in GEOMETRY.layers]
    shared = weights(local=False)
    assert weights(local=True) == [n * w for n, w in zip(sizes, shared, strict=True)]


def test_ablations_take_away_what_they_say() -> None:
    full, dark = small_model(), small_model(attention=False)
    assert any(isinstance(part, Inpainting) for part in full.modules())
    assert not any(isinstance(part, Inpainting) for part in dark.modules())
    sharp = small_model(blur=[])
    assert all(k.kernel.numel() == 1 for k in sharp.modules() if isinstance(k, Blur))
    hard = small_model(soft_sparsity=False)
    energies = torch.rand(4, GEOMETRY.n_cells, generator=rng()).requires_grad_(True)
    assert full.discriminator._occupied(energies).requires_grad
    assert not hard.discriminator._occupied(energies).requires_grad


def test_attention_lets_one_layer_see_the_one_before() -> None:
    for attention in (True, False):
        model = small_model(attention=attention, response_width=0.0)
        condition, noise = conditions(1), torch.zeros(1, model.noise_size)
        with torch.no_grad():
            before = model.sample(condition, noise)[0, GEOMETRY.slices[2]].clone()
            model.generator.streams[0].out.bias += 3.0
            after = model.sample(condition, noise)[0, GEOMETRY.slices[2]]
        assert torch.equal(before, after) is not attention


def test_the_head_xi_never_sees_the_requested_attributes() -> None:
    """It would read them off, and the generator would learn nothing from it."""
    model = small_model(informed_judge=True)
    x = torch.rand(6, GEOMETRY.n_cells, generator=rng()) / GEOMETRY.n_cells
    first, second = conditions(12).chunk(2)
    scale = torch.full((6, 1), 5e4)
    with torch.no_grad():
        judged, told = (model.discriminator(x, c, scale) for c in (first, second))
    assert torch.equal(judged[1], told[1])
    assert not torch.equal(judged[0], told[0])


@pytest.mark.parametrize("compares", [True, False])
def test_the_response_of_a_shower_is_compared_with_the_others_where_asked(compares: bool) -> None:
    discriminator = small_model(compare_energies=compares).discriminator
    with torch.no_grad():  # nothing else compares the showers of the batch
        discriminator.alike.kernel.zero_()
        discriminator.alike_sparsity.kernel.zero_()
    x = torch.rand(4, GEOMETRY.n_cells, generator=rng()) / GEOMETRY.n_cells
    x.requires_grad_()
    logit, _ = discriminator(x, conditions(4), torch.full((4, 1), 5e4))
    (gradient,) = torch.autograd.grad(logit[0].sum(), x)
    assert gradient[0].abs().max() > 0
    assert bool((gradient[1:] != 0).any()) is compares


def test_xi_learns_on_real_showers_and_the_generator_from_requests() -> None:
    model = small_model(energy_weight=0.0)
    data = batch(16)
    (_, seen), (_, asked) = (phase.loss(data, rng()) for phase in model.phases())
    real = model.transform(data.energies, data.condition)
    _, estimate = model.discriminator(real, data.condition, model.fractions.scale(data.condition))
    assert seen["xi"].item() == pytest.approx(model._xi(estimate, data.condition).item())
    fake = model.generate(data.condition, torch.randn(16, model.noise_size, generator=rng()))
    _, estimate = model.discriminator(fake, data.condition, model.fractions.scale(data.condition))
    assert asked["xi"].item() == pytest.approx(model._xi(estimate, data.condition).item())


def test_the_ancestor_ignores_position_and_angles() -> None:
    hyper = load_recipe("smoke-calogan").hyper()
    model = make_model("calogan", GEOMETRY, None, **hyper).eval()
    condition, noise = conditions(5), torch.randn(5, 8, generator=rng())
    other = conditions(10)[5:]
    other[:, ENERGY] = condition[:, ENERGY]
    with torch.no_grad():
        assert torch.equal(model.sample(condition, noise), model.sample(other, noise))


def test_every_recipe_of_the_conditional_calogan_has_four_blocks_or_more() -> None:
    counted = Counter[str]()
    for name in recipe_names():
        recipe = load_recipe(name)
        if recipe.model["name"] != "calogan-conditional":
            continue
        model = make_model("calogan-conditional", GEOMETRY, None, **recipe.hyper())
        assert all(len(stream.blocks) >= 4 for stream in model.generator.streams)
        assert len(model.generator.streams) == GEOMETRY.n_layers
        counted[recipe.name] += 1
    assert len(counted) > 1


def test_wrong_hyper_parameters_say_what_to_do() -> None:
    for changes, match in (
        ({"latent": 100}, "latent"),
        ({"blur": [[3, 3]]}, "blur"),
        ({"widths": [4, 4, 4]}, "widths"),
    ):
        with pytest.raises(ModelError, match=match):
            small_model(**changes)
    small = load_recipe("smoke-calogan-conditional").hyper()
    showers = sample_showers("calogan")
    logs = fit_transform("layer-logs", showers)
    with pytest.raises(ModelError, match="incident-fraction"):
        make_model("calogan-conditional", GEOMETRY, logs, **small)
    photons = load_geometry("ds1-photons")
    with pytest.raises(ModelError, match="x0"):
        make_model("calogan-conditional", photons, None, **small)
    assert np.isfinite(showers.energies).all()
