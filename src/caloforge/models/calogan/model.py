"""Conditional CaloGAN: a GAN of convolution streams, one per layer, whose showers obey requested
attributes: energy, impact point and angles.

Reference: L. de Oliveira, M. Paganini, B. Nachman, "Controlling Physical Attributes in
GAN-Accelerated Simulation of Electromagnetic Calorimeters", J. Phys.: Conf. Ser. 1085 (2018)
042017. What it leaves open (widths, optimisers, weights) follows its ancestor, arXiv:1705.02355.

Differs from the paper:
- Eq. 3 is printed over real showers alone, which gives the generator no gradient although "both
  players seek to minimise" it. Read here as: Xi learns on real showers (with `xi_on_fakes` also on
  generated ones), the generator minimises |xi - Xi(G(z, xi))| against what was requested.
- Positions and theta are scaled to [-1, 1] in Eq. 3, and phi is estimated as (sin, cos): an angle
  has no jump.
- Eq. 5 is misprinted (see `sparsity.py`); the form with the claimed limit is used.
- L_E requests the incident energy. Showers leak: positrons leave 0.4 % less here, pions 71 %. With
  the transform's `energy_scale` the mean response at that energy is requested instead.
- Blur works on the image before its ReLU, after the attention.
- Options that the paper does not have, off by default and in the recipe calogan-eplus-published:
  `seed = "impact"`, `output = "log"`, `response_width`, `informed_judge`, no batch normalisation,
  `spectral_judge`. The main recipes use all but the last: as published, 2250 showers and an hour
  on a CPU core do not get far.

Shapes: condition (N, C), noise (N, latent), cells (N, V). Generator: a seed (K, H, W) for each
layer, a block for each of `widths`, one channel; attention from layer to layer; blur; ReLU.
Discriminator: `judge_widths` convolutions for each layer, `judge_hidden` features; the adversarial
head sees those, their minibatch discrimination (10 x 10), soft sparsity per layer raw and through
minibatch discrimination, layer and total energies; the head Xi sees the features.

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> model = ConditionalCaloGAN(load_geometry("calogan"))  # as published, widths 32, 32, 16, 8
>>> parameter_count(model.generator), parameter_count(model.discriminator)
(4222015, 1116850)
>>> ours = ConditionalCaloGANHyper(  # as in the main recipes
...     seed="impact", output="log", response_width=0.002, informed_judge=True, batch_norm=False,
...     widths=(24, 24, 24, 24), judge_widths=(16, 24, 32, 32))
>>> model = ConditionalCaloGAN(load_geometry("calogan"), hyper=ours)
>>> parameter_count(model.generator), parameter_count(model.discriminator)
(104860, 556234)
>>> condition = torch.tensor([[65000.0, 10.0, -20.0, 0.1, 3.0]])
>>> model.eval().sample(condition, torch.zeros(1, model.noise_size)).shape
torch.Size([1, 504])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.calogan.attributes import Attributes
from caloforge.models.calogan.blur import Blur
from caloforge.models.calogan.impact import AxisFeatures
from caloforge.models.calogan.nonsaturating import NonSaturatingGAN, NonSaturatingHyper
from caloforge.models.calogan.seeds import DenseSeed, Halo, ImpactSeed
from caloforge.models.calogan.sparsity import occupancy, soft_occupancy
from caloforge.models.calogan.streams import (
    Inpainting,
    PaintStream,
    ReadStream,
    Resample,
    dense_stack,
)
from caloforge.nn.minibatch import MinibatchDiscrimination
from caloforge.nn.moments import Moments
from caloforge.nn.spectral import spectral_norm
from caloforge.transforms import Transform
from caloforge.units import GEV

XI_WEIGHTS = {"x0": 0.1, "y0": 0.1, "theta": 0.1, "phi": 0.1}
LARGEST = {True: 16.0, False: 1e4}  # log(1 + E/t) or GeV of a cell: keeps every output finite
# Values of the images (and of the spread of "impact") before anything is learned, as logarithms or
# in GeV: above zero, or no cell would have a gradient behind the ReLU.
STARTS = {True: (6.0, 1.0), False: (0.1, 0.01)}
LARGEST_GAIN = 20.0  # of the logarithm of a layer's gain: keeps it finite
LARGEST_PULL = 8.0  # of the logarithm of the response: unheard-of noise makes no infinite shower
STEEP = 5.0  # factor on what a discriminator of slope 1 sees, so that small differences count
RESPONSE_WIDTH = 0.1  # the discriminator's unit of log(total) where the recipe gives no width
# What brings the discriminator's numbers to order one: logarithms of energies are divided by the
# first, fractions of the incident energy multiplied by the second, positions divided by the third.
LOG_ENERGIES, FRACTION_GAIN, LENGTH = 4, 5, 60

Widths = Annotated[tuple[PositiveInt, ...], Field(min_length=4)]
Kernel = tuple[PositiveInt, PositiveInt]


@dataclass(frozen=True)
class ConditionalCaloGANHyper(NonSaturatingHyper):
    """Hyper-parameters of `ConditionalCaloGAN`; the defaults are the published form."""

    seed: Literal["dense", "impact"] = "dense"
    """How a stream begins. "dense": by a dense layer of the latent numbers, multiplied by E/E_max
    as in the ancestor, and of the attributes. "impact": by maps of where each cell lies from the
    particle's axis, and by a latent number or more for each cell; the latent numbers that remain
    and the attributes modulate every block. Moving the impact then moves the shower by
    construction."""
    seed_channels: PositiveInt = 8
    """Channels K of the images that "dense" makes."""
    embedding: PositiveInt = 64
    """Number of features that modulate the blocks of "impact" and that the response is made
    from."""
    widths: Widths = (32, 32, 16, 8)
    """Channels of the blocks of each stream that paints, four or more."""
    local: bool = False
    """Whether the blocks that paint have weights of their own at each cell (locally connected), as
    in the ancestor, instead of convolutions; for an ablation."""
    judge_widths: Widths = (16, 32, 64, 64)
    """Channels of the blocks of each stream that reads, four or more."""
    judge_hidden: PositiveInt = 128
    """Number of features that the discriminator makes of a shower."""
    batch_norm: bool = True
    """Whether both networks have batch normalisation."""
    output: Literal["linear", "log"] = "linear"
    """What an image holds: "linear": GeV; "log": log(1 + E / cell_scale), in which the halo of a
    shower is as visible as its core. The discriminator then sees both."""
    cell_scale: PositiveFloat = 0.1
    """Energy in MeV that logarithms of cells begin at; the least that the read-out records is of
    this order."""
    response_width: NonNegativeFloat = 0.0
    """0: the total is the sum of the images, held by L_E. More: the images, each times a gain of
    its layer, are shares of a total that a head of its own draws, mean response times
    exp(response_width * its output); the width is that of the particle's response."""
    attention: bool = True
    """Whether each layer is painted with a look at the one before; off for an ablation."""
    blur: tuple[Kernel, ...] = ((1, 1), (3, 3), (3, 3))
    """Kernel n x m of each layer, [1, 1] for none; an empty list for no blur anywhere."""
    soft_sparsity: bool = True
    """Whether the discriminator sees soft sparsity; without, it sees the occupancy of Eq. 4."""
    sparsity_threshold: PositiveFloat = 0.1
    """Energy t in MeV at which a cell counts half in soft sparsity."""
    sparsity_power: PositiveFloat = 2.0
    """Power alpha of soft sparsity: how sharp that threshold is."""
    informed_judge: bool = False
    """Whether the adversarial head also sees the condition, and barycentres (from the axis) and
    widths of each layer, and Xi also the barycentres."""
    compare_energies: bool = False
    """Whether layer energies and response also pass minibatch discrimination, as in the ancestor:
    the discriminator then sees when the showers of a batch have too much the same response."""
    position_width: PositiveFloat = 5.0
    """Spread in mm of the barycentres about the axis that the informed head is to see well; it is
    a few mm in strips."""
    spectral_judge: bool = False
    """Whether the discriminator but for Xi is spectrally normalised (T. Miyato et al. 2018,
    arXiv:1802.05957): it then cannot run away from a generator that learns from few showers."""
    xi_weights: dict[str, NonNegativeFloat] = field(default_factory=XI_WEIGHTS.copy)
    """Weight lambda of Eq. 3 for each attribute."""
    xi_on_fakes: bool = False
    """Whether Xi also learns on generated showers."""


class ConditionalCaloGAN(NonSaturatingGAN):
    """Non-saturating GAN with attributes."""

    hyper_class = ConditionalCaloGANHyper

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: ConditionalCaloGANHyper | None = None,
    ) -> None:
        hyper = hyper or ConditionalCaloGANHyper()
        super().__init__(geometry, transform, hyper, hyper.xi_weights, hyper.xi_on_fakes)
        self.generator = Generator(geometry, hyper)
        self.discriminator = Discriminator(geometry, hyper)


class Generator(nn.Module):
    """Condition (N, C), noise (N, Z) and scale (N, 1) in MeV to cells as fractions of scale."""

    layer: Tensor

    def __init__(self, geometry: Geometry, hyper: ConditionalCaloGANHyper) -> None:
        super().__init__()
        layers, embedding = geometry.layers, hyper.embedding
        self.log, self.cell_scale = hyper.output == "log", hyper.cell_scale
        self.response_width = hyper.response_width
        layer_of_cell = torch.from_numpy(geometry.layer_of_cell)
        self.register_buffer("layer", layer_of_cell, persistent=False)
        self.seed: DenseSeed | ImpactSeed
        if hyper.seed == "impact":
            self.seed = ImpactSeed(geometry, hyper.latent)
            self.halo = nn.ModuleList(Halo() for _ in layers)
        else:
            self.seed = DenseSeed(geometry, hyper.latent, hyper.seed_channels)
        self.embed: nn.Module | None = None
        if self.seed.modulates or self.response_width > 0:
            self.embed = dense_stack([self.seed.size, embedding, embedding])
        starts = STARTS[self.log]
        self.streams = nn.ModuleList(
            PaintStream(
                self.seed.channels,
                hyper.widths,
                embedding if self.seed.modulates else 0,
                batch_norm=hyper.batch_norm,
                starts=starts if self.seed.modulates else starts[:1],
                local=layer.shape if hyper.local else None,
            )
            for layer in layers
        )
        self.attention = hyper.attention
        if self.attention:
            self.carry = nn.ModuleList(Resample(a, b) for a, b in pairwise(layers))
            self.inpaint = nn.ModuleList(
                Inpainting(nn.Conv2d(2, 2, 3, padding=1)) for _ in layers[1:]
            )
        self.blur = nn.ModuleList(_blurs(hyper.blur, len(layers)))
        if self.response_width > 0:
            self.response = nn.Linear(embedding, 1)
            nn.init.normal_(self.response.weight)  # starts near the width, not far below it
            self.gains = nn.Linear(embedding, len(layers))

    def forward(self, condition: Tensor, noise: Tensor, scale: Tensor) -> Tensor:
        """Cells, (N, V)."""
        embedding, seeds = self.seed(condition, noise)
        if self.embed is not None:
            embedding = self.embed(embedding)
        images: list[Tensor] = []
        for k, seed in enumerate(seeds):
            image = self.streams[k](seed, embedding)
            if self.seed.modulates:
                image = self.halo[k](image, seed)
            if self.attention and k:
                image = self.inpaint[k - 1](image, self.carry[k - 1](images[-1]))
            images.append(image)
        painted = [
            blur(image).relu().flatten(1) for blur, image in zip(self.blur, images, strict=True)
        ]
        cells = torch.cat(painted, dim=1).float().clamp(max=LARGEST[self.log])
        mev = (cells.exp() - 1) * self.cell_scale if self.log else cells * GEV
        return self._shared_out(mev, embedding) if self.response_width > 0 else mev / scale

    def _shared_out(self, mev: Tensor, embedding: Tensor) -> Tensor:
        """The images, each times a gain of its layer, as shares of a total of their own."""
        gains: Tensor = self.gains(embedding).float().clamp(-LARGEST_GAIN, LARGEST_GAIN).exp()
        mev = mev * gains[:, self.layer]
        pull: Tensor = self.response_width * self.response(embedding).float()
        pull = pull.clamp(-LARGEST_PULL, LARGEST_PULL)
        shares = mev / mev.sum(dim=1, keepdim=True).clamp(min=1e-6)
        return shares * pull.exp()


def _blurs(kernels: Sequence[Sequence[int]], n_layers: int) -> list[Blur]:
    sizes = list(kernels) or [(1, 1)] * n_layers
    if len(sizes) != n_layers:
        raise ModelError(
            f"Got {len(sizes)} blur kernels for {n_layers} layers; expected one for each, "
            "[1, 1] for none."
        )
    return [Blur((n, m)) for n, m in sizes]


class Discriminator(nn.Module):
    """Fractions (N, V), condition (N, C) and scale (N, 1) in MeV to a logit (N, 1) and the
    estimate Xi of the attributes, (N, 5).
    """

    depths: Tensor

    def __init__(self, geometry: Geometry, hyper: ConditionalCaloGANHyper) -> None:
        super().__init__()
        self.slices, layers = geometry.slices, geometry.layers
        self.shapes = [layer.shape for layer in layers]
        self.log, self.cell_scale = hyper.output == "log", hyper.cell_scale
        self.soft, self.informed = hyper.soft_sparsity, hyper.informed_judge
        self.threshold, self.power = hyper.sparsity_threshold, hyper.sparsity_power
        self.width = hyper.response_width or RESPONSE_WIDTH
        self.position_width = hyper.position_width
        hidden, channels = hyper.judge_hidden, 2 if self.log else 1
        streams = [
            ReadStream(channels, shape, hyper.judge_widths, batch_norm=hyper.batch_norm)
            for shape in self.shapes
        ]
        self.streams = nn.ModuleList(streams)
        self.trunk = dense_stack([sum(stream.size for stream in streams), hidden])
        self.alike = MinibatchDiscrimination(hidden)
        self.alike_sparsity = MinibatchDiscrimination(len(layers))
        self.alike_energy: MinibatchDiscrimination | None = None
        n_judge = hidden + self.alike.features + self.alike_sparsity.features + 2 * len(layers) + 1
        n_xi = hidden
        if hyper.compare_energies:
            self.alike_energy = MinibatchDiscrimination(len(layers) + 1)
            n_judge += self.alike_energy.features
        self.features, self.moments = AxisFeatures(geometry), Moments(geometry)
        depths = [0.5 * sum(layer.z) if layer.z else 0.0 for layer in layers]
        self.register_buffer("depths", torch.tensor(depths), persistent=False)
        if self.informed:
            n_judge += self.features.size + 4 * len(layers)
            n_xi += 2 * len(layers)
        self.judge = nn.Sequential(*dense_stack([n_judge, hidden]), nn.Linear(hidden, 1))
        self.gain = 1.0
        if hyper.spectral_judge:
            self.gain = STEEP
            for part in (*self.streams, self.trunk, self.judge):
                spectral_norm(part)
        self.xi = nn.Sequential(*dense_stack([n_xi, hidden]), nn.Linear(hidden, Attributes.size))

    def forward(self, x: Tensor, condition: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        """Logit and attributes."""
        mev = x * scale
        trunk = self.trunk(torch.cat(self._read(x, mev), dim=1))
        layers = [mev[:, where] for where in self.slices]
        filled = torch.cat([self._occupied(cells) for cells in layers], dim=1)
        energies = torch.stack([cells.sum(dim=1) for cells in layers], dim=1)
        total = x.sum(dim=1, keepdim=True)
        numbers = [
            (energies / self.cell_scale).log1p() / LOG_ENERGIES,
            torch.asinh((total + 1e-6).log() / self.width),
        ]
        seen = [trunk, self.alike(trunk), filled, self.alike_sparsity(filled), *numbers]
        if self.alike_energy is not None:
            seen.append(self.alike_energy(torch.cat(numbers, dim=1)))
        known = [trunk]
        if self.informed:
            centres, widths = self.moments(x)
            away = centres - self._axis_at(condition)
            seen += [self.features(condition), (away / self.position_width).asinh(), widths]
            known.append(centres / LENGTH)
        beside = self.gain * torch.cat(seen[1:], dim=1)
        return self.judge(torch.cat([trunk, beside], dim=1)), self.xi(torch.cat(known, dim=1))

    def _axis_at(self, condition: Tensor) -> Tensor:
        """Where the particle's axis is in the middle of each layer, x of all before y, (N, 2L)."""
        impact, slope = self.features.axis(condition)
        return (impact[:, :, None] + slope[:, :, None] * self.depths).flatten(1)

    def _read(self, x: Tensor, mev: Tensor) -> list[Tensor]:
        if self.log:
            logs = (mev / self.cell_scale).log1p() / LOG_ENERGIES
            images = self.gain * torch.stack([logs, FRACTION_GAIN * x], dim=1)
        else:
            images = mev[:, None] / GEV
        return [
            stream(images[:, :, where].reshape(len(x), -1, *shape))
            for stream, where, shape in zip(self.streams, self.slices, self.shapes, strict=True)
        ]

    def _occupied(self, mev: Tensor) -> Tensor:
        return soft_occupancy(mev, self.threshold, self.power) if self.soft else occupancy(mev)
