"""The layouts of the field's own files, each described once: where cells and conditions are, and
in which units.

A format turns columns into MeV, mm and rad, and back; opening, streaming and checking are shared
by all (`caloforge.data.reader`). Lengths of the axes come from the geometry.

Sources: CaloChallenge arXiv:2410.21611; CaloGAN arXiv:1705.02355, 10.17632/pvn3xc3wy5,
10.17632/5fnxs6b557; LCD arXiv:1912.06794; LHCb arXiv:1812.01319; ATLAS cells arXiv:2210.06204;
LEMURS arXiv:2509.05108.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from caloforge import units
from caloforge.data.containers import Array, Column
from caloforge.data.layout import Format, Labels, Tail, flat
from caloforge.data.points import Points, PointsSink
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.errors import DataError, did_you_mean


class Layers(Format):
    """One column for each layer, `layer_0` ... `layer_L-1`, each (N, slow, fast)."""

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """One column for each layer."""
        return {f"layer_{k}": layer.shape for k, layer in enumerate(geometry.layers)}


class Image(Format):
    """One column `EnergyDeposit` (N, x, y, 1) for a single-layer calorimeter."""

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """The only layer as an image with one channel."""
        return {"EnergyDeposit": (*geometry.layers[0].shape, 1)}

    def problem(self, geometry: Geometry) -> str:
        """Only a read-out of a single layer can be stored."""
        return "it holds one layer" if geometry.n_layers != 1 else super().problem(geometry)


class Table(Format):
    """The package's own layout for any geometry: `showers` (N, V) and `conditions` (N, C)."""

    def conditions(self, geometry: Geometry) -> dict[str, Labels]:
        """All conditions in one column."""
        return {"conditions": tuple((name, 1.0) for name in geometry.condition_names)}


class Tree(Format):
    """Branches of a ROOT tree: `cells` (N, V) and one branch for each condition."""

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """All cells in one branch."""
        return {"cells": (geometry.n_cells,)}

    def conditions(self, geometry: Geometry) -> dict[str, Labels]:
        """One branch for each condition."""
        return {name: ((name, 1.0),) for name in geometry.condition_names}

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """The branches hold plain numbers, not arrays of one number."""
        return {k: v[:, 0] for k, v in super().encode_conditions(conditions, geometry).items()}


PUBLISHED_ECAL = (24, 24)  # rows and columns of the published files: one less than the detector


@dataclass(frozen=True)
class Lcd(Format):
    """`ECAL` (N, x, y, depth) and `HCAL`, MeV; `target` (N, 1, 5) = [class, E, p_z, 0, 0] in GeV.

    The class is 0 for a photon and 1 for a neutral pion unless the attributes `class_0` and
    `class_1` say otherwise. The published files (ECAL 24 x 24 x 25, no attributes) count the other
    way round: there E - p_z, which is m^2 / 2E, fits the pion mass in class 0 and vanishes in
    class 1.
    """

    swapped: bool = False
    missing: int = 0  # number of rows and of columns that the published files lack

    def adapt(self, columns: Mapping[str, Column], notes: Mapping[str, Any]) -> Format:
        """Recognise the published files, and files that name their classes."""
        named = [str(notes.get(f"class_{k}", "")) for k in (0, 1)]
        swapped, missing, remark = named == ["pi0", "gamma"], 0, ""
        if "ECAL" in columns and columns["ECAL"].shape[1:3] == PUBLISHED_ECAL:
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
        """Five numbers for each shower."""
        return {"target": (1, 5)}

    def problem(self, geometry: Geometry) -> str:
        """Only equal ECAL layers in front of equal HCAL layers can be stored."""
        groups = self._groups(geometry)
        order = groups["ECAL"] + groups["HCAL"]
        shapes = {geometry.layers[k].shape for k in groups["HCAL"]}
        if order != tuple(range(geometry.n_layers)) or len(shapes) != 1:
            return "it holds equal ECAL layers followed by equal HCAL layers"
        if geometry.layers[0].shape == PUBLISHED_ECAL:
            return "ECAL layers of 24 x 24 cells mean 25 x 25 there, as in the published files"
        return super().problem(geometry)

    def decode_cells(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Depth becomes the slowest axis; missing rows and columns are filled with 0."""
        ecal, hcal = columns["ECAL"], columns["HCAL"]
        if self.missing:
            ecal = np.pad(ecal, [(0, 0), (0, self.missing), (0, self.missing), (0, 0)])
        parts = [flat(np.moveaxis(a, 3, 1)) for a in (ecal, hcal)]
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
        """The class of the particle, counted as in the package, and the energy."""
        result = super().decode_conditions(columns, geometry)
        if self.swapped:
            particle = geometry.column_of("particle")
            result[:, particle] = 1.0 - result[:, particle]
        return result

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """Perpendicular incidence: p_z is the energy."""
        lead = super().encode_conditions(conditions, geometry)["target"]
        target = np.zeros((len(lead), 1, 5))
        target[:, 0, :2] = lead
        target[:, 0, 2] = lead[:, 1]
        return {"target": target}


class Lemurs(Format):
    """`showers` (N, r, phi, z) of a mesh about the particle's direction, in MeV, as Geant4's
    example Par04 scores it and the LEMURS data set keeps it, with energy and both angles.

    A file does not say how large its cells are. Without a geometry they get the size that the
    shipped read-out `lemurs` states.
    """

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """(r, phi, z)."""
        slow, fast = geometry.layers[0].shape
        return {"showers": (fast, slow, geometry.n_layers)}

    def problem(self, geometry: Geometry) -> str:
        """Only equal polar layers can be stored."""
        first = geometry.layers[0]
        if first.kind != "polar" or any(y.edges != first.edges for y in geometry.layers):
            return "it holds equal layers with rings and sectors"
        return super().problem(geometry)

    def candidates(self, columns: Mapping[str, Column]) -> list[Geometry]:
        """A mesh of the shape of the file."""
        shape = columns["showers"].shape[1:]
        if len(shape) != 3 or math.prod(shape) == 0:
            return []
        return [lemurs_geometry(*shape)]

    def decode_cells(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Depth becomes the slowest axis and r the fastest."""
        return flat(columns["showers"].transpose(0, 3, 2, 1))

    def encode_cells(self, energies: Array, geometry: Geometry) -> dict[str, Array]:
        """r becomes the slowest axis and depth the fastest."""
        slow, fast = geometry.layers[0].shape
        cells = energies.reshape(-1, geometry.n_layers, slow, fast)
        return {"showers": np.ascontiguousarray(cells.transpose(0, 3, 2, 1))}

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """The columns hold plain numbers, not arrays of one number."""
        return {k: v[:, 0] for k, v in super().encode_conditions(conditions, geometry).items()}


def lemurs_geometry(rings: int, sectors: int, slices: int) -> Geometry:
    """The shipped read-out `lemurs` with other numbers of cells, each as large in r and depth."""
    shipped = load_geometry("lemurs")
    first = shipped.layers[0]
    if (slices, sectors, rings) == (shipped.n_layers, *first.shape):
        return shipped
    radii, (front, back) = first.edges[1], first.z or (0.0, 1.0)
    width = (radii[-1] - radii[0]) / (len(radii) - 1)
    layer = {
        "id": 0,
        "name": first.name,
        "copies": slices,
        "kind": "polar",
        "alpha_bins": sectors,
        "r_edges": {"low": radii[0], "high": radii[0] + width * rings, "bins": rings},
        "z": [front, back],
    }
    return Geometry.from_dict({**shipped.to_dict(), "layers": [layer]})


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
    "lemurs": Lemurs(
        "lemurs",
        needs=("showers", "incident_energy", "incident_theta", "incident_phi"),
        labels={
            "incident_energy": (("energy", units.MEV),),
            "incident_theta": (("theta", 1.0),),
            "incident_phi": (("phi", 1.0),),
        },
        attributes=_MEV,
    ),
    "showerdata": Points(
        "showerdata",
        needs=("showers", "num_points", "energies", "directions", "pdg", "shape"),
        remark="points outside the cells of the geometry were left out",
        own_sink=PointsSink,
    ),
    "caloforge": Table("caloforge", needs=("showers", "conditions"), attributes=_MEV),
    "root": Tree("root", needs=("cells",), attributes=_MEV),
}


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
    content = f"holds {', '.join(present)}" if present else "holds no columns"
    if any(k in columns for k in nearest.needs):
        lacking = [k for k in nearest.needs if k not in columns]
        raise DataError(
            f"{where} {content}; expected also {', '.join(lacking)} for the {nearest.name} "
            "format: rename or add what is missing."
        )
    known = "; ".join(f"{f.name}: {', '.join(f.needs)}" for f in FORMATS.values())
    raise DataError(f"{where} {content}; expected the columns of a known format ({known}).")


def get_format(name: str) -> Format:
    """Format by name; raises DataError with the nearest one."""
    if name not in FORMATS:
        raise DataError(f"Unknown format '{name}': {did_you_mean(name, FORMATS)}")
    return FORMATS[name]
