"""The dense network of the classifier test, its inputs on the device, its steps and its scores."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

if TYPE_CHECKING:  # classifier imports this module when it is called
    from caloforge.metrics.protocol import Protocol

Array = NDArray[Any]

RESIDENT_BYTES = 1 << 30  # inputs up to this size are converted and moved to the device once


class Inputs:
    """Rows of both samples one under the other, the reference first, as tensors on the device."""

    def __init__(
        self,
        samples: tuple[Array, Array],
        kept: tuple[Array, Array],
        protocol: Protocol,
        device: torch.device,
    ) -> None:
        """Take the rows `kept`, equally many of both samples (N, F) and (M, F)."""
        self.samples, self.kept, self.n = samples, kept, len(kept[0])
        self.features = samples[0].shape[1]
        self.device, self.dtype = device, weights_dtype(protocol)
        self.resident: Tensor | None = None
        if 2 * self.n * self.features * self.dtype.itemsize <= RESIDENT_BYTES:
            self.resident = self._convert(np.arange(2 * self.n))

    def __call__(self, rows: Array) -> Tensor:
        """Inputs of `rows` (n,), numbered through both samples: (n, F)."""
        if self.resident is None:
            return self._convert(rows)
        return self.resident[torch.from_numpy(rows).to(self.device)]

    def _convert(self, rows: Array) -> Tensor:
        first = rows < self.n
        out = torch.empty((len(rows), self.features), dtype=self.dtype)
        for s, mine in enumerate((first, ~first)):
            picked = self.samples[s][self.kept[s][rows[mine] - s * self.n]]
            out[torch.from_numpy(np.flatnonzero(mine))] = torch.from_numpy(picked).to(self.dtype)
        return out.to(self.device)


class Discriminator:
    """One network with its optimiser; the same seed gives the same initial weights."""

    def __init__(self, features: int, protocol: Protocol, seed: int, device: torch.device) -> None:
        self.protocol, self.dtype = protocol, weights_dtype(protocol)
        layers: list[nn.Module] = []
        # The initial weights are torch's own, which only the global generator can draw.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for fan_in, fan_out in pairwise([features, *protocol.hidden]):
                layers += [nn.Linear(fan_in, fan_out, dtype=self.dtype), nn.LeakyReLU()]
            layers.append(nn.Linear(protocol.hidden[-1], 1, dtype=self.dtype))
        self.network = nn.Sequential(*layers).to(device)
        self.optimiser = torch.optim.Adam(self.network.parameters(), lr=protocol.learning_rate)
        self.shift: Tensor | None = None
        self.factor: Tensor | None = None

    def standardise(self, data: Inputs, rows: Array) -> None:
        """From now on scale inputs to mean 0 and standard deviation 1 of these rows (n,)."""
        total = torch.zeros((2, data.features), dtype=torch.float64, device=data.device)
        for start in range(0, len(rows), self.protocol.batch):
            x = data(rows[start : start + self.protocol.batch]).double()
            total += torch.stack([x.sum(0), (x**2).sum(0)])
        mean, square = total / len(rows)
        deviation = (square - mean**2).clamp(min=0).sqrt()
        # A constant input carries nothing, and the rounding of its variance even less.
        varies = deviation > 1e-6 * mean.abs()
        self.shift = mean.to(data.dtype)
        self.factor = torch.where(varies, 1 / deviation, 0.0).to(data.dtype)

    def step(self, x: Tensor, y: Tensor) -> None:
        """One step of Adam on inputs (n, F) with labels (n,)."""
        self.optimiser.zero_grad(set_to_none=True)
        loss = binary_cross_entropy_with_logits(self._forward(x), y)
        torch.autograd.backward(loss)
        self.optimiser.step()

    def scores(self, x: Tensor) -> Array:
        """Probability of label 1 for inputs (n, F): (n,) float64."""
        with torch.inference_mode():
            return torch.sigmoid(self._forward(x).double()).cpu().numpy()

    def scores_of(self, data: Inputs, rows: Array) -> Array:
        """Probability of label 1 for rows (n,), batch by batch: (n,) float64."""
        size = self.protocol.batch
        return np.concatenate(
            [self.scores(data(rows[k : k + size])) for k in range(0, len(rows), size)]
        )

    def _forward(self, x: Tensor) -> Tensor:
        if self.shift is not None and self.factor is not None:
            x = (x - self.shift) * self.factor
        half = self.protocol.dtype == "bfloat16"
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            logits: Tensor = self.network(x)
        return logits[:, 0].to(self.dtype)


def weights_dtype(protocol: Protocol) -> torch.dtype:
    """Number type of weights and inputs."""
    return torch.float64 if protocol.dtype == "float64" else torch.float32
