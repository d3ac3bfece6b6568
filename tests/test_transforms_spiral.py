"""The unrolled slices: exact both ways, the right squares, the energy outside them."""

import json

import numpy as np
import pytest
import torch
from conftest import sample_showers
from hypothesis import given
from hypothesis import strategies as st

from caloforge.detector.geometry import Geometry, Layer
from caloforge.detector.shipped import load_geometry
from caloforge.errors import ModelError
from caloforge.showers import Showers
from caloforge.transforms import TRANSFORMS, Spiral, fit_transform
from caloforge.transforms.spiral import window


@pytest.fixture(scope="module")
def lcd() -> Showers:
    return sample_showers("lcd")


def grid(rows: int, columns: int, depth: int) -> Geometry:
    """`depth` slices of rows x columns cells of 1 mm before one of 2 x 2."""
    edges = (tuple(map(float, range(rows + 1))), tuple(map(float, range(columns + 1))))
    last = Layer(9, "tail", "grid", ("x", "y"), ((0.0, 5.0, 9.0), (0.0, 5.0, 9.0)))
    layers = [Layer(k, f"slice {k}", "grid", ("x", "y"), edges) for k in range(depth)]
    return Geometry("cubes", "cubes", (*layers, last), load_geometry("ds1-photons").conditions)


def tensors(showers: Showers) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(showers.energies), torch.from_numpy(showers.conditions).float()


@given(st.integers(2, 9), st.integers(2, 9), st.integers(2, 4), st.data())
def test_whole_slices_come_back_exactly(rows, columns, depth, data) -> None:
    """Even and odd, square or not, from any cell; the hot cell comes first in every row."""
    geometry = grid(rows, columns, depth)
    start = [data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))]
    energies = np.random.default_rng(0).random((3, geometry.n_cells), np.float32)
    showers = Showers(energies, np.full((3, 1), 256.0), geometry)
    transform = Spiral.fit(showers, scaling="none", others=True, start=start)
    x = transform(*tensors(showers))
    assert x.shape == (3, geometry.n_cells)
    assert torch.equal(transform.inverse(x, tensors(showers)[1]), torch.from_numpy(energies))
    hot = energies[:, : rows * columns * depth].reshape(3, depth, rows, columns)[:, :, *start]
    image = x[:, : depth * rows * columns].reshape(3, depth, -1)
    assert np.array_equal(image[:, :, 0].numpy(), hot)


@pytest.mark.parametrize("cells", [625, 400, 100, 25, 1])
@pytest.mark.parametrize("scaling", ["std", "fraction", "log", "none"])
@pytest.mark.parametrize("others", [False, True])
def test_crops_keep_the_square_around_the_hot_cell(
    lcd: Showers, cells: int, scaling: str, others: bool
) -> None:
    transform = Spiral.fit(lcd, cells=cells, scaling=scaling, others=others)
    energies, condition = tensors(lcd)
    x = transform(energies, condition)
    assert x.shape == (len(lcd), 25 * cells + 960 * others)
    back = transform.inverse(x, condition)
    side = int(cells**0.5)
    low = 12 - side // 2  # 400: rows and columns 2 to 21
    kept = torch.zeros(25, 25, 25, dtype=torch.bool)
    kept[:, low : low + side, low : low + side] = True
    kept = torch.cat([kept.flatten(), torch.full((960,), others)])
    assert not back[:, ~kept].any()
    expected = torch.where(kept, energies, 0.0)
    torch.testing.assert_close(back, expected, rtol=2e-6, atol=1e-6)
    lost = transform.settings["lost_around"] + transform.settings["lost_behind"]
    assert lost == pytest.approx(1 - float(expected.sum() / energies.sum()), abs=1e-5)


def test_the_rows_of_the_square_of_twenty() -> None:
    """In the published files the last five rows and columns are empty: the spiral starts at the
    middle of the first twenty.
    """
    layer = load_geometry("lcd").layers[0]
    i, j = np.divmod(window(layer, 400, (12, 12)), 25)
    assert (i.min(), i.max(), j.min(), j.max()) == (2, 21, 2, 21)
    i, j = np.divmod(window(layer, 400, (10, 10)), 25)
    assert (i.min(), i.max(), j.min(), j.max()) == (0, 19, 0, 19)
    # Even crops begin alike, odd ones too: neighbours along the spiral stay neighbours.
    assert np.array_equal(window(layer, 100, (12, 12)), window(layer, 400, (12, 12))[:100])
    assert np.array_equal(window(layer, 25, (12, 12)), window(layer, 625, (12, 12))[:25])


def test_scalings_are_what_they_are_called(lcd: Showers) -> None:
    energies, condition = tensors(lcd)
    x = Spiral.fit(lcd, cells=400)(energies, condition)
    assert float(x.double().std(correction=0)) == pytest.approx(1.0, abs=1e-5)
    x = Spiral.fit(lcd, cells=25, scaling="none")(energies, condition)
    logs = Spiral.fit(lcd, cells=25, scaling="log", unit=0.2)(energies, condition)
    torch.testing.assert_close(logs, (x / 0.2).log1p())


def test_the_loss_by_hand() -> None:
    """One MeV in every cell: 25 of 49 cells of 3 slices are kept, 4 cells lie behind."""
    geometry = grid(7, 7, 3)
    showers = Showers(np.ones((5, 151), np.float32), np.full((5, 1), 256.0), geometry)
    settings = Spiral.fit(showers, cells=25, start=[3, 3]).settings
    assert settings["lost_around"] == pytest.approx(72 / 151, abs=1e-6)
    assert settings["lost_behind"] == pytest.approx(4 / 151, abs=1e-6)
    assert Spiral.fit(showers, others=True, start=[3, 3]).settings["lost_behind"] == 0.0


@pytest.mark.parametrize("options", [{}, {"cells": 100, "others": True, "start": [10, 11]}])
def test_restored_it_is_the_same(lcd: Showers, options: dict) -> None:
    transform = fit_transform("spiral", lcd, **options)
    settings = json.loads(json.dumps(transform.settings))
    again = TRANSFORMS["spiral"].restore(lcd.geometry, settings)
    again.load_state_dict(transform.state_dict())
    assert again.settings == transform.settings and len(again.notes()) == 2
    x = transform(*tensors(lcd))
    assert torch.equal(again(*tensors(lcd)), x)


@pytest.mark.parametrize("scaling", ["std", "fraction", "log", "none"])
@pytest.mark.parametrize("fill", [1e30, -1e30, 1.0])
def test_wild_output_of_a_network_is_still_energies(
    lcd: Showers, scaling: str, fill: float
) -> None:
    transform = Spiral.fit(lcd, cells=25, scaling=scaling)
    energies = transform.inverse(torch.full((2, transform.size()), fill), torch.ones(2, 2))
    assert torch.isfinite(energies).all()
    assert (energies >= 0).all()


@pytest.mark.parametrize(
    ("geometry", "options", "message"),
    [
        ("ds1-photons", {}, "polar layers alone"),
        ("lcd", {"cells": 401}, "a square number"),
        ("lcd", {"cells": 400, "start": [2, 12]}, "a square number"),
        ("lcd", {"scaling": "lug"}, "did you mean 'log'"),
        ("lcd", {"unit": 0.0}, "a unit above 0"),
        ("lcd", {"start": [1]}, "row and column"),
    ],
)
def test_what_cannot_be_unrolled_is_refused(geometry: str, options: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        Spiral(load_geometry(geometry), **options)


@pytest.mark.parametrize("scaling", ["std", "fraction"])
def test_kept_cells_have_spread_one(lcd: Showers, scaling: str) -> None:
    energies, condition = tensors(lcd)
    transform = Spiral.fit(lcd, cells=100, scaling=scaling, others=True)
    assert float(transform(energies, condition).std(correction=0)) == pytest.approx(1, rel=1e-4)


def test_fractions_of_the_incident_energy_scale_with_it(lcd: Showers) -> None:
    energies, condition = tensors(lcd)
    transform = Spiral.fit(lcd, scaling="fraction", others=True)
    doubled = condition * torch.tensor([1.0, 2.0])  # particle, energy
    torch.testing.assert_close(transform(2 * energies, doubled), transform(energies, condition))
