"""The correlation of very many normal variables: a few common factors, and every cell for itself.

For a read-out of tens of thousands of cells no matrix is kept. Here, in the words of factor
analysis (D. Rubin, D. Thayer, 1982),

    y = B c + Lambda f + D^(1/2) e,    f (R) and e (V) standard normal, D diagonal,

with c the context, the energies of the layers. The expectation maximisation is that of
`correlation`; given f the cells are independent, so that all empty ones are drawn at once. From
white noise w (V) alone the same y comes by the symmetric root: with U S U^T = D^(-1/2) Lambda
Lambda^T D^(-1/2) (U orthonormal, S diagonal),

    y = B c + D^(1/2) (w + U ((1 + S)^(1/2) - 1) U^T w).

"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.copula.censored import Censored
from caloforge.models.copula.frame import orbits
from caloforge.nn.normal import draw_below

ROWS = 256  # showers whose cells are drawn at a time
FIRST = 5  # sweeps that start from principal components
_LEAST = 0.02  # of the variance of a cell is its own


class LowRank(nn.Module):
    """y = B c + D^(1/2) (w + U ((1 + S)^(1/2) - 1) U^T w); used by `core` alone.

    Parameters
    ----------
    permutations
        The symmetries, each (V,): the identity at least.
    context
        K, how many variables y depends on.
    rank
        R, the number of common factors.
    """

    slope: Tensor
    own: Tensor  # the diagonal of D; model files know it by this name
    strength: Tensor
    orbit: Tensor

    def __init__(self, permutations: Sequence[np.ndarray], context: int, rank: int) -> None:
        super().__init__()
        orbit = orbits(permutations)
        size, count = len(orbit), int(orbit.max()) + 1
        self.group, self.size = list(permutations), rank
        self.register_buffer("orbit", torch.from_numpy(orbit), persistent=False)
        self.register_buffer("slope", torch.zeros(count, context))
        self.register_buffer("own", torch.ones(count))
        # A weight, though never trained: it is large, and shipped in 16 bits like weights.
        self.basis = nn.Parameter(torch.eye(size, rank), requires_grad=False)
        self.register_buffer("strength", torch.zeros(rank))

    # --- use ----------------------------------------------------------------------------------
    def forward(self, w: Tensor, context: Tensor, log_energy: Tensor) -> Tensor:
        """y (N, V) from white noise w (N, V) and the context (N, K)."""
        common = (w @ self.basis) * ((1 + self.strength).sqrt() - 1)
        sigma = self.own[self.orbit].sqrt()
        return (context @ self.slope.T)[:, self.orbit] + sigma * (w + common @ self.basis.T)

    # --- fitting ------------------------------------------------------------------------------
    @torch.no_grad()
    def fit(self, known: Censored, rng: torch.Generator, sweeps: int) -> None:
        """Set B, Lambda and D from cells and context, (N, V + K), in so many sweeps."""
        size, y = len(self.orbit), known.filled(rng)
        cells, context = y[:, :size].contiguous(), y[:, size:].contiguous()
        empty, threshold = known.empty[:, :size], known.threshold[:, :size]
        factors = _Factors(self.orbit, self.group, self.size)
        for sweep in range(sweeps):
            if sweep < FIRST:
                factors.begin(cells, context, rng)
            else:
                factors.improve(cells, context, rng)
            factors.draw(cells, context, empty, threshold, rng)
        factors.normalise(context)
        self.slope.copy_(factors.slope)
        self.own.copy_(factors.unique)
        scaled = factors.loading / factors.unique[self.orbit].sqrt()[:, None]
        basis, values, _ = torch.linalg.svd(scaled, full_matrices=False)
        self.basis.copy_(basis)
        self.strength.copy_(values.square())


class _Factors:
    """B, Lambda and D while they are found; every step keeps the variance of each cell at one."""

    def __init__(self, orbit: Tensor, group: Sequence[np.ndarray], rank: int) -> None:
        self.orbit, self.rank = orbit, rank
        self.turns = [torch.from_numpy(p).to(orbit.device) for p in group]
        self.slope = self.unique = self.loading = torch.zeros(0)

    def begin(self, cells: Tensor, context: Tensor, rng: torch.Generator) -> None:
        """From the principal components of the showers and their mirror images."""
        rest = self._regress(cells, context)
        start = torch.randn(len(self.orbit), self.rank + 8, generator=rng, device=cells.device)
        for _ in range(3):  # subspace iteration
            start = torch.linalg.qr(self._product(rest, start)).Q
        value, vector = torch.linalg.eigh(start.T @ self._product(rest, start))
        value, vector = value[-self.rank :], (start @ vector)[:, -self.rank :]
        noise = ((rest.square().sum() / len(rest) - value.sum()) / len(self.orbit)).clamp(min=0)
        self.loading = vector * (value - noise).clamp(min=0).sqrt()
        self._unique_part(rest.square().mean(dim=0))

    def _product(self, rest: Tensor, vectors: Tensor) -> Tensor:
        """The covariance of the showers and their mirror images, times vectors."""
        total = torch.zeros_like(vectors)
        for turn in self.turns:
            back = turn.argsort()
            total += (rest.T @ (rest @ vectors[back]))[turn]
        return total / (len(self.turns) * len(rest))

    def improve(self, cells: Tensor, context: Tensor, rng: torch.Generator) -> None:
        """One step of the expectation maximisation of factor analysis."""
        rest = self._regress(cells, context)
        weight, root = self._posterior()
        product = torch.zeros_like(self.loading)
        square = torch.zeros(self.rank, self.rank, device=rest.device)
        for turn in self.turns:
            turned = rest[:, turn]
            mean = turned @ weight
            product += turned.T @ mean
            square += mean.T @ mean + len(rest) * root @ root.T
        self.loading = torch.linalg.solve(square, product.T).T
        self._unique_part(rest.square().mean(dim=0))

    def draw(
        self,
        cells: Tensor,
        context: Tensor,
        empty: Tensor,
        threshold: Tensor,
        rng: torch.Generator,
    ) -> None:
        """Draw the factors given the cells, then all empty cells given the factors, in place."""
        weight, root = self._posterior()
        sigma = self.unique[self.orbit].sqrt()
        for start in range(0, len(cells), ROWS):
            rows = slice(start, start + ROWS)
            known = (context[rows] @ self.slope.T)[:, self.orbit]
            mean = (cells[rows] - known) @ weight
            noise = torch.randn(mean.shape, generator=rng, device=mean.device)
            centre = known + (mean + noise @ root.T) @ self.loading.T
            level = torch.rand(centre.shape, generator=rng, device=mean.device).clamp(min=1e-7)
            drawn = centre + sigma * draw_below((threshold[rows] - centre) / sigma, level)
            cells[rows] = torch.where(empty[rows], drawn, cells[rows])

    def normalise(self, context: Tensor) -> None:
        """Scale B, Lambda and D so that every cell has the variance one of its marginal."""
        known = (self.slope @ (context.T @ context / len(context)) * self.slope).sum(dim=1)
        scale = (self.unique + self._mean(self.loading.square().sum(dim=1)) + known).rsqrt()
        self.slope = self.slope * scale[:, None]
        self.unique = self.unique * scale.square()
        self.loading = self.loading * scale[self.orbit][:, None]

    def _regress(self, cells: Tensor, context: Tensor) -> Tensor:
        """Set B by least squares, the same for all cells of an orbit; returns y - B c."""
        square = context.T @ context
        square.diagonal().add_(1e-3 * len(cells))
        plain = torch.linalg.solve(square, context.T @ cells).T
        self.slope = self._mean(plain)
        return cells - (context @ self.slope.T)[:, self.orbit]

    def _mean(self, values: Tensor) -> Tensor:
        """Means over the cells of each orbit."""
        count = torch.bincount(self.orbit).to(values)
        total = values.new_zeros(len(count), *values.shape[1:]).index_add_(0, self.orbit, values)
        return total / count.reshape(-1, *[1] * (values.ndim - 1))

    def _unique_part(self, variance: Tensor) -> None:
        """D: what of the cells' variance is not that of the factors."""
        common = self.loading.square().sum(dim=1)
        self.unique = self._mean((variance - common).clamp(min=0)).clamp(min=_LEAST)

    def _posterior(self) -> tuple[Tensor, Tensor]:
        """Weights (V, R) of the factors' mean given y - B c, and a root of their covariance."""
        scaled = self.loading / self.unique[self.orbit][:, None]
        precision = torch.eye(self.rank, device=scaled.device) + self.loading.T @ scaled
        covariance = torch.linalg.inv(precision.double()).float()
        root = torch.linalg.cholesky(covariance.double()).float()
        return scaled @ covariance, root
