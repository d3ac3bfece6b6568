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
>>> from caloforge.geometry import load_geometry
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
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from caloforge.errors import ModelError
from caloforge.geometry import Geometry
from caloforge.models.base import Batch, OptimiserSettings, Phase, Sampler, ShowerModel
from caloforge.nn.attention import SelfAttention
from caloforge.nn.beam import STATISTICS, Beam, shower_statistics
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
SLOPE = 0.2  # of the leaky ReLU
SCALES = (2, 1, 0, 0)  # of the generator's blocks: quarter, half, full, full resolution
Widths = Annotated[Sequence[PositiveInt], Field(min_length=4, max_length=4)]


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
            x = x * (x.square().mean(dim=(1, 2, 3), keepdim=True) + 1e-6).rsqrt()
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
        own = rest.to(x.dtype).reshape(noise.shape[0], self.cell_noise, *self.shapes[0])
        for k, scale in enumerate(SCALES):
            if k and scale != SCALES[k - 1]:
                height, width = self.shapes[scale]
                x = nn.functional.interpolate(x, scale_factor=2.0)[:, :, :height, :width]
            if k < 3:
                x = torch.cat([x, maps[scale], own] if k == 2 else [x, maps[scale]], dim=1)
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


class SAGAN(ShowerModel):
    """Self-attention GAN with a conditional critic; the defaults are the published settings.

    Parameters
    ----------
    latent
        Z without the noise of the cells.
    generator, critic
        Channels of the four blocks of either network.
    attention
        Whether both networks have self-attention, at half and at a quarter of the resolution.
    spectral
        Which networks are spectrally normalised: "both", "critic" or "none".
    loss
        "hinge" (Eq. 5), or "wasserstein" with a gradient penalty of weight `penalty`.
    critic_steps
        Critic updates for one generator update.
    gamma
        What the scale of attention starts from.
    pool
        See `SelfAttention`.
    maps
        Whether both networks see each cell's distance from the particle's line.
    cell_noise
        Standard normals for each cell beside the latent ones: scattered hits are then a matter of
        noise, not of inventing it.
    thresholds
        Energies in MeV. With any, the critic also sees `shower_statistics`.
    generator_optimiser, critic_optimiser
        See `OptimiserSettings`.
    """

    training_only = ("critic",)
    not_dense = "has two-dimensional convolutions and attention"
    default_transform = "log-energy"

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        *,
        latent: PositiveInt = 128,
        generator: Widths = (256, 128, 64, 64),
        critic: Widths = (64, 128, 256, 512),
        attention: bool = True,
        spectral: Literal["both", "critic", "none"] = "both",
        loss: Literal["hinge", "wasserstein"] = "hinge",
        penalty: NonNegativeFloat = 10.0,
        critic_steps: PositiveInt = 3,
        gamma: float = 0.0,
        pool: bool = False,
        maps: bool = False,
        cell_noise: NonNegativeInt = 0,
        thresholds: Sequence[PositiveFloat] = (),
        generator_optimiser: dict[str, Any] = ADAM_GENERATOR,
        critic_optimiser: dict[str, Any] = ADAM_CRITIC,
    ) -> None:
        hyper = {
            k: v
            for k, v in locals().items()
            if k not in ("self", "geometry", "transform", "__class__")
        }
        _check_geometry(geometry)
        super().__init__(geometry, transform or LogEnergy(geometry), hyper)
        self.latent, self.cell_noise, self.thresholds = latent, cell_noise, tuple(thresholds)
        self.loss, self.penalty, self.critic_steps = loss, penalty, critic_steps
        self.beam = Beam(geometry, maps)
        self.generator = Generator(self.beam, generator, latent, cell_noise)
        count = STATISTICS + len(self.thresholds) if self.thresholds else 0
        self.critic = Critic(self.beam, critic, count)
        if self.thresholds:
            self.joins_showers = "standardisation of the statistics"
        if attention:
            for network, widths, places in (
                (self.generator, generator, (0, 1)),
                (self.critic, critic, (1, 2)),
            ):
                for k in places:
                    network.attention[str(k)] = SelfAttention(widths[k], start=gamma, pool=pool)
        if spectral == "both":
            spectral_norm(self.generator, skip=Modulation)
        if spectral != "none":
            spectral_norm(self.critic)
        self.settings = {
            "generator": OptimiserSettings.of(generator_optimiser),
            "critic": OptimiserSettings.of(critic_optimiser),
        }

    @property
    def noise_size(self) -> int:
        """Z: latent numbers, then `cell_noise` for each cell."""
        return self.latent + self.cell_noise * self.geometry.n_cells

    def generate(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Log energies, (N, V), >= 0."""
        made: Tensor = self.generator(noise, condition, self.beam)
        return made

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        return self.transform.inverse(self.generate(condition, noise), condition)

    def core(self) -> nn.Module:
        """The sampler, with the normalised weights as plain ones and without the critic."""
        with torch.random.fork_rng(devices=[]):
            plain = SAGAN(self.geometry, self.transform, **{**self.hyper, "spectral": "none"})
        plain.generator.load_state_dict(plain_state(self.generator))
        del plain.critic
        return Sampler(plain.train(self.training))

    def phases(self) -> list[Phase]:
        """The critic `critic_steps` times, then the generator."""
        return [
            Phase(name, list(network.parameters()), loss, repeats, self.settings[name])
            for name, network, loss, repeats in (
                ("critic", self.critic, self.critic_loss, self.critic_steps),
                ("generator", self.generator, self.generator_loss, 1),
            )
        ]

    def scorer(self, batch: Batch, real: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
        """The critic as a function of showers and conditions alone; its statistics are
        standardised by those of the batch's real showers.
        """
        with torch.no_grad():
            own = self.statistics(real, batch.condition)
            mean = own.mean(dim=0)
            spread = (own - mean).square().mean(dim=0).sqrt().clamp(min=1e-3)

        def score(x: Tensor, condition: Tensor) -> Tensor:
            pulls = (self.statistics(x, condition) - mean) / spread
            found: Tensor = self.critic(x, condition, pulls, self.beam)
            return found

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


def normal(like: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Standard normals (N, size) beside the N rows of `like`."""
    return torch.randn(len(like), size, generator=rng, device=like.device)


def _check_geometry(geometry: Geometry) -> None:
    layer = geometry.layers[0]
    if geometry.n_layers != 1 or layer.kind != "grid" or min(layer.shape) < 8:
        shape = " x ".join(map(str, layer.shape))
        raise ModelError(
            f"Geometry '{geometry.name}' has {geometry.n_layers} layers, the first a "
            f"{layer.kind} of {shape} cells; expected one grid of at least 8 x 8 (such as lhcb)."
        )
