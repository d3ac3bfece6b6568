"""The recurrent network: densities in closed form, teacher forcing against free running, slices
that are given, the mean shower of least squares, averaged showers.
"""

import math

import numpy as np
import pytest
import torch
from conftest import sample_showers
from scipy import stats
from torch.distributions import Categorical, MixtureSameFamily, Normal

from caloforge.config import Data, Selection, load_recipe
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ConditionError, ModelError, TrainingError
from caloforge.models import make_model
from caloforge.models.base import Batch
from caloforge.models.rnn.model import DECAY, RECENT, RecurrentHyper, RecurrentNetwork
from caloforge.models.rnn.recurrent import Recurrent, dropout
from caloforge.models.rnn.slices import LogWeibull, Mixture, Step, share_out
from caloforge.nn.conditions import ConditionEmbedding
from caloforge.noise import normals
from caloforge.showers import Showers
from caloforge.training.dataset import average_showers, prepare_showers
from caloforge.training.selection import HeldOut
from caloforge.training.train import build
from caloforge.transforms import LogEnergy, Spiral


def normal(count: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(normals(seed, 0, count, size))


@pytest.fixture(scope="module")
def lcd() -> Showers:
    return sample_showers("lcd")


def network(showers: Showers, cells: int = 25, others: bool = True, **hyper) -> RecurrentNetwork:
    """Small, with weights large enough that every input matters."""
    torch.manual_seed(0)
    transform = Spiral.fit(showers, cells=cells, scaling="log", unit=0.1, others=others)
    settings = {"hidden": 16, "width": 8, "components": 2} | hyper
    model = RecurrentNetwork(showers.geometry, transform, RecurrentHyper.of(settings))
    with torch.no_grad():
        for weight in model.recurrent.parameters():
            weight.mul_(3)
    return model.eval()


# --- densities ---------------------------------------------------------------------------------
def mixture(count: int) -> Mixture:
    numbers = torch.tensor([0.4, 0.2, -1.0, 0.5, -3.0, 0.0, 2.5, -1.0, 0.3, -0.4])
    odds, rest = numbers[0].expand(count), numbers[1:].expand(count, 9)
    return Mixture(odds, rest[:, :3], rest[:, 3:6], rest[:, 6:])


def test_the_mixture_is_the_one_of_torch() -> None:
    value = torch.linspace(-5, 5, 50)
    own = mixture(50)
    parts = Normal(own.mean, own.log_std.exp())
    density = MixtureSameFamily(Categorical(logits=own.weight), parts).log_prob(value)
    chance = math.log(1 / (1 + math.exp(-0.4)))
    yes = torch.ones(50, dtype=torch.bool)
    torch.testing.assert_close(own.nll(value, yes), -density - chance, rtol=1e-5, atol=1e-5)
    empty = own.nll(value, ~yes)
    torch.testing.assert_close(empty, torch.full((50,), math.log1p(math.exp(0.4))))


def test_the_mixture_is_drawn_as_it_says() -> None:
    own, z = mixture(40_000), normal(40_000, 2)
    values, filled = own.draw(z[:, 0], z[:, 1])
    assert float(filled.float().mean()) == pytest.approx(1 / (1 + math.exp(-0.4)), abs=0.01)
    weight = own.weight[0].softmax(0).numpy()
    mean, std = own.mean[0].numpy(), own.log_std[0].exp().numpy()

    def below(x: np.ndarray) -> np.ndarray:
        return (weight * stats.norm.cdf((x[:, None] - mean) / std)).sum(1)

    assert stats.kstest(values[filled].numpy(), below).pvalue > 0.01


@pytest.mark.parametrize("shape", [0.2, 1.0, 4.0])
def test_the_weibull_density_integrates_and_is_drawn_as_it_says(shape: float) -> None:
    def density(count: int) -> LogWeibull:
        odds, centre, width, log_shape = torch.tensor([-0.8, 1.5, math.log(0.7), math.log(shape)])
        return LogWeibull(*(x.expand(count) for x in (odds, centre, width, log_shape)))

    chance = 1 / (1 + math.exp(0.8))
    grid = torch.linspace(-50, 6, 200_001, dtype=torch.float64)
    yes = torch.ones(len(grid), dtype=torch.bool)
    logs = -density(len(grid)).nll(grid, yes)
    assert float(torch.trapezoid(logs.exp(), grid)) == pytest.approx(chance, rel=1e-3)
    assert float(density(1).nll(grid[:1], ~yes[:1])[0].exp()) == pytest.approx(1 / (1 - chance))
    values, filled = density(40_000).draw(normal(40_000, 1)[:, 0])
    assert float(filled.float().mean()) == pytest.approx(chance, abs=0.01)
    test = stats.kstest(
        values[filled].exp().numpy(),
        lambda energy: stats.exponweib.cdf(energy, shape, 1 / 0.7, scale=math.exp(1.5)),
    )
    assert test.pvalue > 0.01


def test_a_cell_fires_from_zero_energy_on() -> None:
    """Its energy is a continuous, rising function of the noise: rounding decides over nothing."""
    z = torch.linspace(-3, 4, 7001)
    flat = [torch.full_like(z, value) for value in (-1.0, 2.0, -1.0, 0.0)]
    values, filled = LogWeibull(*flat).draw(z)
    energies = torch.where(filled, values.exp(), 0.0)
    assert torch.all(energies.diff() >= 0)
    first = int(filled.float().argmax())
    assert 0 < first < 7000
    assert float(energies[first]) < 0.5 * math.exp(2.0)
    assert float(energies.diff()[: first + 20].max()) < 0.5 * math.exp(2.0)


def test_rounding_hardly_moves_a_cell_that_is_rarely_filled() -> None:
    """Its noise is in the far tail, where 1 - erf has a few digits left in single precision."""
    z = torch.linspace(4.2, 5.2, 4001)

    def energies(dtype: torch.dtype) -> torch.Tensor:
        numbers = [torch.full_like(z, value, dtype=dtype) for value in (-12.5, 2.0, 0.0, 0.0)]
        values, filled = LogWeibull(*numbers).draw(z.to(dtype))
        return torch.where(filled, values.exp(), 0.0).double()

    exact = energies(torch.float64)
    assert 100 < int((exact > 0).sum()) < 3900
    assert float((energies(torch.float32) - exact).abs().max()) < 2e-4 * math.exp(2.0)


def test_cells_share_the_energy_of_their_slice() -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(50, 9, generator=rng)
    filled = torch.rand(50, 9, generator=rng) < 0.3
    filled[0] = False  # nothing fired: the likeliest cell takes all
    total = torch.rand(50, 1, generator=rng)
    total[1] = 0.0
    odds = torch.randn(50, 9, generator=rng)
    energies = share_out(total, values, filled, odds)
    torch.testing.assert_close(energies.sum(1, keepdim=True), total)
    assert torch.equal(
        energies[2:] > 0,
        filled[2:]
        | (~filled[2:].any(1, keepdim=True)) & (odds[2:] == odds[2:].amax(1, keepdim=True)),
    )
    assert int(energies[0].argmax()) == int(odds[0].argmax())
    assert not energies[1].any()


# --- recurrence --------------------------------------------------------------------------------
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_step_by_step_is_the_whole_sequence(cell: str) -> None:
    torch.manual_seed(0)
    layers = Recurrent(cell, 5, 7, 2)
    x = torch.randn(3, 6, 5)
    whole, _ = layers(x, layers.begin(3))
    state, steps = layers.begin(3), []
    for k in range(6):
        h, state = layers(x[:, k : k + 1], state)
        steps.append(h)
    torch.testing.assert_close(torch.cat(steps, 1), whole)
    layers.start.data += 1.0  # the initial state is used, and learned
    assert not torch.allclose(layers(x, layers.begin(3))[0][:, 0], whole[:, 0])


def test_dropout_takes_its_noise_from_the_generator_and_keeps_the_mean() -> None:
    x = torch.ones(100, 1000)
    first, again = (dropout(x, 0.25, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert float((first == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(first.mean()) == pytest.approx(1.0, abs=0.01)
    assert dropout(x, 0.25, None) is x


def test_categories_are_embedded_and_other_conditions_projected() -> None:
    torch.manual_seed(0)
    embed = ConditionEmbedding(load_geometry("lcd"), 10)
    a, b, c = embed(torch.tensor([[0.0, 2e4], [1.0, 2e4], [1.0, 4e4]]))
    assert embed.size == 20
    assert not torch.equal(a[:10], b[:10]) and torch.equal(a[10:], b[10:])
    assert torch.equal(b[:10], c[:10]) and not torch.equal(b[10:], c[10:])
    logs = embed(torch.tensor([[0.0, 1e4], [0.0, 2e4], [0.0, 4e4]]))[:, 10:].diff(dim=0)
    torch.testing.assert_close(logs[0], logs[1])  # linear in log E


HEADS = [
    {"head": "likelihood", "conv": True},
    {"head": "likelihood", "cell": "gru", "layers": 2},
    {"head": "l2", "conv": True},
]


@pytest.mark.parametrize("hyper", HEADS, ids=["full", "plain", "l2"])
def test_teacher_forcing_on_its_own_slices_is_the_free_run(lcd: Showers, hyper: dict) -> None:
    model = network(lcd, **hyper)
    condition = torch.from_numpy(lcd.conditions[:6]).float()
    noise = normal(6, model.noise_size)
    with torch.inference_mode():
        showers = model.sample(condition, noise)
        cells, behind = model.slices(showers, condition)
        past = model.history(cells)
        h, inputs = model.states(past, condition)
        size, noise = model.slice.noise, noise[:, 2 * model.likelihood :]
        for k in range(model.depth):
            before = type(past)(*(part[:, k : k + 1] for part in past))
            left = before.sums[:, 0, RECENT : RECENT + 1]
            step = Step(h[:, k], inputs[:, k], model.images(before), left)
            drawn = noise[:, k * size : (k + 1) * size]
            again = model.slice.draw(step, drawn, whole=k == model.depth - 1)
            torch.testing.assert_close(again, cells[:, k], rtol=1e-2, atol=1e-2)
        last = Step(h[:, -1], inputs[:, -1], None, model.incident(condition))
        again = model.behind.draw(last, noise[:, model.depth * size :], whole=False)
        torch.testing.assert_close(again, behind, rtol=1e-2, atol=1e-2)
    assert cells.sum() > 0


def test_the_history_is_what_came_before(lcd: Showers) -> None:
    model = network(lcd)
    energies = torch.rand(2, model.depth, model.cells)
    past = model.history(energies)
    logs = (energies / 0.1).log1p()
    assert not past.last[:, 0].any() and not past.trail[:, 0].any()
    torch.testing.assert_close(past.last[:, 4], logs[:, 3])
    trail = sum(DECAY ** (4 - k) * logs[:, k] for k in range(4))
    torch.testing.assert_close(past.trail[:, 4], trail)
    total = energies.sum(2)
    left, everything = total[:, 4:].sum(1), total.sum(1)
    sums = torch.stack([total[:, 3], total[:, 2], total[:, 1], left, everything], 1)
    torch.testing.assert_close(past.sums[:, 4], sums)


def test_nothing_is_left_of_a_pool_that_is_used_up(lcd: Showers) -> None:
    model = network(lcd)
    parts = torch.rand(200, model.cells, generator=torch.Generator().manual_seed(0))
    total = 500 * parts.sum(1, keepdim=True)
    whole = parts / parts.sum(1, keepdim=True) * total  # sums up to the total but for rounding
    assert (whole.sum(1, keepdim=True) != total).any()
    left = model.extend(model.begin(total), whole).sums[..., RECENT]
    assert not left.any()
    half = model.extend(model.begin(total), whole / 2).sums[:, 0, RECENT]
    torch.testing.assert_close(half, total[:, 0] / 2)


def test_without_the_index_all_steps_are_told_the_same(lcd: Showers) -> None:
    condition = torch.from_numpy(lcd.conditions[:1]).float()
    for told in (True, False):
        model = network(lcd, head="l2", others=False, slice_index=told)
        past = model.begin(torch.ones(1, 1))
        first, last = (model.inputs(past, condition, torch.tensor([k])) for k in (0, 20))
        assert torch.equal(first, last) != told


def test_a_step_never_sees_what_comes_later(lcd: Showers) -> None:
    model = network(lcd, conv=True)
    condition = torch.from_numpy(lcd.conditions[:1]).float()
    energies = torch.rand(1, model.depth, model.cells, requires_grad=True)
    past = model.history(energies)
    past = past._replace(sums=past.sums.detach())  # the energy of all slices is drawn first
    h, _ = model.states(past, condition)
    gradient = torch.autograd.grad(h[0, 9].sum(), energies)[0][0]
    assert not gradient[9:].any()
    assert (gradient[:9].abs().sum(1) > 0).all()


# --- slices that are given ---------------------------------------------------------------------
@pytest.mark.parametrize("hyper", HEADS, ids=["full", "plain", "l2"])
def test_given_slices_come_back_and_are_continued(lcd: Showers, hyper: dict) -> None:
    model = network(lcd, **hyper)
    condition = torch.from_numpy(lcd.conditions[:5]).float()
    noise = normal(5, model.noise_size)
    real = torch.from_numpy(lcd.energies[:5])[:, : 15 * 625].reshape(5, 15, 625)
    with torch.inference_mode():
        free = model.sample(condition, noise)
        drawn = model.sample(condition, noise, context=real)
        assert torch.equal(drawn[:, : 15 * 625].reshape(5, 15, 625), real)  # outside the crop too
        own = free[:, : 15 * 625].reshape(5, 15, 625)
        again = model.sample(condition, noise, context=own)
    torch.testing.assert_close(again, free, rtol=2e-3, atol=2e-3)
    assert (drawn[:, 15 * 625 :] - free[:, 15 * 625 :]).abs().max() > 0.02  # MeV
    none = real[:, :0]
    assert torch.equal(
        model.sample(condition, noise, context=none), model.sample(condition, noise)
    )


@pytest.mark.parametrize("shape", [(5, 3, 25), (4, 3, 625), (5, 1875), (5, 26, 625)])
def test_another_context_is_refused(lcd: Showers, shape: tuple[int, ...]) -> None:
    model = network(lcd)
    condition = torch.from_numpy(lcd.conditions[:5]).float()
    with pytest.raises(ConditionError, match="expected"):
        model.sample(condition, normal(5, model.noise_size), context=torch.zeros(shape))


# --- heads -------------------------------------------------------------------------------------
def test_least_squares_make_one_shower_and_the_likelihood_many(lcd: Showers) -> None:
    condition = torch.tensor([[0.0, 1e5]]).repeat(40, 1)
    for head, spread in (("l2", False), ("likelihood", True)):
        model = network(lcd, head=head)
        with torch.inference_mode():
            total = model.sample(condition, normal(40, model.noise_size)).sum(1)
        assert (float(total.std() / total.mean()) > 1e-3) == spread


def test_the_loss_of_the_document_is_the_squared_error(lcd: Showers) -> None:
    model = network(lcd, head="l2", others=False)
    batch = Batch(torch.from_numpy(lcd.energies[:4]), torch.from_numpy(lcd.conditions[:4]).float())
    loss, _ = model.loss(batch, torch.Generator())
    cells, _ = model.slices(*batch)
    h = model.states(model.history(cells), batch.condition)[0][:, :25]
    expected = (model.slice.mean(h) - (cells / 0.1).log1p()).square().mean()
    torch.testing.assert_close(loss, expected)


def test_neither_part_exceeds_the_incident_energy(lcd: Showers) -> None:
    model = network(lcd)
    condition = torch.tensor([[0.0, 1e4], [1.0, 5e5]]).repeat(50, 1)
    with torch.inference_mode():
        showers = model.sample(condition, 30 * normal(100, model.noise_size))
    ecal, hcal = showers[:, : 25 * 625].sum(1), showers[:, 25 * 625 :].sum(1)
    assert (ecal <= 1.0001 * condition[:, 1]).all() and (hcal <= 1.0001 * condition[:, 1]).all()


def test_other_transforms_are_refused(lcd: Showers) -> None:
    for transform in (LogEnergy(lcd.geometry), Spiral(lcd.geometry, scaling="std")):
        with pytest.raises(ModelError, match="logarithms of slices"):
            make_model("rnn", lcd.geometry, transform)


@pytest.mark.parametrize("part", ["average", "conv", "gru"])
def test_the_experiments_of_the_document_are_recipes(part: str) -> None:
    base, flagship = load_recipe("lcd-rnn-l2").model_dump(), load_recipe("lcd-rnn").model_dump()
    if part == "average":
        other = load_recipe("lcd-rnn-averaged").model_dump()
        assert other["model"] == base["model"] and other["data"]["average"] == 10
    elif part == "conv":
        assert load_recipe("lcd-rnn-conv").model_dump()["model"] == {**base["model"], "conv": True}
    else:
        model = load_recipe("lcd-rnn-gru").model_dump()["model"]
        assert model == {**flagship["model"], "cell": "gru"}


# --- training ----------------------------------------------------------------------------------
def test_showers_are_averaged_in_groups_of_a_kind(lcd: Showers) -> None:
    averaged = average_showers(lcd, 5)
    kinds = lcd.conditions[:, 0]
    assert len(averaged) == sum((kinds == k).sum() // 5 for k in (0, 1))
    assert set(averaged.conditions[:, 0]) == {0.0, 1.0}
    rows = np.flatnonzero(kinds == 1)
    rows = np.array_split(rows[np.argsort(lcd.conditions[rows, 1])], len(rows) // 5)[0]
    first = averaged[averaged.conditions[:, 0] == 1][:1]
    assert np.allclose(first.energies[0], lcd.energies[rows].mean(axis=0), rtol=1e-5)
    assert first.incident_energy[0] == pytest.approx(lcd.incident_energy[rows].mean())
    order = averaged.conditions[averaged.conditions[:, 0] == 1, 1]
    assert np.all(np.diff(order) > 0)
    same = prepare_showers(lcd, Data(average=5), 0)
    assert np.array_equal(same.energies, averaged.energies)
    assert prepare_showers(lcd, Data(), 0) is lcd
    with pytest.raises(TrainingError, match=r"data\.average"):
        average_showers(lcd, 10_000)
    with pytest.raises(TrainingError, match="has no mean"):
        average_showers(sample_showers("calogan"), 5)


def test_early_stopping_looks_at_the_loss_of_unseen_showers(lcd: Showers) -> None:
    settings = Selection(keep="lowest-loss", repeats=1, minimum=5)
    model = network(lcd)
    unseen = lcd[:20]
    score = HeldOut(unseen, settings, 0)(model.train(), torch.device("cpu"))
    assert model.training
    batch = Batch(torch.from_numpy(unseen.energies), torch.from_numpy(unseen.conditions).float())
    with torch.inference_mode():
        expected = model.eval().loss(batch, torch.Generator())[0]
    assert score.value("lowest-loss") == pytest.approx(float(expected), rel=1e-5)
    assert score.numbers()["loss"] == score.loss
    gan = build(load_recipe("smoke-caloshowergan"), sample_showers("ds1-photons"))
    with pytest.raises(TrainingError, match="one phase"):
        HeldOut(sample_showers("ds1-photons")[:50], settings, 0)(gan, torch.device("cpu"))
