"""Marginals by a small network: for read-outs where showers differ by impact and direction too.

The value x of a variable is mapped to a normal number y in two steps. First a table over all
showers maps log x to a normal score; it keeps what is sharp, such as spectral lines. Then, at the
features f of the variable in its shower, a network gives the probability p that x > 0 and a
monotone map of that score: a line followed by a rational-quadratic spline (C. Durkan et al., 2019,
arXiv:1906.04032), so that n = spline(a s + b) is normal. With both,

    filled: Phi(-y) = p Phi(-n);    empty: Phi(-y) >= p.

The network is trained by maximum likelihood.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from caloforge.models.copula.given import Given
from caloforge.models.copula.normal import cdf, mean_below, quantile

WIDEST = 5.0  # standard deviations: the ends of tables and splines
BINS = 8  # of the spline
KNOTS = 1024  # of the pooled tables
_LAST = 1 - 1e-6  # a filled cell's Phi(-n) is not larger


class Features(Protocol):
    """What the network is shown of each variable."""

    size: int
    count: int

    def __call__(self, given: Given, columns: Tensor | None = None) -> Tensor:
        """(N, M, F) of all variables or (N, m, F) of those in `columns` (N, m)."""


class Conditional(nn.Module):
    """Normal variables of M values at features; shapes: values, y (N, M).

    Parameters
    ----------
    features
        What the network is shown.
    groups
        (M,) the number of the pooled table of each variable.
    width
        Of the two hidden layers.
    """

    pooled: Tensor
    group: Tensor

    def __init__(self, features: nn.Module, groups: np.ndarray, width: int) -> None:
        super().__init__()
        self.features = features
        start = torch.linspace(-WIDEST, WIDEST, KNOTS)
        self.register_buffer("pooled", start.repeat(int(groups.max()) + 1, 1))
        self.register_buffer("group", torch.from_numpy(groups.copy()).long(), persistent=False)
        self.network = nn.Sequential(
            nn.Linear(features.size, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 3 + 3 * BINS - 1),
        )
        nn.init.zeros_(self.network[-1].bias)
        with torch.no_grad():
            self.network[-1].weight *= 0.1

    # --- the pooled tables --------------------------------------------------------------------
    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the pooled tables from values (N, M)."""
        grid = torch.linspace(-WIDEST, WIDEST, KNOTS, dtype=torch.float64, device=x.device)
        level = cdf(grid)
        for number in range(len(self.pooled)):
            values = x[:, self.group == number]
            logs = values[values > 0].double().log().sort().values
            if len(logs):
                place = (level * len(logs) - 0.5).clamp(0, len(logs) - 1)
                low = place.floor().long()
                high = (low + 1).clamp(max=len(logs) - 1)
                self.pooled[number] = torch.lerp(logs[low], logs[high], place - low).float()

    def score(self, x: Tensor, group: Tensor, level: Tensor | float = 0.5) -> Tensor:
        """Normal scores of values x > 0 of tables `group`, both (N, m); of values that fill
        several steps of a table, as those of a spectral line do, at `level` between 0 and 1.
        """
        logs = x.clamp(min=1e-26).log()
        if torch.compiler.is_exporting():  # ONNX has no operator for searching
            low = (logs[..., None] > self.pooled[group]).sum(dim=-1)
            high = (logs[..., None] >= self.pooled[group]).sum(dim=-1)
        else:
            low, high = (self._search(logs, group, right) for right in (False, True))
        left = (low - 1).clamp(0, KNOTS - 2)
        table = self.pooled.flatten()
        first, second = (table[group * KNOTS + k] for k in (left, left + 1))
        way = ((logs - first) / (second - first).clamp(min=1e-9)).clamp(0, 1)
        inside = left + way
        place = torch.where(high > low + 1, low + level * (high - 1.0 - low), inside)
        return (2 * place / (KNOTS - 1) - 1) * WIDEST

    def _search(self, logs: Tensor, group: Tensor, right: bool) -> Tensor:
        found = torch.zeros_like(group)
        for number in range(len(self.pooled)):
            own = torch.searchsorted(self.pooled[number], logs.contiguous(), right=right)
            found = torch.where(group == number, own, found)
        return found

    def value(self, score: Tensor, group: Tensor) -> Tensor:
        """Values of normal scores: the inverse of `score`."""
        place = ((score / WIDEST + 1) * (0.5 * (KNOTS - 1))).clamp(0, KNOTS - 1.01)
        node = place.floor()
        row = group * KNOTS + node.long()
        table = self.pooled.flatten()
        return torch.lerp(table[row], table[row + 1], place - node).exp()

    # --- the conditional part -----------------------------------------------------------------
    def maps(
        self, given: Given, columns: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, MonotonicRQSTransform]:
        """Logit of p, a, b and the spline of each variable."""
        out = self.network(self.features(given, columns))
        return out[..., 0], *self._map(out)

    def _map(self, out: Tensor) -> tuple[Tensor, Tensor, MonotonicRQSTransform]:
        spline = MonotonicRQSTransform(
            out[..., 3 : 3 + BINS],
            out[..., 3 + BINS : 3 + 2 * BINS],
            out[..., 3 + 2 * BINS :],
            bound=WIDEST,
        )
        return out[..., 1].clamp(-6, 6).exp(), out[..., 2], spline

    def loss(
        self, x: Tensor, given: Given, columns: Tensor | None, rng: torch.Generator
    ) -> Tensor:
        """Mean negative logarithm of the likelihood of values (N, m)."""
        group = self.group.expand_as(x) if columns is None else self.group[columns]
        level = torch.rand(x.shape, generator=rng, device=x.device)
        full = x > 0
        out = self.network(self.features(given, columns)).float()
        filled = nn.functional.binary_cross_entropy_with_logits(out[..., 0], full.to(out))
        factor, offset, spline = self._map(out[full])
        score = self.score(x[full], group[full], level[full])
        normal, slope = spline.call_and_ladj(factor * score + offset)
        density = -0.5 * normal.square() + slope + factor.log()
        return filled - density.sum() / x.numel()

    def decode(self, y: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """Values, 0 where y is below its threshold, and how far y is above it."""
        logit, factor, offset, spline = self.maps(given)
        p = logit.sigmoid()
        above = y + quantile(p)
        level = (cdf(-y) / p.clamp(min=1e-12)).clamp(1e-12, _LAST)
        score = (spline.inv(-quantile(level)) - offset) / factor
        return torch.where(above > 0, self.value(score, self.group.expand_as(y)), 0.0), above

    def encode(self, x: Tensor, given: Given, level: Tensor | float = 0.5) -> Tensor:
        """y of values; for x = 0 the mean of what it may be."""
        y, threshold = self.place(x, given, level)
        return torch.where(x > 0, y, mean_below(threshold))

    def place(self, x: Tensor, given: Given, level: Tensor | float) -> tuple[Tensor, Tensor]:
        """y of values, whatever it is where x = 0, and the thresholds."""
        logit, factor, offset, spline = self.maps(given)
        p = logit.sigmoid()
        normal = spline(factor * self.score(x, self.group.expand_as(x), level) + offset)
        return -quantile(p * cdf(-normal)), -quantile(p)


__all__ = ["Conditional", "Features"]
