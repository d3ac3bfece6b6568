"""CaloShowerGAN: a Wasserstein GAN of dense layers for voxelised showers.

Reference: M. Faucci Giannelli, R. Zhang, "CaloShowerGAN, a generative adversarial network model
for fast calorimeter shower simulation", 2023, arXiv:2309.06515; talk at the CaloChallenge
workshop, Frascati, May 2023.

Differs from the paper:
- Energies below zero at the output are set to zero when sampling (`IncidentFraction.inverse`).
- `output_gain` scales the first outputs to the data.
- `output_activation` is an option. Paper and talk say that every layer has an activation and
  do not name the output's.

Shapes: condition (N, C), noise (N, latent), voxels (N, V). Generator latent + 1 -> `generator` ->
V, critic V + 1 -> `critic` -> 1; the extra input is the label log(E/Emin)/log(Emax/Emin).

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> photon = CaloShowerGAN(load_geometry("ds1-photons"))
>>> parameter_count(photon.generator), parameter_count(photon.critic)
(260504, 408113)
>>> photon.eval().sample(torch.tensor([[65536.0]]), torch.zeros(1, photon.noise_size)).shape
torch.Size([1, 368])
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.adversarial import normal, optimisers, take_turns
from caloforge.models.base import Batch, Phase, Refusal, ShowerModel, fractions_core
from caloforge.models.hyper import Hyper
from caloforge.nn.dense import activation, batch_norm, dense_stack, initialise
from caloforge.nn.dense_core import DenseCore, Variable
from caloforge.objectives import gradient_penalty, wasserstein_critic, wasserstein_generator
from caloforge.transforms import IncidentFraction, Transform

ADAM_GENERATOR = {"name": "adam", "lr": 1e-4, "betas": (0.5, 0.999)}
ADAM_CRITIC = {"name": "adam", "lr": 1e-4, "betas": (0.9, 0.999)}


@dataclass(frozen=True)
class CaloShowerGANHyper(Hyper):
    """Hyper-parameters of `CaloShowerGAN`; the defaults are the published photon model."""

    latent: PositiveInt = 100
    """How many standard-normal numbers one shower needs, Z."""
    generator: tuple[PositiveInt, ...] = (100, 200, 400)
    """Sizes of the generator's hidden layers."""
    critic: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (368, 368, 368)
    """Sizes of the critic's hidden layers, which are followed by ReLU."""
    critic_batch_norm: bool = False
    """Whether the critic's hidden layers have batch normalisation before their ReLU."""
    generator_batch_norm: bool = True
    """Whether the generator's hidden layers have batch normalisation."""
    activation: str = "swish"
    """Activation of the generator's hidden layers."""
    generator_init: str = "glorot-normal"
    """Rule by which the generator's first weights are drawn."""
    critic_init: str = "he-uniform"
    """Rule by which the critic's first weights are drawn."""
    output_batch_norm: bool = True
    """Whether the generator's last dense layer is followed by batch normalisation."""
    output_activation: str = "relu"
    """Activation of the generator's outputs."""
    output_gain: PositiveFloat = 1.0
    """Factor on the first outputs. Fractions of the incident energy are of order 0.01 a voxel; a
    generator that starts at order 1 first has to come down to that scale."""
    penalty: NonNegativeFloat = 3.0
    """Weight lambda of the gradient penalty."""
    critic_steps: PositiveInt = 8
    """Updates of the critic for one of the generator, D/G."""
    label_range: tuple[PositiveFloat, PositiveFloat] | None = None
    """Energies Emin and Emax of the label in MeV; without them the range of the geometry."""
    generator_optimiser: dict[str, Any] = field(default_factory=ADAM_GENERATOR.copy)
    """How the generator is optimised, see `OptimiserSettings`."""
    critic_optimiser: dict[str, Any] = field(default_factory=ADAM_CRITIC.copy)
    """How the critic is optimised, see `OptimiserSettings`."""


class CaloShowerGAN(ShowerModel):
    """WGAN-GP of dense layers."""

    hyper_class = CaloShowerGANHyper
    training_only = ("critic",)
    log_range: Tensor

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: CaloShowerGANHyper | None = None,
    ) -> None:
        hyper = hyper or CaloShowerGANHyper()
        super().__init__(geometry, transform or IncidentFraction(geometry, 0.0, 0), hyper)
        voxels = self.transform.size()
        self.latent, self.penalty, self.critic_steps = (
            hyper.latent,
            hyper.penalty,
            hyper.critic_steps,
        )
        energy = geometry.conditions[geometry.column_of("energy")]
        low, high = hyper.label_range or (energy.low, energy.high)
        if not low < high:
            raise ModelError(f"Got the label_range [{low}, {high}] MeV; expected low < high.")
        self.register_buffer(
            "log_range", torch.tensor([low, high], dtype=torch.float64).log().float()
        )
        self.generator = _generator(voxels, hyper)
        initialise(self.generator, hyper.generator_init)
        _scale_output(self.generator, hyper.output_gain)
        self.critic = nn.Sequential(
            *dense_stack([voxels + 1, *hyper.critic], "relu", normalise=hyper.critic_batch_norm),
            nn.Linear(hyper.critic[-1], 1),
        )
        initialise(self.critic, hyper.critic_init)
        self.settings = optimisers(hyper, "generator", "critic")

    @property
    def noise_size(self) -> int:
        """Z, the latent size."""
        return self.latent

    def label(self, condition: Tensor) -> Tensor:
        """log(E/Emin)/log(Emax/Emin), (N, 1): 0 and 1 at the ends of the label range."""
        low, high = self.log_range[0], self.log_range[1]
        return (self.incident(condition).log() - low) / (high - low)

    def generate(self, label: Tensor, noise: Tensor) -> Tensor:
        """Voxels as fractions of the incident energy, (N, V), before anything is set to zero."""
        return self.generator(torch.cat([0.5 + 0.5 * noise, label], dim=1))

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        return self.transform.inverse(self.generate(self.label(condition), noise), condition)

    def dense_core(self) -> DenseCore | Refusal:
        """The generator: noise N(0.5, 0.5) and the label to fractions of the incident energy."""
        low, high = self.log_range.double().tolist()
        energy = self.geometry.column_of("energy")
        label = Variable("log_energy", energy, "log", -low, 1 / (high - low))
        return fractions_core(
            self.generator, self.latent, (label,), self.transform, noise=(1.0, 0.5)
        )

    def phases(self) -> list[Phase]:
        """The critic `critic_steps` times, then the generator."""
        return take_turns(self, self.settings, {"critic": self.critic_steps, "generator": 1})

    def critic_loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """E[D(fake)] - E[D(real)] + lambda GP (arXiv:1704.00028, Eq. 3)."""
        real, label = self.transform(batch.energies, batch.condition), self.label(batch.condition)
        with torch.no_grad():
            fake = self.generate(label, normal(real, self.latent, rng)).to(real.dtype)
        scores = self.critic(
            torch.cat([torch.cat([real, fake]), torch.cat([label, label])], dim=1)
        )
        distance = wasserstein_critic(*scores.chunk(2))
        mix = torch.rand(len(real), 1, generator=rng, device=real.device)
        penalty = gradient_penalty(
            lambda x: self.critic(torch.cat([x, label], dim=1)), real, fake, mix
        )
        loss = distance + self.penalty * penalty
        return loss, {"wasserstein": -distance.detach(), "penalty": penalty.detach()}

    def generator_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-E[D(fake)], at the conditions of the batch."""
        label = self.label(batch.condition)
        fake = self.generate(label, normal(label, self.latent, rng))
        return wasserstein_generator(self.critic(torch.cat([fake, label], dim=1))), {}


def _generator(voxels: int, hyper: CaloShowerGANHyper) -> nn.Sequential:
    """Noise and label, (N, Z + 1), to voxels as fractions of the incident energy, (N, V)."""
    sizes = [hyper.latent + 1, *hyper.generator]
    hidden = dense_stack(sizes, hyper.activation, normalise=hyper.generator_batch_norm)
    last: list[nn.Module] = [nn.Linear(sizes[-1], voxels)]
    if hyper.output_batch_norm:
        last.append(batch_norm(voxels))
    return nn.Sequential(*hidden, *last, activation(hyper.output_activation))


def _scale_output(generator: nn.Sequential, gain: float) -> None:
    """Multiply what enters the output activation by `gain`, in place."""
    last = generator[-2]
    if isinstance(last, nn.Linear | nn.BatchNorm1d):
        with torch.no_grad():
            last.weight.mul_(gain)
