"""Marginals by a small network: for read-outs where showers differ by impact and direction too.

The value x of a variable is mapped to a normal number y in two steps. First a table over all
showers maps log x to a normal score; it keeps what is sharp, such as spectral lines. Then, at the
features f of the variable in its shower, a network gives the probability p that x > 0 and a
monotone map of that score: a line followed by a rational-quadratic spline (C. Durkan et al., 2019,
arXiv:1906.04032), so that n = spline(a s + b) is normal. With both,

    filled: Phi(-y) = p Phi(-n), or Phi(y) = 1 - p + p Phi(n);    empty: Phi(-y) >= p.

The network is trained by maximum likelihood.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.copula.given import CellFeatures, Given, LayerFeatures
from caloforge.models.copula.spline import Spline
from caloforge.nn.logistic import logistic
from caloforge.nn.normal import cdf, mean_below, quantile

WIDEST = 5.0  # standard deviations: the ends of tables and splines
BINS = 8  # of the spline
KNOTS = 1024  # of the pooled tables
_RARE, _LAST = 1e-12, 1 - 1e-6  # probabilities are between these


class Conditional(nn.Module):
    """Normal variables of M values at features; shapes: values, y (N, M).

    Parameters
    ----------
    features
        What the network sees.
    groups
        (M,) the number of the pooled table of each variable.
    width
        Width of the two hidden layers of the network.
    """

    pooled: Tensor
    group: Tensor

    def __init__(
        self, features: LayerFeatures | CellFeatures, groups: np.ndarray, width: int
    ) -> None:
        super().__init__()
        self.features = features
        start = torch.linspace(-WIDEST, WIDEST, KNOTS)
        self.register_buffer("pooled", start.repeat(int(groups.max()) + 1, 1))
        self.register_buffer("group", torch.from_numpy(groups.copy()).long(), persistent=False)
        self.network = Columns([features.size, width, width, 3 + 3 * BINS - 1])

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

    def score(self, x: Tensor, group: Tensor, level: Tensor | None = None) -> Tensor:
        """Normal scores of values x > 0 of tables `group`, both (N, m).

        Values that fill several steps of a table, as those of a spectral line do, get scores at
        `level` between 0 and 1 of these steps, or all the same one without.
        """
        logs = x.clamp(min=1e-26).log()
        if torch.compiler.is_exporting():  # ONNX has no operator for searching
            low = (logs[..., None] > self.pooled[group]).sum(dim=-1)
        else:
            low = self._search(logs, group, right=False)
        left = (low - 1).clamp(0, KNOTS - 2)
        table = self.pooled.flatten()
        first, second = (table[group * KNOTS + k] for k in (left, left + 1))
        place = left + ((logs - first) / (second - first).clamp(min=1e-9)).clamp(0, 1)
        if level is not None:
            high = self._search(logs, group, right=True)
            place = torch.where(high > low + 1, low + level * (high - 1.0 - low), place)
        return (2 * place / (KNOTS - 1) - 1) * WIDEST

    def _search(self, logs: Tensor, group: Tensor, right: bool) -> Tensor:
        places = torch.zeros_like(group)
        for number in range(len(self.pooled)):
            place = torch.searchsorted(self.pooled[number], logs.contiguous(), right=right)
            places = torch.where(group == number, place, places)
        return places

    def value(self, score: Tensor, group: Tensor) -> Tensor:
        """Logarithms of the values of normal scores: the inverse of `score`."""
        place = ((score / WIDEST + 1) * (0.5 * (KNOTS - 1))).clamp(min=0.0).clamp(max=KNOTS - 1.01)
        node = place.floor()
        row = group * KNOTS + node.long()
        table = self.pooled.flatten()
        return torch.lerp(table[row], table[row + 1], place - node)

    def near(self, given: Given, count: int, rng: torch.Generator) -> Tensor:
        """Numbers of `count` variables of each shower to train on, (N, count)."""
        assert isinstance(self.features, CellFeatures)
        return self.features.near(given, count, rng)

    # --- the conditional part -----------------------------------------------------------------
    def maps(self, out: Tensor) -> tuple[Tensor, Tensor, Spline]:
        """a, b and the spline from what the network gives (3 + 3 K - 1, ...)."""
        return out[1].clamp(-6, 6).exp(), out[2], Spline(out[3:], WIDEST)

    def loss(
        self, x: Tensor, given: Given, columns: Tensor | None, rng: torch.Generator
    ) -> Tensor:
        """Mean negative logarithm of the likelihood of values (N, m)."""
        group = self.group.expand_as(x) if columns is None else self.group[columns]
        level = torch.rand(x.shape, generator=rng, device=x.device)
        full = x > 0
        out = self.network(self.features(given, columns)).float()
        filled = nn.functional.binary_cross_entropy_with_logits(out[0], full.to(out))
        factor, offset, spline = self.maps(out[:, full])
        normal, slope = spline(factor * self.score(x[full], group[full], level[full]) + offset)
        density = -0.5 * normal.square() + slope + factor.log()
        return filled - density.sum() / x.numel()

    def decode(self, y: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """Logarithms of the values, and how far y is above its threshold: below it, the value is
        0 and its logarithm means nothing.
        """
        out = self.network(self.features(given))
        logit, (factor, offset, spline) = out[0], self.maps(out)
        p, empty = logistic(logit).clamp(min=_RARE), logistic(-logit)
        above = y + quantile(p)
        # From the tail that y is in: a difference of two numbers near one has no digits left.
        low = y < 0
        outside = cdf(-y.abs())
        level = (torch.where(low, outside - empty, outside) / p).clamp(_RARE, _LAST)
        normal = quantile(level)
        score = (spline.inverse(torch.where(low, normal, -normal)) - offset) / factor
        return self.value(score, self.group.expand_as(y)), above

    def encode(self, x: Tensor, given: Given) -> Tensor:
        """y of values; for x = 0 the mean of what it may be."""
        y, threshold = self.place(x, given)
        return torch.where(x > 0, y, mean_below(threshold))

    def place(self, x: Tensor, given: Given, level: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """y of values, whatever it is where x = 0, and the thresholds."""
        out = self.network(self.features(given))
        logit, (factor, offset, spline) = out[0], self.maps(out)
        p, empty = logistic(logit).clamp(min=_RARE), logistic(-logit)
        normal, _ = spline(factor * self.score(x, self.group.expand_as(x), level) + offset)
        low = normal < 0
        outside = p * cdf(-normal.abs())
        tail = quantile(torch.where(low, empty + outside, outside))
        return torch.where(low, tail, -tail), -quantile(p)


class Columns(nn.Module):
    """A small dense network on features in the slow axis: (F, ...) to (O, ...).

    There are many variables with few features each, and every operation then runs along the
    variables.
    """

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(sizes))
        self.weight = nn.ParameterList(torch.empty(b, a) for a, b in pairs)
        self.bias = nn.ParameterList(torch.zeros(b, 1) for _, b in pairs)
        for k, weight in enumerate(self.weight):
            nn.init.normal_(weight, std=(0.2 if k == len(pairs) - 1 else 1) / sizes[k] ** 0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs of each column."""
        shape = x.shape[1:]
        x = x.flatten(1)
        for k, (weight, bias) in enumerate(zip(self.weight, self.bias, strict=True)):
            x = weight @ x + bias
            if k < len(self.weight) - 1:
                x = nn.functional.hardswish(x)
        return x.reshape(x.shape[0], *shape)


__all__ = ["Columns", "Conditional"]
