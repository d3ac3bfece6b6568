"""Dense stacks with the activations and initialisations the published systems use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import nn

from caloforge.errors import ModelError, did_you_mean


class TrainableSwish(nn.Module):
    """x sigmoid(beta x) with one beta for the layer (P. Ramachandran et al. 2017)."""

    def __init__(self) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activated, any shape."""
        return x * torch.sigmoid(self.beta * x)


SLOPE = 0.2  # slope of the leaky ReLU below zero

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "swish": nn.SiLU,  # x sigmoid(x)
    "trainable-swish": TrainableSwish,
    "leaky-relu": lambda: nn.LeakyReLU(SLOPE),
    "softplus": nn.Softplus,
    "linear": nn.Identity,
}

INITIALISERS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "glorot-normal": nn.init.xavier_normal_,
    "he-uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
}


def activation(name: str) -> nn.Module:
    """Activation by name; raises ModelError with the nearest valid name."""
    if name not in ACTIVATIONS:
        raise ModelError(f"Unknown activation '{name}': {did_you_mean(name, ACTIVATIONS)}")
    return ACTIVATIONS[name]()


def initialise(module: nn.Module, name: str) -> None:
    """Draw all dense weights of `module` by the named rule; biases become zero. In place."""
    if name not in INITIALISERS:
        raise ModelError(f"Unknown initialisation '{name}': {did_you_mean(name, INITIALISERS)}")
    for part in module.modules():
        if isinstance(part, nn.Linear):
            INITIALISERS[name](part.weight)
            nn.init.zeros_(part.bias)


def batch_norm(features: int) -> nn.BatchNorm1d:
    """Batch normalisation with the constants of Keras (epsilon 1e-3, momentum 0.99), which the
    published GANs used.
    """
    return nn.BatchNorm1d(features, eps=1e-3, momentum=0.01)


def dense_stack(sizes: Sequence[int], act: str, *, normalise: bool = False) -> nn.Sequential:
    """Dense layers from sizes[0] to sizes[-1], each followed by batch normalisation (if asked) and
    the activation.

    Shapes: (N, sizes[0]) to (N, sizes[-1]).
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers.append(nn.Linear(n_in, n_out))
        if normalise:
            layers.append(batch_norm(n_out))
        layers.append(activation(act))
    return nn.Sequential(*layers)
