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
- Eq. 5 is misprinted (see `nn/sparsity.py`); the form with the claimed limit is used.
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
>>> from caloforge.geometry import load_geometry
>>> from caloforge.models.base import parameter_count
>>> model = ConditionalCaloGAN(load_geometry("calogan"))  # as published, widths 32, 32, 16, 8
>>> parameter_count(model.generator), parameter_count(model.discriminator)
(4222015, 1116850)
>>> narrow = {"widths": [24] * 4, "judge_widths": [16, 24, 32, 32]}  # the main recipes
>>> ours = {"seed": "impact", "output": "log", "response_width": 0.002, "informed_judge": True}
>>> model = ConditionalCaloGAN(load_geometry("calogan"), **narrow, **ours, batch_norm=False)
>>> parameter_count(model.generator), parameter_count(model.discriminator)
(104860, 556234)
>>> condition = torch.tensor([[65000.0, 10.0, -20.0, 0.1, 3.0]])
>>> model.eval().sample(condition, torch.zeros(1, model.noise_size)).shape
torch.Size([1, 504])
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from caloforge.errors import ModelError
from caloforge.geometry import Geometry
from caloforge.models.nonsaturating import (
    ADAM_DISCRIMINATOR,
    ADAM_GENERATOR,
    NonSaturatingGAN,
)
from caloforge.nn.blur import Blur
from caloforge.nn.impact import Attributes, AxisFeatures, Moments
from caloforge.nn.minibatch import MinibatchDiscrimination
from caloforge.nn.seeds import DenseSeed, Halo, ImpactSeed
from caloforge.nn.sparsity import occupancy, soft_occupancy
from caloforge.nn.spectral import spectral_norm
from caloforge.nn.streams import Inpainting, PaintStream, ReadStream, Resample, dense_stack
from caloforge.transforms import Transform
from caloforge.units import GEV

XI_WEIGHTS = {"x0": 0.1, "y0": 0.1, "theta": 0.1, "phi": 0.1}
LARGEST = {True: 16.0, False: 1e4}  # log(1 + E/t) or GeV of a cell: keeps every output finite

STEEP = 5.0  # factor on what a discriminator of slope 1 sees, so that small differences count

Widths = Annotated[Sequence[PositiveInt], Field(min_length=4)]
Kernel = Annotated[Sequence[PositiveInt], Field(min_length=2, max_length=2)]


class ConditionalCaloGAN(NonSaturatingGAN):
    """Non-saturating GAN with attributes; the defaults are the published form.

    Parameters
    ----------
    latent
        Z.
    seed
        How a stream begins. "dense": a dense layer of the latent numbers, multiplied by E/E_max as
        in the ancestor, and the attributes. "impact": maps of where each cell lies from the
        particle's axis, and a latent number or more for each cell; what remains of the latent
        numbers, with the attributes, modulates every block. Moving the impact then moves the
        shower by construction.
    seed_channels
        K of "dense".
    embedding
        Features that modulate the blocks of "impact", and from which the response is made.
    widths, judge_widths
        Channels of the blocks of each stream, four or more.
    judge_hidden
        Features of the discriminator.
    batch_norm
        In both networks; averaged weights (training.ema) need it off.
    output
        What an image holds: "linear" GeV, or "log": log(1 + E / cell_scale), in which the halo of
        a shower is as visible as its core. The discriminator then sees both.
    cell_scale
        MeV.
    response_width
        0: the total is the sum of the images, held by L_E. More: the images, each times a gain of
        its layer, are shares of a total that a head of its own draws, mean response times
        exp(response_width * its output); the width is that of the response of the particle.
    attention, soft_sparsity
        Off for ablations; without soft sparsity the discriminator sees the occupancy of Eq. 4.
    blur
        Kernel n x m of each layer, [1, 1] for none; an empty list for no blur anywhere.
    sparsity_threshold, sparsity_power
        t in MeV and alpha of soft sparsity.
    informed_judge
        The adversarial head also sees the condition, and barycentres (from the axis) and widths of
        each layer; Xi also sees the barycentres.
    position_width
        mm: what spread of the barycentres about the axis that head is to see well; a few in
        strips.
    spectral_judge
        Spectral normalisation (arXiv:1802.05957) of the discriminator but for Xi: it cannot run
        away from a generator that learns from few showers.
    xi_weights
        lambda of Eq. 3 for each attribute.
    xi_on_fakes
        Xi also learns on generated showers.
    energy_weight
        lambda_E, per GeV.
    label_flips
        Share of labels flipped for the discriminator.
    generator_steps
        Updates of the generator for one of the discriminator.
    generator_optimiser, discriminator_optimiser
        See `OptimiserSettings`.
    """

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        *,
        latent: PositiveInt = 1024,
        seed: Literal["dense", "impact"] = "dense",
        seed_channels: PositiveInt = 8,
        embedding: PositiveInt = 64,
        widths: Widths = (32, 32, 16, 8),
        judge_widths: Widths = (16, 32, 64, 64),
        judge_hidden: PositiveInt = 128,
        batch_norm: bool = True,
        output: Literal["linear", "log"] = "linear",
        cell_scale: PositiveFloat = 0.1,
        response_width: NonNegativeFloat = 0.0,
        attention: bool = True,
        blur: Sequence[Kernel] = ((1, 1), (3, 3), (3, 3)),
        soft_sparsity: bool = True,
        sparsity_threshold: PositiveFloat = 0.1,
        sparsity_power: PositiveFloat = 2.0,
        informed_judge: bool = False,
        position_width: PositiveFloat = 5.0,
        spectral_judge: bool = False,
        xi_weights: dict[str, NonNegativeFloat] = XI_WEIGHTS,
        xi_on_fakes: bool = False,
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
        super().__init__(geometry, transform, hyper, xi_weights, xi_on_fakes)
        self.generator = Generator(geometry, hyper)
        self.discriminator = Discriminator(geometry, hyper)


class Generator(nn.Module):
    """Condition (N, C), noise (N, Z) and scale (N, 1) in MeV to cells as fractions of scale."""

    layer: Tensor

    def __init__(self, geometry: Geometry, hyper: dict[str, Any]) -> None:
        super().__init__()
        layers, embedding = geometry.layers, hyper["embedding"]
        self.log, self.cell_scale = hyper["output"] == "log", hyper["cell_scale"]
        self.response_width = hyper["response_width"]
        layer_of_cell = torch.from_numpy(geometry.layer_of_cell)
        self.register_buffer("layer", layer_of_cell, persistent=False)
        self.seed: DenseSeed | ImpactSeed
        if hyper["seed"] == "impact":
            self.seed = ImpactSeed(geometry, hyper["latent"])
            self.halo = nn.ModuleList(Halo() for _ in layers)
        else:
            self.seed = DenseSeed(geometry, hyper["latent"], hyper["seed_channels"])
        self.embed: nn.Module | None = None
        if self.seed.modulates or self.response_width > 0:
            self.embed = dense_stack([self.seed.size, embedding, embedding])
        starts = (6.0, 1.0) if self.log else (0.1, 0.01)
        self.streams = nn.ModuleList(
            PaintStream(
                self.seed.channels,
                hyper["widths"],
                embedding if self.seed.modulates else 0,
                batch_norm=hyper["batch_norm"],
                starts=starts if self.seed.modulates else starts[:1],
            )
            for _ in layers
        )
        self.attention = hyper["attention"]
        if self.attention:
            self.carry = nn.ModuleList(Resample(a, b) for a, b in pairwise(layers))
            self.inpaint = nn.ModuleList(
                Inpainting(nn.Conv2d(2, 2, 3, padding=1)) for _ in layers[1:]
            )
        self.blur = nn.ModuleList(_blurs(hyper["blur"], len(layers)))
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
        gains: Tensor = self.gains(embedding).float().clamp(-20, 20).exp()
        mev = mev * gains[:, self.layer]
        # Beyond exp(8) no response is: unheard-of noise must not make an infinite shower.
        pull: Tensor = (self.response_width * self.response(embedding).float()).clamp(-8, 8)
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

    def __init__(self, geometry: Geometry, hyper: dict[str, Any]) -> None:
        super().__init__()
        self.slices, layers = geometry.slices, geometry.layers
        self.shapes = [layer.shape for layer in layers]
        self.log, self.cell_scale = hyper["output"] == "log", hyper["cell_scale"]
        self.soft, self.informed = hyper["soft_sparsity"], hyper["informed_judge"]
        self.threshold, self.power = hyper["sparsity_threshold"], hyper["sparsity_power"]
        self.width = hyper["response_width"] or 0.1
        self.position_width = hyper["position_width"]
        hidden, channels = hyper["judge_hidden"], 2 if self.log else 1
        streams = [
            ReadStream(channels, shape, hyper["judge_widths"], batch_norm=hyper["batch_norm"])
            for shape in self.shapes
        ]
        self.streams = nn.ModuleList(streams)
        self.trunk = dense_stack([sum(stream.size for stream in streams), hidden])
        self.alike = MinibatchDiscrimination(hidden)
        self.alike_sparsity = MinibatchDiscrimination(len(layers))
        n_judge = hidden + self.alike.features + self.alike_sparsity.features + 2 * len(layers) + 1
        n_xi = hidden
        self.features, self.moments = AxisFeatures(geometry), Moments(geometry)
        depths = [0.5 * sum(layer.z) if layer.z else 0.0 for layer in layers]
        self.register_buffer("depths", torch.tensor(depths), persistent=False)
        if self.informed:
            n_judge += self.features.size + 4 * len(layers)
            n_xi += 2 * len(layers)
        self.judge = nn.Sequential(*dense_stack([n_judge, hidden]), nn.Linear(hidden, 1))
        self.gain = 1.0
        if hyper["spectral_judge"]:
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
        seen = [
            trunk,
            self.alike(trunk),
            filled,
            self.alike_sparsity(filled),
            (energies / self.cell_scale).log1p() / 4,
            torch.asinh((total + 1e-6).log() / self.width),
        ]
        known = [trunk]
        if self.informed:
            centres, widths = self.moments(x)
            away = centres - self._axis_at(condition)
            seen += [self.features(condition), (away / self.position_width).asinh(), widths]
            known.append(centres / 60)
        numbers = self.gain * torch.cat(seen[1:], dim=1)
        return self.judge(torch.cat([trunk, numbers], dim=1)), self.xi(torch.cat(known, dim=1))

    def _axis_at(self, condition: Tensor) -> Tensor:
        """Where the particle's axis is in the middle of each layer, x of all before y, (N, 2L)."""
        impact, slope = self.features.axis(condition)
        return (impact[:, :, None] + slope[:, :, None] * self.depths).flatten(1)

    def _read(self, x: Tensor, mev: Tensor) -> list[Tensor]:
        if self.log:
            images = self.gain * torch.stack([(mev / self.cell_scale).log1p() / 4, 5 * x], dim=1)
        else:
            images = mev[:, None] / GEV
        return [
            stream(images[:, :, where].reshape(len(x), -1, *shape))
            for stream, where, shape in zip(self.streams, self.slices, self.shapes, strict=True)
        ]

    def _occupied(self, mev: Tensor) -> Tensor:
        return soft_occupancy(mev, self.threshold, self.power) if self.soft else occupancy(mev)
