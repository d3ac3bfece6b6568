"""Moving averages of the weights, with which a trained generator can make its showers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from caloforge.errors import TrainingError
from caloforge.models.base import ShowerModel


class Average:
    """Exponential moving average of what a model generates with.

    Parameters
    ----------
    model
        The model, whose weights change while it is trained.
    decay
        Share of the average that one step leaves; it is smaller in the first steps, so that early
        weights are forgotten soon.

    Raises
    ------
    TrainingError
        For a model with batch normalisation: averaged weights need statistics of their own. With
        those gathered along the way the total energy of a GAN came out far worse.
    """

    weights: dict[str, Tensor]

    def __init__(self, model: ShowerModel, decay: float) -> None:
        if any(isinstance(part, BatchNorm) for part in model.modules()):
            raise TrainingError(
                f"training.ema = {decay} averages weights, which does not suit the batch "
                "normalisation of this model; set training.ema=0."
            )
        self.model, self.decay = model, decay
        self.restart()

    def restart(self) -> None:
        """Begin anew with the weights as they are."""
        self.weights = {k: v.detach().clone() for k, v in self.model.generator_state().items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after so many steps; whole numbers are replaced."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in self.model.generator_state().items():
            if value.is_floating_point():
                self.weights[key].lerp_(value, 1 - decay)
            else:
                self.weights[key].copy_(value)

    @contextmanager
    def in_place(self) -> Iterator[ShowerModel]:
        """The model with the averaged weights, which has its own again afterwards."""
        trained = {k: v.detach().clone() for k, v in self.model.generator_state().items()}
        self.model.load_state_dict(self.weights, strict=False)
        try:
            yield self.model
        finally:
            self.model.load_state_dict(trained, strict=False)
