"""Normal variables of which some are known only to lie below a threshold, as they are fitted."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from caloforge.nn.normal import draw_below


class Censored(NamedTuple):
    """y where a variable is known, whatever it is where it is `empty`, and the thresholds below
    which the empty ones lie; all (N, M).
    """

    y: Tensor
    empty: Tensor
    threshold: Tensor

    def columns(self, chosen: Tensor) -> Censored:
        """Some of the variables."""
        return Censored(*(part[:, chosen] for part in self))

    def beside(self, other: Censored) -> Censored:
        """These variables, and behind them others of the same showers."""
        return Censored(*(torch.cat(pair, dim=1) for pair in zip(self, other, strict=True)))

    def filled(self, rng: torch.Generator) -> Tensor:
        """y with every empty variable drawn for itself: where a fit begins."""
        level = torch.rand(self.y.shape, generator=rng, device=self.y.device).clamp(min=1e-7)
        return torch.where(self.empty, draw_below(self.threshold, level), self.y)


def known(y: Tensor) -> Censored:
    """Variables (N, M) none of which is empty."""
    return Censored(y, torch.zeros_like(y, dtype=torch.bool), y)


class Sweeps(NamedTuple):
    """Settings of the expectation maximisation: showers that make a group of energies, how often
    every empty variable is drawn anew, how many draws are kept, and the share of the identity.
    """

    enough: int
    sweeps: int
    draws: int
    shrink: float
