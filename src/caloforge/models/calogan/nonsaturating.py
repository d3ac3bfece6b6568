"""What both CaloGANs share: the non-saturating loss with label flipping, attribute and energy
terms, phases and sampling.

Sources: I. Goodfellow et al., "Generative Adversarial Networks", 2014, arXiv:1406.2661;
M. Paganini, L. de Oliveira, B. Nachman, "CaloGAN", 2017, arXiv:1705.02355; L. de Oliveira,
M. Paganini, B. Nachman, 2018, J. Phys.: Conf. Ser. 1085, 042017.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from pydantic import Field, NonNegativeFloat, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.adversarial import normal, optimisers, take_turns
from caloforge.models.base import Batch, Phase, ShowerModel
from caloforge.models.calogan.attributes import Attributes
from caloforge.models.hyper import Hyper
from caloforge.objectives import gan_discriminator, gan_generator
from caloforge.transforms import IncidentFraction, Transform
from caloforge.units import GEV

ADAM_GENERATOR = {"name": "adam", "lr": 2e-4, "betas": (0.5, 0.999)}
ADAM_DISCRIMINATOR = {"name": "adam", "lr": 2e-5, "betas": (0.5, 0.999)}


@dataclass(frozen=True)
class NonSaturatingHyper(Hyper):
    """What both CaloGANs can choose."""

    latent: PositiveInt = 1024
    """How many standard-normal numbers one shower needs, Z."""
    energy_weight: NonNegativeFloat = 0.05
    """Weight lambda_E of the deviation from the requested energy, per GeV."""
    label_flips: Annotated[float, Field(ge=0, lt=0.5)] = 0.05
    """Share of the labels that are flipped for the discriminator."""
    generator_steps: PositiveInt = 2
    """Updates of the generator for one of the discriminator, which sees a real and a fake
    batch."""
    generator_optimiser: dict[str, Any] = field(default_factory=ADAM_GENERATOR.copy)
    """How the generator is optimised, see `OptimiserSettings`."""
    discriminator_optimiser: dict[str, Any] = field(default_factory=ADAM_DISCRIMINATOR.copy)
    """How the discriminator is optimised, see `OptimiserSettings`."""


class NonSaturatingGAN(ShowerModel):
    """Base of a GAN whose subclass sets `generator` and `discriminator`.

    The generator is called as generator(condition (N, C), noise (N, Z), scale (N, 1)) and gives
    cells as fractions of `scale`, (N, V). The discriminator is called as discriminator(fractions,
    condition, scale) and gives a logit (N, 1) and its estimate of the attributes, (N, 5), or None
    where it has no head Xi.

    Parameters
    ----------
    xi_weights
        Weight lambda of each of x0, y0, theta, phi; None: there is no attribute term.
    xi_on_fakes
        Whether Xi learns from generated showers too.

    Raises ModelError for a transform other than "incident-fraction".
    """

    training_only = ("discriminator",)
    not_dense = "paints its layers by two-dimensional convolutions"
    generator: nn.Module
    discriminator: nn.Module
    hyper: NonSaturatingHyper

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None,
        hyper: NonSaturatingHyper,
        xi_weights: dict[str, float] | None = None,
        xi_on_fakes: bool = False,
    ) -> None:
        fractions = transform or IncidentFraction(geometry, 0.0, 0)
        if not isinstance(fractions, IncidentFraction):
            raise ModelError(
                f"Got the transform {type(fractions).__name__}; a CaloGAN expects "
                '"incident-fraction": give that in [transform].'
            )
        super().__init__(geometry, fractions, hyper)
        self.fractions = fractions
        self.xi_on_fakes = xi_on_fakes
        self.attributes = Attributes(geometry) if xi_weights is not None else None
        self.xi_weights: list[float] = []
        if self.attributes is not None and xi_weights is not None:
            names = self.attributes.names
            if set(xi_weights) != set(names):
                raise ModelError(
                    f"Got xi_weights for {sorted(xi_weights)}; expected one for each of "
                    f"{', '.join(names)}."
                )
            self.xi_weights = [float(xi_weights[name]) for name in names]
        self.settings = optimisers(hyper, "discriminator", "generator")

    @property
    def noise_size(self) -> int:
        """Z, the latent size."""
        return self.hyper.latent

    def generate(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Showers in model space, (N, V)."""
        out: Tensor = self.generator(condition, noise, self.fractions.scale(condition))
        return out

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        return self.transform.inverse(self.generate(condition, noise), condition)

    def phases(self) -> list[Phase]:
        """The discriminator, then the generator `generator_steps` times."""
        updates = {"discriminator": 1, "generator": self.hyper.generator_steps}
        return take_turns(self, self.settings, updates)

    def discriminator_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """-L_D + L_xi (Eq. 1 and 3). L_E does not depend on the discriminator."""
        condition, scale = batch.condition, self.fractions.scale(batch.condition)
        real = self.transform(batch.energies, condition)
        with torch.no_grad():
            fake = self._fake(condition, rng)
        # Real and fake showers apart: batch normalisation and minibatch discrimination look at
        # the whole batch.
        logit, estimate = self.discriminator(real, condition, scale)
        fake_logit, fake_estimate = self.discriminator(fake, condition, scale)
        xi = self._xi(estimate, condition)
        flips = self.hyper.label_flips
        loss = gan_discriminator(logit.float(), fake_logit.float(), flips, rng) + xi
        if self.xi_on_fakes:
            loss = loss + self._xi(fake_estimate, condition)
        right = 0.5 * ((logit > 0).float().mean() + (fake_logit < 0).float().mean())
        return loss, {"xi": xi.detach(), "right": right}

    def generator_loss(
        self, batch: Batch, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """L_G + L_xi + lambda_E L_E (Eq. 2 and 3), at the conditions of the batch."""
        condition, scale = batch.condition, self.fractions.scale(batch.condition)
        fake = self._fake(condition, rng)
        logit, estimate = self.discriminator(fake, condition, scale)
        xi, energy = self._xi(estimate, condition), energy_deviation(fake, scale)
        loss = gan_generator(logit.float()) + xi + self.hyper.energy_weight * energy
        return loss, {"xi": xi.detach(), "energy": energy.detach()}

    def _fake(self, condition: Tensor, rng: torch.Generator) -> Tensor:
        return self.generate(condition, normal(condition, self.noise_size, rng)).float()

    def _xi(self, estimate: Tensor | None, condition: Tensor) -> Tensor:
        """lambda^T E|xi - Xi(x)| (Eq. 3); 0 without a head Xi."""
        if self.attributes is None or estimate is None:
            return condition.new_zeros(())
        means = self.attributes.deviations(estimate, condition).mean(dim=0)
        return (means * means.new_tensor(self.xi_weights)).sum()


def energy_deviation(x: Tensor, scale: Tensor) -> Tensor:
    """L_E = E|requested energy - sum of cells| in GeV (M. Paganini et al. 2017), from
    fractions x (N, V) of the requested energy, `scale` MeV (N, 1).
    """
    return ((x.sum(dim=1, keepdim=True) - 1).abs() * scale).mean() / GEV
