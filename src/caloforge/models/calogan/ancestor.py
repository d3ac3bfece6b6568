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
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> model = CaloGAN(load_geometry("calogan"))
>>> parameter_count(model.generator), parameter_count(model.discriminator)
(29726784, 2743632)
>>> condition = torch.tensor([[65000.0, 10.0, -20.0, 0.1, 3.0]])
>>> model.eval().sample(condition, torch.zeros(1, model.noise_size)).shape
torch.Size([1, 504])
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.models.calogan.nonsaturating import NonSaturatingGAN, NonSaturatingHyper
from caloforge.models.calogan.sparsity import occupancy
from caloforge.models.calogan.streams import SLOPE, Inpainting, Resample, image_norm
from caloforge.nn.local import LocallyConnected2d
from caloforge.nn.minibatch import MinibatchDiscrimination
from caloforge.transforms import Transform
from caloforge.units import GEV

LARGEST = 1e4  # GeV in a cell: keeps every output finite
FAR_OFF = 5.0  # GeV: a shower further from the requested energy is marked
FAR_MARK = 10.0  # how: large beside the other numbers that the discriminator sees
LAYER_SCALE, TOTAL_SCALE = 10.0, 100.0  # GeV: energies over these are of order one
LAYER_NUMBERS = 22  # of a layer: energy, occupancy, ten similarities of features and of occupancy
SHOWER_NUMBERS = 13  # of a shower: energy, two deviations, ten similarities of layer energies


@dataclass(frozen=True)
class CaloGANHyper(NonSaturatingHyper):
    """Hyper-parameters of `CaloGAN`; the defaults are the published model."""

    seed_channels: PositiveInt = 36
    """Channels of the image that the dense layer makes of the latent numbers."""
    paint_channels: tuple[PositiveInt, PositiveInt] = (16, 6)
    """Channels after the generator's convolution and its first locally connected layer."""
    judge_channels: tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt] = (64, 16, 8, 8)
    """Channels after the convolution and the three locally connected layers of the
    discriminator."""
    attention: bool = True
    """Whether each layer is painted with a look at the one before; off for an ablation."""


class CaloGAN(NonSaturatingGAN):
    """Non-saturating GAN with locally connected layers."""

    hyper_class = CaloGANHyper

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: CaloGANHyper | None = None,
    ) -> None:
        hyper = hyper or CaloGANHyper()
        super().__init__(geometry, transform, hyper)
        self.generator = LocalGenerator(geometry, hyper)
        self.discriminator = LocalDiscriminator(geometry, hyper.judge_channels)


class LocalGenerator(nn.Module):
    """Condition (N, C), noise (N, Z) and scale (N, 1) in MeV to cells as fractions of scale."""

    def __init__(self, geometry: Geometry, hyper: CaloGANHyper) -> None:
        super().__init__()
        layers = geometry.layers
        column = geometry.column_of("energy")
        self.column, self.highest = column, geometry.conditions[column].high
        self.streams = nn.ModuleList(_paint(layer.shape, hyper) for layer in layers)
        self.attention = hyper.attention
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


def _paint(shape: tuple[int, int], hyper: CaloGANHyper) -> nn.Sequential:
    """The stream that paints a layer of this shape."""
    seed, (conv, local) = hyper.seed_channels, hyper.paint_channels
    height, width = shape[0] + 2, shape[1] + 2
    return nn.Sequential(
        nn.Linear(hyper.latent, seed * height * width),
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

    def __init__(self, geometry: Geometry, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.slices = geometry.slices
        self.shapes = [layer.shape for layer in geometry.layers]
        streams = [_read(shape, channels) for shape in self.shapes]
        self.streams = nn.ModuleList(stream for stream, _ in streams)
        sizes = [size for _, size in streams]
        self.alike = nn.ModuleList(MinibatchDiscrimination(size) for size in sizes)
        self.alike_sparsity = nn.ModuleList(MinibatchDiscrimination(1) for _ in sizes)
        self.alike_energy = MinibatchDiscrimination(len(sizes))
        # Beside the features of each layer its energy, occupancy and similarities.
        seen = sum(sizes) + LAYER_NUMBERS * len(sizes) + SHOWER_NUMBERS
        self.judge = nn.Linear(seen, 1)

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
        far = FAR_MARK * (off > FAR_OFF)
        scaled = [energies / LAYER_SCALE, total / TOTAL_SCALE]
        seen += [*scaled, off, far, self.alike_energy(energies)]
        return self.judge(torch.cat(seen, dim=1)), None


def _read(shape: tuple[int, int], channels: tuple[int, ...]) -> tuple[nn.Sequential, int]:
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
