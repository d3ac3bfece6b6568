"""Geant4's example Par04: the ONNX file that its fast simulation loads.

One input [1, Z + 4]: Z standard normals, energy / 1024 GeV, angle / 90 degrees, and a code of two
numbers for the detector; one output [1, V], fractions of the energy, cells in (r, phi, z) order
with r slowest. Source: Par04InferenceSetup and Par04OnnxInference of Geant4 11.4.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.errors import ExportError
from caloforge.export.onnx import convert, exportable_core, metadata, open_session, serialised
from caloforge.export.parity import Float32, Parity, check_parity
from caloforge.files import atomic_path
from caloforge.geometry import Geometry
from caloforge.models.file import ModelFile

MOST_ENERGY = 1_024_000.0  # MeV; fMaxEnergy of Par04InferenceSetup
CONDITIONS = 4  # energy, angle, and the code of the detector


def export_par04(file: ModelFile, out: str | Path) -> Parity:
    """Write the generator for Par04 to `out`, once it has made the same showers as PyTorch.

    Raises ExportError for a read-out that is not Par04's mesh, a model with other conditions than
    the energy, one that refuses to be exported, or when the check fails; nothing is written then.
    """
    order = mesh_order(file.model.geometry)
    core = exportable_core(file)
    wrapped = _Par04(core, file.model.noise_size, torch.from_numpy(order)).eval()
    size = file.model.noise_size + CONDITIONS
    proto = convert(wrapped, (torch.full((1, size), 0.1),), ["input"], "output", rows=None)
    content = serialised(proto, {**metadata(file), "cells": "(r, phi, z), r slowest"})
    back = np.argsort(order)
    with atomic_path(out) as temporary:
        temporary.write_bytes(content)
        session = open_session(temporary)

        def run(noise: Float32, condition: Float32) -> NDArray[np.floating]:
            code = np.tile(np.array([0.5, 0.0, 1.0], np.float32), (len(noise), 1))
            rows = np.concatenate([noise, condition / np.float32(MOST_ENERGY), code], axis=1)
            made = np.concatenate([session.run(None, {"input": row[None]})[0] for row in rows])
            return made[:, back] * condition

        return check_parity(file, core, run)


def mesh_order(geometry: Geometry) -> NDArray[np.int64]:
    """Our number of each cell of the mesh in (r, phi, z) order, (V,).

    Raises ExportError when the read-out is no mesh of equal layers in r and alpha with equal steps
    in r from the axis on and in depth, or has other conditions than the energy.
    """
    if geometry.condition_names != ("energy",):
        raise ExportError(
            f"Par04 tells its network energy and angle; '{geometry.name}' has the conditions "
            f"{', '.join(geometry.condition_names)}: expected the energy alone."
        )
    first = geometry.layers[0]
    same = all(layer.kind == "polar" and layer.edges == first.edges for layer in geometry.layers)
    r = np.array(first.edges[-1])
    steps = np.diff(r)
    depths = [layer.z for layer in geometry.layers]
    thick = [z[1] - z[0] for z in depths if z is not None]
    even = len(thick) == 0 or (len(thick) == len(depths) and np.ptp(thick) < 1e-6 * thick[0])
    if not same or r[0] != 0 or np.ptp(steps) > 1e-6 * steps[0] or not even:
        raise ExportError(
            f"Par04 scores in a mesh of equal layers and rings; the layers of '{geometry.name}' "
            "are not such a mesh: expected a read-out like ds2 or ds3, or export to ONNX."
        )
    numbers = np.arange(geometry.n_cells).reshape(geometry.n_layers, *first.shape)
    return numbers.transpose(2, 1, 0).ravel()  # (z, phi, r) to (r, phi, z)


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
