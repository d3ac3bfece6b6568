"""Conditions in physical units turned into numbers a network likes, by what the geometry says
about them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.nn.dense_core import Variable


class ConditionFeatures(nn.Module):
    """(N, C) in physical units to (N, F) of order one.

    Linear and categorical conditions are mapped from their range to [-1, 1], logarithmic ones by
    their logarithm, angles become sine and cosine. With `one_hot` each categorical condition
    becomes a code of its own instead: 1 for its value and 0 for the others. With `columns` only
    those conditions are taken.
    """

    def __init__(
        self, geometry: Geometry, columns: Sequence[int] | None = None, *, one_hot: bool = False
    ) -> None:
        super().__init__()
        self.columns = list(range(len(geometry.conditions)) if columns is None else columns)
        conditions = [geometry.conditions[k] for k in self.columns]
        self.names = [c.name for c in conditions]
        self.scales = [
            "code" if one_hot and c.scale == "category" else c.scale for c in conditions
        ]
        self.ranges = [
            (math.log(c.low), math.log(c.high)) if c.scale == "log" else (c.low, c.high)
            for c in conditions
        ]

    @property
    def size(self) -> int:
        """F, the number of features."""
        kinds = zip(self.scales, self.ranges, strict=True)
        codes = [len(_values(low, high)) for scale, (low, high) in kinds if scale == "code"]
        others = len(self.scales) - len(codes)
        return others + self.scales.count("angle") + sum(codes)

    def forward(self, condition: Tensor) -> Tensor:
        """Features of each shower's condition."""
        features = []
        for column, scale, (low, high) in zip(self.columns, self.scales, self.ranges, strict=True):
            value = condition[:, column : column + 1]
            if scale == "angle":
                features += [value.sin(), value.cos()]
            elif scale == "code":
                features += [((value - k).abs() < 0.5).to(value) for k in _values(low, high)]
            else:
                value = value.log() if scale == "log" else value
                features.append((2 * value - low - high) / (high - low))
        return torch.cat(features, dim=1)

    def variables(self) -> tuple[Variable, ...]:
        """What each feature is made of, in order."""
        variables: list[Variable] = []
        for name, column, scale, (low, high) in zip(
            self.names, self.columns, self.scales, self.ranges, strict=True
        ):
            if scale == "angle":
                variables += [Variable(f"sin_{name}", column, "sin")]
                variables += [Variable(f"cos_{name}", column, "cos")]
            elif scale == "code":
                codes = _values(low, high)
                variables += [Variable(f"{name}_is_{k}", column, "is", code=k) for k in codes]
            else:
                offset, factor = -0.5 * (low + high), 2 / (high - low)
                if scale == "log":
                    variables.append(Variable(f"log_{name}", column, "log", offset, factor))
                else:
                    variables.append(Variable(name, column, "linear", offset, factor))
        return tuple(variables)


def _values(low: float, high: float) -> range:
    """What a category may be."""
    return range(round(low), round(high) + 1)


class ConditionEmbedding(nn.Module):
    """A learned vector for each value of every categorical condition, and a projection of all
    other conditions' features: (N, C) in physical units to (N, F).
    """

    def __init__(self, geometry: Geometry, size: int) -> None:
        super().__init__()
        named = [(k, c) for k, c in enumerate(geometry.conditions) if c.scale == "category"]
        self.columns = [k for k, _ in named]
        self.ranges = [(c.low, round(c.high - c.low)) for _, c in named]
        self.categories = nn.ModuleList(nn.Embedding(n + 1, size) for _, n in self.ranges)
        others = [k for k in range(len(geometry.conditions)) if k not in self.columns]
        self.features = ConditionFeatures(geometry, others)
        self.project = nn.Linear(self.features.size, size) if others else None
        self.size = size * (len(named) + bool(others))

    def forward(self, condition: Tensor) -> Tensor:
        """Embeddings of each shower's condition; a category out of range counts as the nearest."""
        vectors = []
        for column, (low, last), table in zip(
            self.columns, self.ranges, self.categories, strict=True
        ):
            index = (condition[:, column] - low).round().clamp(0, last)
            vectors.append(table(index.long()))
        if self.project is not None:
            vectors.append(self.project(self.features(condition)))
        return torch.cat(vectors, dim=1)
