"""LWTNN: the dense layers of a generator as JSON that the C++ library lwtnn 2.14 reads.

A graph has two inputs, `noise` (standard normals `variable_0`, ...) and `condition` (the values
that the first lines of `docs/deployment.md` explain, such as `log_energy`), both with their
preprocessing (x + offset) * scale, and one output `energies`. Batch normalisation is folded into
the dense layer before it. Its key `miscellaneous` holds the texts that the ONNX export has as its
metadata: read-out, conditions with the trained ranges, order of the cells, versions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caloforge.errors import ExportError
from caloforge.export.onnx import metadata
from caloforge.export.parity import Float32, Parity, check_parity, trained_ranges
from caloforge.files import atomic_path
from caloforge.models.base import EnergyRange, Refusal, Sampler
from caloforge.models.file import ModelFile
from caloforge.nn.dense import TrainableSwish
from caloforge.nn.dense_core import DenseCore

# Digits of every number: a 32-bit float has no more, and a 64-bit one would take twice the bytes.
DIGITS = 8
FORMAT, TRANSFORM_FORMAT, SCHEMA = "caloforge-lwtnn", "caloforge-transform", 1
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class DenseLayer:
    """activation(weight x + bias), as the format has it.

    Parameters
    ----------
    weight
        Matrix of the layer, (out, in).
    bias
        Vector of the layer, (out,).
    function
        Name of the activation in the format.
    alpha
        Parameter of the activation, where it has one.
    """

    weight: Float64
    bias: Float64
    function: str = "linear"
    alpha: float | None = None

    def to_json(self) -> dict[str, Any]:
        """One entry of `layers`."""
        activation: Any = self.function
        if self.alpha is not None:
            activation = {"function": self.function, "alpha": _short(self.alpha)}
        return {
            "architecture": "dense",
            "weights": [_short(v) for v in self.weight.ravel()],
            "bias": [_short(v) for v in self.bias],
            "activation": activation,
        }


def export_lwtnn(file: ModelFile, out: str | Path) -> Parity:
    """Write the dense layers of a generator as JSON to `out`, whole or not at all.

    They are only kept when they make the same showers from the written text as PyTorch. A model of
    several energy ranges becomes one file for each, with the range in MeV in its name. A model
    whose outputs are not yet energies gets a second file, `..._transform.json`, with the numbers
    that turn them into energies.

    Raises ExportError when the model has no dense core or an activation that the format does not
    know, or the check fails; then nothing is written.
    """
    texts: dict[Path, str] = {}
    checks = []
    for path, decoded, part, core in _networks(file, Path(out)):
        text = json.dumps(lwtnn_graph(core, part), separators=(",", ":"))
        checks.append(check_parity(part, Sampler(part.model), _Run(core, text)))
        texts[path] = text
        if decoded is not None:
            decoding = {"format": TRANSFORM_FORMAT, "schema": SCHEMA, **core.decoding}
            texts[decoded] = json.dumps(decoding)
    write_texts(texts)
    return Parity.joined(checks).written(*texts)


def lwtnn_files(file: ModelFile, out: str | Path) -> list[Path]:
    """The files that `export_lwtnn` writes. Raises ExportError for a model without dense core."""
    pairs = [(path, decoded) for path, decoded, _, _ in _networks(file, Path(out))]
    return [path for pair in pairs for path in pair if path is not None]


def _networks(
    file: ModelFile, out: Path
) -> Iterator[tuple[Path, Path | None, ModelFile, DenseCore]]:
    """The file of each energy range, that of its transform where it has one, and what is in
    them.
    """
    parts = energy_parts(file)
    for part, part_file in parts:
        core = dense_core_of(part_file)
        name = out.name if len(parts) == 1 else f"{out.stem}_{part.low:.0f}_{part.high:.0f}.json"
        path = out.with_name(name)
        decoded = path.with_name(f"{path.stem}_transform.json") if core.decoding else None
        yield path, decoded, part_file, core


def write_texts(texts: dict[Path, str]) -> None:
    """Write all texts to their files, or none: no file gets its name before every text is on the
    disk.
    """
    with ExitStack() as files:
        for path, text in texts.items():
            files.enter_context(atomic_path(path)).write_text(text, encoding="utf-8")


def energy_parts(file: ModelFile) -> list[tuple[EnergyRange, ModelFile]]:
    """The parts of a model as models of their own, with the conditions that they are for: copies
    in evaluation mode on the CPU, so that the model itself stays where and as it is.
    """
    file = ModelFile(deepcopy(file.model).eval().to("cpu"), file.about)
    parts = file.model.energy_ranges()
    if len(parts) == 1:
        return [(parts[0], file)]
    energy = file.model.geometry.conditions[file.model.geometry.column_of("energy")]
    files = []
    for part in parts:
        served = EnergyRange(max(part.low, energy.low), min(part.high, energy.high), part.model)
        own = ModelFile(part.model, file.about)
        files.append((served, trained_within(own, served.low, served.high)))
    return files


def trained_within(file: ModelFile, low: float, high: float) -> ModelFile:
    """The same model, which says of the energies that it was trained on those alone that lie
    between `low` and `high`; where there are none, the nearest end.
    """
    geometry, ranges = file.model.geometry, trained_ranges(file)
    name = geometry.conditions[geometry.column_of("energy")].name
    first, last = (min(max(end, low), high) for end in ranges[name])
    about = {**file.about, "condition_range": {**ranges, name: (first, last)}}
    return ModelFile(file.model, about)


def dense_core_of(file: ModelFile) -> DenseCore:
    """Raises ExportError with the model's reason when it has none."""
    core = file.model.dense_core()
    if isinstance(core, Refusal):
        raise ExportError(
            f"The model '{file.about['model']}' cannot be written as dense layers: {core.reason}"
        )
    return core


def dense_layers(core: DenseCore) -> list[DenseLayer]:
    """The network of a core, batch normalisation folded in, fractions below 0 cut at the end where
    the last activation is none.

    Raises ExportError for a part that the format does not know.
    """
    layers: list[DenseLayer] = []
    open_end = False  # whether the last layer still waits for its activation
    for part in _flat(core.network):
        if isinstance(part, nn.Linear):
            bias: torch.Tensor | None = part.bias  # torch's types do not say that it may be None
            numbers = _numbers(torch.zeros(part.out_features) if bias is None else bias)
            layers.append(DenseLayer(_numbers(part.weight), numbers))
            open_end = True
        elif isinstance(part, nn.BatchNorm1d) and open_end:
            layers[-1] = _folded(layers[-1], part)
        elif not isinstance(part, nn.Identity):
            if not open_end:
                raise ExportError(f"LWTNN has no {type(part).__name__} after an activation.")
            function, alpha = _activation(part)
            layers[-1] = replace(layers[-1], function=function, alpha=alpha)
            open_end = False
    if core.fractions and layers[-1].function == "linear":
        layers[-1] = replace(layers[-1], function="rectified")
    return layers


def _flat(network: nn.Module) -> list[nn.Module]:
    if not isinstance(network, nn.Sequential):
        return [network]
    return [part for child in network for part in _flat(child)]


def _folded(layer: DenseLayer, norm: nn.BatchNorm1d) -> DenseLayer:
    """norm(weight x + bias) as one layer, with the running mean and variance."""
    if norm.running_mean is None or norm.running_var is None:
        raise ExportError("Batch normalisation without running statistics cannot be folded.")
    gain = 1 / np.sqrt(_numbers(norm.running_var) + norm.eps)
    shift = np.zeros_like(gain)
    if norm.affine:
        gain, shift = gain * _numbers(norm.weight), _numbers(norm.bias)
    mean = _numbers(norm.running_mean)
    return DenseLayer(layer.weight * gain[:, None], (layer.bias - mean) * gain + shift)


def _activation(part: nn.Module) -> tuple[str, float | None]:
    """Name in the format and alpha."""
    if isinstance(part, TrainableSwish):
        return "swish", float(part.beta.detach())
    if isinstance(part, nn.SiLU):
        return "swish", 1.0
    if isinstance(part, nn.LeakyReLU):
        return "leakyrelu", part.negative_slope
    if isinstance(part, nn.ELU):
        return "elu", part.alpha
    names = {nn.ReLU: "rectified", nn.Sigmoid: "sigmoid", nn.Tanh: "tanh", nn.Softmax: "softmax"}
    if type(part) not in names:
        raise ExportError(
            f"LWTNN has no activation {type(part).__name__}; expected one of linear, ReLU, leaky "
            "ReLU, swish, sigmoid, tanh: train with another, or export to ONNX."
        )
    return names[type(part)], None


def lwtnn_graph(core: DenseCore, file: ModelFile) -> dict[str, Any]:
    """The content of the JSON file."""
    noise = [(f"variable_{k}", core.noise_offset, core.noise_scale) for k in range(core.noise)]
    condition = [(v.name, v.offset, v.scale) for v in core.variables]
    return graph(
        {"noise": noise, "condition": condition},
        dense_layers(core),
        {"energies" if core.fractions else "numbers": core.outputs},
        {**metadata(file), "format": FORMAT, "energies": core.meaning, "outputs": core.meaning},
    )


def graph(
    inputs: dict[str, list[tuple[str, float, float]]],
    layers: Sequence[DenseLayer],
    output: dict[str, tuple[str, ...]],
    about: dict[str, str],
) -> dict[str, Any]:
    """A graph of dense layers on all inputs side by side.

    Parameters
    ----------
    inputs
        For each node (name, offset, scale) of its variables.
    output
        Labels of the one output, under its name.
    about
        What the file says about itself, texts by name: the key `miscellaneous`, which lwtnn does
        not look at.
    """
    nodes: list[dict[str, Any]] = [
        {"type": "input", "sources": [k], "size": len(variables)}
        for k, variables in enumerate(inputs.values())
    ]
    nodes.append({"type": "concatenate", "sources": list(range(len(inputs)))})
    for number in range(len(layers)):
        nodes.append({"type": "feed_forward", "sources": [len(nodes) - 1], "layer_index": number})
    ((name, labels),) = output.items()
    return {
        "inputs": [
            {
                "name": node,
                "variables": [
                    {"name": n, "offset": _short(offset), "scale": _short(scale)}
                    for n, offset, scale in variables
                ],
            }
            for node, variables in inputs.items()
        ],
        "input_sequences": [],
        "nodes": nodes,
        "layers": [layer.to_json() for layer in layers],
        "outputs": {name: {"labels": list(labels), "node_index": len(nodes) - 1}},
        "miscellaneous": about,
    }


def _numbers(tensor: torch.Tensor) -> Float64:
    return tensor.detach().cpu().double().numpy()


def _short(value: float) -> float:
    """With DIGITS digits."""
    return float(f"{value:.{DIGITS}g}")


class _Run:
    """The written text as showers in MeV, to be compared with PyTorch."""

    def __init__(self, core: DenseCore, text: str) -> None:
        self.core, self.plain = core, json.loads(text)

    def __call__(self, noise: Float32, condition: Float32) -> NDArray[np.floating]:
        c = torch.from_numpy(condition).double()
        values = torch.cat([v.value(c) for v in self.core.variables], dim=1).numpy()
        seen = {"noise": noise[:, : self.core.noise].astype(np.float64), "condition": values}
        made = torch.from_numpy(run_graph(self.plain, seen)).float()
        z = torch.from_numpy(noise)
        return self.core.finish(made, z, torch.from_numpy(condition)).detach().numpy()


def run_graph(plain: dict[str, Any], values: dict[str, Float64]) -> Float64:
    """Outputs (N, M) of a graph of `graph` from the raw values (N, variables) of each input."""
    seen = []
    for node in plain["inputs"]:
        offset, scale = (
            np.array([v[key] for v in node["variables"]]) for key in ("offset", "scale")
        )
        seen.append((values[node["name"]] + offset) * scale)
    x = np.concatenate(seen, axis=1)
    for layer in plain["layers"]:
        bias = np.array(layer["bias"])
        weight = np.array(layer["weights"]).reshape(len(bias), -1)
        x = _activated(x @ weight.T + bias, layer["activation"])
    return x


def _activated(x: Float64, activation: Any) -> Float64:
    name, alpha = activation, 1.0
    if isinstance(activation, dict):
        name, alpha = activation["function"], activation["alpha"]
    with np.errstate(over="ignore"):  # exp of a large number: the limit is right
        functions: dict[str, Callable[[], Float64]] = {
            "linear": lambda: x,
            "rectified": lambda: np.maximum(x, 0),
            "swish": lambda: x / (1 + np.exp(-alpha * x)),
            "leakyrelu": lambda: np.where(x > 0, x, alpha * x),
            "elu": lambda: np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0))),
            "sigmoid": lambda: 1 / (1 + np.exp(-x)),
            "tanh": lambda: np.tanh(x),
            "softmax": lambda: torch.softmax(torch.from_numpy(x), dim=1).numpy(),
        }
        return functions[name]()
