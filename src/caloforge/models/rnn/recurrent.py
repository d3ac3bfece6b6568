"""Recurrent layers with a learned initial state, and dropout whose randomness is an argument."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

State = list[tuple[Tensor, ...]]
START = 0.1  # spread of the initial state before it is learned


def dropout(x: Tensor, share: float, rng: torch.Generator | None) -> Tensor:
    """x with a random `share` of its numbers set to zero and the rest scaled up (G. Hinton et al.
    2012, arXiv:1207.0580); x itself without a generator.
    """
    if rng is None or share == 0.0:
        return x
    kept = torch.rand(x.shape, generator=rng, device=x.device) >= share
    return x * kept / (1.0 - share)


class Recurrent(nn.Module):
    """LSTM or GRU layers on top of each other, from an initial state that is learned.

    Shapes: (N, T, inputs) to (N, T, hidden). T = 1 with the state of the step before makes the
    same numbers as the whole sequence at once.
    """

    def __init__(
        self, cell: Literal["lstm", "gru"], inputs: int, hidden: int, layers: int
    ) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.layers = nn.ModuleList(
            kind(inputs if k == 0 else hidden, hidden, batch_first=True) for k in range(layers)
        )
        self.parts = 2 if cell == "lstm" else 1
        self.start = nn.Parameter(START * torch.randn(layers, self.parts, hidden))

    def begin(self, count: int) -> State:
        """The initial state of `count` sequences."""
        return [
            tuple(part.expand(1, count, -1).contiguous() for part in layer[:, None, None])
            for layer in self.start
        ]

    def forward(
        self, x: Tensor, state: State, share: float = 0.0, rng: torch.Generator | None = None
    ) -> tuple[Tensor, State]:
        """The last layer's output at every step, and the state after the last; dropout between
        the layers.
        """
        after: State = []
        for k, (layer, now) in enumerate(zip(self.layers, state, strict=True)):
            x, then = layer(x if k == 0 else dropout(x, share, rng), self._state(now))
            after.append(tuple(then) if self.parts == 2 else (then,))
        return x, after

    def _state(self, now: tuple[Tensor, ...]) -> Tensor | tuple[Tensor, ...]:
        return now if self.parts == 2 else now[0]
