"""MLP WGAN: one dense layer makes the whole unrolled calorimeter; a Wasserstein GAN.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", New York University, 2017 (section "MLP GAN"); M. Arjovsky et al., "Wasserstein
GAN", 2017, arXiv:1701.07875.

Differs from the paper:
- Factors start near E / E_max (or 1), not at random, and E / E_max takes the place of E / GeV.
- Cells below zero are set to zero when sampling; the training logs how many they are.
- `hidden`, `output`, `logarithms`, `critic_stride`, `critic_activation`, `sums` and a gradient
  penalty are options, off by default; cells of other layers (the HCAL) come out of the same dense
  layer where the transform keeps them. With a transform that has the mean shower the cells are
  multiplied by it.
- `shaped_noise`: the paper does not tell its shape. Here the latent numbers are taken as D slices
  of a few cells, hot cell first, and half a Gaussian of this height is added to each slice.
- `early`: one factor for each cell of a slice, the same for all slices, multiplies the image.

Shapes: condition (N, C), noise (N, latent); cells (N, D n + R) of D slices of n cells and R cells
of other layers; critic image (N, 1, D, n).

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> published = MLPWGAN(load_geometry("lcd"))
>>> parameter_count(published.generator), parameter_count(published.critic)
(2010800, 2560865)
>>> photon = torch.tensor([[0.0, 50000.0]])
>>> published.eval().sample(photon, torch.zeros(1, published.noise_size)).shape
torch.Size([1, 16585])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.wasserstein import CriticInput, SumsCritic, UnrolledHyper, UnrolledWGAN
from caloforge.nn.dense import activation, dense_stack
from caloforge.nn.factors import ConditionFactor
from caloforge.transforms import Transform

CELLS = 400  # of a slice, in C. Guthrie, I. Malkin and A. Pine (2017)
KERNEL = 5  # size of the kernel of the critic's convolution


@dataclass(frozen=True)
class MLPWGANHyper(UnrolledHyper):
    """Hyper-parameters of `MLPWGAN`; the defaults are the published model."""

    hidden: tuple[PositiveInt, ...] = ()
    """Sizes of dense layers (leaky ReLU) between the latent numbers and the cells."""
    output: Literal["linear", "relu"] = "linear"
    """Activation of the cells: "linear", or "relu", with which most cells can be empty."""
    critic_channels: PositiveInt = 32
    """Channels of the critic's convolution."""
    critic_stride: PositiveInt = 1
    """Cells from one place of the critic's convolution to the next."""
    critic_activation: str = "linear"
    """Activation after the critic's convolution."""
    critic_hidden: PositiveInt = 8
    """Size of the critic's dense layer."""
    shaped_noise: NonNegativeFloat = 0.0
    """Height of the centre peak that is added to the noise; 0: there is none. It needs a latent
    size that is a multiple of the number of slices."""


class Generator(nn.Module):
    """Noise (N, Z) and condition (N, C) to cells (N, X) in model space.

    Parameters
    ----------
    factor
        What the noise is multiplied with, (N, C) to (N, Z).
    peak
        Numbers (Z,) that are added to the noise first.
    """

    peak: Tensor

    def __init__(
        self, factor: ConditionFactor, peak: Tensor, sizes: Sequence[int], output: str
    ) -> None:
        super().__init__()
        self.factor = factor
        self.register_buffer("peak", peak, persistent=False)
        self.hidden = dense_stack(sizes[:-1], "leaky-relu")
        self.last, self.output = nn.Linear(sizes[-2], sizes[-1]), activation(output)

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Cells."""
        cells: Tensor = self.output(
            self.last(self.hidden((noise + self.peak) * self.factor(condition)))
        )
        return cells


class Critic(nn.Module):
    """Cells (N, X) in model space and condition (N, C) to a score (N, 1): one convolution over the
    image, then two dense layers that also see the conditions.
    """

    def __init__(self, given: CriticInput, hyper: MLPWGANHyper) -> None:
        super().__init__()
        channels, stride = hyper.critic_channels, hyper.critic_stride
        act, hidden = hyper.critic_activation, hyper.critic_hidden
        self.given = given
        self.sums = SumsCritic(given, hyper.sums) if hyper.sums else None
        self.convolve = nn.Conv2d(1, channels, KERNEL, stride=stride, padding=KERNEL // 2)
        self.act, self.linear = activation(act), act == "linear" and stride == 1
        self.places = [(n - 1) // stride + 1 for n in given.shape]
        self.dense = nn.Linear(channels * math.prod(self.places) + given.size, hidden)
        self.score = nn.Linear(hidden, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Score."""
        image, numbers = self.given(x, condition)
        if self.linear:
            hidden = self.by_weights(image) + numbers @ self.dense.weight[:, -numbers.shape[1] :].T
        else:
            features = self.act(self.convolve(image)).flatten(1)
            hidden = self.dense(torch.cat([features, numbers], dim=1))
        score: Tensor = self.score(torch.relu(hidden))
        return score if self.sums is None else score + self.sums(x, condition)

    def by_weights(self, image: Tensor) -> Tensor:
        """What the dense layer makes of the convolved image, (N, hidden), when nothing stands
        between the two: both are one linear map, so the few rows of its weights are convolved
        (transposed), not the many images.
        """
        convolution, size = self.convolve, image[0].numel()
        places = (-1, convolution.out_channels, *self.places)
        rows = self.dense.weight[:, : math.prod(places[1:])].reshape(places)
        both = functional.conv_transpose2d(rows, convolution.weight, padding=KERNEL // 2)
        shift: Tensor = self.dense.bias
        if convolution.bias is not None:
            shift = shift + rows.sum(dim=(2, 3)) @ convolution.bias
        return image.reshape(-1, size) @ both.reshape(-1, size).T + shift


class MLPWGAN(UnrolledWGAN):
    """Wasserstein GAN of one dense layer."""

    hyper_class = MLPWGANHyper

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: MLPWGANHyper | None = None,
    ) -> None:
        hyper = hyper or MLPWGANHyper()
        super().__init__(geometry, transform, CELLS, hyper)
        logarithms = hyper.logarithms
        self.generator = Generator(
            ConditionFactor(geometry, hyper.latent, energy=True, logarithms=logarithms),
            centre_peak(hyper.latent, self.unrolled.depth, hyper.shaped_noise),
            [hyper.latent, *hyper.hidden, self.transform.size()],
            hyper.output,
        )
        self.start_from_profile(self.generator.last)
        given = CriticInput(geometry, self.unrolled, early=hyper.early, logarithms=logarithms)
        self.critic = Critic(given, hyper)


def centre_peak(latent: int, depth: int, height: float) -> Tensor:
    """Half a Gaussian along the cells of each of `depth` slices, (latent,): `height` at the first
    cell, its width a quarter of the cells; zeros for a height of 0.

    Raises ModelError when the latent size is not a multiple of the number of slices.
    """
    if height == 0:
        return torch.zeros(latent)
    cells, rest = divmod(latent, depth)
    if rest:
        raise ModelError(
            f"Got shaped_noise with latent = {latent}; expected a multiple of the {depth} slices."
        )
    position = torch.arange(cells) / (cells / 4)
    return (height * torch.exp(-0.5 * position.square())).repeat(depth)
