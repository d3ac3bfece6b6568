"""What the Wasserstein GANs of the LCD share: unrolled images, losses with clipped weights or a
gradient penalty, phases and sampling.

Sources: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics Calorimeters",
2017; M. Arjovsky et al., "Wasserstein GAN", 2017, arXiv:1701.07875; I. Gulrajani et al., "Improved
Training of Wasserstein GANs", 2017, arXiv:1704.00028.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.adversarial import normal, optimisers, take_turns
from caloforge.models.base import Batch, Phase, ShowerModel
from caloforge.models.hyper import Hyper
from caloforge.nn.factors import ConditionFactor, condition_numbers
from caloforge.nn.local import LocallyConnected2d
from caloforge.objectives import gradient_penalty, wasserstein_critic, wasserstein_generator
from caloforge.transforms import Spiral, Transform

# The published settings (M. Arjovsky et al. 2017, arXiv:1701.07875, Algorithm 1).
RMSPROP_GENERATOR = {"name": "rmsprop", "lr": 5e-5}
RMSPROP_CRITIC = {"name": "rmsprop", "lr": 5e-5, "weight_clip": 0.01}
SLOPE = 0.2  # slope below zero of the leaky ReLU of `SumsCritic`


@dataclass(frozen=True)
class UnrolledHyper(Hyper):
    """What both Wasserstein GANs of the LCD can choose; the defaults are the published ones."""

    latent: PositiveInt = 200
    """How many standard-normal numbers one shower needs, Z."""
    early: bool = False
    """Whether the critic's image is multiplied by factors of the conditions, see `CriticInput`."""
    sums: NonNegativeInt = 0
    """Size of the two hidden layers of a `SumsCritic` that adds to the score; 0: there is none."""
    logarithms: bool = False
    """Whether log E takes the place of E / E_max, in factors and critic."""
    penalty: NonNegativeFloat = 0.0
    """Weight lambda of the gradient penalty, with which the critic's weights are not clipped; 0:
    they are clipped instead."""
    critic_steps: PositiveInt = 5
    """Updates of the critic for one of the generator."""
    generator_optimiser: dict[str, Any] = field(default_factory=RMSPROP_GENERATOR.copy)
    """How the generator is optimised, see `OptimiserSettings`."""
    critic_optimiser: dict[str, Any] = field(default_factory=RMSPROP_CRITIC.copy)
    """How the critic is optimised, see `OptimiserSettings`."""


class UnrolledWGAN(ShowerModel):
    """Base of a Wasserstein GAN on unrolled slices, whose subclass sets `generator` and `critic`.

    The generator is called as generator(noise (N, Z), condition (N, C)) and gives cells in model
    space (N, X), the critic as critic(cells (N, X), condition (N, C)) and gives a score (N, 1).

    Parameters
    ----------
    cells
        Number of cells of a slice that the model's own transform has, where none is given.
    hyper
        Hyper-parameters; with a penalty of 0 the critic's weights must be clipped.

    Raises ModelError for a transform other than "spiral", or a critic that nothing bounds.
    """

    training_only = ("critic",)
    not_dense = "multiplies its inputs: the noise by factors of the condition"
    default_transform = "spiral"
    generator: nn.Module
    critic: nn.Module
    hyper: UnrolledHyper

    def __init__(
        self, geometry: Geometry, transform: Transform | None, cells: int, hyper: UnrolledHyper
    ) -> None:
        unrolled = transform or Spiral(geometry, cells=cells)
        if not isinstance(unrolled, Spiral):
            raise ModelError(
                f"Got the transform {type(unrolled).__name__}; this model makes unrolled slices: "
                'give "spiral" in [transform].'
            )
        super().__init__(geometry, unrolled, hyper)
        self.unrolled = unrolled
        self.penalty, self.critic_steps = hyper.penalty, hyper.critic_steps
        self.settings = optimisers(hyper, "critic", "generator")
        if not (self.penalty > 0 or self.settings["critic"].weight_clip > 0):
            raise ModelError(
                "Got penalty = 0 and no weight_clip in critic_optimiser; expected one of them: "
                "the critic of a Wasserstein GAN must be Lipschitz."
            )
        if self.penalty > 0:  # it takes the place of the clipping, also of that in the defaults
            self.settings["critic"] = replace(self.settings["critic"], weight_clip=0.0)

    @property
    def noise_size(self) -> int:
        """Z, the latent size."""
        return self.hyper.latent

    def start_from_profile(self, last: nn.Linear | LocallyConnected2d) -> None:
        """Let the generator start near the mean shower, where the transform has it: what it makes
        is multiplied by that, and the biases of its `last` layer start at 1.
        """
        if self.unrolled.profile is not None and last.bias is not None:
            nn.init.ones_(last.bias)

    def generate(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Showers in model space, (N, X), before anything is set to zero."""
        cells: Tensor = self.generator(noise, condition).float()
        return cells if self.unrolled.profile is None else cells * self.unrolled.profile

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        return self.transform.inverse(self.generate(condition, noise), condition)

    def phases(self) -> list[Phase]:
        """The critic `critic_steps` times, then the generator."""
        return take_turns(self, self.settings, {"critic": self.critic_steps, "generator": 1})

    def critic_loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """E[D(fake)] - E[D(real)] (arXiv:1701.07875, Eq. 2), with a penalty lambda GP
        (arXiv:1704.00028, Eq. 3) unless lambda = 0.
        """
        condition = batch.condition
        real = self.transform(batch.energies, condition)
        with torch.no_grad():
            fake = self.generate(condition, normal(real, self.noise_size, rng))
        scores = self.critic(torch.cat([real, fake]), condition.repeat(2, 1)).float()
        loss = wasserstein_critic(*scores.chunk(2))
        logged = {"distance": -loss.detach()}
        if self.penalty > 0:
            mix = torch.rand(len(real), 1, generator=rng, device=real.device)
            penalty = gradient_penalty(lambda x: self.critic(x, condition), real, fake, mix)
            loss, logged["penalty"] = loss + self.penalty * penalty, penalty.detach()
        return loss, logged

    def generator_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-E[D(fake)] (arXiv:1701.07875, Eq. 3) at the conditions of the batch.

        Logs what sampling sets to zero: the share of cells below zero, and how much they hold
        relative to the cells above.
        """
        fake = self.generate(batch.condition, normal(batch.condition, self.noise_size, rng))
        below, above = fake.detach().clamp(max=0), fake.detach().clamp(min=0)
        clipped = (below < 0).float().mean()
        held = -below.sum() / above.sum().clamp(min=1e-12)
        score = self.critic(fake, batch.condition).float()
        return wasserstein_generator(score), {"clipped_cells": clipped, "clipped_energy": held}


class CriticInput(nn.Module):
    """Cells (N, X) in model space and condition (N, C) as a critic takes them: the image
    (N, 1, D, n) for its first layer, and (N, `size`) numbers for its dense ones, the cells of
    other layers and the conditions.

    Parameters
    ----------
    early
        Whether the image is multiplied by factors of the conditions: one for each cell of a slice,
        the same for all slices.
    logarithms
        See `condition_numbers`.
    """

    def __init__(
        self, geometry: Geometry, unrolled: Spiral, *, early: bool, logarithms: bool
    ) -> None:
        super().__init__()
        self.shape = (unrolled.depth, unrolled.cells)
        everything = range(len(geometry.conditions))
        self.numbers = condition_numbers(geometry, everything, logarithms=logarithms)
        self.factor = (
            ConditionFactor(geometry, unrolled.cells, energy=True, logarithms=logarithms)
            if early
            else None
        )
        self.size = unrolled.others + self.numbers.size

    def forward(self, x: Tensor, condition: Tensor) -> tuple[Tensor, Tensor]:
        """Image and numbers."""
        depth, cells = self.shape
        image, others = x[:, : depth * cells].reshape(-1, depth, cells), x[:, depth * cells :]
        numbers = torch.cat([others, self.numbers(condition)], dim=1)
        if self.factor is not None:
            image = image * self.factor(condition)[:, None]
        return image[:, None], numbers


class SumsCritic(nn.Module):
    """Cells (N, X) in model space and condition (N, C) to a score (N, 1) of sums alone: a small
    dense network sees the energy of each slice and of the shower beside the conditions. It adds to
    the score of the critic proper, which finds these few numbers among thousands only late.
    """

    def __init__(self, given: CriticInput, hidden: int) -> None:
        super().__init__()
        # Without the factors and the other cells of `given`.
        self.shape, self.numbers = given.shape, given.numbers
        self.dense = nn.Sequential(
            nn.Linear(self.shape[0] + 1 + self.numbers.size, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, hidden),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden, 1),
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Score."""
        depth, cells = self.shape
        slices = x[:, : depth * cells].reshape(-1, depth, cells).sum(dim=2)
        # Over the root of the cells: a critic of slope 1 in a sum has slope 1 in the cells.
        total = x.sum(dim=1, keepdim=True) / x.shape[1] ** 0.5
        seen = torch.cat([slices / cells**0.5, total, self.numbers(condition)], dim=1)
        score: Tensor = self.dense(seen)
        return score
