"""Frozen description of a calorimeter read-out: layers, cell edges, conditions with their roles,
limits of the observables, exact symmetries, and a stable hash.

Symbols used here and everywhere: N showers, V cells (voxels), L layers, C conditions. Cells are
ordered layer by layer; inside a layer the first axis is the slow one and the second the fast one
(for polar layers: alpha slow, r fast, the order of the CaloChallenge, arXiv:2410.21611).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.checks import MOST_LAYERS, check_keys, check_value, whole_number
from caloforge.detector.conditions import Condition, with_roles
from caloforge.detector.layers import Layer, Shift, layers_from_dict
from caloforge.detector.limits import LayerLimits, Limits
from caloforge.detector.stack import Stack
from caloforge.errors import GeometryError, did_you_mean

__all__ = ["Condition", "Geometry", "Layer", "LayerLimits", "Limits", "Shift", "Stack"]

Array = NDArray[Any]
# A symmetry: its operation, and for every condition that changes, what its new value is made of
# (condition or "offset", factor).
SymmetryRow = tuple[str, tuple[tuple[str, tuple[tuple[str, float], ...]], ...]]

KEYS = (
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
    "limits",
    "stack",
)


@dataclass(frozen=True, repr=False)
class Geometry:
    """One calorimeter read-out. Read it with `load_geometry`; its numbers are written nowhere
    else.

    Parameters
    ----------
    name
        The short name.
    title
        The name for people.
    layers
        The L layers from front to back.
    conditions
        The C columns of the condition vector. A condition that states no role gets one by its
        name, see `detector.conditions.with_roles`.
    format
        Layout of the files in which showers of this read-out are usually kept. It says nothing
        about the detector.
    particles
        Names of the particles that the showers are of.
    pid
        The PDG code of a single one.
    cut
        Energy in MeV below which a cell is set to zero before any metric.
    note
        Remarks for people.
    symmetries
        Exact symmetries of the physics, see `caloforge.detector.symmetries`.
    limits
        What the detector states about its observables.
    stack
        The materials along the axis, which only a simulation needs; they have a hash of their own.
    """

    name: str
    title: str
    layers: tuple[Layer, ...]
    conditions: tuple[Condition, ...]
    format: str = "caloforge"
    particles: tuple[str, ...] = ()
    pid: int | None = None
    cut: float = 0.0
    note: str = ""
    symmetries: tuple[SymmetryRow, ...] = ()
    limits: Limits = field(default_factory=Limits)
    stack: Stack | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        if not self.layers or self.n_cells == 0:
            raise GeometryError(
                f"Geometry '{self.name}' has no cells; expected at least one layer with voxels."
            )
        grids = [layer.axes for layer in self.layers if layer.kind == "grid"]
        axes = dict.fromkeys(axis for pair in (*grids, ("x", "y")) for axis in pair)
        object.__setattr__(self, "conditions", with_roles(self.conditions, axes))
        for what, names in (
            ("layer id", [layer.id for layer in self.layers]),
            ("condition", [c.name for c in self.conditions]),
            ("role", [f"{c.role} {c.axis}".strip() for c in self.conditions if c.role != "other"]),
        ):
            if len(set(names)) != len(names):
                raise GeometryError(
                    f"Geometry '{self.name}' uses a {what} twice: {names}; expected unique ones."
                )
        for layer in self.layers:
            if layer.shift is not None:
                self.column(layer.shift.condition)
        self._check_symmetries()
        if self.stack is not None:
            self.stack.check_layers(self.layers, f"'{self.name}'")

    def __repr__(self) -> str:
        conditions = ", ".join(self.condition_names) or "none"
        return (
            f"Geometry('{self.name}': {self.n_cells} cells in {self.n_layers} layers, conditions: "
            f"{conditions}, hash {self.hash})"
        )

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(c.name)}</th><td>{escape(f'{c.role} {c.axis}'.strip())}</td>"
            f"<td>{c.low:g} to {c.high:g} {escape(c.unit)}</td></tr>"
            for c in self.conditions
        )
        return (
            f"<table><caption>{escape(self.title)}: {self.n_cells} cells in {self.n_layers} "
            f"layers</caption><thead><tr><th>condition</th><th>role</th><th>range</th></tr>"
            f"</thead><tbody>{rows}</tbody></table>"
        )

    def _check_symmetries(self) -> None:
        axes = dict.fromkeys(axis for layer in self.layers for axis in layer.axes)
        valid = ["rotate-alpha", "swap", *(f"reflect-{axis}" for axis in axes if axis != "r")]
        for operation, maps in self.symmetries:
            what = f"Geometry '{self.name}' has the symmetry"
            check_value(operation, valid, what, ", ".join(valid))
            for target, terms in maps:
                self.column(target)
                for source, _ in terms:
                    if source != "offset":
                        self.column(source)

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

    # --- roles of the conditions -------------------------------------------------------------
    def find(self, role: str, axis: str = "") -> int | None:
        """Index of the condition with a role, along an axis where the role has one; None without
        it.
        """
        for index, condition in enumerate(self.conditions):
            if (condition.role, condition.axis) == (role, axis):
                return index
        return None

    def column_of(self, role: str, axis: str = "") -> int:
        """Index of the condition with a role; raises GeometryError where there is none."""
        index = self.find(role, axis)
        if index is None:
            wanted = f"{role} along {axis}" if axis else role
            has = ", ".join(f"{c.name} ({c.role} {c.axis}".strip() + ")" for c in self.conditions)
            raise GeometryError(
                f"No condition of '{self.name}' has the role '{wanted}'; it has {has or 'none'}: "
                "choose another geometry, or state the role in its file."
            )
        return index

    @cached_property
    def energy_columns(self) -> tuple[int, ...]:
        """Columns that tell the incident energy: the energy itself, or else all components of the
        momentum, whose length it is. Raises GeometryError where there is neither.
        """
        momentum = [k for k, c in enumerate(self.conditions) if c.role == "momentum"]
        if self.find("energy") is None and len(momentum) == 3:
            return tuple(momentum)
        return (self.column_of("energy"),)

    def incident_energy(self, conditions: Array) -> Array:
        """Incident energy in MeV, (N,), of conditions (N, C): the column of the role energy, or
        the length of the momentum.
        """
        columns = list(self.energy_columns)
        if len(columns) == 1:
            return conditions[:, columns[0]]
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
            "layers": [layer.to_dict() for layer in self.layers],
            "symmetries": [
                {"operation": name, "conditions": {c: dict(terms) for c, terms in maps}}
                for name, maps in self.symmetries
            ],
            "limits": self.limits.to_dict(),
            **({} if self.stack is None else {"stack": self.stack.to_dict()}),
        }

    @cached_property
    def hash(self) -> str:
        """Sixteen hex digits that change when read-out or conditions change, and with nothing
        else: names of layers, labels, roles and limits may be corrected.
        """
        hashed = ("name", "unit", "low", "high", "scale")
        content = {
            "layers": [layer.read_out() for layer in self.layers],
            "conditions": [{key: getattr(c, key) for key in hashed} for c in self.conditions],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Geometry:
        """Build from the content of a geometry file. Raises GeometryError that names what is
        wrong.
        """
        check_keys(plain, KEYS, "geometry")
        try:
            layers: list[Layer] = []
            for entry in plain["layers"]:
                layers += layers_from_dict(entry)
                whole_number(len(layers), "layers", MOST_LAYERS)
            return cls(
                name=str(plain["name"]),
                title=str(plain.get("title", plain["name"])),
                layers=tuple(layers),
                conditions=tuple(Condition.from_dict(entry) for entry in plain["conditions"]),
                format=str(plain.get("format", "caloforge")),
                particles=tuple(plain.get("particles", ())),
                pid=plain.get("pid"),
                cut=float(plain.get("cut", 0.0)),
                note=str(plain.get("note", "")),
                symmetries=tuple(_symmetry(entry) for entry in plain.get("symmetries", [])),
                limits=Limits.from_dict(plain.get("limits", {})),
                stack=Stack.from_dict(plain["stack"]) if plain.get("stack") else None,
            )
        except KeyError as error:
            raise GeometryError(
                f"The geometry lacks the key {error}; see the shipped files for an example."
            ) from error
        except (TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise GeometryError(f"The geometry cannot be read: {error}.") from error


def _symmetry(entry: dict[str, Any]) -> SymmetryRow:
    check_keys(entry, ("operation", "conditions"), "symmetry")
    maps = entry.get("conditions", {}).items()
    return str(entry["operation"]), tuple(
        (name, tuple((source, float(factor)) for source, factor in terms.items()))
        for name, terms in maps
    )
