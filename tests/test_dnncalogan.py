"""DNNCaloGAN: what flows through the sum and what does not, the critics, conditions of a step."""

from typing import Any

import pytest
import torch
from conftest import sample_showers

from caloforge.config import load_recipe
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError
from caloforge.models.base import Batch
from caloforge.models.dnncalogan.model import DNNCaloGAN, DNNCaloGANHyper
from caloforge.models.dnncalogan.watched import OBSERVABLES, Watched
from caloforge.nn.conditions import ConditionFeatures
from caloforge.nn.dense import TrainableSwish
from caloforge.objectives import gradient_penalty, reverse_gradient, slope_penalties
from caloforge.training.train import build

ATLAS = load_geometry("atlas-cells")
SMALL: dict[str, Any] = {"latent": 3, "generator": [8] * 5, "output_gain": 0.1}
CELLS = {"hidden": [8, 8]}


def gan(*critics: dict[str, Any], **hyper: Any) -> DNNCaloGAN:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        settings = {**SMALL, "critics": list(critics or [CELLS]), **hyper}
        return DNNCaloGAN(ATLAS, None, DNNCaloGANHyper.of(settings))


def watching(*names: str, **settings: Any) -> dict[str, Any]:
    return {**CELLS, "observables": list(names or ["total"]), **settings}


def batch(count: int = 64) -> Batch:
    showers = sample_showers("atlas-cells")[:count]
    condition = torch.from_numpy(showers.conditions).float()
    return Batch(torch.from_numpy(showers.energies), condition)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_steep(model: DNNCaloGAN, slope: float) -> None:
    """A critic that is a straight line: `slope` times its observable, and nothing of the cells."""
    critic = model.dense_critics()[0]
    for part in critic.network:
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.zeros_(part.weight)
            torch.nn.init.zeros_(part.bias)
    first, middle, last = (p for p in critic.network if isinstance(p, torch.nn.Linear))
    with torch.no_grad():
        first.bias[0] = 1e3  # far on the straight side of the leaky ReLU
        first.weight[0, ATLAS.n_cells] = slope
        middle.weight[0, 0] = last.weight[0, 0] = 1.0


def penalty_of(model: DNNCaloGAN, seed: int = 0) -> torch.Tensor:
    data = batch()
    real = model.transform(data.energies, data.condition)
    fake = model._fakes(data.condition, rng(seed)).detach()
    mix = torch.rand(len(real), 1, generator=rng(seed))
    return model.penalty(model.dense_critics()[0], real, fake, data.condition, mix)


# --- the sum ---------------------------------------------------------------------------------
@pytest.mark.parametrize("slope", [0.0, 1.0, 1000.0])
def test_the_penalty_on_cells_does_not_see_the_sum_outside(slope: float) -> None:
    """Zero slope in the cells costs (0 - 1)^2 = 1, however steep the critic is in the sum."""
    model = gan(watching(penalty=10.0))
    make_steep(model, slope)
    assert penalty_of(model).item() == pytest.approx(10.0, rel=1e-5)


def test_a_penalty_of_its_own_holds_the_sum_outside() -> None:
    """(slope - 1)^2 for one input, beside the 1 of the cells."""
    model = gan(watching(penalty=10.0, observables_penalty=0.5))
    make_steep(model, 4.0)
    assert penalty_of(model).item() == pytest.approx(10.0 + 0.5 * 9.0, rel=1e-4)


def test_the_sum_inside_is_penalised_with_the_cells() -> None:
    """d pull / d x_cell = sqrt(E / GeV) / resolution for every cell: |grad| has a closed form."""
    slope = 0.001
    model = gan(watching(penalty=10.0, sum="inside"))
    make_steep(model, slope)
    energy = batch().condition[:, 0]
    norm = slope * (energy / 1000).sqrt() / 0.1 * ATLAS.n_cells**0.5
    expected = 10 * (norm - 1).square().mean()
    assert penalty_of(model).item() == pytest.approx(float(expected), rel=1e-3)
    assert abs(float(expected) - 10.0) > 0.5


def test_the_gradient_of_the_penalty_is_that_with_the_sum_as_an_input() -> None:
    """Replacing the sum by a constant of the same value changes neither penalty nor gradient."""
    model = gan(watching(penalty=10.0))
    critic, data = model.dense_critics()[0], batch()
    real = model.transform(data.energies, data.condition)
    fake = model._fakes(data.condition, rng()).detach()
    mix = torch.rand(len(real), 1, generator=rng())
    weights = list(critic.parameters())
    gradient = torch.autograd.grad(
        model.penalty(critic, real, fake, data.condition, mix), weights, materialize_grads=True
    )
    features = model.features(data.condition)
    sums = [model.watch(critic, x, data.condition).numpy() for x in (fake, real)]
    constant = torch.lerp(torch.from_numpy(sums[0]), torch.from_numpy(sums[1]), mix)
    expected = torch.autograd.grad(
        10 * gradient_penalty(lambda x: critic(x, constant, features), real, fake, mix),
        weights,
        materialize_grads=True,
    )
    for ours, theirs in zip(gradient, expected, strict=True):
        assert torch.equal(ours, theirs)


def test_the_generator_learns_through_the_sum() -> None:
    """A critic that sees nothing but the sum pulls every firing cell of the generator up alike."""
    model = gan(watching())
    make_steep(model, 1.0)
    data = batch()
    x = model._fakes(data.condition, rng()).detach().requires_grad_(True)
    score = model.score(model.dense_critics()[0], x, data.condition)
    (slope,) = torch.autograd.grad(score.sum(), x)
    expected = (data.condition[:, :1] / 1000).sqrt() / 0.1
    firing = x > 0
    torch.testing.assert_close(slope[firing], expected.expand_as(x)[firing], rtol=1e-4, atol=0)
    loss, _ = model.generator_loss(data, rng())
    gradients = torch.autograd.grad(loss, list(model.generator.parameters()))
    assert all(torch.isfinite(g).all() for g in gradients)
    assert max(g.abs().max() for g in gradients) > 0


def test_the_critic_is_trained_on_the_sum_too() -> None:
    model = gan(watching())
    critic = model.dense_critics()[0]
    loss, _ = model.critic_loss(critic, batch(), rng())
    (gradient,) = torch.autograd.grad(loss, critic.network[0].weight)
    assert gradient[:, ATLAS.n_cells].abs().max() > 0


def test_sum_and_cells_of_a_shower_between_are_those_of_one_shower() -> None:
    """The total energy of a mixture is the mixture of the totals: inside or outside, the critic
    is asked about the same point.
    """
    model = gan(watching())
    critic, data = model.dense_critics()[0], batch()
    real = model.transform(data.energies, data.condition)
    fake = model._fakes(data.condition, rng())
    mix = torch.rand(len(real), 1, generator=rng())
    ends = [model.watch(critic, x, data.condition) for x in (fake, real)]
    torch.testing.assert_close(
        model.watch(critic, torch.lerp(fake, real, mix), data.condition),
        torch.lerp(ends[0], ends[1], mix),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_critic_may_know_the_observables_alone() -> None:
    """Its verdict follows the sum wherever the energy is; the penalty is that on the sum."""
    model = gan(watching(cells=False, observables_penalty=3.0, penalty=10.0))
    critic, data = model.dense_critics()[0], batch()
    x = model.transform(data.energies, data.condition)
    moved = x[:, torch.randperm(ATLAS.n_cells, generator=rng())]
    scores = [model.score(critic, cells, data.condition) for cells in (x, moved)]
    torch.testing.assert_close(*scores)
    assert critic.network[0].in_features == 1 + model.features.size
    for part in critic.network:
        if isinstance(part, torch.nn.Linear):
            torch.nn.init.zeros_(part.weight)
    assert penalty_of(model).item() == pytest.approx(3.0)  # (0 - 1)^2 of the sum, none of cells
    free = gan(watching(cells=False))
    assert penalty_of(free).item() == 0.0


def test_slope_penalties_of_a_plane() -> None:
    x, y = torch.zeros(5, 2, requires_grad=True), torch.zeros(5, 1, requires_grad=True)
    score = x @ torch.tensor([[3.0], [4.0]]) + 2 * y
    on_x, on_y = slope_penalties(score, [x, y])
    assert (on_x.item(), on_y.item()) == ((5 - 1) ** 2, (2 - 1) ** 2)


# --- players ---------------------------------------------------------------------------------
def test_two_critics_are_three_phases_and_the_ratio_is_theirs() -> None:
    phases = gan(CELLS, watching(lr=1e-3), critic_steps=5).phases()
    assert [(p.name, p.repeats, p.source) for p in phases] == [
        ("critic1", 5, "next"),
        ("critic2", 5, "next"),
        ("generator", 1, "all"),
    ]
    assert set(phases[0].rates) == {5e-5}
    assert set(phases[1].rates) == {1e-3}


@pytest.mark.parametrize(
    ("mode", "source"), [("whole-set", "all"), ("last-chunk", "step"), ("last-batch", "last")]
)
def test_the_three_modes_of_conditions(mode: str, source: str) -> None:
    assert gan(generator_conditions=mode).phases()[-1].source == source


def test_the_generator_is_trained_against_the_weighted_sum_of_critics() -> None:
    both = gan({**CELLS, "weight": 2.0}, watching(weight=0.5))
    alone = [gan(CELLS), gan(watching())]
    alone[0].critics[0].load_state_dict(both.critics[0].state_dict())
    alone[1].critics[0].load_state_dict(both.critics[1].state_dict())
    for model in alone:
        model.generator.load_state_dict(both.generator.state_dict())
    loss, first, second = (m.generator_loss(batch(), rng())[0] for m in (both, *alone))
    torch.testing.assert_close(loss, 2.0 * first + 0.5 * second)


def test_minibatch_discrimination_compares_showers_of_one_batch_alone() -> None:
    """The critic's score of a shower depends on the others of its batch, and not on those of the
    other batch in the same call.
    """
    model = gan({**CELLS, "minibatch": 4})
    critic, data = model.dense_critics()[0], batch(8)
    real = model.transform(data.energies, data.condition)
    fake = model._fakes(data.condition, rng()).detach()
    seen = [real.new_zeros(8, 0), model.features(data.condition)]
    apart = torch.cat([critic(x, *seen) for x in (real, fake)])
    twice = [torch.cat([x, x]) for x in seen]
    torch.testing.assert_close(critic(torch.cat([real, fake]), *twice, batches=2), apart)
    others = real.clone()
    others[1:] = real[:1]
    assert (critic(others, *seen)[0] - critic(real, *seen)[0]).abs() > 1e-6
    plain = gan(CELLS).dense_critics()[0]
    torch.testing.assert_close(plain(others, *seen)[0], plain(real, *seen)[0])
    assert torch.isfinite(model.critic_loss(critic, data, rng())[0])


def test_reversal_gives_the_generator_what_it_gets_in_turns_and_the_critic_too() -> None:
    """One backward pass: the same gradients as each player's own loss, at the same fakes."""
    model = gan(watching(), training="reversal")
    (phase,) = model.phases()
    data = batch()
    loss, _ = phase.loss(data, rng(3))
    own = list(model.generator.parameters())
    gradient = torch.autograd.grad(loss, own, retain_graph=True)
    expected = torch.autograd.grad(model.generator_loss(data, rng(3))[0], own)
    for ours, theirs in zip(gradient, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-7)
    critic = model.dense_critics()[0]
    weights = list(critic.parameters())
    gradient = torch.autograd.grad(loss, weights)
    expected = torch.autograd.grad(model.critic_loss(critic, data, rng(3))[0], weights)
    for ours, theirs in zip(gradient, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_reversal_has_a_learning_rate_for_each_player() -> None:
    model = gan(
        CELLS,
        watching(lr=3e-4),
        training="reversal",
        generator_optimiser={"name": "rmsprop", "lr": 1e-4},
        critic_optimiser={"name": "rmsprop", "lr": 2e-4},
    )
    (phase,) = model.phases()
    assert len(phase.rates) == len(phase.parameters)
    by_rate = {r: sum(x == r for x in phase.rates) for r in phase.rates}
    sizes = [len(list(p.parameters())) for p in (model.generator, *model.critics)]
    assert by_rate == dict(zip((1e-4, 2e-4, 3e-4), sizes, strict=True))


def test_reverse_gradient_turns_the_sign_and_nothing_else() -> None:
    x = torch.tensor([1.0, -2.0], requires_grad=True)
    y = reverse_gradient(x)
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad((y * torch.tensor([3.0, 5.0])).sum(), x)
    assert gradient.tolist() == [-3.0, -5.0]


# --- parts -----------------------------------------------------------------------------------
def test_each_hidden_layer_has_one_trainable_beta() -> None:
    model = gan()
    swishes = [m for m in model.generator.modules() if isinstance(m, TrainableSwish)]
    assert [m.beta.shape for m in swishes] == [(1,)] * 5
    swish = swishes[0]
    x = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(swish(x), torch.nn.functional.silu(x))  # beta = 1 is swish
    with torch.no_grad():
        swish.beta.fill_(1e3)
    torch.testing.assert_close(swish(x), torch.relu(x))  # and a large one ReLU


def test_the_condition_is_two_codes_and_three_numbers() -> None:
    features = ConditionFeatures(ATLAS, one_hot=True)
    assert features.size == 3 + 4 + 2
    condition = torch.tensor([[1024.0, 0.0, 18.4, 3.0, 0.0], [262144.0, -18.9, 0.0, 1.0, 1.0]])
    table = features(condition)
    assert table[:, 3:].tolist() == [[0, 0, 0, 1, 1, 0], [0, 1, 0, 0, 0, 1]]
    torch.testing.assert_close(table[:, :3], torch.tensor([[-1.0, 0, 1], [1, -1, 0]]))
    assert ConditionFeatures(ATLAS).size == 5


def test_relu_empties_cells_and_softplus_washes_them_out() -> None:
    data = batch()
    noise = torch.randn(len(data.condition), 3, generator=rng())
    sharp, smooth = (gan(output_activation=name) for name in ("relu", "softplus"))
    assert (sharp.sample(data.condition, noise) == 0).float().mean() > 0.1
    assert (smooth.sample(data.condition, noise) > 0).all()


def test_the_pull_of_the_total_has_spread_one_at_the_quoted_resolution() -> None:
    watched = Watched(ATLAS, ["total"], 0.1)
    energy = torch.tensor([1024.0, 16384.0, 262144.0])
    sigma = 0.1 * (energy / 1000).rsqrt()
    condition = torch.zeros(3, 5)
    condition[:, 0] = energy
    for pulls in (-1.0, 0.0, 2.0):
        cells = torch.zeros(3, ATLAS.n_cells)
        cells[:, 100] = energy * (1 + pulls * sigma)
        torch.testing.assert_close(
            watched(cells, condition), torch.full((3, 1), pulls), rtol=0, atol=1e-4
        )


@pytest.mark.parametrize("name", sorted(OBSERVABLES))
def test_observables_are_of_order_one_and_differentiable(name: str) -> None:
    watched, data = Watched(ATLAS, [name], 0.1), batch(400)
    energies = data.energies.clone().requires_grad_(True)
    values = watched(energies, data.condition)
    assert values.shape == (len(energies), watched.size())
    assert values.abs().max() < 10
    assert values.std(dim=0).max() > 0.01
    (slope,) = torch.autograd.grad(values.square().sum(), energies)
    assert torch.isfinite(slope).all()
    assert slope.abs().max() > 0
    empty = watched(torch.zeros(2, ATLAS.n_cells), data.condition[:2])
    assert torch.isfinite(empty).all()


def test_layer_fractions_are_the_logarithm_of_the_layers_sums() -> None:
    watched, data = Watched(ATLAS, ["layers"], 0.1), batch(50)
    sums = torch.stack([data.energies[:, s].sum(dim=1) for s in ATLAS.slices], dim=1)
    expected = (sums / data.condition[:, :1] + 1e-4).log10()
    torch.testing.assert_close(watched(data.energies, data.condition), expected)


@pytest.mark.parametrize(
    ("hyper", "named"),
    [
        ({"critics": [{"penality": 1.0}]}, "did you mean 'penalty'"),
        ({"critics": [{"penalty": -1.0}]}, "'penalty'"),
        ({"critics": [{"observables": ["totl"]}]}, "did you mean 'total'"),
        ({"critics": [{"sum": "beside"}]}, "'sum'"),
        ({"critics": [{"hidden": []}]}, "'hidden'"),
        ({"critics": [{"cells": False}]}, "without cells it is expected to watch observables"),
        (
            {"critics": [{"cells": False, "observables": ["total"], "sum": "inside"}]},
            "without cells",
        ),
    ],
)
def test_a_wrong_critic_is_named(hyper: dict[str, Any], named: str) -> None:
    with pytest.raises(ModelError, match=named):
        gan(**hyper)


@pytest.mark.parametrize("hyper", ["critics=[]", "generator=[8,8]", "training=both"])
def test_a_wrong_hyper_parameter_is_named(hyper: str) -> None:
    recipe = load_recipe("smoke-dnncalogan", [f"model.{hyper}"])
    with pytest.raises(ModelError, match=hyper.split("=")[0]):
        build(recipe, sample_showers("atlas-cells"))
