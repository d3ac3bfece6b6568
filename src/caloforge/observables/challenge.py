"""The CaloChallenge's observables for any geometry, as sums over cells written as matrix products.

Reference: C. Krause et al., CaloChallenge 2022 (arXiv:2410.21611); values and axis ranges are
those of its public evaluation, to rounding. Every first and second moment of a layer is the
product of its energies (N, V_layer) with a small matrix of positions, so that the work is done by
BLAS. Observables and ranges that the challenge does not print name CaloForge in `source`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry, Layer
from caloforge.observables import axes
from caloforge.observables.axes import BINS, LOG_EDGES, Family, Observable
from caloforge.observables.blocks import cut_cells, moved
from caloforge.showers import Showers

Array = NDArray[Any]

CHALLENGE = "arXiv:2410.21611"
GUARD = 1e-16  # MeV, added to every layer energy one divides by, as in the public evaluation
# <x^2> - <x>^2 of a single cell is rounding noise of this relative size; its root would be a false
# width.
ROUNDING = 1e-13


def transverse_axes(layer: Layer) -> tuple[str, ...]:
    """Axes along which a layer has a centre: none for a polar layer with a single alpha bin."""
    if layer.kind == "grid":
        return layer.axes
    return ("x", "y") if layer.shape[0] > 1 else ()


# --- values --------------------------------------------------------------------------------------
def values(showers: Showers, known: Mapping[str, Array]) -> dict[str, Array]:
    """With w the cell energies of a layer, E their sum and x the cell centres: centre <x> =
    sum(w x) / (E + 1e-16), width sqrt(max(0, <x^2> - <x>^2)); sparsity is the fraction of cells
    without energy, occupancy the number of cells with energy.

    A layer without energy has its centre and width at 0.
    """
    geometry, number = showers.geometry, len(showers)
    layers = geometry.layers
    sums = [np.empty((number, 1 + 2 * len(_quantities(layer)))) for layer in layers]
    hits = np.empty((number, len(layers)))
    for rows, weights in _groups(showers):
        for block, energies in cut_cells(showers, rows):
            for k, where in enumerate(geometry.slices):
                cells = energies[:, where]
                sums[k][block] = cells @ weights[k]
                hits[block, k] = np.count_nonzero(cells, axis=1)
    total = np.sum([s[:, 0] for s in sums], axis=0)
    result: dict[str, Array] = {
        "total_energy": total,
        "response": total / showers.incident_energy,
        "occupancy": hits.sum(axis=1),
    }
    for k, layer in enumerate(layers):
        if layer.size == 0:
            continue
        energy = sums[k][:, 0]
        result[f"layer_energy/{layer.id}"] = energy
        result[f"sparsity/{layer.id}"] = 1.0 - hits[:, k] / layer.size
        moments = sums[k][:, 1:] / (energy + GUARD)[:, None]
        for j, name in enumerate(_quantities(layer)):
            first, second = moments[:, 2 * j], moments[:, 2 * j + 1]
            variance = second - first**2
            variance[variance < ROUNDING * second] = 0.0
            result[f"centre_{name}/{layer.id}"] = first
            result[f"width_{name}/{layer.id}"] = np.sqrt(variance)
    return result


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
    layers = showers.geometry.layers
    moves = np.stack([moved(layer, showers) for layer in layers], axis=1)
    if not moves.any():
        yield slice(0, len(showers)), [_weights(layer, 0.0) for layer in layers]
        return
    distinct, member = np.unique(moves, axis=0, return_inverse=True)
    for g, row in enumerate(distinct):
        weights = [_weights(layer, move) for layer, move in zip(layers, row, strict=True)]
        yield np.flatnonzero(member.ravel() == g), weights


# --- rows ----------------------------------------------------------------------------------------
def rows(geometry: Geometry) -> list[Observable]:
    """Rows of the whole shower first, then quantity by quantity the rows of every layer."""
    response = geometry.limits.response
    table = [
        axes.energy("total_energy", "total energy", geometry, "axis: CaloForge"),
        axes.linear(
            "response",
            "total energy / incident energy",
            response or axes.RESPONSE,
            _source(geometry),
            fixed=response is not None,
        ),
        axes.number_of_cells(
            "occupancy", "number of cells with energy", geometry.n_cells, "CaloForge"
        ),
    ]
    per_layer = [
        _layer_rows(geometry, position)
        for position, layer in enumerate(geometry.layers)
        if layer.size
    ]
    # The same quantity of all layers side by side reads best in reports.
    quantities: dict[str, list[Observable]] = {}
    for observable in (o for layer in per_layer for o in layer):
        quantities.setdefault(observable.key.partition("/")[0], []).append(observable)
    return table + [o for quantity in quantities.values() for o in quantity]


def _source(geometry: Geometry) -> str:
    return geometry.limits.source or f"{CHALLENGE}; axis: CaloForge"


def _layer_rows(geometry: Geometry, position: int) -> list[Observable]:
    layer = geometry.layers[position]
    where = f"layer {layer.id} ({layer.name})"
    source, package = _source(geometry), f"{CHALLENGE}; axis: CaloForge"

    def length(
        name: str, label: str, axis: tuple[float, float], origin: str, end: float | None = None
    ) -> Observable:
        key, text = f"{name}/{layer.id}", f"{label}, {where}"
        return axes.linear(key, text, axis, origin, unit="mm", layer=position, published=end)

    table = [
        Observable(
            f"layer_energy/{layer.id}",
            f"energy in {where}",
            "MeV",
            position,
            (LOG_EDGES - 1, geometry.cut, axes.highest_energy(geometry)),
            True,
            None,
            CHALLENGE,
        )
    ]
    for axis in transverse_axes(layer):
        low, high, width = limits(geometry, layer, axis)
        table.append(length(f"centre_{axis}", f"centre of energy in {axis}", (low, high), source))
        table.append(length(f"width_{axis}", f"width in {axis}", (0.0, width), source))
    _, high, width = limits(geometry, layer, "r")
    ends = layer.limits.published_centre_r, layer.limits.published_width_r
    table.append(length("centre_r", "centre of energy in r", (0.0, high), package, ends[0]))
    table.append(length("width_r", "width in r", (0.0, width), package, ends[1]))
    # Sparsity counts cells: up to 100 cells every value has a bin of its own.
    number = layer.size + 1 if layer.size < BINS else BINS
    half = 0.5 / (number - 1)
    bins = geometry.limits.sparsity_bins
    table.append(
        Observable(
            f"sparsity/{layer.id}",
            f"sparsity, {where}",
            "",
            position,
            (number, -half, 1 + half),
            False,
            np.linspace(-half, 1 + half, number + 1),
            package,
            published_bins=None if bins is None else np.linspace(0.0, 1.0, bins + 1),
        )
    )
    return table


def limits(geometry: Geometry, layer: Layer, axis: str) -> tuple[float, float, float]:
    """Lowest and highest centre and highest width in mm along an axis of a layer.

    They are those that the layer states in the geometry file (`LayerLimits`), and otherwise
    follow from its edges: centres reach to the ends of the layer; widths to a quarter of it, or
    to half the radius of a polar layer; in r, centres reach to the farthest point of the layer
    and widths to half of that.
    """
    stated, window = layer.limits, _window(geometry, layer)
    if layer.kind == "polar":
        outer = layer.edges[1][-1]
        low, high, width = -outer, outer, outer / 2
    elif axis == "r":
        outer = float(np.hypot(*np.abs(window).max(axis=1)))
    else:
        low, high = window[layer.axes.index(axis)]
        width = (high - low) / 4
    if axis == "r":
        centre = outer if stated.centre_r is None else stated.centre_r
        return 0.0, centre, outer / 2 if stated.width_r is None else stated.width_r
    if stated.centre is not None:
        low, high = -stated.centre, stated.centre
    return low, high, width if stated.width is None else stated.width


def _window(geometry: Geometry, layer: Layer) -> tuple[tuple[float, float], ...]:
    """Range of each axis in mm, with all positions a moving window can take."""
    ranges = []
    for axis, edges in zip(layer.axes, layer.edges, strict=True):
        low, high = edges[0], edges[-1]
        if layer.shift is not None and layer.shift.axis == axis:
            condition = geometry.conditions[geometry.column(layer.shift.condition)]
            moves = [layer.shift.step * condition.low, layer.shift.step * condition.high]
            low, high = low + min(moves), high + max(moves)
        ranges.append((low, high))
    return tuple(ranges)


FAMILY = Family("sums, centres, widths and sparsity", rows, values)
