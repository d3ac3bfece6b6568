"""Adversarial losses and penalties, each with its equation and source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

Critic = Callable[[Tensor], Tensor]


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(fake)] - E[D(real)], which the critic minimises (M. Arjovsky et al. 2017,
    arXiv:1701.07875, Eq. 2).
    """
    return fake.mean() - real.mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """-E[D(fake)], which the generator minimises (M. Arjovsky et al. 2017, Eq. 3)."""
    return -fake.mean()


def gradient_penalty(critic: Critic, real: Tensor, fake: Tensor, mix: Tensor) -> Tensor:
    """E[(|grad_x D(x)| - 1)^2] at x between real and fake (I. Gulrajani et al. 2017,
    arXiv:1704.00028, Eq. 3), without its weight lambda.

    Parameters
    ----------
    critic
        The critic as a function of the shower alone, (N, X) to (N, 1).
    real, fake
        Showers in model space, (N, X).
    mix
        Uniform numbers in [0, 1], (N, 1): the position of each x on the line from fake to real.
    """
    between = torch.lerp(fake, real, mix).requires_grad_(True)
    return slope_penalties(critic(between), [between])[0]


def slope_penalties(score: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """E[(|grad_x D| - 1)^2] for each input x alone, the others held fixed (I. Gulrajani
    et al. 2017, Eq. 3, split over the inputs of the critic).

    Parameters
    ----------
    score
        Score D of each shower, (N, 1).
    inputs
        Tensors (N, ...) that D was computed from and that require a gradient.
    """
    slopes = torch.autograd.grad(score.sum(), list(inputs), create_graph=True)
    return [(slope.flatten(1).norm(dim=1) - 1).square().mean() for slope in slopes]


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reverse_gradient(x: Tensor) -> Tensor:
    """x itself, with the gradient that comes back through it times -1: what minimises a loss
    behind it maximises that loss before it (Y. Ganin, V. Lempitsky 2014, arXiv:1409.7495,
    Eq. 9).
    """
    reversed_: Tensor = _Reverse.apply(x)  # type: ignore[no-untyped-call]
    return reversed_


def hinge_critic(real: Tensor, fake: Tensor) -> Tensor:
    """-E[min(0, -1 + D(real))] - E[min(0, -1 - D(fake))], which the critic minimises (hinge loss,
    H. Zhang et al. 2018, arXiv:1805.08318, Eq. 4; F. Ratnikov, A. Rogachev 2021, Eq. 5). The
    generator's loss is that of a Wasserstein GAN.
    """
    return torch.relu(1 - real).mean() + torch.relu(1 + fake).mean()


def flip_labels(labels: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """0 and 1 swapped in a random `share` of `labels` (label flipping, T. Salimans et al.
    2016, arXiv:1606.03498, and M. Paganini et al. 2017, arXiv:1705.02355): it keeps a
    discriminator from being too sure.
    """
    flipped = torch.rand(labels.shape, generator=rng, device=labels.device) < share
    return torch.where(flipped, 1 - labels, labels)


def gan_discriminator(real: Tensor, fake: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """-L_D = -E[log D(x)] - E[log(1 - D(G(z)))], which the discriminator minimises
    (I. Goodfellow et al. 2014, arXiv:1406.2661, Eq. 1; L. de Oliveira et al. 2018, Eq. 1), with a
    `share` of the labels flipped.

    Parameters
    ----------
    real, fake
        Logits: D = sigmoid(logit), (N, 1).
    share
        Share of the labels that are flipped, in [0, 1/2).
    rng
        Chooses which labels are flipped.
    """
    ones = flip_labels(torch.ones_like(real), share, rng)
    zeros = flip_labels(torch.zeros_like(fake), share, rng)
    entropy = functional.binary_cross_entropy_with_logits
    return entropy(real, ones) + entropy(fake, zeros)


def gan_generator(fake: Tensor) -> Tensor:
    """L_G = -E[log D(G(z))] from logits, the non-saturating loss which the generator minimises
    (I. Goodfellow et al. 2014, section 3; L. de Oliveira et al. 2018, Eq. 2).
    """
    return functional.softplus(-fake).mean()
