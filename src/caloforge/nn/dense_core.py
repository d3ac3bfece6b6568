"""What a generator that is nothing but dense layers says about itself, for formats that know
nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Variable:
    """One number that a dense network sees of the condition: (value + offset) * scale.

    The value is condition number `column` itself, its natural logarithm, its sine or cosine, or
    ("is") 1 where the condition is `code` and 0 elsewhere.
    """

    name: str
    column: int
    kind: Literal["linear", "log", "sin", "cos", "is"]
    offset: float = 0.0
    scale: float = 1.0
    code: int = 0

    def value(self, condition: Tensor) -> Tensor:
        """Before offset and scale, (N, 1), from conditions (N, C)."""
        plain = condition[:, self.column : self.column + 1]
        if self.kind == "is":
            return ((plain - self.code).abs() < 0.5).to(plain.dtype)
        if self.kind == "linear":
            return plain
        functions = {"log": torch.log, "sin": torch.sin, "cos": torch.cos}
        return functions[self.kind](plain)


@dataclass(frozen=True)
class DenseCore:
    """outputs = network([(noise + noise_offset) * noise_scale, variables of the condition]).

    Parameters
    ----------
    network
        nn.Linear, nn.BatchNorm1d and activations.
    noise
        How many of the standard normals the network sees: the first of them.
    variables
        What it sees of the condition, in order.
    outputs
        A name for each output.
    meaning
        What the outputs are, in a sentence.
    finish
        Showers in MeV (N, V) from outputs (N, M), noise (N, Z) and conditions (N, C).
    fractions
        The outputs are the cells' fractions of the incident energy; below 0 counts as 0.
    decoding
        The numbers with which `finish` makes showers of the outputs, as plain values that JSON can
        hold; empty where a multiplication by the incident energy is all.
    """

    network: nn.Sequential
    noise: int
    variables: tuple[Variable, ...]
    outputs: tuple[str, ...]
    meaning: str
    finish: Callable[[Tensor, Tensor, Tensor], Tensor]
    noise_offset: float = 0.0
    noise_scale: float = 1.0
    fractions: bool = False
    decoding: Mapping[str, Any] = field(default_factory=dict)

    def inputs(self, noise: Tensor, condition: Tensor) -> Tensor:
        """What the network sees, (N, noise + variables)."""
        seen = [(noise[:, : self.noise] + self.noise_offset) * self.noise_scale]
        for variable in self.variables:
            seen.append((variable.value(condition) + variable.offset) * variable.scale)
        return torch.cat(seen, dim=1)
