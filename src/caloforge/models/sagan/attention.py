"""Self-attention over the positions of an image (SAGAN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """x + gamma o(x): every position sees all others (H. Zhang et al. 2018, arXiv:1805.08318, Eq.
    1-3).

    beta_ji = softmax over i of f(x_i) . g(x_j); o_j = v(sum_i beta_ji h(x_i)); f, g and h make
    channels / `reduction` channels each (at least one), v brings them back. gamma is learned and
    starts at 0, so that close range is learned first.

    Parameters
    ----------
    channels
        Channels of the image.
    reduction
        How many times fewer channels attention has; 8 as published.
    start
        Value that gamma starts from; 0 as published.
    pool
        Whether f and h are max-pooled by 2 x 2, as the authors' code does: a quarter of the work.
    """

    def __init__(
        self, channels: int, *, reduction: int = 8, start: float = 0.0, pool: bool = False
    ) -> None:
        super().__init__()
        self.pool = pool
        inner = max(channels // reduction, 1)
        self.f, self.g, self.h = (nn.Conv2d(channels, inner, 1, bias=False) for _ in range(3))
        self.v = nn.Conv2d(inner, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.tensor([start]))

    def attention(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """beta (N, P, P), rows j summing to 1 over i, and h (N, inner, P) of x (N, channels, H, W)
        with P = H W positions; a quarter of the i with pooling.
        """
        f, g, h = self.f(x), self.g(x), self.h(x)
        if self.pool:
            f, h = (nn.functional.max_pool2d(image, 2, ceil_mode=True) for image in (f, h))
        f, g, h = f.flatten(2), g.flatten(2), h.flatten(2)
        with torch.autocast(x.device.type, enabled=False):
            # P^2 numbers a shower are what attention costs: in 16 bits where its factors are.
            beta: Tensor = torch.softmax(g.transpose(1, 2) @ f, dim=2)
        return beta, h

    def forward(self, x: Tensor) -> Tensor:
        """The image with what its positions tell each other, (N, channels, H, W)."""
        beta, h = self.attention(x)
        mixed = h @ beta.transpose(1, 2)
        message: Tensor = self.v(mixed.reshape(x.shape[0], -1, *x.shape[2:]))
        return x + self.gamma * message
