"""A reader of lwtnn's graph JSON, written from the facts of the format and from nothing of the
package: one event at a time, node by node, in double precision.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np

TOP = ("inputs", "input_sequences", "nodes", "layers", "outputs")
PLAIN = {
    "linear": lambda x: x,
    "rectified": lambda x: max(x, 0.0),
    "sigmoid": lambda x: 1 / (1 + math.exp(-x)),
    "tanh": math.tanh,
}


class Graph:
    """compute({input: {variable: value}}) gives {label: value}, as lwt::LightweightGraph does."""

    def __init__(self, plain: dict[str, Any]) -> None:
        for key in TOP:
            assert key in plain, f"lwtnn asks for '{key}'"
        assert plain["input_sequences"] == []
        self.inputs, self.nodes = plain["inputs"], plain["nodes"]
        ((self.output, out),) = plain["outputs"].items()
        self.labels, self.last = out["labels"], out["node_index"]
        self.layers = [layer(entry) for entry in plain["layers"]]

    def compute(self, values: dict[str, dict[str, float]]) -> dict[str, float]:
        seen: list[np.ndarray] = []
        for entry in self.inputs:
            given = values[entry["name"]]
            assert set(given) == {v["name"] for v in entry["variables"]}
            seen.append(
                np.array(
                    [(given[v["name"]] + v["offset"]) * v["scale"] for v in entry["variables"]]
                )
            )
        made: list[np.ndarray] = []
        for node in self.nodes:
            sources = node["sources"]
            if node["type"] == "input":
                (index,) = sources
                assert len(seen[index]) == node["size"]
                made.append(seen[index])
            elif node["type"] == "concatenate":
                made.append(np.concatenate([made[k] for k in sources]))
            elif node["type"] == "feed_forward":
                (index,) = sources
                made.append(self.layers[node["layer_index"]](made[index]))
            else:
                raise AssertionError(f"no generator needs a node '{node['type']}'")
        result = made[self.last]
        assert len(result) == len(self.labels) == len(set(self.labels))
        return dict(zip(self.labels, result.tolist(), strict=True))


def layer(entry: dict[str, Any]) -> Any:
    assert entry["architecture"] == "dense"
    bias = np.array(entry["bias"], np.float64)
    weights = np.array(entry["weights"], np.float64)
    assert weights.ndim == 1, "a list of numbers, row by row"
    matrix = weights.reshape(len(bias), -1)
    activation = entry["activation"]
    if isinstance(activation, str):
        function = PLAIN[activation]  # a bare "swish" has no alpha: NaN in lwtnn
    else:
        assert set(activation) == {"function", "alpha"}
        alpha = activation["alpha"]
        function = {
            "swish": lambda x: x * (1 / (1 + math.exp(min(-alpha * x, 700.0)))),
            "leakyrelu": lambda x: x if x > 0 else alpha * x,
            "elu": lambda x: x if x > 0 else alpha * (math.exp(x) - 1),
        }[activation["function"]]
    return lambda x: np.array([function(v) for v in matrix @ x + bias])


def read(path: Path) -> Graph:
    import json

    return Graph(json.loads(path.read_text(encoding="utf-8")))
