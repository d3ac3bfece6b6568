"""Flow matching: a learned velocity carries noise into showers along an ODE.

Reference: Y. Lipman et al., "Flow Matching for Generative Modeling", 2022, arXiv:2210.02747 (Eq.
23, straight paths); for calorimeters: L. Favaro et al., "CaloDREAM", 2024, arXiv:2405.09629.

Differs from the papers:
- One dense network carries layer and voxel energies together (CaloDREAM has a transformer for
  each), on the `LayerLogs` of the shower, so that it learns within minutes on two cores. It is
  slower to generate than a GAN: 2 x `ode_steps` passes through the network for each shower instead
  of one.

Shapes: condition (N, C), noise (N, 1 + L + V), velocity network (1 + L + V) + features -> `hidden`
... -> 1 + L + V.

Example
-------
>>> import torch
>>> from caloforge.geometry import load_geometry
>>> from caloforge.transforms import LayerLogs
>>> geometry = load_geometry("ds1-photons")
>>> model = FlowMatching(geometry, LayerLogs(geometry, floor=1.0), hidden=32)
>>> model.sample(torch.tensor([[65536.0]]), torch.zeros(1, model.noise_size)).shape
torch.Size([1, 368])
"""

from __future__ import annotations

import math
from typing import Any

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from caloforge.geometry import Geometry
from caloforge.models.base import Batch, OptimiserSettings, Phase, ShowerModel
from caloforge.nn.conditions import ConditionFeatures
from caloforge.transforms import LayerLogs, Transform

FREQUENCIES = 8  # of the sines and cosines that tell the network the time


class Velocity(nn.Module):
    """Residual dense network v(x, t, condition): (N, X), (N, 1), (N, F) to (N, X)."""

    def __init__(self, size: int, features: int, hidden: int, blocks: int) -> None:
        super().__init__()
        context = features + 1 + 2 * FREQUENCIES
        self.enter = nn.Linear(size, hidden)
        self.mix = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(blocks))
        self.tell = nn.ModuleList(nn.Linear(context, hidden) for _ in range(blocks))
        self.leave = nn.Linear(hidden, size)
        self.skip = nn.Linear(context, size)

    def forward(self, x: Tensor, time: Tensor, features: Tensor) -> Tensor:
        """Velocity at x and time."""
        angles = math.pi * time * torch.arange(1, FREQUENCIES + 1, device=x.device)
        context = torch.cat([features, time, angles.sin(), angles.cos()], dim=1)
        h = self.enter(x)
        for mix, tell in zip(self.mix, self.tell, strict=True):
            h = h + mix(nn.functional.silu(h + tell(context)))
        return self.leave(nn.functional.silu(h)) + self.skip(context)


class FlowMatching(ShowerModel):
    """Continuous flow trained by flow matching; accurate after minutes, slower than a GAN to
    generate.

    Parameters
    ----------
    hidden, blocks
        Width and number of residual blocks of the velocity network.
    ode_steps
        Midpoint steps from noise to shower; two passes through the network each.
    optimiser
        See `OptimiserSettings`.
    """

    default_transform = "layer-logs"

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        *,
        hidden: PositiveInt = 512,
        blocks: PositiveInt = 4,
        ode_steps: PositiveInt = 12,
        optimiser: dict[str, Any] | None = None,
    ) -> None:
        optimiser = optimiser or {"name": "adam", "lr": 1e-3}
        hyper = {
            "hidden": hidden,
            "blocks": blocks,
            "ode_steps": ode_steps,
            "optimiser": optimiser,
        }
        super().__init__(geometry, transform or LayerLogs(geometry, geometry.cut or 0.1), hyper)
        self.features = ConditionFeatures(geometry)
        self.velocity = Velocity(self.transform.size(), self.features.size, hidden, blocks)
        self.ode_steps = ode_steps
        self.settings = OptimiserSettings.of(optimiser)

    @property
    def noise_size(self) -> int:
        """Z = 1 + L + V, the size of a transformed shower."""
        return self.transform.size()

    def phases(self) -> list[Phase]:
        """One: the velocity network."""
        return [Phase("velocity", list(self.velocity.parameters()), self.loss, 1, self.settings)]

    def loss(self, batch: Batch, rng: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """E |v(x_t, t) - (x_1 - x_0)|^2 with x_t on the straight line from noise to shower
        (arXiv:2210.02747, Eq. 23).
        """
        shower = self.transform(batch.energies, batch.condition)
        noise = torch.randn(shower.shape, generator=rng, device=shower.device)
        time = torch.rand(len(shower), 1, generator=rng, device=shower.device)
        velocity = self.velocity(
            torch.lerp(noise, shower, time), time, self.features(batch.condition)
        )
        return (velocity.float() - (shower - noise)).square().mean(), {}

    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """Follow the velocity from noise at t = 0 to the shower at t = 1 in midpoint steps; MeV
        (N, V).
        """
        x, features = noise, self.features(condition)
        step = 1.0 / self.ode_steps
        for k in range(self.ode_steps):
            time = torch.full_like(x[:, :1], k * step)
            middle = x + 0.5 * step * self.velocity(x, time, features)
            x = x + step * self.velocity(middle, time + 0.5 * step, features)
        return self.transform.inverse(x, condition)
