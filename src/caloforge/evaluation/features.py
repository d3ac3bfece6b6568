"""All observables of showers in memory, as sums over cells written as matrix products.

Reference: the features of the CaloChallenge (arXiv:2410.21611), whose public evaluation they match
to rounding. Every first and second moment of a layer is the product of its energies (N, V_layer)
with a small matrix of positions, so that the work is done by BLAS, in float64 and in blocks of
rows that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation.observables import transverse_axes
from caloforge.geometry import Geometry, Layer
from caloforge.showers import Showers

Array = NDArray[Any]

GUARD = 1e-16  # MeV, added to every layer energy one divides by, as in the public evaluation
# <x^2> - <x>^2 of a single cell is rounding noise of this relative size; its root would be a false
# width.
ROUNDING = 1e-13
BLOCK_BYTES = 1 << 20


def compute(showers: Showers) -> dict[str, Array]:
    """All observables of `evaluation.observables`: key -> (N,) float64, MeV and mm.

    Cells below the geometry's cut count as zero. With w the cell energies of a layer, E their sum
    and x the cell centres: centre <x> = sum(w x) / (E + 1e-16), width sqrt(max(0, <x^2> - <x>^2));
    sparsity is the fraction of cells without energy. Positions in layers whose window moves with a
    condition (`Layer.shift`) are those of the shower's own window. A layer without energy has its
    centre and width at 0.

    Raises
    ------
    DataError
        For an empty set of showers.
    """
    geometry, number = showers.geometry, len(showers)
    if number == 0:
        raise DataError("Got no showers to compute observables of; expected at least one.")
    values: dict[str, Array] = {}
    layers = geometry.layers
    sums = [np.empty((number, 1 + 2 * len(_quantities(layer)))) for layer in layers]
    hits = np.empty((number, len(layers)))
    for rows, weights in _groups(showers):
        for block in _blocks(rows, geometry):
            energies = showers.energies[block].astype(np.float64)
            if geometry.cut > 0:
                energies[energies < geometry.cut] = 0.0
            for k, where in enumerate(geometry.slices):
                cells = energies[:, where]
                sums[k][block] = cells @ weights[k]
                hits[block, k] = np.count_nonzero(cells, axis=1)
    total = np.sum([s[:, 0] for s in sums], axis=0)
    values["total_energy"] = total
    values["response"] = total / showers.incident_energy
    for k, layer in enumerate(layers):
        if layer.size == 0:
            continue
        energy = sums[k][:, 0]
        values[f"layer_energy/{layer.id}"] = energy
        values[f"sparsity/{layer.id}"] = 1.0 - hits[:, k] / layer.size
        moments = sums[k][:, 1:] / (energy + GUARD)[:, None]
        for j, name in enumerate(_quantities(layer)):
            first, second = moments[:, 2 * j], moments[:, 2 * j + 1]
            variance = second - first**2
            variance[variance < ROUNDING * second] = 0.0
            values[f"centre_{name}/{layer.id}"] = first
            values[f"width_{name}/{layer.id}"] = np.sqrt(variance)
    return values


def _quantities(layer: Layer) -> tuple[str, ...]:
    return (*transverse_axes(layer), "r")


def _weights(layer: Layer, move: float) -> Array:
    """Columns 1, then x and x^2 of each quantity, (V_layer, 1 + 2 * quantities).

    The window of the layer is moved by `move` mm.
    """
    if layer.kind == "polar":
        radius = layer.centres[1]
        positions = dict(zip(("x", "y"), layer.xy, strict=True))
    else:
        positions = dict(zip(layer.axes, layer.centres, strict=True))
        if layer.shift is not None:
            positions[layer.shift.axis] = positions[layer.shift.axis] + move
        radius = np.hypot(*positions.values())
    positions["r"] = radius
    columns = [np.ones(layer.size)]
    for name in _quantities(layer):
        columns += [positions[name], positions[name] ** 2]
    return np.stack(columns, axis=1)


def _groups(showers: Showers) -> Iterator[tuple[slice | Array, list[Array]]]:
    """Showers that share the positions of their windows, with the weights of every layer there."""
    geometry = showers.geometry
    moves = np.zeros((len(showers), geometry.n_layers))
    for k, layer in enumerate(geometry.layers):
        if layer.shift is not None:
            moves[:, k] = layer.shift.step * showers.condition(layer.shift.condition)
    if not moves.any():
        weights = [_weights(layer, 0.0) for layer in geometry.layers]
        yield slice(0, len(showers)), weights
        return
    distinct, member = np.unique(moves, axis=0, return_inverse=True)
    for g, row in enumerate(distinct):
        weights = [_weights(layer, move) for layer, move in zip(geometry.layers, row, strict=True)]
        yield np.flatnonzero(member.ravel() == g), weights


def _blocks(rows: slice | Array, geometry: Geometry) -> Iterator[slice | Array]:
    size = max(16, BLOCK_BYTES // (8 * geometry.n_cells))
    if isinstance(rows, slice):
        for start in range(rows.start, rows.stop, size):
            yield slice(start, min(start + size, rows.stop))
    else:
        for start in range(0, len(rows), size):
            yield rows[start : start + size]
