"""Samples as matrices: what every distance asks of them, and pairwise distances in tiles."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError

Array = NDArray[Any]
Matrix = NDArray[np.float64]

# Rows of one tile of distances: a tile of 512 x 1024 doubles is 4 MB. Wide rows get fewer.
TILE = (512, 1024)
TILE_BYTES = 128 << 20
# A squared distance below this share of the squared norms is rounding: the showers are equal.
EQUAL = 1e-13


def check_matrix(values: Array, name: str, minimum: int) -> Array:
    """`values` as an array (N, F) of finite numbers with N >= minimum.

    Raises
    ------
    DataError
        For another shape, too few showers, NaN and infinite values.
    """
    array = np.asarray(values)
    if array.ndim != 2 or array.shape[1] == 0:
        raise DataError(
            f"Got {name} values of shape {array.shape}; expected (showers, features) with a "
            "feature or more."
        )
    if len(array) < minimum:
        raise DataError(
            f"Got {len(array)} {name} showers; this distance needs at least {minimum}: give more."
        )
    rows = max(1, (4 << 20) // array.shape[1])
    if not all(np.isfinite(array[k : k + rows]).all() for k in range(0, len(array), rows)):
        raise DataError(
            f"The {name} features hold NaN or infinite values; expected finite ones: check the "
            "showers."
        )
    return array


def check_pair(reference: Array, generated: Array, minimum: int) -> tuple[Array, Array]:
    """Both samples, (N, F) and (M, F), checked as by `check_matrix` and for equal F.

    Raises
    ------
    DataError
        As `check_matrix`, and for different numbers of features.
    """
    first = check_matrix(reference, "reference", minimum)
    second = check_matrix(generated, "generated", minimum)
    if first.shape[1] != second.shape[1]:
        raise DataError(
            f"Got {first.shape[1]} features of the reference and {second.shape[1]} of the "
            "generated showers; expected the same: compute both with one geometry."
        )
    return first, second


def squared_distances(
    first: Array, second: Array | None = None, centre: Array | None = None
) -> Iterator[tuple[slice, slice, Matrix]]:
    """Squared 2-norms between the rows of two samples, tile by tile: (rows, columns, tile).

    |x - y|^2 = |x|^2 + |y|^2 - 2 x.y, with a matrix product per tile, in float64 about `centre`
    (F,), by default the mean of `first`. Near neighbours keep 1e-13 of the squared norms, and
    what is below that is 0, so that a copy has distance 0 exactly. Distances to `centre` itself
    are the same to the last bit in every call with that centre. Only tiles live in float64, so
    samples may be large float32 arrays. Without `second` the distances within `first`: only tiles
    on and above the diagonal, columns never before rows.
    """
    columns = first if second is None else second
    wide = max(1, TILE_BYTES // (8 * first.shape[1]))
    high, broad = (min(size, wide) for size in TILE)
    if second is None:
        broad = high
    if centre is None:
        centre = first.mean(axis=0, dtype=np.float64)
    norms = np.empty(len(columns))
    for i in range(0, len(first), high):
        x = first[i : i + high] - centre
        norm_x = np.einsum("ij,ij->i", x, x)
        x *= -2.0
        for j in range(i if second is None else 0, len(columns), broad):
            y = columns[j : j + broad] - centre
            if i == 0:
                norms[j : j + broad] = np.einsum("ij,ij->i", y, y)
            sums = norm_x[:, None] + norms[j : j + broad]
            tile = x @ y.T
            tile += sums
            sums *= EQUAL
            tile[tile <= sums] = 0.0
            if second is None and i == j:
                np.fill_diagonal(tile, 0.0)
            yield slice(i, i + len(x)), slice(j, j + len(y)), tile
