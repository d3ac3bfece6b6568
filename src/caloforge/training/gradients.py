"""Loss and gradients of a player, operation by operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from caloforge.fast.compiled import LossAndGradients
from caloforge.models.base import Batch, Phase


@dataclass(frozen=True)
class Eager:
    """Loss and gradients of a phase, operation by operation.

    Parameters
    ----------
    phase
        The phase whose loss it is.
    contexts
        Makes what the loss is computed within: precision, products, joint random numbers.
    """

    phase: Phase
    contexts: Callable[[], Sequence[AbstractContextManager[Any]]]

    def __call__(self, batch: Batch, rng: torch.Generator) -> LossAndGradients:
        """Loss, numbers to log and gradients at one batch."""
        loss, extra = self.loss(batch, rng)
        return loss.detach(), extra, torch.autograd.grad(loss, self.phase.parameters)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """The phase's loss within the contexts; backward passes take place outside of them."""
        with ExitStack() as stack:
            for context in self.contexts():
                stack.enter_context(context)
            return self.phase.loss(batch, rng)
