"""Optimisers by name, and their state as plain tensors so that a checkpoint never holds pickled
code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import torch
from torch import Tensor, nn

from caloforge.errors import ModelError, did_you_mean
from caloforge.models.base import Phase
from caloforge.models.hyper import OptimiserSettings
from caloforge.training.parallel import Processes

_KINDS: dict[str, Callable[[list[dict[str, Any]], OptimiserSettings], torch.optim.Optimizer]] = {
    "adam": lambda p, s: torch.optim.Adam(
        p, lr=s.lr, betas=s.betas, weight_decay=s.weight_decay, fused=True
    ),
    "adamw": lambda p, s: torch.optim.AdamW(
        p, lr=s.lr, betas=s.betas, weight_decay=s.weight_decay, fused=True
    ),
    "radam": lambda p, s: torch.optim.RAdam(
        p, lr=s.lr, betas=s.betas, weight_decay=s.weight_decay
    ),
    "rmsprop": lambda p, s: torch.optim.RMSprop(p, lr=s.lr, weight_decay=s.weight_decay),
}

# Updates in which the cyclic learning rate goes up and down once, and its smallest value over its
# largest (L. Smith 2015, arXiv:1506.01186).
CYCLE, LOWEST = 2000, 0.1
SLOWING = 1000  # updates after which the inverse learning rate is half of what it was
LOOKAHEAD_STEPS, LOOKAHEAD_RATE = 5, 0.5  # as M. Zhang et al. 2019, arXiv:1907.08610, have them


def _triangle(update: int) -> float:
    """Factor between LOWEST and 1: the triangular cyclic learning rate of L. Smith (2015)."""
    position = update % CYCLE / CYCLE
    return LOWEST + (1 - LOWEST) * (1 - abs(2 * position - 1))


# Factor of the learning rate after so many updates.
SCHEDULES: dict[str, Callable[[int], float]] = {
    "constant": lambda _: 1.0,
    "cyclic": _triangle,
    # A generator that takes steps of fixed size wanders about, and its critics take that for the
    # spread of its showers: the steps have to become small (H. Robbins, S. Monro, 1951).
    "inverse": lambda update: 1 / (1 + update / SLOWING),
}


def _groups(phase: Phase) -> list[dict[str, Any]]:
    """The parameters in their order, in groups of one learning rate."""
    rates = phase.rates or (phase.optimiser.lr,) * len(phase.parameters)
    pairs = zip(rates, phase.parameters, strict=True)
    return [
        {"params": [parameter for _, parameter in part], "lr": rate}
        for rate, part in groupby(pairs, key=itemgetter(0))
    ]


class Player:
    """The optimiser of one phase: takes gradients, updates parameters, keeps its own count of
    updates. Several processes average their gradients.
    """

    def __init__(
        self, phase: Phase, gradient_clip: float, processes: Processes | None = None
    ) -> None:
        settings = phase.optimiser
        if settings.name not in _KINDS:
            raise ModelError(
                f"Unknown optimiser '{settings.name}': {did_you_mean(settings.name, _KINDS)}"
            )
        self.phase = phase
        self.parameters = phase.parameters
        self.optimiser = _KINDS[settings.name](_groups(phase), settings)
        self._rates = [group["lr"] for group in self.optimiser.param_groups]
        self.gradient_clip = gradient_clip
        self.processes = processes or Processes()
        self.updates = 0
        self._unclipped: Tensor | None = None
        # From the first batch on: a critic that starts with larger weights would have had
        # gradients that the log never sees again.
        self._clip_weights()
        self.slow = [p.detach().clone() for p in self.parameters] if settings.lookahead else None

    def take(self, gradients: Sequence[Tensor], pace: float = 1.0) -> None:
        """One update with gradients of the parameters, in their order; its learning rate is
        multiplied by `pace`.
        """
        self.processes.average_(gradients)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            # Fused optimisers go through memory in one order for both.
            if gradient.stride() != parameter.stride():
                gradient = torch.empty_like(parameter).copy_(gradient)
            parameter.grad = gradient
        if self.gradient_clip > 0:
            self._unclipped = nn.utils.clip_grad_norm_(self.parameters, self.gradient_clip)
        factor = pace * SCHEDULES[self.phase.optimiser.schedule](self.updates)
        for group, rate in zip(self.optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * factor
        self.optimiser.step()
        self.updates += 1
        if self.slow is not None and self.updates % LOOKAHEAD_STEPS == 0:
            with torch.no_grad():
                for slow, parameter in zip(self.slow, self.parameters, strict=True):
                    slow.lerp_(parameter, LOOKAHEAD_RATE)
                    parameter.copy_(slow)
        self._clip_weights()

    @torch.no_grad()
    def _clip_weights(self) -> None:
        most = self.phase.optimiser.weight_clip
        if most > 0:
            for parameter in self.parameters:
                parameter.clamp_(-most, most)

    def gradient_norm(self) -> Tensor:
        """Euclidean norm of the last update's gradient before clipping, on the device."""
        if self._unclipped is not None:
            return self._unclipped
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return nn.utils.get_total_norm(gradients)

    def state(self) -> dict[str, Tensor]:
        """Everything the optimiser remembers, as named tensors."""
        tensors = {"updates": torch.tensor(self.updates)}
        for index, entry in self.optimiser.state_dict()["state"].items():
            for key, value in entry.items():
                tensors[f"{index}.{key}"] = torch.as_tensor(value)
        for index, slow in enumerate(self.slow or ()):
            tensors[f"{index}.slow"] = slow
        return tensors

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""
        self.updates = int(tensors["updates"])
        state: dict[int, dict[str, Any]] = {}
        for name, value in tensors.items():
            if name == "updates":
                continue
            index, key = name.split(".", 1)
            if key == "slow" and self.slow is not None:
                self.slow[int(index)] = value.to(self.parameters[0].device)
            else:
                state.setdefault(int(index), {})[key] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
