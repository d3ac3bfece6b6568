"""Frozen description of a calorimeter read-out: layers, cell edges, conditions, exact symmetries,
and a stable hash.

Symbols used here and everywhere: N showers, V cells (voxels), L layers, C conditions. Cells are
ordered layer by layer; inside a layer the first axis is the slow one and the second the fast one
(for polar layers: alpha slow, r fast, the order of the CaloChallenge, arXiv:2410.21611).
"""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from dataclasses import dataclass, field
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from caloforge import units
from caloforge.errors import GeometryError, did_you_mean

Array = NDArray[Any]

# Far beyond any calorimeter: limits of what a geometry file may ask for.
MOST_BINS = 100_000
MOST_LAYERS = 10_000


@dataclass(frozen=True)
class Condition:
    """One column of the condition vector: its name, unit, valid range and natural scale.

    `scale` is "log" or "linear" for continuous quantities, "angle" for periodic ones (period 2 pi)
    and "category" for whole numbers from `low` to `high`.
    """

    name: str
    unit: str
    low: float
    high: float
    scale: Literal["log", "linear", "angle", "category"] = "linear"
    label: str = ""

    def __post_init__(self) -> None:
        if self.unit not in units.ALL or units.ALL[self.unit] != 1.0:
            raise GeometryError(
                f"Condition '{self.name}' has unit '{self.unit}'; expected MeV, mm, rad or none."
            )
        if not self.high > self.low or (self.scale == "log" and self.low <= 0):
            raise GeometryError(
                f"Condition '{self.name}' has the range [{self.low}, {self.high}]; expected "
                f"low < high"
                f"{' and low > 0 for a log scale' if self.scale == 'log' else ''}."
            )


@dataclass(frozen=True)
class Shift:
    """A window that moves with a condition: edges of `axis` are shifted by step (mm) times the
    condition's value.
    """

    axis: str
    condition: str
    step: float


@dataclass(frozen=True)
class Layer:
    """One sampling layer, read out in cells along two axes.

    A polar layer has axes ("alpha", "r") with alpha edges in rad from -pi to pi; a grid layer has
    two Cartesian axes in mm. `z` is the depth range in mm from the front of the calorimeter, where
    the geometry states it.
    """

    id: int
    name: str
    kind: Literal["polar", "grid"]
    axes: tuple[str, str]
    edges: tuple[tuple[float, ...], tuple[float, ...]]
    z: tuple[float, float] | None = None
    shift: Shift | None = None

    def __post_init__(self) -> None:
        for axis, edges in zip(self.axes, self.edges, strict=True):
            if len(edges) == 1 and self.kind == "polar" and axis == "r":
                # A layer without voxels, as the binning files of the CaloChallenge allow.
                continue
            if len(edges) < 2 or not np.all(np.diff(edges) > 0) or not np.all(np.isfinite(edges)):
                raise GeometryError(
                    f"Layer {self.id} has {axis} edges {list(edges)[:6]}; expected at least "
                    f"two finite, increasing numbers."
                )
        if self.kind == "polar" and self.edges[1][0] < 0:
            raise GeometryError(
                f"Layer {self.id} starts at r = {self.edges[1][0]} mm; expected r >= 0."
            )

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


@dataclass(frozen=True)
class Geometry:
    """One calorimeter read-out. Read it with `load_geometry`; never build its numbers anywhere
    else.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    conditions: tuple[Condition, ...]
    format: str = "caloforge"
    particles: tuple[str, ...] = ()
    pid: int | None = None
    cut: float = 0.0  # MeV; cells below are set to zero before any metric
    note: str = ""
    symmetries: tuple[tuple[str, tuple[tuple[str, tuple[tuple[str, float], ...]], ...]], ...] = ()
    stack: str = field(
        default="", compare=False
    )  # JSON of the material stack, with a hash of its own

    def __post_init__(self) -> None:
        if not self.layers or self.n_cells == 0:
            raise GeometryError(
                f"Geometry '{self.name}' has no cells; expected at least one layer with voxels."
            )
        for what, names in (
            ("layer id", [layer.id for layer in self.layers]),
            ("condition", [c.name for c in self.conditions]),
        ):
            if len(set(names)) != len(names):
                raise GeometryError(
                    f"Geometry '{self.name}' uses a {what} twice: {names}; expected unique ones."
                )

    # --- sizes and positions -----------------------------------------------------------------
    @cached_property
    def n_cells(self) -> int:
        """V, the number of cells of one shower."""
        return sum(layer.size for layer in self.layers)

    @property
    def n_layers(self) -> int:
        """L, the number of layers."""
        return len(self.layers)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each layer lies in the V cells."""
        ends = np.cumsum([layer.size for layer in self.layers]).tolist()
        return tuple(slice(a, b) for a, b in zip([0, *ends[:-1]], ends, strict=True))

    @cached_property
    def layer_of_cell(self) -> NDArray[np.int64]:
        """Index (not id) of the layer of each cell, (V,)."""
        return np.repeat(np.arange(self.n_layers), [layer.size for layer in self.layers])

    @cached_property
    def condition_names(self) -> tuple[str, ...]:
        """Names of the C condition columns, in order."""
        return tuple(c.name for c in self.conditions)

    def column(self, name: str) -> int:
        """Index of a condition column; raises GeometryError with the nearest name."""
        if name not in self.condition_names:
            hint = did_you_mean(name, self.condition_names)
            raise GeometryError(f"Geometry '{self.name}' has no condition '{name}': {hint}")
        return self.condition_names.index(name)

    def incident_energy(self, conditions: Array) -> Array:
        """Incident energy in MeV of conditions (N, C): the column `energy`, or |p| of (px, py,
        pz). Returns (N,).
        """
        if "energy" in self.condition_names:
            return conditions[:, self.column("energy")]
        columns = [self.column(axis) for axis in ("px", "py", "pz")]
        return np.sqrt(np.square(conditions[:, columns]).sum(axis=1))

    # --- identity ----------------------------------------------------------------------------
    def to_dict(self) -> dict[str, Any]:
        """Plain JSON-able description; `Geometry.from_dict` reads it back."""
        return {
            "name": self.name,
            "title": self.title,
            "format": self.format,
            "particles": list(self.particles),
            "pid": self.pid,
            "cut": self.cut,
            "note": self.note,
            "conditions": [vars(c) for c in self.conditions],
            "layers": [_layer_to_dict(layer) for layer in self.layers],
            "symmetries": [
                {"operation": name, "conditions": {c: dict(terms) for c, terms in maps}}
                for name, maps in self.symmetries
            ],
        }

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits that change when read-out or conditions change, and with nothing
        else.
        """
        plain = self.to_dict()
        content = {
            "layers": [
                {k: v for k, v in layer.items() if k != "name"} for layer in plain["layers"]
            ],
            "conditions": [
                {k: v for k, v in c.items() if k != "label"} for c in plain["conditions"]
            ],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Geometry:
        """Build from the content of a geometry file. Raises GeometryError that names what is
        wrong.
        """
        valid = {
            "name",
            "title",
            "format",
            "particles",
            "pid",
            "cut",
            "note",
            "conditions",
            "layers",
            "symmetries",
            "stack",
        }
        for key in plain:
            if key not in valid:
                raise GeometryError(f"Unknown geometry key '{key}': {did_you_mean(key, valid)}")
        try:
            layers: list[Layer] = []
            for entry in plain["layers"]:
                layers += _layers_from_dict(entry)
                _whole(len(layers), "layers", MOST_LAYERS)
            conditions = tuple(Condition(**entry) for entry in plain["conditions"])
            symmetries = tuple(
                (
                    str(entry["operation"]),
                    tuple(
                        (name, tuple((k, float(v)) for k, v in terms.items()))
                        for name, terms in entry.get("conditions", {}).items()
                    ),
                )
                for entry in plain.get("symmetries", [])
            )
            return cls(
                name=str(plain["name"]),
                title=str(plain.get("title", plain["name"])),
                layers=tuple(layers),
                conditions=conditions,
                format=str(plain.get("format", "caloforge")),
                particles=tuple(plain.get("particles", ())),
                pid=plain.get("pid"),
                cut=float(plain.get("cut", 0.0)),
                note=str(plain.get("note", "")),
                symmetries=symmetries,
                stack=json.dumps(plain["stack"], sort_keys=True) if plain.get("stack") else "",
            )
        except KeyError as error:
            raise GeometryError(
                f"The geometry lacks the key {error}; see the shipped files for an example."
            ) from error
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise GeometryError(f"The geometry cannot be read: {error}.") from error


def _layer_to_dict(layer: Layer) -> dict[str, Any]:
    plain: dict[str, Any] = {"id": layer.id, "name": layer.name, "kind": layer.kind}
    if layer.kind == "polar":
        plain |= {"alpha_bins": layer.shape[0], "r_edges": list(layer.edges[1])}
    else:
        plain |= {"axes": list(layer.axes), "edges": [list(e) for e in layer.edges]}
    if layer.z is not None:
        plain["z"] = list(layer.z)
    if layer.shift is not None:
        plain["shift"] = vars(layer.shift)
    return plain


def _layers_from_dict(entry: dict[str, Any]) -> list[Layer]:
    """One entry of a geometry file: a layer, or `copies` of it with consecutive ids, each behind
    the one before.
    """
    valid = {
        "id",
        "name",
        "kind",
        "alpha_bins",
        "r_edges",
        "axes",
        "edges",
        "z",
        "shift",
        "copies",
    }
    for key in entry:
        if key not in valid:
            raise GeometryError(f"Unknown layer key '{key}': {did_you_mean(key, valid)}")
    if entry["kind"] == "polar":
        axes = ("alpha", "r")
        bins = _whole(entry["alpha_bins"], "alpha bins", MOST_BINS)
        alpha = tuple(float(a) for a in np.linspace(-math.pi, math.pi, bins + 1))
        edges = (alpha, _edges(entry["r_edges"]))
    elif entry["kind"] == "grid":
        axes = (str(entry["axes"][0]), str(entry["axes"][1]))
        edges = (_edges(entry["edges"][0]), _edges(entry["edges"][1]))
    else:
        raise GeometryError(
            f"Layer {entry['id']} has kind '{entry['kind']}'; expected 'polar' or 'grid'."
        )
    shift = Shift(**entry["shift"]) if "shift" in entry else None
    copies = _whole(entry.get("copies", 1), "copies of a layer", MOST_LAYERS)
    layers = []
    for k in range(copies):
        z = None
        if "z" in entry:
            front, back = (float(v) for v in entry["z"])
            z = (front + k * (back - front), back + k * (back - front))
        name = f"{entry['name']} {k}" if copies > 1 else str(entry["name"])
        layers.append(Layer(int(entry["id"]) + k, name, entry["kind"], axes, edges, z, shift))
    return layers


def _edges(spec: Any) -> tuple[float, ...]:
    """Edges as a list of numbers, or as {low, high, bins} for equal cells."""
    if isinstance(spec, dict):
        bins = _whole(spec["bins"], "bins", MOST_BINS)
        return tuple(float(e) for e in np.linspace(spec["low"], spec["high"], bins + 1))
    return tuple(float(e) for e in spec)


def _whole(value: Any, what: str, most: int) -> int:
    """A whole number from 1 to `most`: a file from elsewhere must not make us allocate at will."""
    if isinstance(value, bool) or value != int(value) or not 1 <= value <= most:
        raise GeometryError(f"Got {value} {what}; expected a whole number from 1 to {most}.")
    return int(value)


def geometry_names() -> list[str]:
    """Names of the geometries shipped with the package."""
    folder = resources.files("caloforge") / "detectors"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_geometry(source: str | Path) -> Geometry:
    """Geometry by shipped name, or from a TOML file of ours or a CaloChallenge binning XML file.

    Raises GeometryError for an unknown name (with the nearest one) and for files that cannot be
    read.
    """
    text = str(source)
    if text in geometry_names():
        content = (resources.files("caloforge") / "detectors" / f"{text}.toml").read_text(
            encoding="utf-8"
        )
        return Geometry.from_dict(tomllib.loads(content))
    path = Path(source)
    if path.suffix == ".xml":
        from caloforge.binning import read_binning

        return read_binning(path)
    if path.suffix != ".toml":
        raise GeometryError(f"Unknown geometry '{text}': {did_you_mean(text, geometry_names())}")
    try:
        return Geometry.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise GeometryError(f"Cannot read the geometry file {path}: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise GeometryError(f"The geometry file {path} is not valid TOML: {error}.") from error
