"""VAE: an auto-encoder of dense layers with a few latent numbers, and a flow that shapes them.

Reference: D. P. Kingma, M. Welling, "Auto-Encoding Variational Bayes", 2013, arXiv:1312.6114; for
these showers: A. Ghosh, D. Rousseau, "Generative Adversarial Networks for Fast Shower Simulation
in ATLAS", IN2P3/IRFU ML workshop, 2019 (266 cells to 5 latent numbers and back), after
ATL-SOFT-PUB-2018-001. Flow: D. P. Kingma et al., "Improved Variational Inference with Inverse
Autoregressive Flow", 2016, arXiv:1606.04934; X. Chen et al., "Variational Lossy Autoencoder",
2016, arXiv:1611.02731.

Differs from the paper:
- A. Ghosh and D. Rousseau do not give the reconstruction's likelihood. Here ("hurdle") every
  number of a shower is empty with a probability, and otherwise normal about a mean with a width;
  the decoder gives all three. A generated shower is drawn from it: the mean alone would be a
  shower without fluctuations of its cells. `likelihood = "gaussian"` has no empty numbers.
- Showers are seen through a transform; the recipes take `LayerLogs`, whose first number carries
  the energy resolution.
- The flow is the prior of the latent numbers, not a part of the posterior; the two are equivalent
  (arXiv:1611.02731, Sec. 3.2). It is trained together with the VAE, by the same bound.

Which way round is fast: the flow is inverse autoregressive, each latent number a function of the
noise numbers before it, so that sampling takes one pass a layer. The density of given latent
numbers, which training needs, takes as many passes as there are latent numbers: five.

Shapes: condition (N, C) to labels (N, F), categories one-hot; shower (N, X) in model space;
encoder X + F -> `encoder` -> 2 latent; decoder latent + F -> `decoder` -> 3 X (2 X without empty
numbers).
Noise (N, latent + 2 X), (N, latent + X) without empty numbers, (N, latent) without `draw`.

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.transforms import LayerLogs
>>> geometry = load_geometry("atlas-cells")
>>> small = VAEHyper(encoder=(32,), decoder=(32,), iaf=2)
>>> model = VAE(geometry, LayerLogs(geometry, floor=0.1), small)
>>> condition = torch.tensor([[65536.0, 3.0, -7.0, 2.0, 1.0]])
>>> model.sample(condition, torch.zeros(1, model.noise_size)).shape
torch.Size([1, 266])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.base import Batch, Phase, Refusal, ShowerModel
from caloforge.models.hyper import Hyper, OptimiserSettings
from caloforge.nn.conditions import ConditionFeatures
from caloforge.nn.dense import dense_stack
from caloforge.nn.dense_core import DenseCore
from caloforge.transforms import LEAST_CELL, LayerLogs, Transform

NARROWEST, WIDEST = -5.0, 2.0  # logarithm of the width of a number in model space
SMALL = 0.1  # of the weights of the last layers at the start: near the prior, of order one

# log Phi(z) / (1 - Phi(z)) = a z + b z^3 up to 0.01 of probability (S. R. Bowling et al. 2009,
# doi:10.3926/jiem.2009.v2n1.p114-127): a logistic number from a normal one.
LOGISTIC = (1.5976, 0.07056)
ABOVE_EMPTY = 1e-4  # how far a number must be above that of an empty cell to count as filled

ADAM = {"name": "adam", "lr": 1e-3}
Hidden = Annotated[tuple[PositiveInt, ...], Field(min_length=1)]


class InverseAutoregressive(nn.Module):
    """Layers of z_i = a_i(e_<i, labels) + b_i(e_<i, labels) e_i from noise e to latent z, the
    order reversed from layer to layer (arXiv:1606.04934, Eq. 9-11).

    Parameters
    ----------
    size, labels
        Latent size Z and number of labels F.
    layers
        Number of layers.
    hidden
        Width of the two hidden layers of each masked network.
    """

    def __init__(self, size: int, labels: int, layers: int, hidden: int) -> None:
        from zuko.flows.autoregressive import MaskedAutoregressiveTransform

        super().__init__()
        forwards = torch.arange(size)
        self.layers = nn.ModuleList(
            MaskedAutoregressiveTransform(
                size,
                labels,
                order=forwards.flip(0) if number % 2 else forwards,
                hidden_features=(hidden, hidden),
                activation=nn.SiLU,
            )
            for number in range(layers)
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Noise to latent numbers, (N, Z); one pass a layer."""
        z = noise
        for layer in self.layers:
            z = layer(labels)(z)
        return z

    def noise(self, z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Latent numbers to noise (N, Z), Z passes a layer, and log |det dz/de| (N,)."""
        volume = torch.zeros_like(z[:, 0])
        for layer in reversed(self.layers):
            transform = layer(labels)
            e = transform.inv(z)
            volume = volume + transform.log_abs_det_jacobian(e, z)
            z = e
        return z, volume


@dataclass(frozen=True)
class VAEHyper(Hyper):
    """Hyper-parameters of `VAE`."""

    latent: PositiveInt = 5
    """Number of latent numbers."""
    encoder: Hidden = (256, 128)
    """Sizes of the encoder's hidden layers."""
    decoder: Hidden = (128, 256)
    """Sizes of the decoder's hidden layers."""
    activation: str = "swish"
    """Activation of the hidden layers."""
    likelihood: Literal["hurdle", "gaussian"] = "hurdle"
    """"hurdle": a number is empty with a probability, else normal; this needs a transform that
    knows what an empty number is (`LayerLogs`). "gaussian": it is normal."""
    draw: bool = True
    """Whether the numbers of a shower are drawn from the likelihood; without, they are its mean
    (and filled where that is likelier), and the decoder is all that is needed."""
    kl_weight: NonNegativeFloat = 1.0
    """Factor on the Kullback-Leibler divergence; 1 is the bound on the likelihood."""
    iaf: NonNegativeInt = 0
    """Number of inverse-autoregressive layers between noise and latent numbers."""
    iaf_hidden: PositiveInt = 32
    """Width of the networks of these layers."""
    optimiser: dict[str, Any] = field(default_factory=ADAM.copy)
    """How all networks are optimised, see `OptimiserSettings`."""


class VAE(ShowerModel):
    """Variational auto-encoder with a conditional decoder."""

    hyper_class = VAEHyper
    training_only = ("encoder",)
    default_transform = "layer-logs"
    empty: Tensor

    def __init__(
        self, geometry: Geometry, transform: Transform | None = None, hyper: VAEHyper | None = None
    ) -> None:
        hyper = hyper or VAEHyper()
        logs = transform or LayerLogs(geometry, geometry.cut or LEAST_CELL)
        super().__init__(geometry, logs, hyper)
        self.latent, self.draw, self.kl_weight = hyper.latent, hyper.draw, hyper.kl_weight
        self.hurdle, self.numbers = hyper.likelihood == "hurdle", self.transform.size()
        self.labels = ConditionFeatures(geometry, one_hot=True)
        if self.hurdle and not isinstance(self.transform, LayerLogs):
            raise ModelError(
                'likelihood = "hurdle" needs to know which numbers of a shower are empty; '
                'expected the transform "layer-logs", or likelihood = "gaussian".'
            )
        empty = self.transform.empty() if isinstance(self.transform, LayerLogs) else None
        self.register_buffer("empty", empty if self.hurdle else None)
        x, labels = self.numbers, self.labels.size
        self.encoder = _dense([x + labels, *hyper.encoder, 2 * hyper.latent], hyper.activation)
        outputs = (3 if self.hurdle else 2) * x
        self.decoder = _dense([hyper.latent + labels, *hyper.decoder, outputs], hyper.activation)
        self.flow: InverseAutoregressive | None = None
        if hyper.iaf:
            sizes = hyper.latent, labels, hyper.iaf, hyper.iaf_hidden
            self.flow = InverseAutoregressive(*sizes)
        self.settings = OptimiserSettings.of(hyper.optimiser)

    @property
    def noise_size(self) -> int:
        """Z: the latent numbers, and what is drawn for each number of the shower."""
        return self.latent + (0 if not self.draw else 2 if self.hurdle else 1) * self.numbers

    def phases(self) -> list[Phase]:
        """There is one phase: it trains encoder, decoder and flow."""
        return [Phase("vae", list(self.parameters()), self.loss, 1, self.settings)]

    def decode(self, latent: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Means, logarithms of widths, and log-odds of being filled (none without "hurdle"), each
        (N, X).
        """
        return self._likelihood(self.decoder(torch.cat([latent, labels], dim=1)).float())

    def _likelihood(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        parts = torch.split(outputs, self.numbers, dim=1)
        return parts[0], parts[1].clamp(NARROWEST, WIDEST), parts[2] if self.hurdle else None

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        labels, latent = self.labels(condition), noise[:, : self.latent]
        if self.flow is not None:
            latent = self.flow(latent, labels)
        parts = self.decoder(torch.cat([latent, labels], dim=1)).float()
        return self.draw_shower(parts, noise, condition)

    def draw_shower(self, parts: Tensor, noise: Tensor, condition: Tensor) -> Tensor:
        """Showers in MeV (N, V) from outputs of the decoder (N, 3 X), and noise (N, Z) of which
        the latent numbers are not looked at.
        """
        x, log_width, odds = self._likelihood(parts)
        drawn = torch.split(noise[:, self.latent :], self.numbers, dim=1)
        if self.draw:
            x = x + log_width.exp() * drawn[0]
        if odds is not None:
            linear, cubic = LOGISTIC
            level = linear * drawn[1] + cubic * drawn[1] ** 3 if self.draw else 0.0
            x = torch.where(odds + level > 0, x, self.empty)
        return self.transform.inverse(x, condition)

    def dense_core(self) -> DenseCore | Refusal:
        """The decoder: latent numbers and labels to the likelihood of every number."""
        if self.flow is not None:
            return Refusal("its flow multiplies the noise by numbers that depend on it.")
        kinds = ("mean", "log_width", "log_odds")[: 3 if self.hurdle else 2]
        return DenseCore(
            self.decoder,
            self.latent,
            self.labels.variables(),
            tuple(f"{kind}_{k}" for kind in kinds for k in range(self.numbers)),
            f"the likelihood of the numbers of the transform {type(self.transform).__name__}: "
            f"{', '.join(kinds)}; widths are exp(log_width), clipped to "
            f"[exp({NARROWEST:g}), exp({WIDEST:g})]",
            self.draw_shower,
            decoding=self._decoding(),
        )

    def _decoding(self) -> dict[str, Any]:
        """All numbers that `draw_shower` uses besides its arguments, as plain values."""
        if not isinstance(self.transform, LayerLogs):
            return {}
        return {
            "hurdle": self.hurdle,
            "draw": self.draw,
            "log_width": [NARROWEST, WIDEST],
            "logistic": list(LOGISTIC),
            **self.transform.numbers(),
        }

    def encode(self, shower: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the width of the latent numbers, each (N, latent)."""
        mean, log_width = self.encoder(torch.cat([shower, labels], dim=1)).float().chunk(2, dim=1)
        return mean, log_width.clamp(NARROWEST, WIDEST)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """-E_q[log p(x | z)] + beta KL(q(z | x) || p(z)) (arXiv:1312.6114, Eq. 3), per number of
        the shower. With a flow, log p(z) is that of its noise minus log |det dz/de|.
        """
        shower, labels = (
            self.transform(batch.energies, batch.condition),
            self.labels(batch.condition),
        )
        mean, log_width = self.encode(shower, labels)
        noise = torch.randn(mean.shape, generator=rng, device=mean.device)
        latent = mean + log_width.exp() * noise
        if self.flow is None:
            divergence = 0.5 * (mean.square() + (2 * log_width).exp() - 1) - log_width
            divergence = divergence.sum(dim=1)
        else:
            prior, volume = self.flow.noise(latent, labels)
            entropy = log_width + 0.5 * noise.square()
            divergence = volume + (0.5 * prior.square() - entropy).sum(dim=1)
        misfit = self._misfit(shower, latent, labels)
        loss = (misfit + self.kl_weight * divergence).mean() / self.numbers
        parts = {"misfit": misfit, "divergence": divergence}
        return loss, {key: value.detach().mean() for key, value in parts.items()}

    def _misfit(self, shower: Tensor, latent: Tensor, labels: Tensor) -> Tensor:
        """-log p(x | z) of each shower, (N,)."""
        mean, log_width, odds = self.decode(latent, labels)
        pull = (shower - mean) * (-log_width).exp()
        normal = 0.5 * pull.square() + log_width + 0.5 * math.log(2 * math.pi)
        if odds is None:
            return normal.sum(dim=1)
        filled = shower > self.empty + ABOVE_EMPTY
        return torch.where(
            filled, normal + nn.functional.softplus(-odds), nn.functional.softplus(odds)
        ).sum(dim=1)


def _dense(sizes: Sequence[int], activation: str) -> nn.Sequential:
    """Dense layers, the last without activation and with small weights."""
    last = nn.Linear(sizes[-2], sizes[-1])
    with torch.no_grad():
        last.weight.mul_(SMALL)
    return nn.Sequential(*dense_stack(sizes[:-1], activation), last)
