"""ATLAS FastCaloSim: the folder that its class TFCSGANEtaSlice loads.

`neural_net_{pid}_eta_{min}_{max}_{slot}.json` (or .onnx) and `binning.xml`. A network sees noise
N(0.5, 0.5) and two conditions, log(Ekin/Emin)/log(Emax/Emin) and 0, and gives each voxel's share
of the incident (kinetic) energy: layers by their number, inside a layer r slow and alpha fast
(ours have alpha slow). Source: ISF_FastCaloSimEvent of ATLAS Athena, release 24.
"""

from __future__ import annotations

import json
import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import constants
from torch import Tensor, nn

from caloforge.errors import ExportError
from caloforge.export.files import folder_path
from caloforge.export.lwtnn import (
    DenseLayer,
    dense_core_of,
    dense_layers,
    energy_parts,
    graph,
    run_graph,
)
from caloforge.export.onnx import convert, open_session, serialised
from caloforge.export.parity import Float32, Parity, check_parity
from caloforge.geometry import Geometry
from caloforge.models.base import Sampler
from caloforge.models.file import ModelFile

GAN_VERSION = 2  # two conditions, and for photons and electrons two networks
REGION = 1
ETA = (20, 25)  # |eta| in per cent: the slice of the CaloChallenge's data set 1


@dataclass(frozen=True)
class Slot:
    """A network that the class looks for: momenta from 2^low to 2^high MeV."""

    name: str
    low: int
    high: int

    def energies(self, mass: float) -> tuple[float, float]:
        """Kinetic energies at the ends, MeV."""
        return _kinetic(2.0**self.low, mass), _kinetic(2.0**self.high, mass)


def _kinetic(momentum: float, mass: float) -> float:
    return math.hypot(momentum, mass) - mass


LIGHT = (Slot("UltraLow12", 6, 12), Slot("High12", 12, 22))
SLOTS = {22: LIGHT, 11: LIGHT, 211: (Slot("All", 8, 22),), 2212: (Slot("High10", 10, 22),)}
MASSES = {  # MeV
    22: 0.0,
    11: constants.value("electron mass energy equivalent in MeV"),
    211: 139.57039,  # Particle Data Group, 2024
    2212: constants.value("proton mass energy equivalent in MeV"),
}


def export_fastcalosim(
    file: ModelFile, out: str | Path, *, eta: tuple[int, int] = ETA, network: str = "json"
) -> Parity:
    """Write the folder, once each network in it has made the same showers as PyTorch.

    Parameters
    ----------
    out
        A new or empty folder.
    eta
        The slice of |eta| in per cent that the generator stands for.
    network
        "json" (LWTNN) or "onnx".

    Raises
    ------
    ExportError
        For a particle that the class has no slot for, a model whose energy ranges are others, that
        is not dense layers on noise and log E, or a read-out that is not voxels in r and alpha;
        nothing is written then.
    """
    if network not in ("json", "onnx"):
        raise ExportError(f"Got the network '{network}'; expected json or onnx.")
    if not 0 <= eta[0] < eta[1]:
        raise ExportError(f"Got the slice {eta} of |eta| in per cent; expected 0 <= low < high.")
    geometry = file.model.geometry
    pid = abs(geometry.pid or 0)
    if pid not in SLOTS:
        raise ExportError(
            f"FastCaloSim has no generator for the particle {geometry.pid} of '{geometry.name}'; "
            f"expected one of {', '.join(map(str, SLOTS))}."
        )
    order, checks = voxel_order(geometry), []
    with folder_path(out) as folder:
        for slot in SLOTS[pid]:
            part = _part_for(file, slot, MASSES[pid])
            layers = _relabelled(part, slot.energies(MASSES[pid]), order)
            name = f"neural_net_{pid}_eta_{eta[0]}_{eta[1]}_{slot.name}.{network}"
            write = _write_json if network == "json" else _write_onnx
            run = write(folder / name, layers, part.model.noise_size)
            shower = _Showers(geometry, run, slot.energies(MASSES[pid]), order)
            checks.append(check_parity(part, Sampler(part.model), shower))
        (folder / "binning.xml").write_text(binning_xml(file, pid, eta), encoding="utf-8")
    return Parity.joined(checks)


def _part_for(file: ModelFile, slot: Slot, mass: float) -> ModelFile:
    """The generator that is responsible for all of a slot, with the conditions of both."""
    low, high = slot.energies(mass)
    geometry = file.model.geometry
    column = geometry.conditions[geometry.column("energy")]
    for part, own in energy_parts(file):
        below = part.low <= max(low, column.low) * (1 + 1e-6)
        above = part.high >= min(high, column.high) * (1 - 1e-6)
        if below and above:
            inside = (max(low, part.low, column.low), min(high, part.high, column.high))
            return ModelFile(own.model, {**own.about, "condition_range": {"energy": inside}})
    edges = ", ".join(f"{part.high:g}" for part, _ in energy_parts(file)[:-1])
    raise ExportError(
        f"FastCaloSim has one network for {low:g} to {high:g} MeV and no slot for a model that is "
        f"split at {edges} MeV; expected a model of one range, or one split at 4096 MeV for "
        "photons and electrons."
    )


def voxel_order(geometry: Geometry) -> NDArray[np.int64]:
    """Our number of each voxel in FastCaloSim's order, (V,).

    Raises ExportError for layers that are not polar.
    """
    found = []
    for layer, where in sorted(
        zip(geometry.layers, geometry.slices, strict=True), key=lambda pair: pair[0].id
    ):
        if layer.kind != "polar":
            raise ExportError(
                f"FastCaloSim has voxels in r and alpha; layer {layer.id} of '{geometry.name}' is "
                "a grid of cells: export to ONNX."
            )
        numbers = np.arange(where.start, where.stop).reshape(layer.shape)
        found.append(numbers.T.ravel())
    return np.concatenate(found)


def _relabelled(
    file: ModelFile, energies: tuple[float, float], order: NDArray[np.int64]
) -> list[DenseLayer]:
    """The layers for FastCaloSim's inputs: noise N(0.5, 0.5), its label, and a number that is not
    looked at; and for its order of voxels.
    """
    core = dense_core_of(file)
    layers = dense_layers(core)
    if not core.fractions or [(v.kind, v.column) for v in core.variables] != [
        ("log", file.model.geometry.column("energy"))
    ]:
        raise ExportError(
            f"FastCaloSim tells its network the energy alone and takes fractions of it; the model "
            f"'{file.about['model']}' sees or gives other numbers: export it to ONNX."
        )
    if layers[-1].function not in ("rectified", "sigmoid", "softmax"):
        raise ExportError(
            f"FastCaloSim takes the outputs as energies; the last activation "
            f"'{layers[-1].function}' lets them be negative: expected ReLU or none."
        )
    first, (label,) = layers[0], core.variables
    noise, column = first.weight[:, : core.noise], first.weight[:, core.noise :]
    low, high = (math.log(e) for e in energies)
    # Seen by the network: (z + offset) scale = (2 u - 1 + offset) scale for u = 0.5 + 0.5 z, and
    # (log E + offset) scale with log E = low + label (high - low).
    weight = np.concatenate(
        [
            noise * 2 * core.noise_scale,
            column * label.scale * (high - low),
            np.zeros_like(column),
        ],
        axis=1,
    )
    bias = first.bias + (column * label.scale * (low + label.offset))[:, 0]
    bias = bias + noise.sum(axis=1) * (core.noise_offset - 1) * core.noise_scale
    layers[0] = replace(first, weight=weight, bias=bias)
    last = layers[-1]
    layers[-1] = replace(last, weight=last.weight[order], bias=last.bias[order])
    return layers


@dataclass(frozen=True)
class _Showers:
    """Showers in MeV from a written network, as FastCaloSim calls it."""

    geometry: Geometry
    network: Any  # (u (N, Z), conditions (N, 2)) -> fractions (N, V)
    energies: tuple[float, float]
    order: NDArray[np.int64]

    def __call__(self, noise: Float32, condition: Float32) -> NDArray[np.floating]:
        energy = self.geometry.incident_energy(condition.astype(np.float64))
        low, high = self.energies
        label = np.log(energy / low) / math.log(high / low)
        seen = np.stack([label, np.zeros_like(label)], axis=1)
        fractions: NDArray[np.floating] = self.network(0.5 + 0.5 * noise.astype(np.float64), seen)
        ours = np.empty_like(fractions)
        ours[:, self.order] = fractions
        return ours * energy[:, None]


def _write_json(path: Path, layers: list[DenseLayer], latent: int) -> Any:
    inputs = {
        f"node_{k}": [(f"variable_{i}", 0.0, 1.0) for i in range(size)]
        for k, size in enumerate((latent, 2))
    }
    labels = tuple(map(str, range(len(layers[-1].bias))))
    content = json.dumps(graph(inputs, layers, {"out": labels}), separators=(",", ":"))
    path.write_text(content, encoding="utf-8")
    plain = json.loads(content)
    return lambda u, seen: run_graph(plain, {"node_0": u, "node_1": seen})


class _Layers(nn.Module):
    """forward(u (1, Z), conditions (1, 2)) -> fractions (1, V)."""

    def __init__(self, layers: list[DenseLayer]) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        for layer in layers:
            dense = nn.Linear(layer.weight.shape[1], layer.weight.shape[0])
            with torch.no_grad():
                dense.weight.copy_(torch.from_numpy(layer.weight))
                dense.bias.copy_(torch.from_numpy(layer.bias))
            parts += [dense, _Activation(layer.function, layer.alpha or 1.0)]
        self.network = nn.Sequential(*parts)

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Fractions of the incident energy."""
        made: Tensor = self.network(torch.cat([noise, condition], dim=1))
        return made


class _Activation(nn.Module):
    """An activation of the LWTNN format."""

    def __init__(self, function: str, alpha: float) -> None:
        super().__init__()
        self.function, self.alpha = function, alpha

    def forward(self, x: Tensor) -> Tensor:
        """Activated."""
        if self.function == "swish":
            return x * torch.sigmoid(self.alpha * x)
        if self.function == "leakyrelu":
            return nn.functional.leaky_relu(x, self.alpha)
        if self.function == "elu":
            return nn.functional.elu(x, self.alpha)
        if self.function == "softmax":
            return torch.softmax(x, dim=1)
        functions = {"rectified": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh}
        return functions[self.function](x) if self.function in functions else x


def _write_onnx(path: Path, layers: list[DenseLayer], latent: int) -> Any:
    example = (torch.zeros(1, latent), torch.zeros(1, 2))
    proto = convert(_Layers(layers).eval(), example, ["Noise", "mycond"], "out", rows=None)
    path.write_bytes(serialised(proto, {}))
    session = open_session(path)

    def run(u: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.floating]:
        pairs = zip(u.astype(np.float32)[:, None], seen.astype(np.float32)[:, None], strict=True)
        return np.concatenate([session.run(None, {"Noise": n, "mycond": c})[0] for n, c in pairs])

    return run


def binning_xml(file: ModelFile, pid: int, eta: tuple[int, int]) -> str:
    """The voxels as FastCaloSim reads them: a <Particle> above what `caloforge.binning` writes."""
    geometry = file.model.geometry
    root = ElementTree.Element("Bins", {"isPolar": "true", "mergeAlphaBinsInFirstRBin": "false"})
    particle = ElementTree.SubElement(
        root,
        "Particle",
        # Older readers look for symmetriseAlpha here, newer ones at the bin.
        {
            "pid": str(pid),
            "latentDim": str(file.model.noise_size),
            "symmetriseAlpha": "false",
        },
    )
    attributes = {
        "etaMin": str(eta[0]),
        "etaMax": str(eta[1]),
        "regionId": str(REGION),
        "ganVersion": str(GAN_VERSION),
        "symmetriseAlpha": "false",
    }
    chosen = ElementTree.SubElement(particle, "Bin", attributes)
    for layer in geometry.layers:
        edges = ",".join(f"{edge:.12g}" for edge in layer.edges[1])
        content = {"id": str(layer.id), "r_edges": edges, "n_bin_alpha": str(layer.shape[0])}
        ElementTree.SubElement(chosen, "Layer", content)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
