"""Moving averages of the weights, with which a trained generator can make its showers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

from caloforge.models.base import ShowerModel
from caloforge.noise import normals

MEASURED = 4096  # showers that the statistics of averaged weights are measured on
CHUNK = 512  # showers made at once for it, or up to twice as many


class Average:
    """Exponential moving average of what a model generates with.

    Batch normalisation of averaged weights needs statistics of its own: an average of those that
    were gathered along the way belongs to no network that there ever was. They are therefore
    measured anew, on showers that the averaged weights make, each time these are put in place
    (as for stochastic weight averaging, arXiv:1803.05407, Sec. 3.2).

    Parameters
    ----------
    model
        The model, whose weights change while it is trained.
    decay
        Share of the average that one step leaves; it is smaller in the first steps, so that early
        weights are forgotten soon.
    conditions
        Conditions of the training showers, (N, C). Batch normalisation is measured on at most
        4096 of them, in mixed order: a batch is normalised with its own mean, as in the training.
    """

    weights: dict[str, Tensor]

    def __init__(self, model: ShowerModel, decay: float, conditions: Tensor) -> None:
        self.model, self.decay = model, decay
        order = torch.randperm(len(conditions), generator=torch.Generator().manual_seed(0))
        self.conditions = conditions[order[:MEASURED].to(conditions.device)]
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
            self._measure_batches()
            yield self.model
        finally:
            self.model.load_state_dict(trained, strict=False)

    @torch.no_grad()
    def _measure_batches(self) -> None:
        """Mean and variance of every batch normalisation of the generator, for its weights.

        `torch.optim.swa_utils.update_bn` would also change those of the critic, which belong to
        the training.
        """
        norms = [
            part
            for name, part in self.model.named_modules()
            if isinstance(part, BatchNorm) and f"{name}.running_mean" in self.weights
        ]
        if not norms:
            return
        momenta = [norm.momentum for norm in norms]
        noise = torch.from_numpy(normals(0, 0, len(self.conditions), self.model.noise_size))
        pieces = max(1, len(noise) // CHUNK)
        batches = zip(
            self.conditions.tensor_split(pieces),
            noise.to(self.conditions).tensor_split(pieces),
            strict=True,
        )
        with evaluating(self.model):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the plain mean over all batches
                norm.train()
            for batch in batches:
                self.model.sample(*batch)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Within it no part of the model is in training mode; afterwards each is as it was, because
    frozen parts are never in training mode.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training
