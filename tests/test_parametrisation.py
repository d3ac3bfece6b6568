"""The parametrisation against closed forms, and against the showers it is fitted to."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import sample_showers
from scipy.stats import norm, spearmanr

from caloforge.config import load_recipe
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError, TrainingError
from caloforge.models import make_model
from caloforge.models.base import Batch
from caloforge.models.parametrisation.lateral import AxisGaussians, lateral_shape
from caloforge.models.parametrisation.model import Parametrisation
from caloforge.models.parametrisation.quantiles import (
    look_up,
    normal_scores,
    principal_components,
    quantile_table,
)
from caloforge.models.parametrisation.spectra import draw, tabulate
from caloforge.noise import normals
from caloforge.showers import Showers
from caloforge.training.dataset import TrainingSet, Walks
from caloforge.training.train import train

LEFT_OUT = 16384.0


def batch_of(showers: Showers) -> Batch:
    return Batch(torch.from_numpy(showers.energies), torch.from_numpy(showers.conditions).float())


def fitted(showers: Showers, **hyper: int) -> Parametrisation:
    model = make_model("parametrisation", showers.geometry, None, **hyper)
    assert isinstance(model, Parametrisation)
    model.fit([batch_of(showers)])
    return model


def made(model: Parametrisation, condition: torch.Tensor, seed: int = 0) -> np.ndarray:
    noise = torch.from_numpy(normals(seed, 0, len(condition), model.noise_size))
    return model.sample(condition, noise).double().numpy()


def at(energy: float, count: int) -> torch.Tensor:
    return torch.full((count, 1), energy)


@pytest.fixture(scope="module")
def known() -> Showers:
    """Photons above the cut at six energies, 400 showers each."""
    showers = sample_showers("ds1-photons").after_cut()
    energy = showers.incident_energy
    rows = [np.flatnonzero(energy == 2.0**power)[:400] for power in range(10, 16)]
    return showers[np.concatenate(rows)]


@pytest.fixture(scope="module")
def model(known: Showers) -> Parametrisation:
    return fitted(known)


# --- cumulative transforms -------------------------------------------------------------------
def test_gaussianisation_and_back() -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(20_000, 2, generator=rng).exp()
    z = normal_scores(values)
    assert torch.allclose(z.mean(dim=0), torch.zeros(2), atol=1e-3)
    assert torch.allclose(z.std(dim=0), torch.ones(2), atol=2e-3)
    table = quantile_table(values).expand(len(z), 2, -1)
    inside = z.abs() < 2  # further out the sample itself is rough
    back = look_up(table, z)
    # Linear between entries a quarter of a sigma apart: exp is 0.8 % high at most.
    assert ((back / values - 1).abs()[inside] < 0.03).all()
    order = values[:, 0].argsort()
    assert (look_up(table, z)[order, 0].diff() >= 0).all()


def test_equal_values_share_a_score() -> None:
    z = normal_scores(torch.tensor([[0.0], [0.0], [5.0], [7.0]]))
    assert z[0] == z[1] < z[2] < z[3]
    assert float(z[0]) == pytest.approx(norm.ppf(0.25), abs=1e-6)  # mean of ranks 1 and 2


def test_principal_components_have_the_correlation() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((500, 3)) @ rng.standard_normal((3, 3))
    values = torch.from_numpy(np.concatenate([mixed, np.zeros((500, 1))], axis=1))
    rotation = principal_components(values)
    expected = np.eye(4)
    expected[:3, :3] = np.corrcoef(mixed.T)
    np.testing.assert_allclose((rotation @ rotation.T).numpy(), expected, atol=1e-12)
    variances = rotation.square().sum(dim=0)
    assert (variances.diff() >= -1e-12).all()


# --- layers ----------------------------------------------------------------------------------
def test_response_and_resolution_at_every_energy(model: Parametrisation, known: Showers) -> None:
    for energy in np.unique(known.incident_energy):
        total = known.energies[known.incident_energy == energy].sum(axis=1, dtype=np.float64)
        mine = made(model, at(energy, 2000)).sum(axis=1)
        error = total.std() / np.sqrt(len(total))
        assert abs(mine.mean() - total.mean()) < 1.5 * error
        assert mine.std() == pytest.approx(total.std(), rel=5 / np.sqrt(2 * len(total)))


def test_layer_shares_and_their_correlations(model: Parametrisation, known: Showers) -> None:
    own = known.energies[known.incident_energy == 4096.0].astype(np.float64)
    mine = made(model, at(4096.0, 3000))
    shares = []
    for cells in (own, mine):
        layers = np.stack([cells[:, where].sum(axis=1) for where in known.geometry.slices], axis=1)
        shares.append(layers / layers.sum(axis=1, keepdims=True))
    for layer in range(3):  # the last two are nearly always empty here
        true, found = (s[:, layer] for s in shares)
        assert abs(found.mean() - true.mean()) < 3 * true.std() / np.sqrt(len(true))
        assert found.std() == pytest.approx(true.std(), rel=0.15)
    true, found = (spearmanr(s[:, :3]).statistic for s in shares)
    assert np.abs(true).max() > 0.5  # there is something to reproduce
    np.testing.assert_allclose(found, true, atol=0.12)


def test_an_energy_left_out_lies_between_its_neighbours(known: Showers) -> None:
    model = fitted(known[known.incident_energy != LEFT_OUT])
    response, resolution = [], []
    for energy in (LEFT_OUT / 2, LEFT_OUT, 2 * LEFT_OUT):
        total = made(model, at(energy, 3000)).sum(axis=1)
        response.append(total.mean() / energy)
        resolution.append(total.std() / total.mean())
    assert min(response[::2]) < response[1] < max(response[::2])
    assert resolution[0] > resolution[1] > resolution[2]
    total = known.energies[known.incident_energy == LEFT_OUT].sum(axis=1, dtype=np.float64)
    assert response[1] == pytest.approx(total.mean() / LEFT_OUT, rel=0.01)
    assert resolution[1] == pytest.approx(total.std() / total.mean(), rel=0.1)


def test_few_showers_are_joined() -> None:
    rng = np.random.default_rng(0)
    showers = sample_showers("ds1-photons").after_cut()
    energy = showers.incident_energy
    rare = np.flatnonzero(energy == 4096.0)[:10]
    often = rng.choice(np.flatnonzero(energy == 1024.0), 300, replace=False)
    model = fitted(showers[np.concatenate([often, rare])], points=4, bins=3)
    assert torch.equal(model.tables[0, 0], model.tables[0, 3])
    apart = fitted(showers[np.concatenate([often, rare])], points=4, bins=3, minimum=10)
    assert not torch.equal(apart.tables[0, 0], apart.tables[0, 1])
    assert torch.equal(apart.tables[0, 1, 0], apart.tables[0, 1, 2])  # ten showers, one bin


# --- cells -----------------------------------------------------------------------------------
def test_a_gaussian_is_shared_out_by_error_functions() -> None:
    """Impact and moving window of the strips: the share of a column is a difference of Phi."""
    geometry = load_geometry("atlas-cells")
    shape = lateral_shape(geometry, gaussians=1, depths=1)
    assert isinstance(shape, AxisGaussians)
    width = float(shape.widths1[0])
    impact, alignment = -7.0, 2.0
    condition = torch.tensor([[4096.0, 0.0, impact, alignment, 1.0]])
    share = shape(torch.ones(1, 4), condition)[:, geometry.slices[1]].reshape(56, 3)
    layer = geometry.layers[1]
    edges = np.asarray(layer.edges[1]) + layer.shift.step * alignment
    reached = norm.cdf((edges - impact) / width)
    expected = np.diff(reached) / (reached[-1] - reached[0])
    np.testing.assert_allclose(share.sum(dim=0).numpy(), expected, atol=1e-6)
    np.testing.assert_allclose(float(share.sum()), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", ["atlas-cells", "calogan", "lhcb"])
def test_shapes_are_found_again(name: str) -> None:
    """Maximum likelihood finds the density that made the cells, whatever impact and angle."""
    geometry = load_geometry(name)
    shape = lateral_shape(geometry, gaussians=5, depths=2)
    condition = torch.from_numpy(sample_showers(name).conditions[:200]).float()
    rng = torch.Generator().manual_seed(0)
    parts = [torch.rand(n, generator=rng) ** 4 for n in shape.sizes]
    truth = torch.cat([p / p.sum() for p in parts])
    cells = shape(truth.expand(len(condition), -1), condition)
    found = shape.fit(cells, condition).expand(len(condition), -1)
    assert shape(found, condition).sum(dim=1).numpy() == pytest.approx(geometry.n_layers, abs=1e-3)
    assert float((shape(found, condition) - cells).abs().max()) < 0.025


def test_spectra_are_drawn_as_they_were() -> None:
    """Cells of two mean energies, part of them empty: probability, mean and quantiles."""
    rng = np.random.default_rng(0)
    mean, cells = [], []
    for level, filled in ((0.3, 0.4), (30.0, 0.9)):
        energy = 0.1 + rng.lognormal(0.0, 1.0, 50_000)
        energy *= level / (filled * energy.mean())
        energy = np.where(rng.random(50_000) < filled, np.maximum(energy, 0.01), 0.0)
        mean.append(np.full(50_000, level))
        cells.append(energy)
    floor = torch.tensor(0.01)
    nodes, table = tabulate(
        torch.from_numpy(np.concatenate(mean)).float(),
        torch.from_numpy(np.concatenate(cells)).float(),
        floor,
    )
    z = torch.from_numpy(normals(1, 0, 200, 1000)).flatten()
    for number, level in enumerate((0.3, 30.0)):
        position = (np.log(level) - float(nodes[0])) / float(nodes[1])
        row = torch.full(z.shape, int(position) * table.shape[1])
        row = row.clamp(max=(len(table) - 2) * table.shape[1])
        part = torch.full(z.shape, position) - row / table.shape[1]
        drawn = (draw(table.flatten(), row, part, torch.zeros(z.shape), z) * floor).numpy()
        true = cells[number]
        assert (drawn > 0).mean() == pytest.approx((true > 0).mean(), abs=0.01)
        assert drawn.mean() == pytest.approx(true.mean(), rel=0.02)
        for q in (0.1, 0.5, 0.9):
            wanted = np.quantile(true[true > 0], q)
            assert np.quantile(drawn[drawn > 0], q) == pytest.approx(wanted, rel=0.1)


def test_cells_add_up_and_none_is_below_the_floor(model: Parametrisation, known: Showers) -> None:
    cells = made(model, torch.from_numpy(known.conditions[::7]).float())
    filled = cells[cells > 0]
    assert filled.min() > 0.999 * float(model.floor)
    assert float(model.floor) == pytest.approx(known.energies[known.energies > 0].min())
    occupancy = (cells > 0).mean()
    assert occupancy == pytest.approx((known.energies > 0).mean(), rel=0.05)


def test_the_centre_follows_the_impact() -> None:
    """In the strips the mean centre of energy moves as far as the impact does."""
    showers = sample_showers("atlas-cells")
    model = fitted(showers, points=4, bins=1, minimum=20)
    eta, _ = showers.geometry.layers[1].xy
    strips = showers.geometry.slices[1]
    centres = []
    for impact in (-12.0, 12.0):
        condition = torch.tensor([[16384.0, impact, 3.0, 1.0, 0.0]]).expand(500, -1)
        cells = made(model, condition)[:, strips]
        centres.append((cells @ eta / cells.sum(axis=1)).mean())
    assert centres[1] - centres[0] == pytest.approx(24.0, abs=2.0)


# --- categories and refusals -----------------------------------------------------------------
PLAIN = {
    "name": "plain",
    "conditions": [
        {"name": "energy", "unit": "MeV", "low": 100.0, "high": 1e4, "scale": "log"},
        {"name": "particle", "unit": "", "low": 0.0, "high": 1.0, "scale": "category"},
    ],
    "layers": [
        {"id": 0, "name": "a", "kind": "polar", "alpha_bins": 2, "r_edges": [0, 1, 2]},
        {"id": 1, "name": "b", "kind": "polar", "alpha_bins": 2, "r_edges": [0, 1, 2]},
    ],
}


def test_each_category_has_tables_of_its_own() -> None:
    """Particle 0 leaves 60 % in the first layer, particle 1 10 %; responses 0.5 and 0.9."""
    rng = np.random.default_rng(0)
    particle = np.repeat([0.0, 1.0], 400)
    energy = rng.choice([1000.0, 4000.0], 800)
    first = np.where(particle == 0, 0.6, 0.1) + 0.02 * rng.standard_normal(800)
    total = energy * np.where(particle == 0, 0.5, 0.9) * (1 + 0.05 * rng.standard_normal(800))
    inside = rng.dirichlet([8.0, 2.0, 8.0, 2.0], (2, 800))
    layers = np.stack([first, 1 - first])[:, :, None] * inside * total[None, :, None]
    cells = np.concatenate(list(layers), axis=1).astype(np.float32)
    showers = Showers(cells, np.stack([energy, particle], axis=1), Geometry.from_dict(PLAIN))
    model = fitted(showers, points=2)
    for kind, response, share in ((0.0, 0.5, 0.6), (1.0, 0.9, 0.1)):
        mine = made(model, torch.tensor([[2000.0, kind]]).expand(2000, -1))
        assert mine.sum(axis=1).mean() / 2000 == pytest.approx(response, rel=0.01)
        assert (mine[:, :4].sum(axis=1) / mine.sum(axis=1)).mean() == pytest.approx(share, 0.02)
    with pytest.raises(ModelError, match="0 training showers of category 1"):
        fitted(showers[particle == 0], points=2)


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ({"name": "charge", "unit": "", "low": -1.0, "high": 1.0}, "cannot follow.*'charge'"),
        ({"name": "x0", "unit": "mm", "low": -1.0, "high": 1.0}, "polar layers and an impact"),
    ],
)
def test_what_it_cannot_follow_is_refused(condition: dict[str, object], named: str) -> None:
    plain = {**PLAIN, "conditions": [*PLAIN["conditions"], condition]}
    with pytest.raises(ModelError, match=named):
        Parametrisation(Geometry.from_dict(plain))


# --- in the loop -----------------------------------------------------------------------------
def test_a_fit_is_done_once(smoke, photons: Showers, tmp_path: Path) -> None:
    folder = smoke("parametrisation")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    again = train(load_recipe("smoke-parametrisation"), photons, folder, device="cpu", resume=True)
    assert again.step == 1
    for path, content in before.items():
        assert path.read_bytes() == content, path.name
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert "It takes one step, in which the model is fitted" in readme
    with pytest.raises(TrainingError, match=r"fitted in one go; set training\.steps=1"):
        recipe = load_recipe("smoke-parametrisation", ["training.steps=2"])
        train(recipe, photons, tmp_path, device="cpu")


def test_a_walk_sees_every_shower_once_and_as_it_is(photons: Showers) -> None:
    few = photons[:25]
    data = TrainingSet(few, device=torch.device("cpu"), seed=0, augment=("rotate-alpha",))
    walks = Walks(data, 10)
    for _ in range(2):
        batches = list(walks)
        assert [len(batch.energies) for batch in batches] == [10, 10, 5]
        assert np.array_equal(torch.cat([b.energies for b in batches]).numpy(), few.energies)
        assert np.array_equal(torch.cat([b.condition for b in batches]).numpy(), few.conditions)
    assert (data.epoch, data.cursor) == (0, 0)
