"""What every transform is, and the two curves that several are fitted with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.showers import Showers

BLOCK = 1024  # showers looked at at a time in a fit


class IncidentEnergy(nn.Module):
    """Incident energy in MeV, (N, 1), from conditions (N, C): the energy column, or |p|."""

    def __init__(self, geometry: Geometry) -> None:
        super().__init__()
        self.columns = list(geometry.energy_columns)

    def forward(self, condition: Tensor) -> Tensor:
        """Incident energy of each shower."""
        if len(self.columns) == 1:
            return condition[:, self.columns[0] : self.columns[0] + 1]
        return condition[:, self.columns].square().sum(dim=1, keepdim=True).sqrt()


class Transform(nn.Module):
    """x = forward(energies, condition), energies = inverse(x, condition).

    Subclasses are made by `fit`, which returns a ready object; `settings` (plain values) and the
    buffers are enough to make it again with `restore`.
    """

    settings: dict[str, Any]

    @classmethod
    def fit(cls, showers: Showers, **settings: Any) -> Self:
        """Fitted to the training showers. Raises ModelError for an unknown setting."""
        raise NotImplementedError

    @classmethod
    def restore(cls, geometry: Geometry, settings: dict[str, Any]) -> Self:
        """Same shape as when it was fitted, ready for its saved buffers."""
        raise NotImplementedError

    def size(self) -> int:
        """Length of one transformed shower."""
        raise NotImplementedError

    def forward(self, energies: Tensor, condition: Tensor) -> Tensor:
        """MeV (N, V) to model space (N, X)."""
        raise NotImplementedError

    def inverse(self, x: Tensor, condition: Tensor) -> Tensor:
        """Model space (N, X) to MeV (N, V), finite and >= 0."""
        raise NotImplementedError

    def notes(self) -> list[str]:
        """Sentences on what was measured in the fit, for the README of a training."""
        return []


def blocks(showers: Showers) -> Iterator[tuple[Tensor, Tensor]]:
    """Energies (n, V) in MeV and conditions (n, C) of at most BLOCK showers at a time: what a fit
    looks at, so that it needs little memory beside the showers themselves.
    """
    for begin in range(0, len(showers), BLOCK):
        part = slice(begin, begin + BLOCK)
        conditions = torch.from_numpy(showers.conditions[part]).float()
        yield torch.from_numpy(showers.energies[part]), conditions


def response_curve(log_energy: Tensor, response: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean response (N,) against log E (N,) at `count` increasing knots: the energies of a scan or
    the quantiles of a spectrum. Unused knots repeat the last mean beyond the last energy.
    """
    knots = torch.unique(log_energy.float())
    if len(knots) > count:
        knots = torch.unique(torch.quantile(knots, torch.linspace(0, 1, count)))
    nearest = (log_energy[:, None] - knots[None, :]).abs().argmin(dim=1)
    used = torch.unique(nearest)
    means = torch.stack([response[nearest == k].mean() for k in used])
    beyond = torch.arange(1, count - len(used) + 1)
    return (
        torch.cat([knots[used], knots[used][-1] + beyond]),
        torch.cat([means, means[-1].repeat(len(beyond))]),
    )


def interpolate(x: Tensor, knots: Tensor, values: Tensor) -> Tensor:
    """Piecewise-linear function through (knots, values) at x, constant beyond the ends; x of any
    shape.
    """
    # Counting is torch.searchsorted here, which ONNX has no operator for.
    right = 1 + (x[..., None] > knots[1:-1]).sum(dim=-1)
    x0, x1 = knots[right - 1], knots[right]
    return torch.lerp(values[right - 1], values[right], ((x - x0) / (x1 - x0)).clamp(0, 1))
