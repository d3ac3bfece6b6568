"""Showers in blocks of rows that stay in the processor's cache, as float64 after the cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Layer
from caloforge.showers import Showers, zero_below

Array = NDArray[Any]

BLOCK_BYTES = 1 << 20


def cut_cells(
    showers: Showers, rows: slice | Array | None = None, cells: slice | None = None
) -> Iterator[tuple[slice | Array, Array]]:
    """Blocks of the showers: (where they are, their energies (B, V) in MeV).

    `rows` and `cells` choose a part, default all. Cells below the geometry's cut are zero. The
    energies are a fresh copy that may be overwritten.
    """
    geometry = showers.geometry
    rows = slice(0, len(showers)) if rows is None else rows
    columns = slice(0, geometry.n_cells) if cells is None else cells
    size = max(16, BLOCK_BYTES // (8 * max(1, columns.stop - columns.start)))
    for block in _blocks(rows, size):
        energies = showers.energies[block, columns].astype(np.float64)
        yield block, zero_below(energies, geometry.cut)


def _blocks(rows: slice | Array, size: int) -> Iterator[slice | Array]:
    if isinstance(rows, slice):
        for start in range(rows.start, rows.stop, size):
            yield slice(start, min(start + size, rows.stop))
    else:
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def moved(layer: Layer, showers: Showers) -> Array:
    """How far the window of a layer is moved along its `shift.axis` in each shower, mm, (N,)."""
    if layer.shift is None:
        return np.zeros(len(showers))
    return layer.shift.step * showers.condition(layer.shift.condition)
