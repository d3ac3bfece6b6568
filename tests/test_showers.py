"""The noun: shapes, positivity, selections."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError
from caloforge.showers import Showers, energy_points

LHCB = load_geometry("lhcb")
PHOTONS = load_geometry("ds1-photons")


def photons(count: int = 4) -> Showers:
    energies = np.arange(count * 368, dtype=np.float32).reshape(count, 368)
    return Showers(energies, np.full((count, 1), 512.0), PHOTONS, {"producer": "test"})


def test_selections_keep_rows_together() -> None:
    showers = photons()
    for index in (slice(1, 3), np.array([1, 2]), np.array([False, True, True, False])):
        part = showers[index]
        np.testing.assert_array_equal(part.energies, showers.energies[1:3])
        assert (len(part), part.provenance) == (2, showers.provenance)
    joined = Showers.concatenate([showers[:1], showers[1:]])
    np.testing.assert_array_equal(joined.energies, showers.energies)


def test_layers_are_views_in_cell_order() -> None:
    showers = photons()
    assert showers.layer(1).shape == (4, 10, 16)
    assert showers.layer(1)[0, 2, 3] == 8 + 2 * 16 + 3
    assert np.shares_memory(showers.layer(1), showers.energies)


def test_cut_sets_small_cells_to_zero() -> None:
    showers = photons(1)
    assert (showers.after_cut(100.0).energies[0, :100] == 0).all()
    assert (showers.after_cut(100.0).energies[0, 100:] == showers.energies[0, 100:]).all()
    assert showers.after_cut().energies[0, 1] == 1.0  # exactly the cut of data set 1 stays
    assert showers.after_cut(0.0) is showers


def test_incident_energy_of_a_momentum() -> None:
    conditions = np.array([[300.0, 400.0, 1200.0, 0.0, 0.0]])
    showers = Showers(np.zeros((1, 900)), conditions, LHCB)
    np.testing.assert_allclose(showers.incident_energy, [1300.0])
    assert showers.condition("pz") == [1200.0]


@pytest.mark.parametrize(
    ("energies", "conditions", "match"),
    [
        (np.zeros((2, 367)), np.ones((2, 1)), r"expected \(N, 368\)"),
        (np.zeros(368), np.ones((1, 1)), r"expected \(N, 368\)"),
        (np.zeros((2, 368)), np.ones((3, 1)), r"expected \(2, 1\)"),
        (np.zeros((2, 368)), np.ones(2), r"expected \(2, 1\)"),
        (np.zeros((2, 368)), np.array([[1.0], [np.nan]]), "Shower 1 has a NaN"),
        (np.zeros((2, 368)), np.array([[1.0], [0.0]]), "incident energy <= 0"),
    ],
)
def test_what_cannot_be(energies: np.ndarray, conditions: np.ndarray, match: str) -> None:
    with pytest.raises(DataError, match=match):
        Showers(energies, conditions, PHOTONS)


@given(
    row=st.integers(0, 3),
    cell=st.integers(0, 367),
    value=st.sampled_from([np.nan, np.inf, -np.inf, -1e-30, -5.0]),
)
@settings(max_examples=40, deadline=None)
def test_one_bad_cell_among_many(row: int, cell: int, value: float) -> None:
    energies = photons().energies.copy()
    energies[row, cell] = value
    with pytest.raises(DataError, match=f"Shower {row} holds"):
        Showers(energies, np.ones((4, 1)), PHOTONS)


def test_showers_of_different_read_outs_do_not_mix() -> None:
    other = Showers(np.zeros((1, 900)), np.ones((1, 5)), LHCB)
    with pytest.raises(DataError, match="read-out 'ds1-photons', others have 'lhcb'"):
        Showers.concatenate([photons(), other])
    with pytest.raises(DataError, match="no showers to join"):
        Showers.concatenate([])


def test_a_short_text_for_people() -> None:
    showers = photons()
    assert repr(showers) == (
        "Showers(4 in 368 cells of 'ds1-photons', 512 to 512 MeV, producer: test)"
    )
    assert repr(showers[:0]) == "Showers(0 in 368 cells of 'ds1-photons', producer: test)"


def test_scan_or_spectrum() -> None:
    assert energy_points(np.repeat([256.0, 512.0], 5)).tolist() == [256.0, 512.0]
    assert energy_points(np.linspace(1, 2, 1000)).size == 0
    assert energy_points(np.linspace(1, 2, 30)).size == 0  # few showers are no scan
    assert energy_points(np.zeros(0)).size == 0
