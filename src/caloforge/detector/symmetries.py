"""Exact symmetries of a read-out: where every cell goes, and what becomes of the conditions.

A geometry file names its symmetries; a recipe may use them to augment the training set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry, Layer
from caloforge.errors import GeometryError, did_you_mean

Array = NDArray[Any]


@dataclass(frozen=True)
class Symmetry:
    """An exact symmetry of the shower physics: `energies[:, permutation]` belongs to conditions `c
    @ matrix.T + offset`.
    """

    name: str
    permutation: Array  # (V,)
    matrix: Array  # (C, C)
    offset: Array  # (C,)


def symmetry(geometry: Geometry, name: str) -> Symmetry:
    """One symmetry of a geometry by name; raises GeometryError for one it does not have."""
    known = dict(geometry.symmetries)
    if name not in known:
        raise GeometryError(
            f"Geometry '{geometry.name}' has no symmetry '{name}': {did_you_mean(name, known)}"
        )
    count = len(geometry.conditions)
    matrix, offset = np.eye(count), np.zeros(count)
    for target, terms in known[name]:
        row = geometry.column(target)
        matrix[row] = 0.0
        for source, factor in terms:
            if source == "offset":
                offset[row] = factor
            else:
                matrix[row, geometry.column(source)] = factor
    bins = {layer.shape[0] for layer in geometry.layers if layer.kind == "polar"} - {1}
    if name == "rotate-alpha" and len(bins) > 1:
        raise GeometryError(
            f"Geometry '{geometry.name}' has layers of {sorted(bins)} alpha bins; a rotation by "
            "one bin is a symmetry only where all have the same number."
        )
    pieces = []
    for layer, where in zip(geometry.layers, geometry.slices, strict=True):
        index = np.arange(where.start, where.stop).reshape(layer.shape)
        pieces.append(_permute(index, layer, name).ravel())
    return Symmetry(name, np.concatenate(pieces), matrix, offset)


def symmetry_group(geometry: Geometry, names: Sequence[str] | None = None) -> list[Symmetry]:
    """All combinations of the named symmetries (default: all of them), the identity first.

    Raises GeometryError for a symmetry the geometry does not have.
    """
    chosen = [name for name, _ in geometry.symmetries] if names is None else names
    return closure(geometry, [symmetry(geometry, name) for name in chosen])


def closure(geometry: Geometry, generators: Sequence[Symmetry]) -> list[Symmetry]:
    """All combinations of the given symmetries of a geometry, the identity first.

    Two are the same that move the cells alike and turn the conditions alike; offsets do not
    count, since a turn by 2 pi is none.
    """
    count = len(geometry.conditions)
    cells = np.arange(geometry.n_cells)
    group = [Symmetry("identity", cells, np.eye(count), np.zeros(count))]
    seen = {_key(group[0])}
    for element in group:  # grows while it is walked: the closure under the generators
        for generator in generators:
            product = Symmetry(
                f"{element.name}*{generator.name}",
                element.permutation[generator.permutation],
                generator.matrix @ element.matrix,
                generator.matrix @ element.offset + generator.offset,
            )
            if _key(product) not in seen:
                seen.add(_key(product))
                group.append(product)
    return group


def _key(element: Symmetry) -> tuple[bytes, bytes]:
    # 0.0 is added because -0.0 has other bytes.
    return element.permutation.tobytes(), (element.matrix.round(9) + 0.0).tobytes()


def _permute(index: Array, layer: Layer, operation: str) -> Array:
    """Cell numbers of one layer after a symmetry operation."""
    if operation in ("rotate-alpha", "reflect-alpha") and layer.kind != "polar":
        raise GeometryError(
            f"Layer {layer.id} has no angle alpha, its cells are a {layer.kind}: the geometry "
            f"cannot have the symmetry '{operation}'."
        )
    if operation == "rotate-alpha":  # by one bin; layers with one alpha bin stay as they are
        return np.roll(index, 1, axis=0)
    if operation == "reflect-alpha":
        return index[::-1]
    if operation == "swap":
        if layer.shape[0] != layer.shape[1] or not np.allclose(layer.edges[0], layer.edges[1]):
            raise GeometryError(
                f"Layer {layer.id} of shape {layer.shape} is not square: it has no symmetry "
                "'swap'."
            )
        return index.T
    if operation.startswith("reflect-") and operation.removeprefix("reflect-") in layer.axes:
        axis = layer.axes.index(operation.removeprefix("reflect-"))
        widths = np.diff(layer.edges[axis])
        if not np.allclose(widths, widths[::-1]):
            raise GeometryError(
                f"The cells of layer {layer.id} have other widths below the middle of "
                f"{layer.axes[axis]} than above it: it has no symmetry '{operation}'."
            )
        return np.flip(index, axis=axis)
    raise GeometryError(
        f"Unknown symmetry '{operation}': expected rotate-alpha, reflect-alpha, reflect-AXIS or "
        "swap."
    )
