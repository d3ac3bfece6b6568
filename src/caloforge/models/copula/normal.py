"""Normal variables that are known only to lie below a threshold.

An empty cell says no more than that its normal variable y is at most t = Phi^-1(1 - p), where p is
the probability that the cell is filled. Here is how such a y is drawn, and what its mean is.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEAST = 1e-30  # a smaller probability is not told from zero in single precision


def cdf(x: Tensor) -> Tensor:
    """Phi(x), the standard normal's cumulative distribution."""
    return torch.special.ndtr(x)


def quantile(p: Tensor) -> Tensor:
    """Phi^-1(p), finite for every p in [0, 1]."""
    return torch.special.ndtri(p.clamp(LEAST, 1 - 6e-8))


def draw_below(threshold: Tensor, level: Tensor) -> Tensor:
    """A standard normal number given that it lies below `threshold`, from a uniform `level` in
    (0, 1): Phi^-1(level * Phi(threshold)).
    """
    return torch.minimum(quantile(level * cdf(threshold)), threshold)


def mean_below(threshold: Tensor) -> Tensor:
    """The mean of a standard normal number that lies below `threshold`: -phi(t) / Phi(t)."""
    density = torch.exp(-0.5 * threshold.square()) / math.sqrt(2 * math.pi)
    return -density / cdf(threshold).clamp(min=LEAST)
