"""Spiral order of the cells of a slice: hot cells first, exactly invertible.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters" (each depth slice is read along a spiral from its centre, so that the cube becomes an
image with the hot cells on the left).
"""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry, Layer
from caloforge.errors import GeometryError

Array = NDArray[Any]


def spiral(shape: tuple[int, int], start: tuple[int, int]) -> NDArray[np.int64]:
    """Numbers of the cells of a slice along a square spiral, (size,): the cell `start` first.

    `cells[..., spiral]` unrolls a slice (..., size) and `unrolled[..., inverse(spiral)]` rolls it
    up again. Turns that leave the slice go on outside it, so that every cell comes exactly once
    and the first m^2 cells are an m x m square around `start` as long as it fits: a crop keeps the
    centre. Cells that follow each other touch until the spiral first leaves the slice, and so
    all of them in a square slice with the start at (one of) its centre.

    Parameters
    ----------
    shape
        Cells along the slow and the fast axis.
    start
        Slow and fast index of the first cell.

    Raises
    ------
    GeometryError
        For an empty shape, or a start outside it.
    """
    rows, columns = shape
    if rows < 1 or columns < 1 or not (0 <= start[0] < rows and 0 <= start[1] < columns):
        raise GeometryError(
            f"Got a spiral from cell {start} in {rows} x {columns} cells; expected a cell inside."
        )
    row, column = start
    order = [row * columns + column]
    # Towards the sides with more room: a square of even size is filled without leaving it, too.
    right = 1 if columns - 1 - column >= column else -1
    down = 1 if rows - 1 - row >= row else -1
    sides = cycle([(0, right), (down, 0), (0, -right), (-down, 0)])
    length = 1
    while len(order) < rows * columns:
        for _ in range(2):  # two sides of a square have the same length
            down, right = next(sides)
            for _ in range(length):
                row, column = row + down, column + right
                if 0 <= row < rows and 0 <= column < columns:
                    order.append(row * columns + column)
        length += 1
    return np.array(order, dtype=np.int64)


def inverse(order: Array) -> NDArray[np.int64]:
    """The permutation that undoes `order` (size,)."""
    result = np.empty(len(order), dtype=np.int64)
    result[order] = np.arange(len(order))
    return result


def central_cell(layer: Layer) -> tuple[int, int]:
    """Indices of the cell of a grid layer in which the point (0, 0) mm lies.

    Where it lies between two cells the one on the positive side is taken.

    Raises
    ------
    GeometryError
        For a polar layer, or one that does not contain the point.
    """
    if layer.kind != "grid":
        raise GeometryError(f"Layer {layer.id} is polar; expected a grid for a spiral.")
    indices = [int(np.searchsorted(edges, 0.0, side="right")) - 1 for edges in layer.edges]
    if any(not 0 <= k < n for k, n in zip(indices, layer.shape, strict=True)):
        raise GeometryError(
            f"Layer {layer.id} does not contain the point (0, 0) mm; name the first cell."
        )
    return indices[0], indices[1]


def stacks(geometry: Geometry) -> list[list[int]]:
    """Positions of grid layers with the same cells that follow each other, run by run."""
    runs: list[list[int]] = []
    for position, layer in enumerate(geometry.layers):
        before = geometry.layers[runs[-1][-1]] if runs else None
        if layer.kind != "grid":
            continue
        if before is not None and before.edges == layer.edges and runs[-1][-1] == position - 1:
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs
