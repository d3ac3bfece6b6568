"""Geant4's example Par04: the ONNX file that its fast simulation loads, and the macro that loads
it. The same network serves DDML, key4hep's plug-ins for fast simulation, whose model
Par04ExampleVAE calls it in the same way.

One input [1, Z + 4]: Z standard normals, energy / 1024 GeV, angle / 90 degrees, and a code of two
numbers for the detector; one output [1, V], fractions of the energy, cells in (r, phi, z) order
with r slowest. Sources: Par04InferenceSetup and Par04OnnxInference of Geant4 11.4; DDML of
key4hep, June 2026.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ExportError
from caloforge.export.onnx import convert, exportable_core, metadata, open_session, serialised
from caloforge.export.parity import Float32, Parity, check_parity, trained_ranges
from caloforge.files import atomic_folder, atomic_path
from caloforge.models.file import ModelFile

MOST_ENERGY = 1_024_000.0  # MeV; fMaxEnergy of Par04InferenceSetup
CONDITIONS = 4  # energy, angle, and the code of the detector
Z_STEP = 3.4  # mm, of the cells of Par04's own mesh: two of its layers of tungsten and silicon
# Normals that DDML's Par04ExampleVAE hands on: the shape of its input is fixed before its property
# LatentVectorSize is read.
DDML_NOISE = 10


# What the metadata say of the inputs and outputs, which are not those of the plain export to ONNX.
MEANING = {
    "format": "caloforge-par04",
    "inputs": f"noise; then energy / {MOST_ENERGY:.0f} MeV, and three numbers not looked at",
    "energies": "fractions of the incident energy",
}


def export_par04(file: ModelFile, out: str | Path) -> Parity:
    """Write the generator for Par04 to `out` and the macro that uses it beside it (`.mac`), once
    it has made the same showers as PyTorch.

    Raises ExportError for a read-out that is not Par04's mesh, a model with other conditions than
    the energy, one that refuses to be exported, or when the check fails; nothing is written then.
    """
    out, geometry = Path(out), file.model.geometry
    order = mesh_order(geometry)
    with ExitStack() as files:
        network = files.enter_context(atomic_path(out))
        parity = _write(file, order, network, "(r, phi, z), r slowest, phi from -pi")
        _, macro = par04_files(out)
        text = par04_macro(geometry, file.model.noise_size, out.name)
        files.enter_context(atomic_path(macro)).write_text(text, encoding="utf-8")
    return parity.written(out, macro)


def par04_files(out: str | Path) -> list[Path]:
    """The files that `export_par04` writes: the network and the macro."""
    return [Path(out), Path(out).with_suffix(".mac")]


def export_ddml(file: ModelFile, out: str | Path) -> Parity:
    """Write the folder `out` for key4hep's DDML: the network, and the steering code for ddsim.

    Raises ExportError as `export_par04` does, and for a model that does not need `DDML_NOISE`
    normals or a mesh with an odd number of sectors; nothing is written then.
    """
    geometry, size = file.model.geometry, file.model.noise_size
    order = mesh_order(geometry)
    if size != DDML_NOISE:
        raise ExportError(
            f"DDML's Par04ExampleVAE gives its network {DDML_NOISE} normals, whatever its "
            f"property LatentVectorSize says; the model '{file.about['model']}' needs {size}: "
            f"expected one trained with {DDML_NOISE}."
        )
    n_phi, n_r = geometry.layers[0].shape
    if n_phi % 2:
        raise ExportError(
            f"DDML counts phi from 0 and CaloForge from -pi; with the {n_phi} sectors of "
            f"'{geometry.name}' the two differ by half a sector: expected an even number."
        )
    turned = np.roll(order.reshape(n_r, n_phi, geometry.n_layers), -(n_phi // 2), axis=1)
    with atomic_folder(out) as folder:
        cells = "(r, phi, z), r slowest, phi from 0"
        parity = _write(file, turned.ravel(), folder / "generator.onnx", cells)
        (trained,) = trained_ranges(file).values()
        text = ddml_steering(geometry, "generator.onnx", trained)
        (folder / "caloforge_model.py").write_text(text, encoding="utf-8")
    return parity.written(Path(out))


def _write(file: ModelFile, order: NDArray[np.int64], path: Path, cells: str) -> Parity:
    """Write the network, cells in `order` (V,), and compare it with PyTorch."""
    core = exportable_core(file)
    wrapped = _Par04(core, file.model.noise_size, torch.from_numpy(order.copy())).eval()
    size = file.model.noise_size + CONDITIONS
    proto = convert(wrapped, (torch.full((1, size), 0.1),), ["input"], "output", rows=None)
    path.write_bytes(serialised(proto, {**metadata(file), **MEANING, "cells": cells}))
    session, back = open_session(path), np.argsort(order)

    def run(noise: Float32, condition: Float32) -> NDArray[np.floating]:
        code = np.tile(np.array([0.5, 0.0, 1.0], np.float32), (len(noise), 1))
        rows = np.concatenate([noise, condition / np.float32(MOST_ENERGY), code], axis=1)
        shares = np.concatenate([session.run(None, {"input": row[None]})[0] for row in rows])
        return shares[:, back] * condition

    return check_parity(file, core, run)


def par04_macro(geometry: Geometry, noise: int, name: str) -> str:
    """Commands of Par04 for the mesh of a read-out and the network `name` of `noise` normals: the
    mesh can only be set before `/run/initialize`, the inference only after it.
    """
    n_phi, n_r = geometry.layers[0].shape
    rho, z = mesh_steps(geometry)
    sizes = [
        f"setSizeOfRhoCells {rho:.6g} mm",
        f"setSizeOfZCells {z:.6g} mm",
        f"setNbOfRhoCells {n_r}",
        f"setNbOfPhiCells {n_phi}",
        f"setNbOfZCells {geometry.n_layers}",
    ]
    lines = [
        *(f"/Par04/mesh/{size}" for size in sizes),
        "/run/initialize",
        f"/Par04/inference/setSizeLatentVector {noise}",
        f"/Par04/inference/setSizeConditionVector {CONDITIONS}",
        f"/Par04/inference/setModelPathName {name}",
        "/Par04/inference/setProfileFlag 0",
        "/Par04/inference/setOptimizationFlag 0",
        "/Par04/inference/setInferenceLibrary ONNX",
        *(f"/Par04/inference/{size}" for size in sizes),
        "/param/ActivateModel defineMesh",
        "/param/ActivateModel inferenceModel",
    ]
    return "\n".join(lines) + "\n"


def ddml_steering(geometry: Geometry, name: str, trained: tuple[float, float]) -> str:
    """Python that a steering file of ddsim imports: the configuration for DDML of the network
    `name`, which was trained on energies within `trained`, MeV.
    """
    n_phi, n_r = geometry.layers[0].shape
    rho, z = mesh_steps(geometry)
    properties = {
        "ModelPath": name,
        "NCellsRho": n_r,
        "NCellsPhi": n_phi,
        "NCellsZ": geometry.n_layers,
        "LatentVectorSize": DDML_NOISE,
        "CellSizeRho": round(rho, 6),
        "CellSizeZ": round(z, 6),
        "IntraOpNumThreads": 1,
    }
    lines = "\n".join(f'        "{key}": {json.dumps(x)},' for key, x in properties.items())
    (low, high), particles = trained, ", ".join(map(json.dumps, geometry.particles))
    triggers = ", ".join(f"{json.dumps(p)}: {low:.8g} * MeV" for p in geometry.particles)
    return (
        '"""The generator for ddsim: SIM.physics.setupUserPhysics(ddml_physics([MODEL])).\n\n'
        f"It was trained on energies from {low:.8g} to {high:.8g} MeV, and is used from the lower "
        'one on.\n"""\n\n'
        "from ddml import ModelConfig\n"
        "from ddml.configs import ILD_BARREL  # the detector's own geometry goes here\n"
        "from g4units import MeV\n\n"
        "MODEL = ModelConfig(\n"
        '    plugin="Par04ExampleVAEPolyhedraBarrelONNXModel/BarrelModelONNX",\n'
        "    geometry=ILD_BARREL,\n"
        f"    plugin_properties={{\n{lines}\n    }},\n"
        "    correct_angles=False,\n"
        f"    applicable_particles=frozenset({{{particles}}}),\n"
        f"    triggers={{{triggers}}},\n"
        ")\n"
    )


def mesh_steps(geometry: Geometry) -> tuple[float, float]:
    """Size of a cell along r and along the depth, mm; Par04's own depth where a read-out has
    none.
    """
    r, z = geometry.layers[0].edges[-1], geometry.layers[0].z
    return r[1] - r[0], Z_STEP if z is None else z[1] - z[0]


def mesh_order(geometry: Geometry) -> NDArray[np.int64]:
    """CaloForge's number of each cell of the mesh in (r, phi, z) order, (V,).

    Raises ExportError when the read-out is no mesh of equal layers in r and alpha with equal steps
    in r from the axis on and in depth, or has other conditions than the energy.
    """
    if [c.role for c in geometry.conditions] != ["energy"]:
        raise ExportError(
            f"Par04 tells its network energy and angle; '{geometry.name}' has the conditions "
            f"{', '.join(geometry.condition_names)}: expected the energy alone."
        )
    first = geometry.layers[0]
    same = all(layer.kind == "polar" and layer.edges == first.edges for layer in geometry.layers)
    r = np.array(first.edges[-1])
    steps = np.diff(r)
    if not same or r[0] != 0 or np.ptp(steps) > 1e-6 * steps[0] or not _even(geometry):
        raise ExportError(
            f"Par04 scores in a mesh of equal layers and rings; the layers of '{geometry.name}' "
            "are not such a mesh: expected a read-out like ds2 or ds3, or export to ONNX."
        )
    numbers = np.arange(geometry.n_cells).reshape(geometry.n_layers, *first.shape)
    return numbers.transpose(2, 1, 0).ravel()  # (z, phi, r) to (r, phi, z)


def _even(geometry: Geometry) -> bool:
    """Whether all layers are equally thick and touch each other, or none states its depth."""
    depths = [layer.z for layer in geometry.layers if layer.z is not None]
    if len(depths) != geometry.n_layers:
        return not depths
    front, back = np.array(depths).T
    least = 1e-6 * (back[0] - front[0])
    return bool(np.ptp(back - front) <= least and (np.abs(front[1:] - back[:-1]) <= least).all())


class _Par04(nn.Module):
    """forward(input (1, Z + 4)) -> fractions (1, V) in Par04's order."""

    order: Tensor

    def __init__(self, core: nn.Module, latent: int, order: Tensor) -> None:
        super().__init__()
        self.core, self.latent = core, latent
        self.register_buffer("order", order)

    def forward(self, seen: Tensor) -> Tensor:
        """Fractions of the incident energy."""
        energy = seen[:, self.latent : self.latent + 1] * MOST_ENERGY
        mev: Tensor = self.core(seen[:, : self.latent], energy)
        return (mev / energy)[:, self.order]
