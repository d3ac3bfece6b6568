"""A reader of FastCaloSim's machine-learning shower, written from what its C++ classes do and from
nothing of the package: it names the inputs, cuts the voxels into layers, divides by the incident
energy, and places hits in the bins of the HDF5 file.
"""

import math
from pathlib import Path

import h5py
import numpy as np
import onnxruntime

TINY = float(np.finfo(np.float32).eps)


class Simulator:
    """TFCSMLCalorimeterSimulator with its ONNX handler."""

    def __init__(self, path: Path, boundaries: list[int], layers: list[int]) -> None:
        assert len(boundaries) == len(layers) + 1, "setInputShapes keeps its own"
        self.session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.boundaries, self.layers = boundaries, layers
        inputs = self.session.get_inputs()
        assert {node.type for node in (*inputs, *self.session.get_outputs())} == {"tensor(float)"}
        # A symbolic dimension, which is a text here, counts as 1.
        self.shapes = {n.name: [d if isinstance(d, int) else 1 for d in n.shape] for n in inputs}
        (self.output,) = self.session.get_outputs()

    def event(
        self, eta: float, energy: float, normals: np.ndarray
    ) -> dict[int, tuple[list[int], list[float]]]:
        """Numbers of the hit voxels in their layer and their fractions of the energy, by layer.

        `normals` are drawn in the order of the C++: the voxels', then the layers'.
        """
        voxels, layers = self.boundaries[-1], len(self.layers)
        shape, shares = normals[:voxels], normals[voxels : voxels + layers]
        values = {
            "inn_eta_in": [abs(eta) * 10],
            "inn_einc_in": [energy],
            "cfm_z_shape": list(shape),
            "inn_z_energy": list(shares),
        }
        feed = {}
        for name, shape_of_node in self.shapes.items():
            named = {f"variable_{k}": value for k, value in enumerate(values[name])}
            # A std::map is walked in the order of its texts: variable_10 before variable_2.
            flat = [named[key] for key in sorted(named)]
            assert len(flat) >= math.prod(shape_of_node), "it would read beyond the end"
            flat = flat[: math.prod(shape_of_node)]
            feed[name] = np.array(flat, np.float32).reshape(shape_of_node)
        (made,) = self.session.run(None, feed)
        outputs = {str(k): float(v) for k, v in enumerate(np.ravel(made))}
        event: dict[int, tuple[list[int], list[float]]] = {}
        index = 0
        for voxel in range(voxels):
            if voxel == self.boundaries[index + 1]:
                index += 1
            value = outputs[str(voxel)]
            assert not math.isnan(value)
            if value > 0:
                numbers, fractions = event.setdefault(self.layers[index], ([], []))
                numbers.append(voxel - self.boundaries[index])
                fractions.append(value / energy)
        return event


def bins(path: Path, layers: list[int]) -> dict[int, list[tuple[float, float, float, float]]]:
    """load_meta_data: r from, r to (mm), alpha from, alpha to (rad) of every voxel of a layer."""
    result = {}
    with h5py.File(path, "r") as file:
        for layer in layers:
            r, dr, alpha, dalpha = (
                np.asarray(file[f"{what}_layer_{layer}"], np.float32).ravel()
                for what in (
                    "binstart_radius",
                    "binsize_radius",
                    "binstart_alpha",
                    "binsize_alpha",
                )
            )
            rows = zip(r, r + dr, alpha, alpha + dalpha, strict=True)
            result[layer] = [tuple(map(float, row)) for row in rows]
    return result  # type: ignore[return-value]


def hits(fraction: float, energy: float, hit_energy: float, most: int) -> int:
    """Number of hits over which a voxel's energy is spread."""
    if not fraction > TINY:
        return 0
    return min(max(int(fraction * energy / hit_energy), 1), most)
