"""LHCb SAGAN: a conditional convolutional GAN with self-attention for one layer of grid cells.

Reference: F. Ratnikov, A. Rogachev, "Fast simulation of the electromagnetic calorimeter response
using Self-Attention Generative Adversarial Networks", EPJ Web Conf. 251 (2021) 03043,
doi:10.1051/epjconf/202125103043; self-attention: H. Zhang et al., arXiv:1805.08318.

Differs from the paper:
- Channels, kernels, latent size and Adam's betas are ours (the betas arXiv:1805.08318's): the
  paper gives its architecture in a picture alone. Either network has two self-attention layers,
  at half and at a quarter of the resolution (15 x 15 and 8 x 8 of 30 x 30 cells).
- The condition reaches each block of the generator as gain and shift of its channels, the critic
  by its first block and a projection.
- Spectral norm is exact in each forward (`SpectralNorm`), and leaves out those gains and shifts.
- `maps`, `cell_noise`, `thresholds` and `pool` are options, off by default: what lets a small
  network learn within an hour on a CPU.

Shapes: condition (N, C), noise (N, latent + cell_noise V), cells (N, V); blocks of the generator
at 8 x 8, 15 x 15, 30 x 30 and 30 x 30, of the critic at 30 x 30, 15 x 15, 8 x 8 and 4 x 4 cells.

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> published = SAGAN(load_geometry("lhcb"))
>>> parameter_count(published.generator), parameter_count(published.critic)
(5751893, 1596483)
>>> condition = torch.tensor([[500.0, -100.0, 20000.0, 12.0, 30.0]])
>>> published.eval().sample(condition, torch.zeros(1, published.noise_size)).shape
torch.Size([1, 900])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.adversarial import normal, optimisers, take_turns
from caloforge.models.base import Batch, Phase, Sampler, ShowerModel
from caloforge.models.hyper import Hyper
from caloforge.models.sagan.attention import SelfAttention
from caloforge.models.sagan.beam import STATISTICS, Beam, shower_statistics
from caloforge.nn.spectral import plain_state, spectral_norm
from caloforge.objectives import (
    gradient_penalty,
    hinge_critic,
    wasserstein_critic,
    wasserstein_generator,
)
from caloforge.transforms import LogEnergy, Transform

ADAM_GENERATOR = {"name": "adam", "lr": 1e-4, "betas": (0.0, 0.9)}
ADAM_CRITIC = {"name": "adam", "lr": 4e-4, "betas": (0.0, 0.9)}
SLOPE = 0.2  # slope of the leaky ReLU below zero
LEAST_SQUARE = 1e-6  # mean square of an image: keeps its inverse finite
LEAST_SPREAD = 1e-3  # of a statistic over a batch: one that never varies is not blown up
# Numbers of the blocks that attention follows, at a quarter and at half of the resolution.
GENERATOR_ATTENTION, CRITIC_ATTENTION = (0, 1), (1, 2)
SCALES = (2, 1, 0, 0)  # resolution of the generator's blocks: quarter, half, full, full
Widths = tuple[PositiveInt, PositiveInt, PositiveInt, PositiveInt]


class Modulation(nn.Module):
    """(1 + gain) x + shift per channel, both linear in a context (N, K): how condition and latent
    reach every block (FiLM, E. Perez et al., arXiv:1709.07871).

    With `normalise` x is divided by its root mean square over the whole image first: spectrally
    normalised layers make what passes them ever smaller.
    """

    def __init__(self, context: int, channels: int, *, normalise: bool) -> None:
        super().__init__()
        self.normalise = normalise
        self.gain, self.shift = nn.Linear(context, channels), nn.Linear(context, channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Modulated image."""
        if self.normalise:
            x = x * (x.square().mean(dim=(1, 2, 3), keepdim=True) + LEAST_SQUARE).rsqrt()
        gain, shift = self.gain(context), self.shift(context)
        return torch.addcmul(x + shift[:, :, None, None], x, gain[:, :, None, None])


class Generator(nn.Module):
    """Noise and condition to log energies.

    Four blocks of one 3x3 convolution at a quarter, half, full and full resolution. The output
    passes a ReLU: most cells of a shower are exactly empty.
    """

    def __init__(self, beam: Beam, widths: Sequence[int], latent: int, cell_noise: int) -> None:
        super().__init__()
        self.shapes = beam.shapes
        quarter = beam.shapes[SCALES[0]]
        self.latent, self.cell_noise = latent, cell_noise
        self.embed = nn.Sequential(
            nn.Linear(latent + beam.size, widths[0]),
            nn.LeakyReLU(SLOPE),
            nn.Linear(widths[0], widths[0]),
            nn.LeakyReLU(SLOPE),
        )
        context = widths[0] + beam.size
        self.start = nn.Linear(context, widths[0] * quarter[0] * quarter[1])
        added = [beam.channels, beam.channels, beam.channels + cell_noise, 0]
        self.blocks = nn.ModuleList(
            nn.Conv2d(a + more, b, 3, padding=1)
            for a, b, more in zip([widths[0], *widths], widths, added, strict=False)
        )
        self.modulations = nn.ModuleList(
            Modulation(context, width, normalise=True) for width in widths
        )
        self.attention = nn.ModuleDict()
        self.leave = nn.Conv2d(widths[-1], 1, 3, padding=1)
        self.last = Modulation(context, 1, normalise=False)

    def forward(self, noise: Tensor, condition: Tensor, beam: Beam) -> Tensor:
        """Log energies (N, V) from noise (N, Z)."""
        latent, rest = noise[:, : self.latent], noise[:, self.latent :]
        features = beam(condition)
        context = torch.cat([self.embed(torch.cat([latent, features], dim=1)), features], dim=1)
        x = self.start(context).reshape(noise.shape[0], -1, *self.shapes[SCALES[0]])
        maps = [beam.maps(condition, scale).to(x.dtype) for scale in range(len(self.shapes))]
        cell_noise = rest.to(x.dtype).reshape(noise.shape[0], self.cell_noise, *self.shapes[0])
        for k, scale in enumerate(SCALES):
            if k and scale != SCALES[k - 1]:
                height, width = self.shapes[scale]
                x = nn.functional.interpolate(x, scale_factor=2.0)[:, :, :height, :width]
            if k < 3:
                x = torch.cat([x, maps[scale], cell_noise] if k == 2 else [x, maps[scale]], dim=1)
            x = self.modulations[k](self.blocks[k](x), context)
            x = nn.functional.leaky_relu(x, SLOPE)
            if str(k) in self.attention:
                x = self.attention[str(k)](x)
        with torch.autocast(x.device.type, enabled=False):
            # 16 bits would round the energy of a cell by some percent.
            return torch.relu(self.last(self.leave(x.float()), context.float())).flatten(1)


class Critic(nn.Module):
    """Log energies and condition to a score (N, 1).

    Four blocks of one 3x3 convolution, the last three with stride 2, then a sum over positions
    and a projection on the condition (T. Miyato, M. Koyama, arXiv:1802.05637, Eq. 3). What
    `shower_statistics` give, if anything, passes a small dense network that adds to the score.
    """

    def __init__(self, beam: Beam, widths: Sequence[int], statistics: int) -> None:
        super().__init__()
        self.shape = beam.shapes[0]
        self.blocks = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=stride, padding=1)
            for a, b, stride in zip(
                [1 + beam.channels, *widths], widths, (1, 2, 2, 2), strict=False
            )
        )
        self.tell = nn.ModuleList(nn.Linear(beam.size, width) for width in widths[:1])
        self.attention = nn.ModuleDict()
        last = widths[-1]
        self.score = nn.Linear(last, 1)
        self.project = nn.Linear(beam.size, last)
        self.statistics = (
            nn.Sequential(
                nn.Linear(statistics + beam.size, last),
                nn.LeakyReLU(SLOPE),
                nn.Linear(last, last),
                nn.LeakyReLU(SLOPE),
                nn.Linear(last, 1),
            )
            if statistics
            else None
        )

    def forward(self, x: Tensor, condition: Tensor, statistics: Tensor, beam: Beam) -> Tensor:
        """Score, (N, 1), of log energies (N, V) with `statistics` (N, S)."""
        features = beam(condition)
        image = x.reshape(len(x), 1, *self.shape)
        h = torch.cat([image, beam.maps(condition, 0)], dim=1)
        for k, block in enumerate(self.blocks):
            h = block(h)
            if k == 0:
                h = h + self.tell[0](features)[:, :, None, None]
            h = nn.functional.leaky_relu(h, SLOPE)
            if str(k) in self.attention:
                h = self.attention[str(k)](h)
        h = h.sum(dim=(2, 3))
        score: Tensor = self.score(h) + (h * self.project(features)).sum(dim=1, keepdim=True)
        if self.statistics is not None:
            score = score + self.statistics(torch.cat([statistics, features], dim=1))
        return score.float()


@dataclass(frozen=True)
class SAGANHyper(Hyper):
    """Hyper-parameters of `SAGAN`; the defaults are the published settings."""

    latent: PositiveInt = 128
    """How many standard-normal numbers one shower needs, without the noise of the cells."""
    generator: Widths = (256, 128, 64, 64)
    """Channels of the generator's four blocks."""
    critic: Widths = (64, 128, 256, 512)
    """Channels of the critic's four blocks."""
    attention: bool = True
    """Whether both networks have self-attention, at half and at a quarter of the resolution."""
    spectral: Literal["both", "critic", "none"] = "both"
    """Which networks are spectrally normalised."""
    loss: Literal["hinge", "wasserstein"] = "hinge"
    """"hinge" (Eq. 5), or "wasserstein" with a gradient penalty of weight `penalty`."""
    penalty: NonNegativeFloat = 10.0
    """Weight lambda of the gradient penalty."""
    critic_steps: PositiveInt = 3
    """Updates of the critic for one of the generator."""
    gamma: float = 0.0
    """Value that the scale of attention starts from."""
    pool: bool = False
    """Whether attention looks at an image pooled by 2 x 2, see `SelfAttention`."""
    maps: bool = False
    """Whether both networks see each cell's distance from the particle's line."""
    cell_noise: NonNegativeInt = 0
    """How many standard-normal numbers each cell has beside the latent ones: scattered hits are
    then a matter of noise, and need not be invented."""
    thresholds: tuple[PositiveFloat, ...] = ()
    """Energies in MeV. With any, the critic also sees `shower_statistics`."""
    generator_optimiser: dict[str, Any] = field(default_factory=ADAM_GENERATOR.copy)
    """How the generator is optimised, see `OptimiserSettings`."""
    critic_optimiser: dict[str, Any] = field(default_factory=ADAM_CRITIC.copy)
    """How the critic is optimised, see `OptimiserSettings`."""


class SAGAN(ShowerModel):
    """Self-attention GAN with a conditional critic."""

    hyper_class = SAGANHyper
    training_only = ("critic",)
    not_dense = "has two-dimensional convolutions and attention"
    default_transform = "log-energy"
    hyper: SAGANHyper

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: SAGANHyper | None = None,
    ) -> None:
        hyper = hyper or SAGANHyper()
        _check_geometry(geometry)
        super().__init__(geometry, transform or LogEnergy(geometry), hyper)
        self.latent, self.cell_noise = hyper.latent, hyper.cell_noise
        self.thresholds, self.loss = hyper.thresholds, hyper.loss
        self.penalty, self.critic_steps = hyper.penalty, hyper.critic_steps
        self.beam = Beam(geometry, hyper.maps)
        self.generator = Generator(self.beam, hyper.generator, hyper.latent, hyper.cell_noise)
        count = STATISTICS + len(self.thresholds) if self.thresholds else 0
        self.critic = Critic(self.beam, hyper.critic, count)
        if self.thresholds:
            self.joins_showers = "standardisation of the statistics"
        if hyper.attention:
            for network, widths, places in (
                (self.generator, hyper.generator, GENERATOR_ATTENTION),
                (self.critic, hyper.critic, CRITIC_ATTENTION),
            ):
                for k in places:
                    network.attention[str(k)] = SelfAttention(
                        widths[k], start=hyper.gamma, pool=hyper.pool
                    )
        if hyper.spectral == "both":
            spectral_norm(self.generator, skip=Modulation)
        if hyper.spectral != "none":
            spectral_norm(self.critic)
        self.settings = optimisers(hyper, "generator", "critic")

    @property
    def noise_size(self) -> int:
        """Z: latent numbers, then `cell_noise` for each cell."""
        return self.latent + self.cell_noise * self.geometry.n_cells

    def generate(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Log energies, (N, V), >= 0."""
        logs: Tensor = self.generator(noise, condition, self.beam)
        return logs

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        return self.transform.inverse(self.generate(condition, noise), condition)

    def core(self) -> nn.Module:
        """The sampler, with the normalised weights as plain ones and without the critic."""
        with torch.random.fork_rng(devices=[]):
            hyper = replace(self.hyper, spectral="none")
            plain = SAGAN(self.geometry, self.transform, hyper)
        plain.generator.load_state_dict(plain_state(self.generator))
        del plain.critic
        return Sampler(plain.train(self.training))

    def phases(self) -> list[Phase]:
        """The critic `critic_steps` times, then the generator."""
        return take_turns(self, self.settings, {"critic": self.critic_steps, "generator": 1})

    def scorer(self, batch: Batch, real: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The critic as a function of showers and conditions alone; its statistics are
        standardised by those of the batch's real showers.
        """
        with torch.no_grad():
            on_real = self.statistics(real, batch.condition)
            mean = on_real.mean(dim=0)
            spread = (on_real - mean).square().mean(dim=0).sqrt().clamp(min=LEAST_SPREAD)

        def score(x: Tensor, condition: Tensor) -> Tensor:
            pulls = (self.statistics(x, condition) - mean) / spread
            score_of_x: Tensor = self.critic(x, condition, pulls, self.beam)
            return score_of_x

        return score

    def statistics(self, x: Tensor, condition: Tensor) -> Tensor:
        """`shower_statistics` of log energies (N, V); none, (N, 0), without thresholds."""
        if not self.thresholds:
            return x[:, :0]
        with torch.autocast(x.device.type, enabled=False):
            energies = x.float().clamp(max=LogEnergy.LARGEST).expm1()
            return shower_statistics(
                energies, self.incident(condition), condition, self.beam, self.thresholds
            )

    def critic_loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Eq. 5, first line; or E[D(fake)] - E[D(real)] + lambda GP (arXiv:1704.00028, Eq. 3)."""
        condition = batch.condition
        real = self.transform(batch.energies, condition)
        with torch.no_grad():
            fake = self.generate(condition, normal(real, self.noise_size, rng))
        score = self.scorer(batch, real)
        on_real, on_fake = score(torch.cat([real, fake]), condition.repeat(2, 1)).chunk(2)
        logged = {"distance": (on_real.mean() - on_fake.mean()).detach()}
        if self.loss == "hinge":
            return hinge_critic(on_real, on_fake), logged
        mix = torch.rand(len(real), 1, generator=rng, device=real.device)
        penalty = gradient_penalty(lambda x: score(x, condition), real, fake, mix)
        loss = wasserstein_critic(on_real, on_fake) + self.penalty * penalty
        return loss, {**logged, "penalty": penalty.detach()}

    def generator_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-E[D(fake)] at the conditions of the batch: Eq. 5, second line."""
        real = self.transform(batch.energies, batch.condition)
        fake = self.generate(batch.condition, normal(real, self.noise_size, rng))
        gammas = {
            f"gamma{k}": layer.state_dict()["gamma"][0].clone()
            for k, layer in self.generator.attention.items()
        }
        return wasserstein_generator(self.scorer(batch, real)(fake, batch.condition)), gammas


def _check_geometry(geometry: Geometry) -> None:
    layer = geometry.layers[0]
    if geometry.n_layers != 1 or layer.kind != "grid" or min(layer.shape) < 8:
        shape = " x ".join(map(str, layer.shape))
        raise ModelError(
            f"Geometry '{geometry.name}' has {geometry.n_layers} layers, the first a "
            f"{layer.kind} of {shape} cells; expected one grid of at least 8 x 8 (such as lhcb)."
        )
