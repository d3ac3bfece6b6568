"""Spiral order: every cell once, exact inverse, neighbours touch, crops keep the centre."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caloforge.detector.shipped import load_geometry
from caloforge.detector.spiral import central_cell, inverse, spiral
from caloforge.errors import GeometryError


@given(st.integers(1, 26), st.integers(1, 26), st.data())
def test_every_cell_comes_once_and_comes_back(rows, columns, data):
    start = (data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1)))
    order = spiral((rows, columns), start)
    assert order[0] == start[0] * columns + start[1]
    assert sorted(order) == list(range(rows * columns))
    image = np.random.default_rng(0).random((3, rows * columns))
    assert np.array_equal(image[:, order][:, inverse(order)], image)
    # As long as the turns fit, steps go to a neighbour and squares are complete.
    i, j = np.divmod(order, columns)
    margin = min(start[0], start[1], rows - 1 - start[0], columns - 1 - start[1])
    whole = (2 * margin + 1) ** 2
    assert np.all(np.abs(np.diff(i[:whole])) + np.abs(np.diff(j[:whole])) == 1)
    for side in range(1, 2 * margin + 2):
        assert np.ptp(i[: side**2]) == np.ptp(j[: side**2]) == side - 1


@pytest.mark.parametrize(("size", "start"), [(20, (10, 10)), (25, (12, 12))])
def test_the_windows_of_the_lcd_study_have_no_jump(size, start):
    """A spiral from the centre of a square touches every next cell, also for an even size."""
    i, j = np.divmod(spiral((size, size), start), size)
    jumps = np.abs(np.diff(i)) + np.abs(np.diff(j))
    assert np.all(jumps == 1)
    ring = np.maximum(np.abs(i - start[0]), np.abs(j - start[1]))
    assert np.all(np.diff(ring) >= 0)
    assert set(ring[:25]) == {0, 1, 2} and ring[:100].max() == 5  # the crops 25 and 100


def test_the_centre_of_a_layer():
    lcd = load_geometry("lcd")
    assert central_cell(lcd.layers[0]) == (12, 12) and central_cell(lcd.layers[30]) == (2, 2)
    assert central_cell(load_geometry("atlas-cells").layers[2]) == (3, 3)
    with pytest.raises(GeometryError, match="polar"):
        central_cell(load_geometry("ds1-photons").layers[0])


def test_a_start_outside_is_refused():
    with pytest.raises(GeometryError, match="a cell inside"):
        spiral((20, 20), (20, 3))
