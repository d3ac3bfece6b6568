"""Conditions that are multiplied into something: an embedding of each category times a projection
of the other conditions.

Source: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics Calorimeters",
2017 (section "MLP GAN": both are multiplied element-wise with the latent noise).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.nn.conditions import ConditionFeatures

SPREAD = 0.1  # spread of the first factors about their mean


class PlainConditions(nn.Module):
    """(N, C) in physical units to (N, K): each of K conditions divided by its largest value, so
    that an energy becomes E / E_max and a particle's bit stays what it is.
    """

    largest: Tensor

    def __init__(self, geometry: Geometry, columns: Sequence[int]) -> None:
        super().__init__()
        self.columns = list(columns)
        ranges = [geometry.conditions[k] for k in self.columns]
        largest = torch.tensor([max(abs(c.low), abs(c.high)) for c in ranges])
        self.register_buffer("largest", largest, persistent=False)

    @property
    def size(self) -> int:
        """K."""
        return len(self.columns)

    def forward(self, condition: Tensor) -> Tensor:
        """Numbers of order one."""
        return condition[:, self.columns] / self.largest


def condition_numbers(
    geometry: Geometry, columns: Sequence[int], *, logarithms: bool
) -> ConditionFeatures | PlainConditions:
    """The chosen columns of conditions as numbers: with `logarithms` as `ConditionFeatures` gives
    them, else as C. Guthrie, I. Malkin and A. Pine have them (`PlainConditions`).
    """
    kind = ConditionFeatures if logarithms else PlainConditions
    return kind(geometry, columns)


class ConditionFactor(nn.Module):
    """(N, C) in physical units to factors (N, `size`).

    Parameters
    ----------
    size
        How many numbers are to be multiplied.
    energy
        Whether conditions other than categories count; without them the factors do not depend on
        the incident energy.
    logarithms
        See `condition_numbers`. Factors start near 1 with and near E / E_max without.
    """

    def __init__(self, geometry: Geometry, size: int, *, energy: bool, logarithms: bool) -> None:
        super().__init__()
        category = [c.scale == "category" for c in geometry.conditions]
        self.columns = [k for k, yes in enumerate(category) if yes]
        ranges = [geometry.conditions[k] for k in self.columns]
        self.first = [round(c.low) for c in ranges]
        self.embed = nn.ParameterList(
            torch.empty(round(c.high) - round(c.low) + 1, size) for c in ranges
        )
        for table in self.embed:
            nn.init.normal_(table, 1.0, SPREAD)
        numbers = [k for k, yes in enumerate(category) if not yes]
        self.numbers = condition_numbers(geometry, numbers, logarithms=logarithms)
        self.project = nn.Linear(self.numbers.size, size) if energy and numbers else None
        if self.project is not None:
            nn.init.normal_(self.project.weight, 0.0 if logarithms else 1.0, SPREAD)
            nn.init.constant_(self.project.bias, 1.0 if logarithms else 0.0)

    def forward(self, condition: Tensor) -> Tensor:
        """The factors; 1 without any condition that counts."""
        factor = torch.ones_like(condition[:, :1])
        for column, first, table in zip(self.columns, self.first, self.embed, strict=True):
            number = (condition[:, column] - first).round().long()
            factor = factor * table[number.clamp(0, len(table) - 1)]
        if self.project is not None:
            factor = factor * self.project(self.numbers(condition))
        return factor
