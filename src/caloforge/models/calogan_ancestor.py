"""CaloGAN: the ancestor of the conditional CaloGAN, with locally connected layers and in-painting
attention, conditional in energy alone.

Reference: M. Paganini, L. de Oliveira, B. Nachman, "CaloGAN: Simulating 3D High Energy Particle
Showers in Multi-Layer Electromagnetic Calorimeters with Generative Adversarial Networks", 2017,
arXiv:1705.02355.

Differs from the paper:
- The labels of the discriminator are flipped as often as for the conditional CaloGAN.
- The similarities of minibatch discrimination are means over the batch, not sums through tanh.
- The generator learns at the energies of the batch, not at energies drawn anew.
- One kind of particle at a time.

Shapes: condition (N, C), of which only the energy is used; noise (N, latent); cells (N, V).
Generator of each layer H x W: z E/E_max -> dense, `seed_channels` x (H + 2) x (W + 2) ->
convolution 2 x 2 -> locally connected 2 x 2 twice; attention; ReLU. Discriminator: convolution and
three locally connected layers for each layer.

Example
-------
>>> import torch
>>> from caloforge.geometry import load_geometry
>>> from caloforge.models.base import parameter_count
>>> model = CaloGAN(load_geometry("calogan"))
>>> parameter_count(model.generator), parameter_count(model.discriminator)
(29726784, 2743632)
>>> condition = torch.tensor([[65000.0, 10.0, -20.0, 0.1, 3.0]])
>>> model.eval().sample(condition, torch.zeros(1, model.noise_size)).shape
torch.Size([1, 504])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from caloforge.geometry import Geometry
from caloforge.models.nonsaturating import (
    ADAM_DISCRIMINATOR,
    ADAM_GENERATOR,
    NonSaturatingGAN,
)
from caloforge.nn.local import LocallyConnected2d
from caloforge.nn.minibatch import MinibatchDiscrimination
from caloforge.nn.sparsity import occupancy
from caloforge.nn.streams import SLOPE, Inpainting, Resample, image_norm
from caloforge.transforms import Transform
from caloforge.units import GEV

LARGEST = 1e4  # GeV in a cell: keeps every output finite
FAR_OFF = 5.0  # GeV: a shower further from the requested energy is marked


class CaloGAN(NonSaturatingGAN):
    """Non-saturating GAN with locally connected layers; the defaults are the published model.

    Parameters
    ----------
    latent
        Z.
    seed_channels, paint_channels
        Of the dense layer, and of the convolution and the first locally connected layer after it.
    judge_channels
        Of the convolution and the three locally connected layers of the discriminator.
    attention
        Off for an ablation.
    energy_weight
        lambda_E, per GeV.
    label_flips
        Share of labels flipped for the discriminator.
    generator_steps
        Updates of the generator for one of the discriminator, which sees a real and a fake batch.
    generator_optimiser, discriminator_optimiser
        See `OptimiserSettings`.
    """

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        *,
        latent: PositiveInt = 1024,
        seed_channels: PositiveInt = 36,
        paint_channels: Annotated[Sequence[PositiveInt], Field(min_length=2, max_length=2)] = (
            16,
            6,
        ),
        judge_channels: Annotated[Sequence[PositiveInt], Field(min_length=4, max_length=4)] = (
            64,
            16,
            8,
            8,
        ),
        attention: bool = True,
        energy_weight: NonNegativeFloat = 0.05,
        label_flips: Annotated[float, Field(ge=0, lt=0.5)] = 0.05,
        generator_steps: PositiveInt = 2,
        generator_optimiser: dict[str, Any] = ADAM_GENERATOR,
        discriminator_optimiser: dict[str, Any] = ADAM_DISCRIMINATOR,
    ) -> None:
        hyper = {
            k: v
            for k, v in locals().items()
            if k not in ("self", "geometry", "transform", "__class__")
        }
        super().__init__(geometry, transform, hyper)
        self.generator = LocalGenerator(geometry, hyper)
        self.discriminator = LocalDiscriminator(geometry, judge_channels)


class LocalGenerator(nn.Module):
    """Condition (N, C), noise (N, Z) and scale (N, 1) in MeV to cells as fractions of scale."""

    def __init__(self, geometry: Geometry, hyper: dict[str, Any]) -> None:
        super().__init__()
        layers = geometry.layers
        column = geometry.column("energy")
        self.column, self.highest = column, geometry.conditions[column].high
        sizes = hyper["latent"], hyper["seed_channels"], *hyper["paint_channels"]
        self.streams = nn.ModuleList(_paint(layer.shape, *sizes) for layer in layers)
        self.attention = hyper["attention"]
        if self.attention:
            self.carry = nn.ModuleList(Resample(a, b) for a, b in pairwise(layers))
            self.inpaint = nn.ModuleList(
                Inpainting(nn.Sequential(nn.ZeroPad2d(1), _local(2, 2, layer.shape, 3)))
                for layer in layers[1:]
            )

    def forward(self, condition: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
        """Cells, (N, V)."""
        z = noise * condition[:, self.column : self.column + 1] / self.highest
        images: list[Tensor] = []
        for k, stream in enumerate(self.streams):
            image = stream(z)
            if self.attention and k:
                image = self.inpaint[k - 1](image, self.carry[k - 1](images[-1]))
            images.append(image)
        cells = torch.cat([image.relu().flatten(1) for image in images], dim=1).float()
        return cells.clamp(max=LARGEST) * GEV / scale


def _local(n_in: int, n_out: int, shape: tuple[int, int], kernel: int) -> LocallyConnected2d:
    """Locally connected layer that gives `shape`."""
    size = (shape[0] + kernel - 1, shape[1] + kernel - 1)
    return LocallyConnected2d(n_in, n_out, size, (kernel, kernel))


def _paint(shape: tuple[int, int], latent: int, seed: int, conv: int, local: int) -> nn.Sequential:
    height, width = shape[0] + 2, shape[1] + 2
    return nn.Sequential(
        nn.Linear(latent, seed * height * width),
        nn.Unflatten(1, (seed, height, width)),
        nn.ZeroPad2d((0, 1, 0, 1)),
        nn.Conv2d(seed, conv, 2),
        nn.LeakyReLU(SLOPE),
        image_norm(conv, batch=True),
        _local(conv, local, (height - 1, width - 1), 2),
        nn.LeakyReLU(SLOPE),
        _local(local, 1, shape, 2),
    )


class LocalDiscriminator(nn.Module):
    """Fractions (N, V), condition (N, C) and scale (N, 1) in MeV to a logit (N, 1); there is no
    head Xi.
    """

    def __init__(self, geometry: Geometry, channels: Sequence[int]) -> None:
        super().__init__()
        self.slices = geometry.slices
        self.shapes = [layer.shape for layer in geometry.layers]
        streams = [_read(shape, channels) for shape in self.shapes]
        self.streams = nn.ModuleList(stream for stream, _ in streams)
        sizes = [size for _, size in streams]
        self.alike = nn.ModuleList(MinibatchDiscrimination(size) for size in sizes)
        self.alike_sparsity = nn.ModuleList(MinibatchDiscrimination(1) for _ in sizes)
        self.alike_energy = MinibatchDiscrimination(len(sizes))
        self.judge = nn.Linear(sum(sizes) + 22 * len(sizes) + 13, 1)

    def forward(self, x: Tensor, condition: Tensor, scale: Tensor) -> tuple[Tensor, None]:
        """Logit, and None for the attributes."""
        gev = x * scale / GEV
        seen: list[Tensor] = []
        for k, (where, shape) in enumerate(zip(self.slices, self.shapes, strict=True)):
            cells = gev[:, where]
            features, filled = self.streams[k](cells.reshape(-1, 1, *shape)), occupancy(cells)
            seen += [features, self.alike[k](features), filled, self.alike_sparsity[k](filled)]
        energies = torch.stack([gev[:, where].sum(dim=1) for where in self.slices], dim=1)
        total = energies.sum(dim=1, keepdim=True)
        off = (total - scale / GEV).abs()
        far = 10.0 * (off > FAR_OFF)
        seen += [energies / 10, total / 100, off, far, self.alike_energy(energies)]
        return self.judge(torch.cat(seen, dim=1)), None


def _read(shape: tuple[int, int], channels: Sequence[int]) -> tuple[nn.Sequential, int]:
    """The stream of a layer and how many features it gives."""
    first, *rest = channels
    layers: list[nn.Module] = [nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, first, 2)]
    layers.append(nn.LeakyReLU(SLOPE))
    size, before = shape, first
    for n_out, kernel, stride in zip(rest, (3, 2, 2), (2, 1, 2), strict=True):
        padded = (size[0] + 2, size[1] + 2)
        local = LocallyConnected2d(before, n_out, padded, (kernel, kernel), (1, stride))
        layers += [nn.ZeroPad2d(1), local, nn.LeakyReLU(SLOPE), image_norm(n_out, batch=True)]
        size, before = local.size, n_out
    return nn.Sequential(*layers, nn.Flatten()), before * size[0] * size[1]
