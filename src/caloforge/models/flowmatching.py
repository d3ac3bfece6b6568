"""Flow matching: a learned velocity carries noise into showers along an ODE.

Reference: Y. Lipman et al., "Flow Matching for Generative Modeling", 2022, arXiv:2210.02747
(Eq. 23, straight paths); for calorimeters: L. Favaro et al., "CaloDREAM", 2024, arXiv:2405.09629.

Differs from the papers:
- One dense network carries layer and voxel energies together (CaloDREAM has a transformer for
  each), on the `LayerLogs` of the shower, so that it learns within minutes on two cores.
- The velocity is (end - x) / (1 - t) with the mean end of the path, given x, as its unknown.
  Showers are sparse: a number is either the one of an empty cell or spread about a mean. The
  network gives the log-odds g and the mean m of that mixture for every number; what x itself says
  of its own end follows by Bayes' rule (`mean_end`), and need not be learned 373 times.

Shapes: condition (N, C), noise (N, X) with X = 1 + L + V; network X + features -> `hidden` ... ->
2 X.

Example
-------
>>> import torch
>>> from caloforge.detector.shipped import load_geometry
>>> from caloforge.transforms import LayerLogs
>>> geometry = load_geometry("ds1-photons")
>>> small = FlowMatchingHyper(hidden=32, blocks=2)
>>> model = FlowMatching(geometry, LayerLogs(geometry, floor=1.0), small)
>>> model.sample(torch.tensor([[65536.0]]), torch.zeros(1, model.noise_size)).shape
torch.Size([1, 368])
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from caloforge.detector.geometry import Geometry
from caloforge.models.base import Batch, Phase, ShowerModel
from caloforge.models.hyper import Hyper, OptimiserSettings
from caloforge.nn.conditions import ConditionFeatures
from caloforge.transforms import LEAST_CELL, LayerLogs

ADAM = {"name": "adam", "lr": 1e-3}
FREQUENCIES = 8  # of the sines and cosines that tell the network the time
END = 2.0  # power by which the steps of the solver shrink towards t = 1
LEAST_VARIANCE = 1e-4  # of the noise that is left at a time: keeps the last instant finite
LATEST = 0.05  # smallest 1 - t in the weight of the loss, which grows as 1 / (1 - t)^2


class Mixture(nn.Module):
    """Residual dense network: (x (N, X), time (N, 1) or (1, 1), features (N, F)) to (g, m), both
    (N, X).
    """

    def __init__(self, size: int, features: int, hidden: int, blocks: int) -> None:
        super().__init__()
        context = features + 1 + 2 * FREQUENCIES
        self.enter = nn.Linear(size, hidden)
        self.mix = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.tell = nn.ModuleList(nn.Linear(context, hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, 2 * size)
        self.skip = nn.Linear(context, 2 * size)

    def forward(self, x: Tensor, time: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Log-odds of being filled, and mean where filled."""
        angles = math.pi * time * torch.arange(1, FREQUENCIES + 1, device=x.device)
        when = torch.cat([time, angles.sin(), angles.cos()], dim=1)
        context = torch.cat([features, when.expand(features.shape[0], -1)], dim=1)
        h = self.enter(x)
        for mix, tell in zip(self.mix, self.tell, strict=True):
            h = h + mix(nn.functional.silu(h + tell(context)))
        odds, mean = (self.leave(nn.functional.silu(h)) + self.skip(context)).float().chunk(2, 1)
        return odds, mean


def mean_end(
    x: Tensor, time: Tensor, odds: Tensor, mean: Tensor, variance: Tensor, empty: Tensor
) -> Tensor:
    """E[x_1 | x_t = x] for x_t = (1 - t) noise + t x_1 and x_1 = `empty`, or ~ N(mean, variance).

    Parameters
    ----------
    x
        (N, X), at time t, (N, 1) or the same for all, (1, 1).
    odds
        Log-odds (N, X) that x_1 is filled, before x itself is looked at.
    mean, variance
        Mean (N, X) and variance (X,) of x_1 where it is filled.
    empty
        The x_1 of an empty cell, (X,).

    Returns
    -------
    (N, X): p x (mean where filled, given x) + (1 - p) x empty, with p by Bayes' rule from the two
    Gaussian densities of x.
    """
    noise = (1 - time).square() + LEAST_VARIANCE
    spread = time.square() * variance + noise
    off_filled, off_empty = x - time * mean, x - time * empty
    evidence = off_empty.square() / noise - off_filled.square() / spread - (spread / noise).log()
    filled = torch.sigmoid(odds + 0.5 * evidence)
    where_filled = mean + time * variance / spread * off_filled
    return empty + filled * (where_filled - empty)


@dataclass(frozen=True)
class FlowMatchingHyper(Hyper):
    """Hyper-parameters of `FlowMatching`."""

    hidden: PositiveInt = 512
    """Width of the residual blocks of the network."""
    blocks: PositiveInt = 4
    """Number of residual blocks."""
    ode_steps: PositiveInt = 5
    """Steps from noise to shower, midpoint but for the last: 2 `ode_steps` - 1 network passes."""
    optimiser: dict[str, Any] = field(default_factory=ADAM.copy)
    """How the network is optimised, see `OptimiserSettings`."""


class FlowMatching(ShowerModel):
    """Continuous flow trained by flow matching; accurate after minutes, slower than a GAN."""

    hyper_class = FlowMatchingHyper
    default_transform = "layer-logs"
    not_dense = "follows a velocity through several passes of its network"
    empty: Tensor

    def __init__(
        self,
        geometry: Geometry,
        transform: LayerLogs | None = None,
        hyper: FlowMatchingHyper | None = None,
    ) -> None:
        hyper = hyper or FlowMatchingHyper()
        logs = transform or LayerLogs(geometry, geometry.cut or LEAST_CELL)
        super().__init__(geometry, logs, hyper)
        self.features = ConditionFeatures(geometry)
        self.mixture = Mixture(logs.size(), self.features.size, hyper.hidden, hyper.blocks)
        self.log_variance = nn.Parameter(torch.zeros(logs.size()))
        self.register_buffer("empty", logs.empty())
        self.ode_steps = hyper.ode_steps
        self.settings = OptimiserSettings.of(hyper.optimiser)

    @property
    def noise_size(self) -> int:
        """Z = 1 + L + V, the size of a transformed shower."""
        return self.transform.size()

    def phases(self) -> list[Phase]:
        """There is one phase: it trains the network and the spread of every number."""
        parameters = [*self.mixture.parameters(), self.log_variance]
        return [Phase("flow", parameters, self.loss, 1, self.settings)]

    def end(self, x: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """Mean end of the path that is at x (N, X) at `time` (N, 1) or (1, 1)."""
        odds, mean = self.mixture(x, time, features)
        return mean_end(x, time, odds, mean, self.log_variance.exp(), self.empty)

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """E |v(x_t, t) - (x_1 - x_0)|^2 on straight paths (arXiv:2210.02747, Eq. 23).

        With v = (end - x_t) / (1 - t) it is E |end - x_1|^2 / (1 - t)^2; the weight stays finite.
        """
        shower = self.transform(batch.energies, batch.condition)
        noise = torch.randn(shower.shape, generator=rng, device=shower.device)
        time = torch.rand(len(shower), 1, generator=rng, device=shower.device)
        end = self.end(torch.lerp(noise, shower, time), time, self.features(batch.condition))
        weight = (1 - time).clamp(min=LATEST).square().reciprocal()
        return (weight * (end - shower).square()).mean(), {}

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Follow the velocity from noise at t = 0 to the shower at t = 1; MeV (N, V)."""
        x, features = noise, self.features(condition)
        # Short steps towards the end: the last one drops what spread is left at its beginning.
        times = [1 - (1 - k / self.ode_steps) ** END for k in range(self.ode_steps)]
        for now, then in pairwise(times):
            time = x.new_full((1, 1), now)
            slope = (self.end(x, time, features) - x) / (1 - now)
            middle, half = 0.5 * (now + then), 0.5 * (then - now)
            x_middle, time = x + half * slope, x.new_full((1, 1), middle)
            slope = (self.end(x_middle, time, features) - x_middle) / (1 - middle)
            x = x + (then - now) * slope
        # The last step goes to the mean end itself: empty cells come out empty.
        x = self.end(x, x.new_full((1, 1), times[-1]), features)
        return self.transform.inverse(x, condition)
