"""ATLAS FastCaloSim: the folder that its class TFCSGANEtaSlice loads, or that of its
machine-learning shower (see `binned_shower`).

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

from caloforge.detector.binning import add_layers
from caloforge.detector.geometry import Geometry
from caloforge.errors import ExportError
from caloforge.export.binned_shower import check_polar, export_binned_shower, told_range
from caloforge.export.dense_layers import DenseLayers
from caloforge.export.lwtnn import (
    DenseLayer,
    dense_core_of,
    dense_layers,
    energy_parts,
    graph,
    run_graph,
    trained_within,
)
from caloforge.export.onnx import convert, metadata, open_session, serialised
from caloforge.export.parity import Float32, Parity, check_parity
from caloforge.files import atomic_folder
from caloforge.models.base import Sampler
from caloforge.models.file import ModelFile
from caloforge.nn.dense_core import DenseCore

FORMAT = "caloforge-fastcalosim"
GAN_VERSION = 2  # two conditions, and for photons and electrons two networks
REGION = 1
ETA = (20, 25)  # |eta| in per cent: the slice of the CaloChallenge's data set 1
ETA_STEP = 5  # width of a slice in per cent: the class adds it to the lower edge
# A layer of this many alpha bins is special to the class: it merges them to 4, 8, 16 or 32, the
# more the larger the ring, whatever the file says.
MERGED_ALPHA = 32
# Ends of energy ranges that differ by less than this share are the same: at a momentum of 4096 MeV
# an electron has a kinetic energy of 4095.5 MeV, and a model for it is split at 4096 MeV.
SAME_END = 2e-4


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
LIGHT_PIDS = (22, 11)
SLOTS = {22: LIGHT, 11: LIGHT, 211: (Slot("All", 8, 22),), 2212: (Slot("High10", 10, 22),)}
MASSES = {  # MeV
    22: 0.0,
    11: constants.value("electron mass energy equivalent in MeV"),
    211: 139.57039,  # Particle Data Group, 2024
    2212: constants.value("proton mass energy equivalent in MeV"),
}


def export_fastcalosim(
    file: ModelFile,
    out: str | Path,
    *,
    shower: str | None = None,
    eta: tuple[int, int] | None = None,
    network: str | None = None,
) -> Parity:
    """Write the folder, whole or not at all; each network in it makes the same showers as PyTorch.

    Parameters
    ----------
    out
        A new or empty folder.
    shower
        "gan" for the class TFCSGANEtaSlice, "ml" for TFCSBinnedShowerONNX; by default "gan" for
        dense layers that give fractions of the energy, and "ml" for every other model.
    eta
        The slice of |eta| in per cent that the generator stands for, by default ETA; only for
        "gan": "ml" is told the |eta| of each particle.
    network
        "json" (LWTNN, the default) or "onnx"; only for "gan": "ml" knows ONNX alone.

    Raises
    ------
    ExportError
        For a particle that the class has no slot for, a model whose energy ranges are others, that
        is not dense layers on noise and log E, or a read-out that the class would read wrongly;
        nothing is written then.
    """
    if shower not in (None, "gan", "ml"):
        raise ExportError(f"Got the shower '{shower}'; expected gan or ml.")
    core = file.model.energy_ranges()[0].model.dense_core()
    if shower is None:
        shower = "gan" if isinstance(core, DenseCore) and core.fractions else "ml"
    if shower == "ml":
        if network == "json":
            raise ExportError("FastCaloSim's machine-learning shower reads ONNX alone; got json.")
        if network not in (None, "onnx"):
            raise ExportError(f"Got the network '{network}'; expected json or onnx.")
        if eta is not None:
            raise ExportError(
                "FastCaloSim's machine-learning shower has no slices of |eta|; expected no eta, "
                'or --shower gan (shower="gan").'
            )
        return export_binned_shower(file, out)
    return _export_gan(file, out, eta or ETA, network or "json")


def _export_gan(file: ModelFile, out: str | Path, eta: tuple[int, int], network: str) -> Parity:
    if network not in ("json", "onnx"):
        raise ExportError(f"Got the network '{network}'; expected json or onnx.")
    if not (eta[0] >= 0 and eta[1] == eta[0] + ETA_STEP):
        raise ExportError(
            f"Got the slice {eta[0]} to {eta[1]} of |eta| in per cent; expected a width of "
            f"{ETA_STEP}, such as {ETA[0]} {ETA[1]}: FastCaloSim adds it to the lower edge."
        )
    geometry = file.model.geometry
    pid = _pid(geometry)
    order, checks = voxel_order(geometry), []
    with atomic_folder(out) as folder:
        for slot in SLOTS[pid]:
            part = _part_for(file, slot, MASSES[pid])
            layers = _relabelled(part, slot.energies(MASSES[pid]), order)
            name = f"neural_net_{pid}_eta_{eta[0]}_{eta[1]}_{slot.name}.{network}"
            write = _write_json if network == "json" else _write_onnx
            about = {**metadata(part), **_meaning(*slot.energies(MASSES[pid]))}
            run = write(folder / name, layers, part.model.noise_size, about)
            shower = _Showers(geometry, run, slot.energies(MASSES[pid]), order)
            checks.append(check_parity(part, Sampler(part.model), shower))
        (folder / "binning.xml").write_text(binning_xml(file, pid, eta), encoding="utf-8")
        (folder / "README.txt").write_text(_readme(file, pid, eta), encoding="utf-8")
    return Parity.joined(checks).written(Path(out))


def _meaning(low: float, high: float) -> dict[str, str]:
    """What the metadata of a network for energies from `low` to `high` MeV say of its inputs and
    outputs, which are not those of the plain export to ONNX.
    """
    label = f"log(E / {low:.8g} MeV) / log({high:.8g} MeV / {low:.8g} MeV)"
    return {
        "format": FORMAT,
        "noise": "normal with mean 0.5 and standard deviation 0.5",
        "inputs": f"noise; then {label} of the kinetic energy E, and 0",
        "energies": "fractions of the kinetic energy",
        "cells": "layers in the order of their numbers; inside a layer r is slow and alpha fast",
    }


def _pid(geometry: Geometry) -> int:
    """The particle's code, without the sign. Raises ExportError where the class has no slot."""
    slots = ", ".join(map(str, SLOTS))
    if geometry.pid is None:
        raise ExportError(
            f"FastCaloSim has a network for each particle; the read-out '{geometry.name}' states "
            f"no single one (its particles: {', '.join(geometry.particles) or 'none'}). Expected "
            f"a read-out with one of the codes {slots} as pid."
        )
    if abs(geometry.pid) not in SLOTS:
        raise ExportError(
            f"FastCaloSim has no generator for the particle {geometry.pid} of '{geometry.name}'; "
            f"expected one of {slots}."
        )
    return abs(geometry.pid)


def _readme(file: ModelFile, pid: int, eta: tuple[int, int]) -> str:
    """What is still missing in the folder, which belongs to the detector, and where the networks
    are valid.
    """
    layers = ", ".join(str(layer.id) for layer in file.model.geometry.layers)
    stem = f"rootFiles/pid{pid}_E"
    ends = f"_eta_{eta[0]}_{eta[1]}"
    return (
        "TFCSGANEtaSlice also reads two ROOT files of the detector, which no generator holds:\n"
        f"{stem}1048576{ends}.root: for each of the layers {layers}, the histogram r<layer>w or "
        "r<layer> of the hits' distance from the axis in mm.\n"
        f"{stem}65536{ends}_validation.root: the tree rootTree with a branch extrapWeight_<layer> "
        "for each of these layers.\n"
        "Networks in ONNX: the class destroys its own Ort::Env; the application has to keep one "
        f"alive for as long as it makes showers.\n{told_range(file)}"
    )


def _part_for(file: ModelFile, slot: Slot, mass: float) -> ModelFile:
    """The generator that is responsible for all of a slot, with the conditions of both."""
    low, high = slot.energies(mass)
    geometry = file.model.geometry
    column = geometry.conditions[geometry.column_of("energy")]
    for part, part_file in energy_parts(file):
        below = part.low <= max(low, column.low) * (1 + SAME_END)
        above = part.high >= min(high, column.high) * (1 - SAME_END)
        if below and above:
            served = (max(low, part.low, column.low), min(high, part.high, column.high))
            return trained_within(part_file, *served)
    edges = ", ".join(f"{part.high:g}" for part, _ in energy_parts(file)[:-1])
    raise ExportError(
        f"FastCaloSim has one network for {low:g} to {high:g} MeV and no slot for a model that is "
        f"split at {edges} MeV; expected a model of one range, or one split at 4096 MeV for "
        "photons and electrons."
    )


def voxel_order(geometry: Geometry) -> NDArray[np.int64]:
    """Our number of each voxel in FastCaloSim's order, (V,).

    Raises ExportError for layers that are not polar, and for those that the class skips or merges.
    """
    check_polar(geometry)
    numbers_of_layers = []
    for layer, where in sorted(
        zip(geometry.layers, geometry.slices, strict=True), key=lambda pair: pair[0].id
    ):
        n_alpha, n_r = layer.shape
        if n_r == 1:
            raise ExportError(
                f"Layer {layer.id} of '{geometry.name}' has one ring; FastCaloSim skips such "
                'layers: expected two or more, or --shower ml (shower="ml").'
            )
        if n_alpha == MERGED_ALPHA:
            raise ExportError(
                f"Layer {layer.id} of '{geometry.name}' has {n_alpha} alpha bins; FastCaloSim "
                "merges them to 4, 8, 16 or 32 by the size of the ring: expected another number, "
                'or --shower ml (shower="ml").'
            )
        numbers = np.arange(where.start, where.stop).reshape(layer.shape)
        numbers_of_layers.append(numbers.T.ravel())
    return np.concatenate(numbers_of_layers)


def _relabelled(
    file: ModelFile, energies: tuple[float, float], order: NDArray[np.int64]
) -> list[DenseLayer]:
    """The layers for FastCaloSim's inputs: noise N(0.5, 0.5), its label, and a number that is not
    looked at; and for its order of voxels.
    """
    core = dense_core_of(file)
    layers = dense_layers(core)
    if not core.fractions or [(v.kind, v.column) for v in core.variables] != [
        ("log", file.model.geometry.column_of("energy"))
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


def _write_json(path: Path, layers: list[DenseLayer], latent: int, about: dict[str, str]) -> Any:
    inputs = {
        f"node_{k}": [(f"variable_{i}", 0.0, 1.0) for i in range(size)]
        for k, size in enumerate((latent, 2))
    }
    labels = tuple(map(str, range(len(layers[-1].bias))))
    content = json.dumps(graph(inputs, layers, {"out": labels}, about), separators=(",", ":"))
    path.write_text(content, encoding="utf-8")
    plain = json.loads(content)
    return lambda u, seen: run_graph(plain, {"node_0": u, "node_1": seen})


def _write_onnx(path: Path, layers: list[DenseLayer], latent: int, about: dict[str, str]) -> Any:
    example = (torch.zeros(1, latent), torch.zeros(1, 2))
    proto = convert(DenseLayers(layers).eval(), example, ["Noise", "mycond"], "out", rows=None)
    path.write_bytes(serialised(proto, about))
    session = open_session(path)

    def run(u: NDArray[np.float64], seen: NDArray[np.float64]) -> NDArray[np.floating]:
        pairs = zip(u.astype(np.float32)[:, None], seen.astype(np.float32)[:, None], strict=True)
        return np.concatenate([session.run(None, {"Noise": n, "mycond": c})[0] for n, c in pairs])

    return run


def binning_xml(file: ModelFile, pid: int, eta: tuple[int, int]) -> str:
    """The voxels as FastCaloSim reads them: a <Particle> above the bins. For photons and electrons
    it looks for their own code, and for every other particle for that of pions.
    """
    root = ElementTree.Element("Bins", {"isPolar": "true", "mergeAlphaBinsInFirstRBin": "false"})
    particle = ElementTree.SubElement(
        root,
        "Particle",
        # Older readers look for symmetriseAlpha here, newer ones at the bin.
        {
            "pid": str(pid if pid in LIGHT_PIDS else 211),
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
    add_layers(chosen, file.model.geometry)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"
