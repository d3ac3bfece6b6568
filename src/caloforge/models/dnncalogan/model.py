"""DNNCaloGAN: a dense Wasserstein GAN against two critics, one of which watches the total energy.

Reference: A. Ghosh, D. Rousseau, "Generative Adversarial Networks for Fast Shower Simulation in
ATLAS", IN2P3/IRFU Machine Learning Workshop, January 2019; ATL-SOFT-PUB-2018-001.

Differs from the paper:
- Hidden sizes are ours: the talk asks for a generator deeper than its critics and gives nothing
  but the size of its file, 5 MB of JSON.
- The second critic is shown the total energy as a pull, (E_total / E_inc - 1) sqrt(E_inc / GeV) /
  `resolution`: of order one at every energy (with no penalty to hold it, a critic would otherwise
  be as steep as its scale). `resolution` defaults to the 10 % that the talk quotes.
- `output_gain` scales the first outputs to the data; the generator's rates in `reversal` are ours.
- A critic may watch further observables (`watched.OBSERVABLES`), or these alone.

Shapes: condition (N, C), noise (N, latent), cells (N, V), features of the condition (N, F),
observables (N, K). Generator latent + F -> `generator` -> V; critic V + K + F -> `hidden` -> 1.

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.models.base import parameter_count
>>> published = DNNCaloGAN(load_geometry("atlas-cells"))
>>> parameter_count(published.generator), [parameter_count(c) for c in published.critics]
(410895, [202497, 202753])
>>> condition = torch.tensor([[16384.0, 5.0, -3.0, 2.0, 1.0]])
>>> published.eval().sample(condition, torch.zeros(1, published.noise_size)).shape
torch.Size([1, 266])
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.adversarial import normal, optimisers
from caloforge.models.base import Batch, Phase, Refusal, ShowerModel, Source, fractions_core
from caloforge.models.dnncalogan.watched import Watched
from caloforge.models.hyper import Hyper
from caloforge.nn.conditions import ConditionFeatures
from caloforge.nn.dense import activation, dense_stack, initialise
from caloforge.nn.dense_core import DenseCore
from caloforge.nn.minibatch import MinibatchDiscrimination
from caloforge.objectives import (
    reverse_gradient,
    slope_penalties,
    wasserstein_critic,
    wasserstein_generator,
)
from caloforge.transforms import IncidentFraction, Transform

ADAM = {"name": "adam", "lr": 5e-5, "betas": (0.5, 0.5)}
TWO_CRITICS: tuple[dict[str, Any], ...] = (
    {"penalty": 10.0},
    {"penalty": 10.0, "observables": ["total"], "observables_penalty": 0.0},
)
MINIBATCH_DIMS = 10  # how long each similarity of minibatch discrimination is before the distance
# Where the generator's conditions come from, in the words of the talk and of `Phase.source`.
SOURCES: dict[str, Source] = {"whole-set": "all", "last-chunk": "step", "last-batch": "last"}


@dataclass(frozen=True)
class CriticSettings(Hyper):
    """What one critic is and sees."""

    what = "setting of a critic"

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (256, 256, 256)
    """Sizes of its hidden layers."""
    activation: str = "leaky-relu"
    """Activation of its hidden layers."""
    penalty: NonNegativeFloat = 10.0
    """Weight lambda of the gradient penalty on the cells."""
    cells: bool = True
    """Whether it sees the cells; without them its observables are all it knows of a shower."""
    observables: tuple[str, ...] = ()
    """What it watches beside the cells, see `caloforge.models.dnncalogan.watched`."""
    observables_penalty: NonNegativeFloat = 0.0
    """Weight lambda of a gradient penalty on the observables, where they are summed outside."""
    sum: Literal["outside", "inside"] = "outside"
    """"outside": the observables are inputs of their own, through which the penalty on the cells
    does not look. "inside": they are part of the network, and penalised with the cells."""
    minibatch: NonNegativeInt = 0
    """Number of similarities to the other showers of the batch that its last layer sees, each of
    MINIBATCH_DIMS numbers; 0 is no minibatch discrimination."""
    weight: PositiveFloat = 1.0
    """Weight of its verdict in what the generator minimises."""
    lr: PositiveFloat | None = None
    """Its learning rate; without one it takes that of `critic_optimiser`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cells and (self.sum == "inside" or not self.observables):
            raise ModelError(
                f"Got the critic {self.to_dict()}; without cells it is expected to watch "
                'observables that are summed outside: give observables, and no sum = "inside".'
            )


@dataclass(frozen=True)
class DNNCaloGANHyper(Hyper):
    """Hyper-parameters of `DNNCaloGAN`."""

    latent: PositiveInt = 300
    """How many standard-normal numbers one shower needs, Z."""
    generator: Annotated[tuple[PositiveInt, ...], Field(min_length=5)] = (256,) * 5
    """Sizes of the generator's hidden layers, five or more."""
    activation: str = "trainable-swish"
    """Activation of the generator's hidden layers."""
    output_activation: str = "relu"
    """Activation of the cells: "relu" makes exact zeros, "softplus" washes them out."""
    output_gain: PositiveFloat = 1.0
    """Factor on the first outputs, which brings them to the scale of the data."""
    critics: Annotated[tuple[dict[str, Any], ...], Field(min_length=1)] = TWO_CRITICS
    """A table for each critic, see `CriticSettings`."""
    critic_steps: PositiveInt = 5
    """Updates of each critic for one of the generator, D/G."""
    generator_conditions: Literal["whole-set", "last-chunk", "last-batch"] = "whole-set"
    """At which conditions the generator is trained: drawn from the "whole-set", from the
    "last-chunk" of the critics' batches, or those of the "last-batch"."""
    training: Literal["alternate", "reversal"] = "alternate"
    """"alternate": critics and generator take turns. "reversal": all together, in one backward
    pass with the gradient reversed between them, each at its own learning rate; `critic_steps` and
    `generator_conditions` play no part then."""
    resolution: PositiveFloat = 0.1
    """Energy resolution at 1 GeV that the pull of the total energy is measured in; the 10 % of the
    talk."""
    generator_optimiser: dict[str, Any] = field(default_factory=ADAM.copy)
    """How the generator is optimised, see `OptimiserSettings`; with "reversal" all players."""
    critic_optimiser: dict[str, Any] = field(default_factory=ADAM.copy)
    """How the critics are optimised; with "reversal" its learning rate alone counts."""


class DenseCritic(nn.Module):
    """Cells (N, V), observables (N, K) and features (N, F) to a score (N, 1)."""

    def __init__(
        self, cells: int, features: int, watched: Watched, settings: CriticSettings
    ) -> None:
        super().__init__()
        self.settings, self.watched = settings, watched
        sizes = [cells * settings.cells + watched.size() + features, *settings.hidden]
        last = settings.hidden[-1]
        self.network = nn.Sequential(
            *dense_stack(sizes, settings.activation), nn.Linear(last + settings.minibatch, 1)
        )
        initialise(self.network, "he-uniform")
        self.minibatch = (
            MinibatchDiscrimination(last, settings.minibatch, MINIBATCH_DIMS)
            if settings.minibatch
            else None
        )

    def forward(
        self, x: Tensor, observables: Tensor, features: Tensor, batches: int = 1
    ) -> Tensor:
        """The score of each shower, (N, 1). N showers are `batches` batches, one after another:
        minibatch discrimination compares the showers within each.
        """
        seen = [x, observables, features] if self.settings.cells else [observables, features]
        hidden = torch.cat(seen, dim=1)
        *layers, last = self.network
        for layer in layers:
            hidden = layer(hidden)
        if self.minibatch is not None:
            alike = [self.minibatch(part) for part in hidden.chunk(batches)]
            hidden = torch.cat([hidden, torch.cat(alike)], dim=1)
        score: Tensor = last(hidden)
        return score


class DNNCaloGAN(ShowerModel):
    """WGAN-GP of dense layers with one critic or several."""

    hyper_class = DNNCaloGANHyper
    training_only = ("critics",)

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: DNNCaloGANHyper | None = None,
    ) -> None:
        hyper = hyper or DNNCaloGANHyper()
        super().__init__(geometry, transform or IncidentFraction(geometry, 0.0, 0), hyper)
        self.latent, self.critic_steps = hyper.latent, hyper.critic_steps
        self.training_mode = hyper.training
        self.source = SOURCES[hyper.generator_conditions]
        self.features = ConditionFeatures(geometry, one_hot=True)
        size, features = self.transform.size(), self.features.size
        self.generator = _generator(features, size, hyper)
        settings = [CriticSettings.of(critic) for critic in hyper.critics]
        self.critics = nn.ModuleList(
            DenseCritic(size, features, Watched(geometry, s.observables, hyper.resolution), s)
            for s in settings
        )
        self.settings = optimisers(hyper, "generator", "critic")

    @property
    def noise_size(self) -> int:
        """Z, the latent size."""
        return self.latent

    def dense_critics(self) -> list[DenseCritic]:
        """The critics."""
        return [critic for critic in self.critics if isinstance(critic, DenseCritic)]

    def generate(self, features: Tensor, noise: Tensor) -> Tensor:
        """Cells in model space, (N, V), from features (N, F) and noise (N, Z)."""
        cells: Tensor = self.generator(torch.cat([noise, features], dim=1))
        return cells

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        x = self.generate(self.features(condition), noise)
        return self.transform.inverse(x, condition)

    def dense_core(self) -> DenseCore | Refusal:
        """The generator: noise, log energy, impact and codes to fractions of the incident
        energy.
        """
        variables = self.features.variables()
        return fractions_core(self.generator, self.latent, variables, self.transform)

    def phases(self) -> list[Phase]:
        """Each critic `critic_steps` times, then the generator; or all of them at once."""
        generator = list(self.generator.parameters())
        optimiser, rate = self.settings["generator"], self.settings["critic"].lr
        rates = [critic.settings.lr or rate for critic in self.dense_critics()]
        if self.training_mode == "reversal":
            parameters, each = generator, [optimiser.lr] * len(generator)
            for critic, lr in zip(self.dense_critics(), rates, strict=True):
                parameters = [*parameters, *critic.parameters()]
                each = [*each, *[lr] * len(list(critic.parameters()))]
            return [
                Phase("players", parameters, self.reversal_loss, 1, optimiser, rates=tuple(each))
            ]
        phases = []
        for number, critic in enumerate(self.dense_critics()):
            weights = list(critic.parameters())
            phases.append(
                Phase(
                    f"critic{number + 1}",
                    weights,
                    _Loss(self, critic),
                    self.critic_steps,
                    self.settings["critic"],
                    rates=(rates[number],) * len(weights),
                )
            )
        return [
            *phases,
            Phase("generator", generator, self.generator_loss, 1, optimiser, source=self.source),
        ]

    def watch(self, critic: DenseCritic, x: Tensor, condition: Tensor) -> Tensor:
        """The observables of that critic from cells in model space, (N, K)."""
        return critic.watched(self.transform.inverse(x, condition), condition)

    def score(self, critic: DenseCritic, x: Tensor, condition: Tensor) -> Tensor:
        """Verdict on cells in model space, with every gradient: what the generator learns from."""
        return critic(x, self.watch(critic, x, condition), self.features(condition))

    def penalty(
        self, critic: DenseCritic, real: Tensor, fake: Tensor, condition: Tensor, mix: Tensor
    ) -> Tensor:
        """Weighted gradient penalties of a critic between `real` and `fake` (N, V), at positions
        `mix` (N, 1).

        Observables summed outside are independent inputs, with a stop of the gradient towards the
        cells and a penalty of their own.
        """
        settings = critic.settings
        between = torch.lerp(fake, real, mix).requires_grad_(settings.cells)
        if settings.sum == "inside":
            score = self.score(critic, between, condition)
            return settings.penalty * slope_penalties(score, [between])[0]
        ends = [self.watch(critic, x, condition).detach() for x in (fake, real)]
        watched = torch.lerp(ends[0], ends[1], mix).requires_grad_(
            settings.observables_penalty > 0
        )
        score = critic(between, watched, self.features(condition))
        both = ((settings.penalty, between), (settings.observables_penalty, watched))
        held = [(weight, x) for weight, x in both if x.requires_grad]
        if not held:
            return score.new_zeros(())
        slopes = slope_penalties(score, [x for _, x in held])
        return torch.stack([w * slope for (w, _), slope in zip(held, slopes, strict=True)]).sum()

    def critic_loss(
        self, critic: DenseCritic, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """E[D(fake)] - E[D(real)] + lambda GP (arXiv:1704.00028, Eq. 3)."""
        condition = batch.condition
        real = self.transform(batch.energies, condition)
        with torch.no_grad():
            fake = self._fakes(condition, rng).to(real.dtype)
            both, twice = torch.cat([real, fake]), condition.repeat(2, 1)
            watched = self.watch(critic, both, twice)
        on_real, on_fake = critic(both, watched, self.features(twice), batches=2).chunk(2)
        distance = wasserstein_critic(on_real, on_fake)
        mix = torch.rand(len(real), 1, generator=rng, device=real.device)
        penalty = self.penalty(critic, real, fake, condition, mix)
        logged = {"wasserstein": -distance.detach(), "penalty": penalty.detach()}
        return distance + penalty, logged

    def generator_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted sum of -E[D(fake)] over the critics, at the conditions of the batch."""
        fake = self._fakes(batch.condition, rng)
        losses = [
            critic.settings.weight
            * wasserstein_generator(self.score(critic, fake, batch.condition))
            for critic in self.dense_critics()
        ]
        return torch.stack(losses).sum(), {}

    def reversal_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The critics' losses, of which the generator sees the opposite."""
        condition = batch.condition
        real = self.transform(batch.energies, condition)
        fake = self._fakes(condition, rng)
        reversed_, total, logged = reverse_gradient(fake), real.new_zeros(()), {}
        for number, critic in enumerate(self.dense_critics()):
            on_real = self.score(critic, real, condition)
            distance = wasserstein_critic(on_real, self.score(critic, reversed_, condition))
            mix = torch.rand(len(real), 1, generator=rng, device=real.device)
            penalty = self.penalty(critic, real, fake.detach(), condition, mix)
            total = total + critic.settings.weight * (distance + penalty)
            logged[f"wasserstein{number + 1}"] = -distance.detach()
        return total, logged

    def _fakes(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        noise = normal(condition, self.latent, rng)
        return self.generate(self.features(condition), noise)


class _Loss:
    """`critic_loss` of one critic."""

    def __init__(self, model: DNNCaloGAN, critic: DenseCritic) -> None:
        self.model, self.critic = model, critic

    def __call__(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        return self.model.critic_loss(self.critic, batch, rng)


def _generator(features: int, cells: int, hyper: DNNCaloGANHyper) -> nn.Sequential:
    """Noise and features of the condition, (N, latent + F), to cells in model space, (N, V)."""
    sizes, output, gain = hyper.generator, hyper.output_activation, hyper.output_gain
    hidden = dense_stack([hyper.latent + features, *sizes], hyper.activation)
    last = nn.Linear(sizes[-1], cells)
    network = nn.Sequential(*hidden, last, activation(output))
    initialise(network, "he-uniform")
    with torch.no_grad():
        last.weight.mul_(gain)
        if output == "softplus":  # which is log 2 at zero: too much for every cell
            nn.init.constant_(last.bias, math.log(math.expm1(gain)))
    return network
