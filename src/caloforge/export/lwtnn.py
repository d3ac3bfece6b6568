"""LWTNN: the dense layers of a generator as JSON that the C++ library lwtnn 2.14 reads.

A graph has two inputs, `noise` (standard normals `variable_0`, ...) and `condition` (the values
that the first lines of `docs/deployment.md` explain, such as `log_energy`), both with their
preprocessing (x + offset) * scale, and one output `energies`. Batch normalisation is folded into
the dense layer before it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caloforge.errors import ExportError, ModelError
from caloforge.export.parity import Float32, Parity, check_parity
from caloforge.files import write_text
from caloforge.models.base import EnergyRange, Refusal, Sampler
from caloforge.models.file import ModelFile
from caloforge.nn.dense import TrainableSwish
from caloforge.nn.dense_core import DenseCore

DIGITS = 8  # of every number: those of a 32-bit float, and half of the bytes of a 64-bit one
Float64 = NDArray[np.float64]


@dataclass(frozen=True)
class DenseLayer:
    """activation(weight x + bias), as the format has it.

    Parameters
    ----------
    weight, bias
        (out, in) and (out,).
    function, alpha
        Name of the activation in the format, and its parameter where it has one.
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
    """Write the dense layers of a generator as JSON to `out`, once they have made the same showers
    from the written text as PyTorch; a model of several energy ranges as one file for each, with
    the range in MeV in its name.

    Raises ExportError when the model has no dense core or an activation that the format does not
    know, or the check fails; then nothing is written.
    """
    out, parts = Path(out), energy_parts(file)
    texts: dict[Path, str] = {}
    checks = []
    for part, own in parts:
        core = dense_core_of(own)
        text = json.dumps(lwtnn_graph(core), separators=(",", ":"))
        checks.append(check_parity(own, Sampler(own.model), _Run(core, text)))
        name = out.name if len(parts) == 1 else f"{out.stem}_{part.low:.0f}_{part.high:.0f}.json"
        texts[out.with_name(name)] = text
    for path, text in texts.items():
        write_text(path, text)
    return Parity.joined(checks)


def energy_parts(file: ModelFile) -> list[tuple[EnergyRange, ModelFile]]:
    """The parts of a model as models of their own, with the conditions that they are for."""
    parts = file.model.energy_ranges()
    if len(parts) == 1:
        return [(parts[0], file)]
    energy = file.model.geometry.conditions[file.model.geometry.column("energy")]
    try:
        ranges = file.condition_range
    except ModelError:
        ranges = {c.name: (c.low, c.high) for c in file.model.geometry.conditions}
    low, high = ranges["energy"]
    found = []
    for part in parts:
        own = EnergyRange(max(part.low, energy.low), min(part.high, energy.high), part.model)
        inside = (min(max(low, own.low), own.high), max(min(high, own.high), own.low))
        about = {**file.about, "condition_range": {**ranges, "energy": inside}}
        found.append((own, ModelFile(part.model.eval(), about)))
    return found


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
            bias = part.bias if part.bias is not None else torch.zeros(part.out_features)
            layers.append(DenseLayer(_numbers(part.weight), _numbers(bias)))
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


def lwtnn_graph(core: DenseCore) -> dict[str, Any]:
    """The content of the JSON file."""
    noise = [(f"variable_{k}", core.noise_offset, core.noise_scale) for k in range(core.noise)]
    condition = [(v.name, v.offset, v.scale) for v in core.variables]
    return graph(
        {"noise": noise, "condition": condition},
        dense_layers(core),
        {"energies" if core.fractions else "numbers": core.outputs},
    )


def graph(
    inputs: dict[str, list[tuple[str, float, float]]],
    layers: Sequence[DenseLayer],
    output: dict[str, tuple[str, ...]],
) -> dict[str, Any]:
    """A graph of dense layers on all inputs side by side.

    Parameters
    ----------
    inputs
        For each node (name, offset, scale) of its variables.
    output
        Labels of the one output, under its name.
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
