"""The field's own files, each described once: where cells and conditions are, in which units.

A format turns columns into MeV, mm and rad, and back; opening, streaming and checking are shared
by all (`caloforge.data.reader`). Lengths of the axes come from the geometry.

Sources: CaloChallenge arXiv:2410.21611; CaloGAN arXiv:1705.02355, 10.17632/pvn3xc3wy5,
10.17632/5fnxs6b557; LCD arXiv:1912.06794; LHCb arXiv:1812.01319; ATLAS cells arXiv:2210.06204.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from caloforge import units
from caloforge.data.containers import Array, Column
from caloforge.errors import DataError, did_you_mean
from caloforge.geometry import Geometry, geometry_names, load_geometry

Tail = tuple[int, ...]
# Condition columns of a key: (condition name, factor to MeV, mm or rad). A single one is stored as
# (N, 1).
Labels = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Format:
    """One layout of columns.

    Parameters
    ----------
    name
        Key in FORMATS.
    needs
        Columns that must be there; the format with most of them is taken.
    labels
        Where the conditions are, with the factor to the package's units.
    optional
        Condition columns that older files lack; those conditions are then 0.
    attributes
        Notes written into every file for readers that are not ours.
    fixed
        Columns of a constant whole number written for readers that expect them.
    remark
        What was assumed about this file; recorded in the provenance.
    """

    name: str
    needs: tuple[str, ...]
    labels: Mapping[str, Labels] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    remark: str = ""

    def adapt(self, columns: Mapping[str, Column], notes: Mapping[str, Any]) -> Format:
        """The variant of this format that the file follows."""
        missing = tuple(k for k in self.optional if k not in columns)
        if not missing:
            return self
        return replace(
            self,
            labels={k: v for k, v in self.labels.items() if k not in missing},
            remark=f"the file has no {', '.join(missing)}: these conditions are 0",
        )

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """Cell columns in order with their shape after N."""
        return {"showers": (geometry.n_cells,)}

    def conditions(self, geometry: Geometry) -> dict[str, Labels]:
        """Condition columns in order."""
        return dict(self.labels)

    def condition_tails(self, geometry: Geometry) -> dict[str, Tail]:
        """Condition columns with their shape after N."""
        return {key: (len(labels),) for key, labels in self.conditions(geometry).items()}

    def candidates(self, columns: Mapping[str, Column]) -> list[Geometry]:
        """Shipped geometries this file could have, judged by its shapes."""
        shipped = [g for g in map(load_geometry, geometry_names()) if g.format == self.name]
        return [g for g in shipped if self._fits(g, columns)]

    def _fits(self, geometry: Geometry, columns: Mapping[str, Column]) -> bool:
        cells = self.cells(geometry)
        return all(k in columns and same_tail(columns[k].shape[1:], t) for k, t in cells.items())

    def problem(self, geometry: Geometry) -> str:
        """Why a geometry cannot be stored in this format, empty when it can."""
        names = {name for labels in self.conditions(geometry).values() for name, _ in labels}
        if names != set(geometry.condition_names):
            return f"it holds the conditions {', '.join(sorted(names))}"
        return ""

    def decode_cells(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Cell columns -> (n, V) MeV."""
        parts = [_flat(columns[k]) for k in self.cells(geometry)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def encode_cells(self, energies: Array, geometry: Geometry) -> dict[str, Array]:
        """(n, V) MeV -> cell columns."""
        cells = self.cells(geometry)
        ends = np.cumsum([math.prod(tail) for tail in cells.values()]).tolist()
        pieces = np.split(energies, ends[:-1], axis=1)
        return {k: p.reshape(len(p), *t) for (k, t), p in zip(cells.items(), pieces, strict=True)}

    def decode_conditions(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Condition columns -> (n, C) MeV, mm, rad."""
        keys = self.conditions(geometry)
        count = len(columns[next(iter(keys))]) if keys else 0
        result = np.zeros((count, len(geometry.conditions)))
        for key, labels in keys.items():
            values = _flat(np.asarray(columns[key], dtype=np.float64))
            for position, (name, factor) in enumerate(labels):
                result[:, geometry.column(name)] = values[:, position] * factor
        return result

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """(n, C) -> condition columns, float64 so that nothing is lost."""
        result = {}
        for key, labels in self.conditions(geometry).items():
            values = [conditions[:, geometry.column(name)] / factor for name, factor in labels]
            result[key] = np.stack(values, axis=1)
        for key in self.fixed:
            result[key] = np.full(len(conditions), geometry.pid or 0, dtype=np.int32)
        return result


class Layers(Format):
    """One column a layer, `layer_0` ... `layer_L-1`, each (N, slow, fast)."""

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """One column a layer."""
        return {f"layer_{k}": layer.shape for k, layer in enumerate(geometry.layers)}


class Image(Format):
    """One column `EnergyDeposit` (N, x, y, 1) for a single-layer calorimeter."""

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """The only layer as an image with one channel."""
        return {"EnergyDeposit": (*geometry.layers[0].shape, 1)}

    def problem(self, geometry: Geometry) -> str:
        """One layer only."""
        return "it holds one layer" if geometry.n_layers != 1 else super().problem(geometry)


class Table(Format):
    """Our own plain layout for any geometry: `showers` (N, V) and `conditions` (N, C)."""

    def conditions(self, geometry: Geometry) -> dict[str, Labels]:
        """All conditions in one column."""
        return {"conditions": tuple((name, 1.0) for name in geometry.condition_names)}


class Tree(Format):
    """Branches of a ROOT tree: `cells` (N, V) and one branch a condition."""

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """All cells in one branch."""
        return {"cells": (geometry.n_cells,)}

    def conditions(self, geometry: Geometry) -> dict[str, Labels]:
        """One branch a condition."""
        return {name: ((name, 1.0),) for name in geometry.condition_names}

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """Plain numbers, not arrays of one."""
        return {k: v[:, 0] for k, v in super().encode_conditions(conditions, geometry).items()}


@dataclass(frozen=True)
class Lcd(Format):
    """`ECAL` (N, x, y, depth) and `HCAL`, MeV; `target` (N, 1, 5) = [class, E, p_z, 0, 0] in GeV.

    The class is 0 for a photon and 1 for a neutral pion unless the attributes `class_0` and
    `class_1` say otherwise. The published files (ECAL 24 x 24 x 25, no attributes) count the other
    way round: there E - p_z, which is m^2 / 2E, fits the pion mass in class 0 and vanishes in
    class 1.
    """

    swapped: bool = False
    missing: int = 0  # rows and columns the published files lack

    def adapt(self, columns: Mapping[str, Column], notes: Mapping[str, Any]) -> Format:
        """Recognise the published files and named classes."""
        named = [str(notes.get(f"class_{k}", "")) for k in (0, 1)]
        swapped, missing, remark = named == ["pi0", "gamma"], 0, ""
        if "ECAL" in columns and columns["ECAL"].shape[1:3] == (24, 24):
            swapped, missing = named != ["gamma", "pi0"], 1
            remark = "published LCD layout: one empty row and column added at high x and y"
            remark += "; class 0 read as neutral pion, 1 as photon" if swapped else ""
        return replace(self, swapped=swapped, missing=missing, remark=remark)

    def _groups(self, geometry: Geometry) -> dict[str, tuple[int, ...]]:
        """Layers of each column: ECAL are those shaped as the first, HCAL the rest."""
        first = geometry.layers[0].shape
        ecal = tuple(k for k, layer in enumerate(geometry.layers) if layer.shape == first)
        rest = tuple(k for k in range(geometry.n_layers) if k not in ecal)
        return {"ECAL": ecal, "HCAL": rest}

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """(x, y, depth) of both calorimeters."""
        shapes: dict[str, Tail] = {}
        for key, layers in self._groups(geometry).items():
            x, y = geometry.layers[layers[0]].shape if layers else (0, 0)
            lacking = self.missing if key == "ECAL" else 0
            shapes[key] = (x - lacking, y - lacking, len(layers))
        return shapes

    def condition_tails(self, geometry: Geometry) -> dict[str, Tail]:
        """Five numbers a shower."""
        return {"target": (1, 5)}

    def problem(self, geometry: Geometry) -> str:
        """Two groups of layers, the first ones in front."""
        groups = self._groups(geometry)
        order = groups["ECAL"] + groups["HCAL"]
        shapes = {geometry.layers[k].shape for k in groups["HCAL"]}
        if order != tuple(range(geometry.n_layers)) or len(shapes) != 1:
            return "it holds equal ECAL layers followed by equal HCAL layers"
        return super().problem(geometry)

    def decode_cells(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Depth becomes the slowest axis; missing rows and columns are filled with 0."""
        ecal, hcal = columns["ECAL"], columns["HCAL"]
        if self.missing:
            ecal = np.pad(ecal, [(0, 0), (0, self.missing), (0, self.missing), (0, 0)])
        parts = [_flat(np.moveaxis(a, 3, 1)) for a in (ecal, hcal)]
        return np.concatenate(parts, axis=1)

    def encode_cells(self, energies: Array, geometry: Geometry) -> dict[str, Array]:
        """Depth becomes the fastest axis."""
        result, start = {}, 0
        for key, tail in self.cells(geometry).items():
            x, y, depth = tail
            piece = energies[:, start : start + x * y * depth].reshape(-1, depth, x, y)
            result[key] = np.ascontiguousarray(np.moveaxis(piece, 1, 3))
            start += x * y * depth
        return result

    def decode_conditions(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Class and energy."""
        result = super().decode_conditions(columns, geometry)
        if self.swapped:
            particle = geometry.column("particle")
            result[:, particle] = 1.0 - result[:, particle]
        return result

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """Perpendicular incidence: p_z is the energy."""
        lead = super().encode_conditions(conditions, geometry)["target"]
        target = np.zeros((len(lead), 1, 5))
        target[:, 0, :2] = lead
        target[:, 0, 2] = lead[:, 1]
        return {"target": target}


_MEV = {"unit_energy": "MeV", "unit_length": "mm"}

FORMATS: dict[str, Format] = {
    "calochallenge": Format(
        "calochallenge",
        needs=("incident_energies", "showers"),
        labels={"incident_energies": (("energy", units.MEV),)},
        attributes=_MEV,
    ),
    "lcd": Lcd(
        "lcd",
        needs=("ECAL", "HCAL", "target"),
        labels={"target": (("particle", 1.0), ("energy", units.GEV))},
        attributes={
            **_MEV,
            "unit_target_energy": "GeV",
            "class_0": "gamma",
            "class_1": "pi0",
        },
    ),
    "lhcb": Image(
        "lhcb",
        needs=("EnergyDeposit", "ParticleMomentum", "ParticlePoint"),
        labels={
            "ParticleMomentum": (("px", units.GEV), ("py", units.GEV), ("pz", units.GEV)),
            "ParticlePoint": (("x", units.CM), ("y", units.CM)),
        },
        attributes={"unit_energy": "MeV", "unit_momentum": "GeV", "unit_length": "cm"},
        fixed=("ParticlePDG",),
    ),
    "atlas-cells": Layers(
        "atlas-cells",
        needs=("energy", "impact", "alignment", "layer_0"),
        labels={
            "energy": (("energy", units.MEV),),
            "impact": (("impact_eta", units.MM), ("impact_phi", units.MM)),
            "alignment": (("alignment_phi", 1.0), ("alignment_eta", 1.0)),
        },
        attributes=_MEV,
    ),
    "calogan": Layers(
        "calogan",
        needs=("energy", "layer_0", "layer_1", "layer_2"),
        labels={
            "energy": (("energy", units.GEV),),
            "x0": (("x0", units.MM),),
            "y0": (("y0", units.MM),),
            "theta": (("theta", 1.0),),
            "phi": (("phi", 1.0),),
        },
        optional=("x0", "y0", "theta", "phi"),
        attributes={**_MEV, "unit_incident_energy": "GeV"},
    ),
    "caloforge": Table("caloforge", needs=("showers", "conditions"), attributes=_MEV),
    "root": Tree("root", needs=("cells",), attributes=_MEV),
}


def same_tail(got: Tail, expected: Tail) -> bool:
    """Equal but for axes of length 1: (N,), (N, 1) and (N, 1, 1) hold one number a shower."""
    return [n for n in got if n != 1] == [n for n in expected if n != 1]


def _flat(values: Array) -> Array:
    """(n, ...) -> (n, rest), for n = 0 too."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def find_format(columns: Mapping[str, Column], where: str) -> Format:
    """The format whose columns are there.

    Raises
    ------
    DataError
        When none fits, naming what the nearest one lacks.
    """
    complete = [f for f in FORMATS.values() if all(k in columns for k in f.needs)]
    if complete:
        return max(complete, key=lambda f: len(f.needs))
    nearest = max(
        FORMATS.values(), key=lambda f: sum(k in columns for k in f.needs) / len(f.needs)
    )
    present = sorted(columns)[:12]
    found = f"holds {', '.join(present)}" if present else "holds no columns"
    if any(k in columns for k in nearest.needs):
        lacking = [k for k in nearest.needs if k not in columns]
        raise DataError(
            f"{where} {found}; expected also {', '.join(lacking)} for the {nearest.name} format: "
            "rename or add what is "
            "missing."
        )
    known = "; ".join(f"{f.name}: {', '.join(f.needs)}" for f in FORMATS.values())
    raise DataError(f"{where} {found}; expected the columns of a known format ({known}).")


def get_format(name: str) -> Format:
    """Format by name; raises DataError with the nearest one."""
    if name not in FORMATS:
        raise DataError(f"Unknown format '{name}': {did_you_mean(name, FORMATS)}")
    return FORMATS[name]
