"""Traversals: one condition moves at fixed noise; figures and pages of them."""

import numpy as np
import pytest
import torch

from caloforge.commands.model_page import traversals, write_model_page
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ConditionError, DataError
from caloforge.generate import Conditions, generate_showers, middle_condition
from caloforge.generate.traversal import traverse
from caloforge.models.file import ModelFile
from caloforge.report.style import style
from caloforge.report.traversal import Traversal, traversal_picture, traversal_section

GEOMETRY = load_geometry("calogan")


class Spot(torch.nn.Module):
    """Energy e / V in every cell times a noise factor, all of it in layer 0 for x0 > 0."""

    noise_size = 3
    device = torch.device("cpu")
    geometry = GEOMETRY

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(()))

    def generator_state(self):
        return self.state_dict()

    def sample(self, condition, noise, *, context=None):
        cells = torch.full((len(condition), GEOMETRY.n_cells), 1.0) * condition[:, :1] * self.scale
        cells = cells / GEOMETRY.n_cells * noise.square().mean(dim=1, keepdim=True)
        cells[:, 288:] *= (condition[:, 1:2] <= 0).float()
        return cells


@pytest.fixture
def file():
    ranges = {c.name: (c.low, c.high) for c in GEOMETRY.conditions}
    about = {"model": "spot", "condition_range": ranges, "chosen": {"step": 1200}, "seed": 5}
    return ModelFile(Spot(), about)


def test_the_noise_is_the_same_for_every_value(file):
    """A shower proportional to the energy stays so exactly, whatever the noise."""
    energies = [1000.0, 10_000.0, 100_000.0]
    showers = traverse(file, "energy", energies, latents=4, seed=3)
    assert showers.shape == (3, GEOMETRY.n_cells)
    np.testing.assert_allclose(showers[1] / showers[0], 10, rtol=1e-5)
    np.testing.assert_allclose(showers[2] / showers[0], 100, rtol=1e-5)
    assert not np.array_equal(showers, traverse(file, "energy", energies, latents=4, seed=4))


def test_a_traversal_is_the_mean_of_generated_showers(file):
    """The same seed and condition through `generate` give the same showers."""
    condition = {**middle_condition(file), "x0": -20.0}
    showers = generate_showers(file, Conditions.of(GEOMETRY, condition), 6, seed=2)
    expected = showers.energies.astype(np.float64).mean(axis=0)
    found = traverse(file, "x0", [-20.0, 20.0], latents=6, seed=2)
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)
    assert (found[0][288:] > 0).all()
    assert not found[1][288:].any()


def test_all_continuous_conditions_are_traversed(file):
    showers = traversals(file, steps=3, latents=2)
    assert [t.name for t in showers] == list(GEOMETRY.condition_names)
    np.testing.assert_allclose(showers[1].values, [-60, 0, 60])
    assert all(t.showers.shape == (3, GEOMETRY.n_cells) for t in showers)


@pytest.mark.parametrize(
    ("name", "values", "latents", "named"),
    [
        ("energi", [1e4], 2, "energi"),
        ("x0", [500.0], 2, "x0"),
        ("x0", [], 2, "0 values"),
        ("x0", [0.0], 0, "0 showers"),
    ],
)
def test_wrong_requests_are_refused(file, name, values, latents, named):
    with pytest.raises(ConditionError, match=named):
        traverse(file, name, values, latents)


def test_differences_are_white_in_the_middle_and_signed():
    """Colours are those of the difference from the middle value, symmetric about nothing."""
    showers = np.full((3, GEOMETRY.n_cells), 4.0)
    showers[0] = 3.0
    showers[2] = 5.0
    traversal = Traversal(GEOMETRY, "theta", np.array([0.0, 0.1, 0.2]), showers, 7)
    with style():
        picture = traversal_picture(traversal)
    assert "Average of 7 showers" in picture.caption and "subtracted" in picture.caption
    meshes = [ax.collections[0] for ax in picture.figure.axes]
    shares = [float(np.mean(m.norm(m.get_array()))) for m in meshes]
    assert len(meshes) == 9
    np.testing.assert_allclose(shares, [0.0, 0.5, 1.0] * 3, atol=1e-9)


def test_images_are_energies():
    showers = np.outer([1.0, 2.0], np.ones(GEOMETRY.n_cells))
    traversal = Traversal(GEOMETRY, "x0", np.array([-60.0, 60.0]), showers, 1)
    with style():
        picture = traversal_picture(traversal)
    first, second = (picture.figure.axes[k].collections[0].get_array() for k in (0, 1))
    assert float(first.mean()) == 1.0
    assert float(second.mean()) == 2.0
    assert picture.figure.axes[1].get_title(loc="left") == "x0 = 60 mm"


def test_polar_layers_are_drawn_too():
    geometry = load_geometry("ds1-photons")
    showers = np.random.default_rng(0).gamma(1.0, 1.0, (2, geometry.n_cells))
    traversal = Traversal(geometry, "energy", np.array([1000.0, 4000.0]), showers, 1)
    section = traversal_section([traversal])
    assert [p.name for p in section.pictures] == ["traversal-energy"]
    assert len(section.pictures[0].figure.axes) == 2 * geometry.n_layers


def test_means_that_do_not_fit_are_refused():
    with pytest.raises(DataError, match="one row a value"):
        Traversal(GEOMETRY, "x0", np.zeros(2), np.zeros((3, GEOMETRY.n_cells)), 1)


def test_the_page_tells_ranges_and_shows_pictures(file, tmp_path):
    text = write_model_page(file, "spot", tmp_path / "spot.html").read_text(encoding="utf-8")
    for words in ("Generator spot", "1,200", "-60 to 60", "theta", "traversal-x0"):
        assert words in text
    assert text.count("<img") == 5
