"""What the classifiers and the distances between feature clouds see of a shower.

Reference: the public evaluation of the CaloChallenge (arXiv:2410.21611), whose three vectors
`low`, `low_normed` and `high` are, value by value and in its order. For read-outs whose geometry
states no `limits.feature_length` the construction is the same, with two conventions of the
package: positions are divided by half the layer's window, and the conditions beyond the incident
energy are appended, scaled to order one. What boosted trees see is the package's own choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from caloforge.detector.geometry import Condition, Geometry, Layer
from caloforge.errors import DataError
from caloforge.observables.table import observables as rows_of
from caloforge.observables.table import transverse_axes
from caloforge.showers import zero_below

Array = NDArray[Any]

GUARD_RATIO = 1e-16  # MeV, added to a layer energy one divides by
GUARD_LOG = 1e-8  # MeV, added to an energy before its logarithm
MOST_LAYERS = 12  # layers that are described one by one where no publication asks for more
BLOCK_BYTES = 1 << 24
SHARES = 3  # of a layer's energy, in its largest cells, for trees


def low(
    energies: Array, conditions: Array, geometry: Geometry, dtype: DTypeLike = np.float64
) -> Array:
    """Cell energies as fractions of the incident energy: (N, 1 + V) and further conditions.

    Columns: log10 E_inc, then cell / E_inc. Everything is worked out in float64 in blocks of
    showers, after the geometry's cut, and rounded to `dtype` at the end; float32 rounds a column
    by 6e-8 of itself, far below what a classifier resolves, and takes half the memory.

    Parameters
    ----------
    energies
        (N, V) in MeV.
    conditions
        (N, C), columns in the order of `geometry.conditions`.

    Raises
    ------
    DataError
        For shapes that do not fit the geometry, or an incident energy that is not positive.
    """
    incident = _incident(energies, conditions, geometry)
    out = _allocate(incident, conditions, geometry, 1 + geometry.n_cells, dtype)
    for rows, cells in _cut_blocks(energies, geometry):
        out[rows, 1 : 1 + geometry.n_cells] = cells / incident[rows, None]
    return out


def low_normed(
    energies: Array, conditions: Array, geometry: Geometry, dtype: DTypeLike = np.float64
) -> Array:
    """Cell energies as fractions of their layer's: (N, 1 + V + L) and further conditions.

    Columns: log10 E_inc, then cell / (E_layer + 1e-16), then log10(E_layer + 1e-8) of every layer
    that has cells. A layer without energy has its cells at 0. See `low` for parameters and errors.
    """
    incident = _incident(energies, conditions, geometry)
    filled = [k for k, layer in enumerate(geometry.layers) if layer.size]
    cells_end = 1 + geometry.n_cells
    out = _allocate(incident, conditions, geometry, cells_end + len(filled), dtype)
    for rows, cells in _cut_blocks(energies, geometry):
        for column, k in enumerate(filled, start=cells_end):
            layer = cells[:, geometry.slices[k]]
            energy = layer.sum(axis=1)
            layer /= (energy + GUARD_RATIO)[:, None]
            out[rows, column] = np.log10(energy + GUARD_LOG)
        out[rows, 1:cells_end] = cells
    return out


def high(observables: Mapping[str, Array], conditions: Array, geometry: Geometry) -> Array:
    """The vector of high-level features: (N, F) float64; F is 30 for data set 1 photons, 46 pions.

    Columns: log10 E_inc; log10(E_layer + 1e-8) by layer; centres along the first transverse axis
    by layer (those that have one: polar layers with more than one alpha bin, grid layers), along
    the second; widths along the first, the second; log10(E_tot + 1e-8); sparsity, centre in r and
    width in r by layer. Positions and widths are divided by the geometry's
    `limits.feature_length` (100 mm in the CaloChallenge), else by half the layer's window along
    that axis (r: half its diagonal). Then the further conditions.

    Read-outs without `limits.feature_length` and with more than a dozen layers have samples that
    are small beside eight numbers a layer; they give the layer energies as above and all
    observables of the whole shower, energies as log10(E + 1e-8), others divided by the larger end
    of their axis.

    Parameters
    ----------
    observables
        As `observables.features.compute` gives them, cut applied: key -> (N,), MeV and mm.
    conditions
        (N, C), columns in the order of `geometry.conditions`.

    Raises
    ------
    DataError
        For an observable that is missing or of another length than the conditions, or an incident
        energy that is not positive.
    """
    incident = _positive(conditions, geometry)
    layers = [layer for layer in geometry.layers if layer.size]
    binned = [layer for layer in layers if transverse_axes(layer)]

    def column(key: str) -> Array:
        values = np.asarray(observables.get(key, ()), dtype=np.float64)
        if values.shape != incident.shape:
            raise DataError(
                f"Observable '{key}' has the shape {values.shape}; expected ({len(incident)},) as "
                "the conditions: compute all observables of the same showers."
            )
        return values

    def position(name: str, layer: Layer, axis: int) -> Array:
        return column(f"{name}_{_axis(layer, axis)}/{layer.id}") / _length(geometry, layer, axis)

    columns = [np.log10(incident)]
    columns += [np.log10(column(f"layer_energy/{layer.id}") + GUARD_LOG) for layer in layers]
    if geometry.limits.feature_length is None and len(layers) > MOST_LAYERS:
        for row in rows_of(geometry):
            if row.layer is None:
                values = column(row.key)
                size = max(abs(row.bins[1]), abs(row.bins[2]))
                columns.append(np.log10(values + GUARD_LOG) if row.log else values / size)
        return np.stack([*columns, *_further(conditions, geometry).T], axis=1)
    for name in ("centre", "width"):
        for axis in (0, 1):
            columns += [position(name, layer, axis) for layer in binned]
    columns.append(np.log10(column("total_energy") + GUARD_LOG))
    columns += [column(f"sparsity/{layer.id}") for layer in layers]
    for name in ("centre", "width"):
        columns += [position(name, layer, 2) for layer in layers]
    return np.stack([*columns, *_further(conditions, geometry).T], axis=1)


def for_trees(
    observables: Mapping[str, Array], cells: Array, conditions: Array, geometry: Geometry
) -> dict[str, Array]:
    """What boosted trees see of a shower: name -> (N,); the conditions come first.

    The observables of the detector and, layer by layer, what `layer_features` gives, in MeV and
    mm as they are: trees ask only for the order of values. Of a read-out with more than a dozen
    layers, only the layers' energies and the observables of the whole shower are taken of the
    observables, as in `high`.

    Parameters
    ----------
    observables
        As `observables.features.compute` gives them: key -> (N,).
    cells
        (N, V) in MeV, after the cut.
    conditions
        (N, C), columns in the order of `geometry.conditions`.
    """
    few = sum(layer.size > 0 for layer in geometry.layers) <= MOST_LAYERS
    table = {name: conditions[:, k] for k, name in enumerate(geometry.condition_names)}
    for row in rows_of(geometry):
        if few or row.layer is None or row.key.startswith("layer_energy/"):
            table[row.key] = observables[row.key]
    return table | layer_features(cells, geometry)


def layer_features(cells: Array, geometry: Geometry) -> dict[str, Array]:
    """Filled cells, largest shares and smallest filled cell of each layer: name -> (N,) float32.

    Keys: `filled_cells/ID`, `share_1/ID` to `share_3/ID` (as many as the layer has cells, and none
    of a layer of one cell), `smallest_cell/ID` in MeV. All are 0 for a layer without energy.
    `cells` is (N, V) in MeV after the cut; it is worked through in blocks of showers.
    """
    n, table = len(cells), {}
    size = max(1, BLOCK_BYTES // (4 * max(1, geometry.n_cells)))
    for layer, where in zip(geometry.layers, geometry.slices, strict=True):
        if not layer.size:
            continue
        top = min(SHARES, layer.size)
        filled, smallest, shares = np.empty(n), np.empty(n), np.empty((n, top))
        for start in range(0, n, size):
            rows = slice(start, start + size)
            energies = np.asarray(cells[rows, where], dtype=np.float64)
            filled[rows] = np.count_nonzero(energies, axis=1)
            least = np.where(energies > 0, energies, np.inf).min(axis=1)
            smallest[rows] = np.where(np.isfinite(least), least, 0.0)
            total = energies.sum(axis=1, keepdims=True)
            largest = np.sort(np.partition(energies, layer.size - top, axis=1)[:, -top:], axis=1)
            shares[rows] = largest[:, ::-1] / np.where(total > 0, total, 1.0)
        table[f"filled_cells/{layer.id}"] = filled.astype(np.float32)
        for k in range(top if layer.size > 1 else 0):
            table[f"share_{k + 1}/{layer.id}"] = shares[:, k].astype(np.float32)
        table[f"smallest_cell/{layer.id}"] = smallest.astype(np.float32)
    return table


def _axis(layer: Layer, axis: int) -> str:
    return "r" if axis == 2 else transverse_axes(layer)[axis]


def _length(geometry: Geometry, layer: Layer, axis: int) -> float:
    """What positions along an axis (0, 1; 2 is r) of a layer are divided by, in mm."""
    if geometry.limits.feature_length is not None:
        return geometry.limits.feature_length
    if layer.kind == "polar":
        return layer.edges[1][-1]
    first, second = ((edges[-1] - edges[0]) / 2 for edges in layer.edges)
    return (first, second, math.hypot(first, second))[axis]


def _allocate(
    incident: Array, conditions: Array, geometry: Geometry, width: int, dtype: DTypeLike
) -> Array:
    """(N, width + further conditions), first and last columns filled."""
    more = _further(conditions, geometry)
    out = np.empty((len(incident), width + more.shape[1]), dtype=dtype)
    out[:, 0] = np.log10(incident)
    out[:, width:] = more
    return out


def _further(conditions: Array, geometry: Geometry) -> Array:
    """Conditions beyond the incident energy, scaled to order one: (N, K); K is 0 in the challenge.

    An angle becomes its sine and cosine. Other conditions are mapped from their range to [-1, 1],
    those on a logarithmic scale by their logarithm.
    """
    columns: list[Array] = []
    for k, condition in enumerate(geometry.conditions):
        if condition.role != "energy":
            columns += _scaled(np.asarray(conditions[:, k], dtype=np.float64), condition)
    return np.stack(columns, axis=1) if columns else np.empty((len(conditions), 0))


def _scaled(values: Array, condition: Condition) -> list[Array]:
    if condition.scale == "angle":
        return [np.sin(values), np.cos(values)]
    span = np.array([condition.low, condition.high])
    if condition.scale == "log":
        span = np.log(span)
        values = np.log(np.maximum(values, np.finfo(np.float64).tiny))
    return [(2 * values - span.sum()) / (span[1] - span[0])]


def _cut_blocks(energies: Array, geometry: Geometry) -> Iterator[tuple[slice, Array]]:
    """Rows and their energies in float64 with cells below the cut at zero, block by block."""
    size = max(1, BLOCK_BYTES // (8 * geometry.n_cells))
    for start in range(0, len(energies), size):
        rows = slice(start, min(start + size, len(energies)))
        # A copy, which the caller may change.
        cells = np.array(energies[rows], dtype=np.float64)
        yield rows, zero_below(cells, geometry.cut)


def _incident(energies: Array, conditions: Array, geometry: Geometry) -> Array:
    if energies.ndim != 2 or energies.shape[1] != geometry.n_cells:
        raise DataError(
            f"Showers have the shape {energies.shape}; expected (N, {geometry.n_cells}) for "
            f"'{geometry.name}'."
        )
    incident = _positive(conditions, geometry)
    if len(incident) != len(energies):
        raise DataError(
            f"Got {len(energies)} showers and {len(incident)} rows of conditions; expected one "
            "row a shower."
        )
    return incident


def _positive(conditions: Array, geometry: Geometry) -> Array:
    if conditions.ndim != 2 or conditions.shape[1] != len(geometry.conditions):
        raise DataError(
            f"Conditions have the shape {conditions.shape}; expected "
            f"(N, {len(geometry.conditions)}) with {', '.join(geometry.condition_names)}."
        )
    incident = np.asarray(geometry.incident_energy(conditions), dtype=np.float64)
    if not (incident > 0).all():
        raise DataError("An incident energy is not positive; expected MeV > 0: check the file.")
    return incident
