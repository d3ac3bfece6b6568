"""FastCaloSim's machine-learning shower: one ONNX file, and the voxels' edges as HDF5.

The class TFCSMLCalorimeterSimulator runs the network for one shower at a time, and the class
TFCSBinnedShowerONNX spreads the energy of each voxel over the cells of the detector. The inputs of
the network, all float32: `inn_eta_in` (1, 1), |eta| times 10; `inn_einc_in` (1, 1), MeV;
`inn_z_energy` (1, L) and `cfm_z_shape` (1, V), standard normals. Its output `voxels` (1, V) are
energies in MeV, layer by layer. Source: the public library FastCaloSim, July 2026.
"""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ExportError
from caloforge.export.onnx import convert, exportable_core, metadata, open_session, serialised
from caloforge.export.parity import Float32, Parity, check_parity, trained_ranges
from caloforge.files import atomic_folder
from caloforge.models.file import ModelFile

INPUTS = ["inn_eta_in", "inn_einc_in", "inn_z_energy", "cfm_z_shape"]
# What the metadata say of the inputs, which are not those of the plain export to ONNX.
MEANING = {
    "format": "caloforge-fastcalosim-ml",
    "inputs": "inn_eta_in: |eta| times 10, not looked at; inn_einc_in: incident energy in MeV; "
    "inn_z_energy and cfm_z_shape: standard normals",
}
NETWORK, BINNING, README = "shower.onnx", "binning.h5", "README.txt"


def export_binned_shower(file: ModelFile, out: str | Path) -> Parity:
    """Write the folder `out`, whole or not at all, once the network in it has made the same
    showers as PyTorch: the network, the voxels, and the calls that load them.

    Raises ExportError for a read-out that is not voxels in r and alpha, conditions other than the
    energy, a model that needs more noise than one number for each layer and voxel, or one that
    refuses to be exported; nothing is written then.
    """
    geometry, size = file.model.geometry, file.model.noise_size
    check_voxels(geometry)
    layers, cells = geometry.n_layers, geometry.n_cells
    if size > layers + cells:
        raise ExportError(
            f"FastCaloSim draws a number for each layer and one for each voxel, {layers + cells} "
            f"together; the model '{file.about['model']}' needs {size}: export it to ONNX."
        )
    core = exportable_core(file)
    example = (
        torch.full((1, 1), 2.0),
        torch.full((1, 1), 1000.0),
        torch.zeros(1, layers),
        torch.zeros(1, cells),
    )
    proto = convert(_Shower(core, size).eval(), example, INPUTS, "voxels", rows=None)
    with atomic_folder(out) as folder:
        (folder / NETWORK).write_bytes(serialised(proto, {**metadata(file), **MEANING}))
        write_binning(folder / BINNING, geometry)
        (folder / README).write_text(_readme(file), encoding="utf-8")
        session = open_session(folder / NETWORK)

        def run(noise: Float32, condition: Float32) -> NDArray[np.floating]:
            # What the model does not look at may be anything.
            drawn = np.pad(noise, ((0, 0), (0, layers + cells - size)))
            shares, shapes = drawn[:, None, :layers], drawn[:, None, layers:]
            eta = np.full((1, 1), 2.0, np.float32)
            rows = zip(condition[:, None], shares, shapes, strict=True)
            made = [session.run(None, dict(zip(INPUTS, (eta, *row), strict=True))) for row in rows]
            return np.concatenate([voxels for (voxels,) in made])

        parity = check_parity(file, core, run)
    return parity.written(Path(out))


def check_voxels(geometry: Geometry) -> None:
    """Raise ExportError for a read-out whose cells are not voxels in r and alpha, or whose showers
    have other conditions than the energy.
    """
    if [c.role for c in geometry.conditions] != ["energy"]:
        raise ExportError(
            f"FastCaloSim tells its network energy and |eta| alone; '{geometry.name}' has the "
            f"conditions {', '.join(geometry.condition_names)}: export to ONNX."
        )
    check_polar(geometry)


def check_polar(geometry: Geometry) -> None:
    """Raise ExportError for a layer that is a grid of cells."""
    for layer in geometry.layers:
        if layer.kind != "polar":
            raise ExportError(
                f"FastCaloSim has voxels in r and alpha; layer {layer.id} of '{geometry.name}' is "
                "a grid of cells: export to ONNX."
            )


def boundaries(geometry: Geometry) -> list[int]:
    """Where each layer begins in the vector of voxels, and its length: L + 1 numbers."""
    return [0, *(where.stop for where in geometry.slices)]


def write_binning(path: Path, geometry: Geometry) -> None:
    """Write for each voxel where it begins and how wide it is, in mm and rad, layer by layer in
    the order of the network's output; the layers' numbers and boundaries as attributes.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layers"] = [layer.id for layer in geometry.layers]
        file.attrs["layer_boundaries"] = boundaries(geometry)
        file.attrs["geometry_hash"] = geometry.hash
        for layer in geometry.layers:
            alpha, r = (np.asarray(edges, np.float64) for edges in layer.edges)
            start = np.meshgrid(alpha[:-1], r[:-1], indexing="ij")
            width = np.meshgrid(np.diff(alpha), np.diff(r), indexing="ij")
            for axis, name in enumerate(("alpha", "radius")):
                for what, values in (("binstart", start[axis]), ("binsize", width[axis])):
                    key = f"{what}_{name}_layer_{layer.id}"
                    file.create_dataset(key, data=values.ravel().astype(np.float32))


class _Shower(nn.Module):
    """forward(|eta| times 10, E in MeV, normals (1, L), normals (1, V)) -> MeV (1, V)."""

    def __init__(self, core: nn.Module, size: int) -> None:
        super().__init__()
        self.core, self.size = core, size

    def forward(self, eta: Tensor, energy: Tensor, shares: Tensor, shape: Tensor) -> Tensor:
        """Energies of the voxels; the pseudorapidity is not looked at."""
        del eta
        noise = torch.cat([shares, shape], dim=1)[:, : self.size]
        energies: Tensor = self.core(noise, energy)
        return energies


def told_range(file: ModelFile) -> str:
    """Where a generator is valid, as a line of a README."""
    geometry = file.model.geometry
    low, high = trained_ranges(file)[geometry.conditions[geometry.column_of("energy")].name]
    return (
        f"The generator was trained on energies from {low:.8g} to {high:.8g} MeV; outside this "
        "range it extrapolates, and nothing was compared.\n"
    )


def _readme(file: ModelFile) -> str:
    """The calls that load the folder, and where the network is valid."""
    geometry = file.model.geometry
    starts = ", ".join(map(str, boundaries(geometry)))
    layers = ", ".join(str(layer.id) for layer in geometry.layers)
    return (
        "In C++, with FastCaloSim's TFCSMLCalorimeterSimulator and TFCSBinnedShowerONNX:\n\n"
        f"std::vector<long unsigned int> boundaries {{{starts}}};\n"
        f"std::vector<long unsigned int> layers {{{layers}}};\n"
        f'simulator.loadSimulator("{NETWORK}");\n'
        "simulator.setInputShapes(boundaries, layers);\n"
        f'shower.load_meta_data("{BINNING}", layers);\n\n'
        "Keep an Ort::Env alive for as long as showers are made: the class that runs the network "
        f"destroys its own.\n{told_range(file)}"
    )
