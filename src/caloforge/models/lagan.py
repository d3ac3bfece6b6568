"""LAGAN WGAN: locally connected layers make the middle of the unrolled calorimeter.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", New York University, 2017 (section "Location-Aware GAN"), after L. de Oliveira,
M. Paganini, B. Nachman, "Learning Particle Physics by Example", 2017, arXiv:1701.05927.

Differs from the paper:
- Kernels, channels and the fully connected layer (none: the latent numbers themselves are the
  first image) are a reading. The critic has the published 855,067 parameters, the generator the
  published 858,429 with `energy`, although the text gives it latent and particle type alone:
  without, as in `lagan-document`, the 512 of the energy's projection are missing.
- Factors start near E / E_max (or 1), not at random, and E / E_max takes the place of E / GeV.
- `normalise`, `early`, `sums`, `logarithms` and a gradient penalty are options; the defaults are
  the published ones. With a transform that has the mean shower the cells are multiplied by it.
- Only the cells of the image are generated: cells around it and other layers (HCAL) stay empty.

Shapes: condition (N, C), noise (N, latent); cells (N, D n) of D slices of n cells, 25 x 25. The
generator's images at 16 x 16 (latent), 10 x 10, 16 x 16 and D x n, the critic's at D x n, 11 x 11,
7 x 7 and 3 x 3.

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> published = LAGAN(load_geometry("lcd"), hyper=LAGANHyper(energy=True))
>>> parameter_count(published.generator), parameter_count(published.critic)
(858429, 855067)
>>> photon = torch.tensor([[0.0, 50000.0]])
>>> published.eval().sample(photon, torch.zeros(1, published.noise_size)).shape
torch.Size([1, 16585])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.wasserstein import CriticInput, SumsCritic, UnrolledHyper, UnrolledWGAN
from caloforge.nn.factors import ConditionFactor
from caloforge.nn.local import LocallyConnected2d
from caloforge.transforms import Transform

CELLS = 25  # of a slice, in C. Guthrie, I. Malkin and A. Pine (2017)
SLOPE = 0.03  # slope of the leaky ReLU below zero
FIRST, LOCAL = 7, 5  # kernels of the generator's convolution and first locally connected layer
KERNEL = 5  # size of the kernels of all the critic's layers
Channels = tuple[PositiveInt, PositiveInt]


class Generator(nn.Module):
    """Noise (N, Z) and condition (N, C) to the image (N, D n) in model space, >= 0."""

    def __init__(
        self,
        factor: ConditionFactor,
        latent: int,
        shape: tuple[int, int],
        channels: Sequence[int],
        normalise: bool,
    ) -> None:
        super().__init__()
        side = math.isqrt(latent)
        large = 2 * (side - FIRST + 1)  # after the convolution and upsampling
        larger = 2 * (large - LOCAL + 1)
        kernel = (larger - shape[0] + 1, larger - shape[1] + 1)
        if side**2 != latent or large < LOCAL or min(kernel) < 1:
            raise ModelError(
                f"Got latent = {latent} for an image of {shape[0]} x {shape[1]} cells; expected a "
                f"square number that makes at least so many: 4 sqrt(latent) - 32 cells a side "
                "(256 for 25 x 25), or fewer cells in the transform."
            )
        first, second = channels
        self.factor, self.side = factor, side
        self.last = LocallyConnected2d(second, 1, (larger, larger), kernel)
        self.paint = nn.Sequential(
            nn.Conv2d(1, first, FIRST),
            nn.LeakyReLU(SLOPE),
            *_norm(first, normalise),
            nn.Upsample(scale_factor=2),
            LocallyConnected2d(first, second, (large, large), (LOCAL, LOCAL)),
            nn.LeakyReLU(SLOPE),
            *_norm(second, normalise),
            nn.Upsample(scale_factor=2),
        )

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Cells."""
        latent = noise * self.factor(condition)
        image: Tensor = self.last(self.paint(latent.reshape(-1, 1, self.side, self.side)))
        return image.relu().flatten(1)


def _norm(channels: int, normalise: bool) -> list[nn.Module]:
    """Batch normalisation with the constants of Keras, if asked."""
    return [nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01)] if normalise else []


class Critic(nn.Module):
    """Image (N, D n) in model space and condition (N, C) to a score (N, 1): a convolution, two
    locally connected layers and a mean over 2 x 2 places; the dense layers also see the
    conditions. With `hidden` = 0 there is one, linear: conditions then only shift the score.
    """

    def __init__(
        self, given: CriticInput, channels: Sequence[int], hidden: int, sums: int
    ) -> None:
        super().__init__()
        self.given = given
        self.sums = SumsCritic(given, sums) if sums else None
        first, local = channels
        once = LocallyConnected2d(first, local, given.shape, (KERNEL, KERNEL), (2, 2))
        twice = LocallyConnected2d(local, local, once.size, (KERNEL, KERNEL))
        self.look = nn.Sequential(
            nn.Conv2d(1, first, KERNEL, padding=KERNEL // 2),
            nn.LeakyReLU(SLOPE),
            once,
            nn.LeakyReLU(SLOPE),
            twice,
            nn.LeakyReLU(SLOPE),
            nn.AvgPool2d(2),
            nn.Flatten(),
        )
        seen = local * (twice.size[0] // 2) * (twice.size[1] // 2) + given.size
        dense = [nn.Linear(seen, hidden), nn.LeakyReLU(SLOPE)] if hidden else []
        self.score = nn.Sequential(*dense, nn.Linear(hidden or seen, 1))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Score."""
        image, numbers = self.given(x, condition)
        score: Tensor = self.score(torch.cat([self.look(image), numbers], dim=1))
        return score if self.sums is None else score + self.sums(x, condition)


@dataclass(frozen=True)
class LAGANHyper(UnrolledHyper):
    """Hyper-parameters of `LAGAN`; the defaults are the published model, which is told the type of
    the particle alone.
    """

    latent: PositiveInt = 256
    """How many standard-normal numbers one shower needs, Z: a square number, for they are the
    first image."""
    generator_channels: Channels = (16, 6)
    """Channels after the generator's convolution and its first locally connected layer."""
    critic_channels: Channels = (32, 8)
    """Channels after the critic's convolution and its locally connected layers."""
    energy: bool = False
    """Whether the energy is multiplied into the latent numbers as the particle type is."""
    normalise: bool = True
    """Whether the generator has batch normalisation; where weights are averaged its statistics are
    measured anew."""
    critic_hidden: NonNegativeInt = 0
    """Size of a dense layer before the score; 0: there is none, as published. The critic then
    scores an image alike whatever its conditions, up to a shift from which the generator learns
    nothing."""


class LAGAN(UnrolledWGAN):
    """Location-aware Wasserstein GAN.

    Raises ModelError for a transform that keeps cells of other layers, or slices that the image
    does not fit.
    """

    hyper_class = LAGANHyper

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: LAGANHyper | None = None,
    ) -> None:
        hyper = hyper or LAGANHyper()
        super().__init__(geometry, transform, CELLS, hyper)
        if self.unrolled.others:
            raise ModelError(
                "Got a transform that keeps other layers; a LAGAN makes one image alone: set "
                "transform.others=false."
            )
        logarithms = hyper.logarithms
        self.generator = Generator(
            ConditionFactor(geometry, hyper.latent, energy=hyper.energy, logarithms=logarithms),
            hyper.latent,
            (self.unrolled.depth, self.unrolled.cells),
            hyper.generator_channels,
            hyper.normalise,
        )
        self.start_from_profile(self.generator.last)
        given = CriticInput(geometry, self.unrolled, early=hyper.early, logarithms=logarithms)
        self.critic = Critic(given, hyper.critic_channels, hyper.critic_hidden, hyper.sums)
