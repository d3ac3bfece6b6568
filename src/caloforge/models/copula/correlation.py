"""The correlation of normal variables some of which are known only to lie below a threshold.

Let y (N, V) be the normal variables of the cells and c (N, K) those of their context, the
energies of the layers. Given thresholds t of the empty cells, the correlation matrix S of (y, c)
is found by Monte-Carlo expectation maximisation (G. Wei, M. Tanner, 1990):

    E: every empty cell is drawn from its normal distribution given all others, cut at t: with the
       precision matrix P = S^-1 its mean is y_i - (P y)_i / P_ii and its variance 1 / P_ii;
    M: S = mean of y y^T over showers, symmetries and all draws after the first half of the sweeps,
       scaled to unit variances, and shrunk by a little towards the identity.

A shower then is y = B c + R^(1/2) w with w standard normal, B = S_yc S_cc^-1 and
R = S_yy - B S_cy, of which the symmetric root is taken. Matrices are kept at knots in log E, and B
and R^(1/2) are interpolated linearly between them. Of each matrix one number is stored for every
set of pairs that the symmetries carry into each other. Where cells can be turned about the axis,
products are taken block by block (`rings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from caloforge.models.copula.censored import Censored, Sweeps, known
from caloforge.models.copula.frame import pair_orbits
from caloforge.models.copula.rings import blocks, find_rings, fourier
from caloforge.nn.normal import draw_below

BLOCK = 64  # cells drawn one after the other between two products of matrices
_SMALLEST = 1e-4  # eigenvalues of R are not smaller


class Correlation(nn.Module):
    """y = B c + R^(1/2) w.

    Parameters
    ----------
    permutations
        The symmetries, each (V,): the identity at least.
    context
        K, how many variables y depends on.
    knots
        Most energies at which matrices are kept.
    shifts
        Whether means and variances of y are found too, at each knot; else they are 0 and 1. The
        mean is the part of B of one more variable of the context, which always is 1.
    """

    knots: Tensor
    used: Tensor
    slope: Tensor
    values: Tensor
    root: Tensor
    pairs: Tensor
    hats: Tensor
    order: Tensor
    back: Tensor
    fourier: Tensor
    still: Tensor
    waves: Tensor

    def __init__(
        self,
        permutations: Sequence[np.ndarray],
        context: int,
        knots: int,
        shifts: bool = False,
    ) -> None:
        super().__init__()
        self.shifts, context = shifts, context + shifts
        size = len(permutations[0])
        numbers = pair_orbits(permutations)
        pairs, self.rings = torch.from_numpy(numbers), find_rings(permutations, numbers)
        self.size, self.group_seen = size, list(permutations)
        everything = np.arange(size, size + context)
        self.group = [np.concatenate([p, everything]) for p in permutations]
        self.register_buffer("pairs", pairs, persistent=False)
        self.register_buffer("knots", torch.arange(knots).float())
        self.register_buffer("used", torch.tensor(1))
        self.register_buffer("hats", hats(knots), persistent=False)
        self.register_buffer("slope", torch.zeros(knots, size, context))
        start = torch.zeros(knots, int(pairs.max()) + 1)
        start[:, torch.unique(pairs.diagonal())] = 1.0
        self.register_buffer("values", start)
        self.register_buffer("root", start[:, pairs], persistent=False)
        if self.rings is not None:
            order = torch.from_numpy(self.rings.order)
            self.register_buffer("order", order, persistent=False)
            self.register_buffer("back", order.argsort(), persistent=False)
            transform = fourier(len(self.rings.turned)).float()
            self.register_buffer("fourier", transform, persistent=False)
            self.register_buffer("still", torch.empty(0), persistent=False)
            self.register_buffer("waves", torch.empty(0), persistent=False)
            self._split()
        self.register_load_state_dict_post_hook(_unfold)  # type: ignore[no-untyped-call]

    def unfold(self) -> None:
        """Make the whole matrices from the numbers that are stored of them."""
        self.root = self.values[:, self.pairs]
        if self.rings is not None:
            self._split()

    def _split(self) -> None:
        """Make the blocks of B and R^(1/2): those of frequency 0 (F + R, Q (F + R + K)) and those
        of all waves (A - 1, R, Q R), so that a sum over the knots is a part of the product.
        """
        assert self.rings is not None
        zero, waves = blocks(self.rings, self.root)
        bins, count = self.rings.turned.shape
        slope = self.slope[:, self.order]
        first, rest = torch.split(slope, [len(self.rings.fixed), bins * count], dim=1)
        # The same for all cells of a ring, or at frequency 0 nothing else would come out.
        rest = rest.reshape(len(slope), bins, count, -1).double().mean(dim=1) * bins**0.5
        zero = torch.cat([zero, torch.cat([first, rest.float()], dim=1)], dim=2)
        self.still = zero.permute(1, 0, 2).flatten(1).contiguous()
        self.waves = waves.permute(1, 3, 0, 2).flatten(2).contiguous()

    # --- use ----------------------------------------------------------------------------------
    def weights(self, log_energy: Tensor) -> Tensor:
        """Share that the matrices of each knot have in those of a shower, (N, Q)."""
        knots = self.knots
        rise = (log_energy[:, None] - knots[:-1]) / (knots[1:] - knots[:-1])
        return torch.addmm(self.hats[:1], rise.clamp(0, 1), self.hats[1:])

    def forward(self, w: Tensor, context: Tensor, log_energy: Tensor) -> Tensor:
        """y (N, V) from white noise w (N, V) and the context (N, K)."""
        if self.shifts:
            context = nn.functional.pad(context, (0, 1), value=1.0)
        if self.rings is not None:
            return self._by_rings(w, context, log_energy)
        if len(self.knots) == 1:
            return w @ self.root[0] + context @ self.slope[0].T
        share = self.weights(log_energy)
        if not torch.compiler.is_exporting():
            distinct, group = torch.unique(log_energy, return_inverse=True)
            if len(distinct) * 8 < len(w) or len(distinct) == 1:
                return self._grouped(w, context, share, group, len(distinct))
        y = _outer(share, w) @ self.root.flatten(0, 1)
        if context.shape[1]:
            y = y + _outer(share, context) @ self.slope.mT.flatten(0, 1)
        return y

    def _by_rings(self, w: Tensor, context: Tensor, log_energy: Tensor) -> Tensor:
        """y as `forward` gives it, by the blocks of `rings`. Inside, cells are the slow axis and
        showers the fast one.
        """
        assert self.rings is not None
        bins, count = self.rings.turned.shape
        alone = len(self.rings.fixed)
        x = w.T.index_select(0, self.order)
        fixed, turned = torch.split(x, [alone, bins * count])
        turned = (self.fourier @ turned.reshape(bins, -1)).reshape(bins, count, -1)
        zero, rest = torch.cat([fixed, turned[0], context.T]), turned[1:]
        if len(self.knots) == 1:
            zero, rest = self.still @ zero, torch.matmul(self.waves, rest)
        elif not torch.compiler.is_exporting() and bool((log_energy == log_energy[:1]).all()):
            part = self.weights(log_energy[:1])[0]
            still = self.still.reshape(alone + count, len(part), -1)
            waves = self.waves.reshape(bins - 1, count, len(part), count)
            zero = torch.einsum("ijk,j->ik", still, part) @ zero
            rest = torch.matmul(torch.einsum("fijk,j->fik", waves, part), rest)
        elif torch.compiler.is_exporting():
            zero, rest = self._between(zero, rest, self.weights(log_energy).T, 0, len(self.knots))
        else:
            zero, rest = self._in_order(zero, rest, self.weights(log_energy).T)
        first, ring = torch.split(zero, [alone, count])
        turned = torch.cat([ring[None], rest])
        turned = (self.fourier.T @ turned.reshape(bins, -1)).reshape(bins * count, -1)
        return torch.cat([first, turned]).T.index_select(1, self.back)

    def _between(
        self, zero: Tensor, rest: Tensor, share: Tensor, begin: int, end: int
    ) -> tuple[Tensor, Tensor]:
        """Products with the blocks of the knots from `begin` to `end`, weighted with their share
        (Q, N).
        """
        share = share[begin:end, None]
        size, width = zero.shape[0], rest.shape[1]
        still = self.still[:, begin * size : end * size]
        waves = self.waves[:, :, begin * width : end * width]
        zero = (share * zero).flatten(0, 1)
        rest = (share * rest[:, None]).flatten(1, 2)
        return still @ zero, torch.matmul(waves, rest)

    def _in_order(self, zero: Tensor, rest: Tensor, share: Tensor) -> tuple[Tensor, Tensor]:
        """The products of `_between`, for each shower with its two knots alone: showers between
        the same two are brought together.
        """
        low = (share > 0).int().argmax(dim=0).clamp(max=len(share) - 2)
        counts = torch.bincount(low, minlength=len(share) - 1).tolist()
        order = low.argsort()
        back = order.argsort()
        sorts = (t.index_select(-1, order) for t in (zero, rest, share))
        parts = (torch.split(t, counts, dim=-1) for t in sorts)
        pieces = [
            self._between(a, b, c, begin, begin + 2)
            for begin, (a, b, c) in enumerate(zip(*parts, strict=True))
            if counts[begin]
        ]
        zero, rest = (torch.cat(part, dim=-1) for part in zip(*pieces, strict=True))
        return zero.index_select(-1, back), rest.index_select(-1, back)

    def _grouped(
        self, w: Tensor, context: Tensor, share: Tensor, group: Tensor, count: int
    ) -> Tensor:
        """The products of `_between`, one for each energy of a scan."""
        y = torch.empty_like(w)
        for k in range(count):
            rows = (group == k).nonzero()[:, 0]
            part = share[rows[0]]
            root, slope = (torch.einsum("q,qij->ij", part, m) for m in (self.root, self.slope))
            y[rows] = w[rows] @ root + context[rows] @ slope.T
        return y

    def seen(self, w: Tensor) -> Tensor:
        """What the remainder sees of white noise (N, V): all of it."""
        return w

    def changed(self, w: Tensor, change: Tensor) -> Tensor:
        """White noise (N, V) after a change (N, V) of what is seen of it."""
        return w + change

    # --- fitting ------------------------------------------------------------------------------
    @torch.no_grad()
    def fit(
        self, cells: Censored, log_energy: Tensor, rng: torch.Generator, settings: Sweeps
    ) -> tuple[Tensor, Tensor]:
        """Set the matrices from cells and context, (N, V + K).

        Returns white noise (N, D, V) and contexts (N, D, K) of D draws of the empty cells.
        """
        size, (enough, sweeps, draws, shrink) = self.root.shape[1], settings
        if self.shifts:
            cells = cells.beside(known(torch.ones_like(cells.y[:, :1])))
        groups = energy_groups(log_energy, len(self.knots), enough)
        self._place_knots(log_energy, groups)
        y = cells.filled(rng)
        white = torch.empty(len(y), draws, size)
        context = torch.empty(len(y), draws, y.shape[1] - size)
        for knot, rows in enumerate(groups):
            part, hole, below = y[rows], cells.empty[rows], cells.threshold[rows]
            kept = []
            matrix = self._moments(part, shrink)
            for sweep in range(1, sweeps + 3 * draws + 1):
                fill(part, hole, below, torch.linalg.inv(matrix).float(), rng)
                # The first half of the sweeps finds the place, the mean of all others is kept: a
                # matrix of a single draw would have its noise.
                weight = 1 / max(1, sweep - sweeps // 2)
                matrix = (1 - weight) * matrix + weight * self._moments(part, shrink)
                if sweep > sweeps and (sweep - sweeps) % 3 == 0:
                    kept.append(part.clone())
            slope, root = split(matrix, size)
            self.slope[knot], self.values[knot] = slope.float(), self._folded(root)
            inverse = torch.linalg.inv(root)
            for k, full in enumerate(kept):
                rest = full[:, :size].double() - full[:, size:].double() @ slope.T
                white[rows, k] = (rest @ inverse).float().cpu()
                context[rows, k] = full[:, size:].cpu()
        for knot in range(len(groups), len(self.knots)):
            self.slope[knot], self.values[knot] = self.slope[knot - 1], self.values[knot - 1]
        self.unfold()
        return white, context[..., : context.shape[2] - self.shifts]

    def _place_knots(self, log_energy: Tensor, groups: list[Tensor]) -> None:
        means = torch.stack([log_energy[rows].mean() for rows in groups])
        beyond = means[-1] + 1.0 + torch.arange(len(self.knots) - len(groups)).to(means)
        self.knots.copy_(torch.cat([means, beyond]))
        self.used.fill_(len(groups))

    def _moments(self, y: Tensor, shrink: float) -> Tensor:
        """The correlation matrix of completed showers, averaged over the symmetries; that of their
        second moments where means and variances are found.
        """
        plain = (y.T @ y).double() / len(y)
        mean = torch.zeros_like(plain)
        for p in self.group:
            index = torch.from_numpy(p).to(y.device)
            mean += plain[index][:, index] / len(self.group)
        scale = mean.diagonal().rsqrt()
        matrix = (1 - shrink) * mean * scale[:, None] * scale
        matrix.diagonal().fill_(1.0)
        return matrix / scale[:, None] / scale if self.shifts else matrix

    def _folded(self, root: Tensor) -> Tensor:
        flat = self.pairs.flatten()
        total = torch.zeros(self.values.shape[1], dtype=root.dtype, device=root.device)
        total.index_add_(0, flat, root.flatten())
        return (total / torch.bincount(flat, minlength=len(total))).float()


def hats(knots: int) -> Tensor:
    """The matrix (Q, Q) that makes the share of each knot of how far an energy is from one knot to
    the next, 0 to 1, between all neighbours (N, Q - 1): its first row is to be added.
    """
    change = torch.eye(knots).roll(1, 1) - torch.eye(knots)
    return torch.cat([torch.eye(1, knots), change[:-1]])


def _outer(share: Tensor, x: Tensor) -> Tensor:
    """x (N, M) times the share (N, Q) of each knot, (N, Q M)."""
    return (share[:, :, None] * x[:, None]).flatten(1)


def _unfold(module: Correlation, _: Any) -> None:
    module.unfold()


def energy_groups(log_energy: Tensor, most: int, enough: int) -> list[Tensor]:
    """Showers in groups of increasing energy, at least `enough` in each: the energies of a scan,
    the sparse ones with those above them, or as many parts of a spectrum.
    """
    distinct, owner = torch.unique(log_energy, return_inverse=True)
    if len(distinct) > 64:
        count = max(1, min(most, len(log_energy) // (4 * enough)))
        order = log_energy.argsort()
        return [part.sort().values for part in order.tensor_split(count)]
    groups: list[Tensor] = []
    left = len(log_energy)  # showers of this energy and all above
    for k in range(len(distinct)):
        rows = (owner == k).nonzero()[:, 0]
        if groups and (len(groups[-1]) < enough or left < enough or len(groups) == most):
            groups[-1] = torch.cat([groups[-1], rows])
        else:
            groups.append(rows)
        left -= len(rows)
    return groups


@torch.no_grad()
def fill(
    y: Tensor, empty: Tensor, threshold: Tensor, precision: Tensor, rng: torch.Generator
) -> None:
    """Draw every empty variable given all others, one after the other, in place: a Gibbs sweep."""
    for start in range(0, y.shape[1], BLOCK):
        columns = slice(start, min(start + BLOCK, y.shape[1]))
        product = y @ precision[:, columns]
        level = torch.rand(product.shape, generator=rng, device=y.device).clamp(min=1e-7)
        block = precision[columns, columns]
        for k in range(product.shape[1]):
            hole = empty[:, start + k]
            if not hole.any():
                continue
            variance = 1 / block[k, k]
            now = y[:, start + k]
            mean, sigma = now - product[:, k] * variance, variance.sqrt()
            drawn = mean + sigma * draw_below(
                (threshold[:, start + k] - mean) / sigma, level[:, k]
            )
            change = torch.where(hole, drawn - now, 0.0)
            y[:, start + k] += change
            product[:, k:] += change[:, None] * block[k, k:]


def split(matrix: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """B and R^(1/2) of the first `size` variables given the others, from their joint matrix."""
    rest = matrix[:size, :size]
    slope = matrix.new_zeros(size, matrix.shape[1] - size)
    if matrix.shape[1] > size:
        slope = torch.linalg.solve(matrix[size:, size:], matrix[size:, :size]).T
        rest = rest - slope @ matrix[size:, :size]
    value, vector = torch.linalg.eigh(rest)
    return slope, (vector * value.clamp(min=_SMALLEST).sqrt()) @ vector.T


__all__ = ["Correlation", "energy_groups", "fill", "hats", "split"]
