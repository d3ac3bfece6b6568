"""Layers of a calorimeter: their cells, where these lie, and how a geometry file writes them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.checks import MOST_BINS, MOST_LAYERS, check_keys, check_value, whole_number
from caloforge.detector.limits import LayerLimits
from caloforge.errors import GeometryError

Array = NDArray[Any]

KINDS = ("polar", "grid")
# Keys of a layer in a geometry file, for both kinds and for each of them.
COMMON_KEYS = ("id", "name", "kind", "z", "shift", "limits", "copies")
KEYS = {"polar": ("alpha_bins", "r_edges"), "grid": ("axes", "edges")}


@dataclass(frozen=True)
class Shift:
    """A window that moves with a condition.

    Parameters
    ----------
    axis
        The axis along which the edges of the cells are shifted.
    condition
        Name of the condition; the shift is its value times `step`.
    step
        Shift in mm for each unit of the condition.
    """

    axis: str
    condition: str
    step: float

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Shift:
        """Build from the table `shift` of a layer; raises GeometryError for a misspelt key."""
        check_keys(plain, cls.__dataclass_fields__, "shift")
        return cls(**plain)


@dataclass(frozen=True)
class Layer:
    """One sampling layer, read out in cells along two axes.

    Parameters
    ----------
    id
        Number of the layer, as its experiment counts.
    name
        Name of the layer; its first word is the `part` of the detector.
    kind
        A "polar" layer has the axes ("alpha", "r") with alpha edges in rad from -pi to pi; a
        "grid" has two Cartesian axes in mm.
    axes
        Names of the slow axis of the cells and of the fast one.
    edges
        Edges of the cells along both axes, increasing.
    z
        Depth range in mm from the front of the calorimeter, where the geometry states it.
    shift
        How the window moves with a condition; None for a window that stays.
    limits
        What the layer states about its observables.
    """

    id: int
    name: str
    kind: Literal["polar", "grid"]
    axes: tuple[str, str]
    edges: tuple[tuple[float, ...], tuple[float, ...]]
    z: tuple[float, float] | None = None
    shift: Shift | None = None
    limits: LayerLimits = field(default_factory=LayerLimits)

    def __post_init__(self) -> None:
        for axis, edges in zip(self.axes, self.edges, strict=True):
            if len(edges) == 1 and self.kind == "polar" and axis == "r":
                # A layer without voxels, as the binning files of the CaloChallenge allow.
                continue
            if len(edges) < 2 or not np.all(np.diff(edges) > 0) or not np.all(np.isfinite(edges)):
                raise GeometryError(
                    f"Layer {self.id} has {axis} edges {list(edges)[:6]}; expected at least two "
                    "finite, increasing numbers."
                )
        if self.kind == "polar" and self.edges[1][0] < 0:
            raise GeometryError(
                f"Layer {self.id} starts at r = {self.edges[1][0]} mm; expected r >= 0."
            )
        if self.shift is not None:
            check_value(
                self.shift.axis,
                self.axes,
                f"Layer {self.id} has a window that is shifted along",
                " or ".join(self.axes),
            )

    @property
    def part(self) -> str:
        """The part of the detector that the layer belongs to: the first word of its name."""
        return self.name.partition(" ")[0]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of cells along the slow and the fast axis."""
        return len(self.edges[0]) - 1, len(self.edges[1]) - 1

    @property
    def size(self) -> int:
        """Number of cells in the layer."""
        return self.shape[0] * self.shape[1]

    @cached_property
    def centres(self) -> tuple[Array, Array]:
        """Cell centres along each axis, flattened in cell order: two arrays (size,)."""
        slow, fast = (0.5 * (np.asarray(e[1:]) + np.asarray(e[:-1])) for e in self.edges)
        grid = np.meshgrid(slow, fast, indexing="ij")
        return grid[0].ravel(), grid[1].ravel()

    @cached_property
    def xy(self) -> tuple[Array, Array]:
        """Cell centres as transverse coordinates in mm (polar: r cos alpha, r sin alpha), two
        arrays (size,).

        A polar layer with a single alpha bin cannot tell a direction: its cells sit at the origin.
        """
        first, second = self.centres
        if self.kind == "grid":
            return first, second
        if self.shape[0] == 1:
            return np.zeros(self.size), np.zeros(self.size)
        return second * np.cos(first), second * np.sin(first)

    @property
    def area(self) -> Array:
        """Transverse area of each cell in mm^2, (size,)."""
        if self.kind == "grid":
            return np.outer(np.diff(self.edges[0]), np.diff(self.edges[1])).ravel()
        rings = np.diff(np.square(self.edges[1])) / 2
        return np.outer(np.diff(self.edges[0]), rings).ravel()

    def read_out(self) -> dict[str, Any]:
        """The read-out alone as plain values: what the geometry's hash is made of."""
        plain: dict[str, Any] = {"id": self.id, "kind": self.kind}
        if self.kind == "polar":
            plain |= {"alpha_bins": self.shape[0], "r_edges": list(self.edges[1])}
        else:
            plain |= {"axes": list(self.axes), "edges": [list(e) for e in self.edges]}
        if self.z is not None:
            plain["z"] = list(self.z)
        if self.shift is not None:
            plain["shift"] = vars(self.shift)
        return plain

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able description; `layers_from_dict` reads it back."""
        plain = {"name": self.name, **self.read_out()}
        stated = self.limits.to_dict()
        return {**plain, "limits": stated} if stated else plain


def layers_from_dict(entry: dict[str, Any]) -> list[Layer]:
    """One entry of a geometry file: a layer, or `copies` of it with consecutive ids, each behind
    the one before. Raises GeometryError for a misspelt key or value.
    """
    check_keys(entry, (*COMMON_KEYS, *KEYS["polar"], *KEYS["grid"]), "layer")
    kind = entry["kind"]
    check_value(kind, KINDS, f"Layer {entry['id']} has the kind", "'polar' or 'grid'")
    for key in KEYS["grid" if kind == "polar" else "polar"]:
        if key in entry:
            raise GeometryError(
                f"Layer {entry['id']} is of the kind '{kind}' and has the key '{key}'; expected "
                f"{' and '.join(KEYS[kind])} for its cells."
            )
    if kind == "polar":
        axes = ("alpha", "r")
        bins = whole_number(entry["alpha_bins"], "alpha bins", MOST_BINS)
        alpha = tuple(float(a) for a in np.linspace(-math.pi, math.pi, bins + 1))
        edges = (alpha, _edges(entry["r_edges"]))
    else:
        axes = (str(entry["axes"][0]), str(entry["axes"][1]))
        edges = (_edges(entry["edges"][0]), _edges(entry["edges"][1]))
    shift = Shift.from_dict(entry["shift"]) if "shift" in entry else None
    limits = LayerLimits.from_dict(entry.get("limits", {}))
    copies = whole_number(entry.get("copies", 1), "copies of a layer", MOST_LAYERS)
    layers = []
    for k in range(copies):
        z = None
        if "z" in entry:
            front, back = (float(v) for v in entry["z"])
            z = (front + k * (back - front), back + k * (back - front))
        name = f"{entry['name']} {k}" if copies > 1 else str(entry["name"])
        layers.append(Layer(int(entry["id"]) + k, name, kind, axes, edges, z, shift, limits))
    return layers


def _edges(spec: Any) -> tuple[float, ...]:
    """Edges as a list of numbers, or as {low, high, bins} for equal cells."""
    if isinstance(spec, dict):
        check_keys(spec, ("low", "high", "bins"), "range of edges")
        bins = whole_number(spec["bins"], "bins", MOST_BINS)
        return tuple(float(e) for e in np.linspace(spec["low"], spec["high"], bins + 1))
    return tuple(float(e) for e in spec)
