"""What the published GANs share: the turns of their players and the noise of a batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from caloforge.models.base import Phase, ShowerModel
from caloforge.models.hyper import Hyper, OptimiserSettings


def optimisers(hyper: Hyper, *players: str) -> dict[str, OptimiserSettings]:
    """How each player is optimised: the hyper-parameter `PLAYER_optimiser`, checked."""
    return {name: OptimiserSettings.of(getattr(hyper, f"{name}_optimiser")) for name in players}


def take_turns(
    model: ShowerModel, settings: Mapping[str, OptimiserSettings], updates: Mapping[str, int]
) -> list[Phase]:
    """The phases of one training step of a GAN.

    Parameters
    ----------
    model
        The GAN. The network of a player is its attribute `PLAYER`, the loss its `PLAYER_loss`.
    settings
        How each player is optimised.
    updates
        The players in their order, with the number of updates of each in one step.
    """
    return [
        Phase(
            player,
            list(getattr(model, player).parameters()),
            getattr(model, f"{player}_loss"),
            repeats,
            settings[player],
        )
        for player, repeats in updates.items()
    ]


def normal(like: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Standard-normal numbers (N, size), one row for each of the N rows of `like`."""
    return torch.randn(len(like), size, generator=rng, device=like.device)
