"""Marginals as tables over the incident energy: for showers that differ by energy alone.

A value x > 0 (a cell, a layer) of a shower of energy E is mapped to a normal number y. With fill
probability p and the quantile function q of log x where x > 0,

    filled: y = Phi^-1(1 - p + p q^-1(log x));    empty: y <= t = Phi^-1(1 - p).

The tables hold t and the values of log x at y = t + s^2 (`HIGHEST` - t) for equal steps of s from
0 to 1, close together above the threshold, where the edge of the spectrum is. They are kept at
points in log E, between which both are interpolated linearly. Cells that symmetries carry into
each other share a table. At a point with few showers, threshold and values are those of a straight
line in log E through the points around it (local linear regression), so that sparse energies are
carried by their neighbours.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from torch import Tensor, nn

from caloforge.models.copula.correlation import hats
from caloforge.models.copula.given import Given
from caloforge.nn.normal import mean_below

Array = NDArray[Any]

HIGHEST = 5.0  # standard deviations: one number in three million lies beyond
REACH = 1.5  # of the kernel, in units of the distance of the farthest point that is needed
FEW = 60  # showers that a point of a spectrum has at least
_NEAR = 1e-4  # of the way to the next point: rounding of an energy that is at a point
_UNUSED = -60.0  # log of nothing
_STRIDE = 2000  # showers whose places are looked up at a time
_NARROWEST = 1e-9  # difference of two neighbours in a table, so that one can divide by it
_FAR, _PARABOLAS = 8.0, 256  # thresholds are between these; pieces of `_mean_below`


class Tables(nn.Module):
    """Thresholds and quantiles of M variables at points in log E.

    Shapes: values, y (N, M).

    Parameters
    ----------
    groups
        (M,) the number of the table of each variable.
    kinds
        Number of classes, each with tables of its own.
    points, steps
        Most energies with tables, and values in each.
    """

    knots: Tensor
    threshold: Tensor
    values: Tensor
    group: Tensor
    inverse: Tensor
    hats: Tensor
    levels: Tensor
    pieces: Tensor
    first: Tensor

    def __init__(self, groups: Array, kinds: int, points: int, steps: int) -> None:
        super().__init__()
        count = int(groups.max()) + 1
        self.steps = steps
        self.register_buffer("knots", torch.arange(points).float().repeat(kinds, 1))
        self.register_buffer("threshold", torch.zeros(kinds, points, count))
        self.register_buffer("values", torch.zeros(kinds, points, count, steps))
        self.register_buffer("group", torch.from_numpy(groups.copy()).long(), persistent=False)
        # Squares of the first and last place in a table: its last step has one after it.
        self.inside = (1e-12 * (steps - 1) ** 2, (steps - 1.001) ** 2)
        self.each = bool((groups == np.arange(len(groups))).all())
        # What `_prepare` makes of the tables.
        first = torch.from_numpy(groups * steps).int()
        for name, start in (
            ("inverse", torch.ones(kinds, points - 1)),
            ("hats", hats(points)),
            ("levels", torch.zeros(kinds * points, 2 * len(groups))),
            ("pieces", torch.zeros(4, kinds * points * count * steps)),
            ("first", first),
        ):
            self.register_buffer(name, start, persistent=False)
        self._prepare()
        self.register_load_state_dict_post_hook(_prepared)  # type: ignore[no-untyped-call]

    def _prepare(self) -> None:
        """Make what sampling needs of the tables, so that it has less to do for each shower."""
        knots, threshold, values = self.knots, self.threshold, self.values.double()
        self.inverse = 1 / (knots[:, 1:] - knots[:, :-1])
        # Threshold of each variable, and how far it is from there to `HIGHEST`, for equal steps.
        lowest = threshold.flatten(0, 1)[:, self.group]
        self.levels = torch.cat([lowest, (HIGHEST - lowest) / (self.steps - 1) ** 2], dim=1)
        # Values change linearly from step to step and from point to point:
        # value + a part + way (b + c part).
        step, point = torch.zeros_like(values), torch.zeros_like(values)
        step[..., :-1] = values.diff(dim=3)
        point[:, :-1] = values.diff(dim=1)
        both = torch.zeros_like(values)
        both[..., :-1] = point.diff(dim=3)
        self.pieces = torch.stack([values, step, point, both]).flatten(1).float()

    # --- use ----------------------------------------------------------------------------------
    def _rise(self, given: Given) -> Tensor:
        """How far each energy is from one point to the next, 0 to 1, between all neighbours: 1 for
        those below, 0 for those above, (N, P - 1).
        """
        several = len(self.knots) > 1
        knots = self.knots[given.kind] if several else self.knots
        inverse = self.inverse[given.kind] if several else self.inverse
        rise = ((given.log_energy[:, None] - knots[:, :-1]) * inverse).clamp(0, 1)
        return torch.where(rise < _NEAR, 0.0, rise)

    def _weights(self, rise: Tensor, given: Given) -> Tensor:
        """Share of each point of each class in the tables of a shower, (N, classes times P)."""
        share = torch.addmm(self.hats[:1], rise, self.hats[1:])
        kinds = len(self.knots)
        if kinds == 1:
            return share
        of_kind = nn.functional.one_hot(given.kind, kinds).to(share)
        return (of_kind[:, :, None] * share[:, None]).flatten(1)

    def _levels(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Threshold of each variable and the square of the first of the steps from there to
        `HIGHEST`, both (N, M).
        """
        threshold, span = (weights @ self.levels).chunk(2, dim=1)
        return threshold, span

    def _between(self, rise: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """Where the tables of the point below each energy begin in `pieces`, (N, M), and how far
        the energy is from there to the next point, (N, 1).
        """
        whole = (rise >= 1).to(rise)
        point, way = whole.sum(dim=1).int(), (rise - whole).sum(dim=1, keepdim=True)
        points, count = self.threshold.shape[1:]
        if len(self.knots) > 1:
            point = given.kind.int() * points + point
        return self.first + point[:, None] * (count * self.steps), way

    def thresholds(self, given: Given) -> Tensor:
        """Phi^-1(1 - p) of each variable, (N, M)."""
        return self._levels(self._weights(self._rise(given), given))[0]

    def decode(self, y: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """Logarithms of the values, and how far y is above its threshold: below it, the value is
        0 and its logarithm means nothing.
        """
        rise = self._rise(given)
        threshold, span = self._levels(self._weights(rise, given))
        above = y - threshold
        place = (above / span).clamp(*self.inside).sqrt()
        node = place.floor()
        part = place - node
        start, way = self._between(rise, given)
        row = node.int() + start
        # All at the energies of a scan: nothing comes from the next point.
        between = torch.compiler.is_exporting() or bool((way > 0).any())
        pieces = self.pieces if between else self.pieces[:2]
        here = pieces.index_select(1, row.flatten()).reshape(len(pieces), *y.shape)
        parts = torch.split(here, 1)
        value = parts[0] + parts[1] * part
        if between:
            value = value + way * (parts[2] + parts[3] * part)
        return value[0], above

    def encode(self, x: Tensor, given: Given) -> Tensor:
        """y of values; for x = 0 the mean of what it may be."""
        y, threshold = self.place(x, given)
        below = _mean_below if torch.compiler.is_exporting() else mean_below
        return torch.where(x > 0, y, below(threshold))

    def place(self, x: Tensor, given: Given) -> tuple[Tensor, Tensor]:
        """y of values, whatever it is where x = 0, and the thresholds."""
        rise = self._rise(given)
        weights = self._weights(rise, given)
        threshold, span = self._levels(weights)
        logs = x.clamp(min=1e-26).log()
        find = self._place_by_sums if torch.compiler.is_exporting() else self._place_by_halving
        return threshold + find(logs, weights, rise, given).square() * span, threshold

    def _place_by_sums(self, logs: Tensor, weights: Tensor, rise: Tensor, given: Given) -> Tensor:
        """Place of logarithms (N, M) in their tables, counted in steps: few operators."""
        table = weights @ self.values.flatten(2).flatten(0, 1)
        table = table.reshape(-1, self.values.shape[2], self.steps)
        table = table if self.each else table[:, self.group]
        left, width = table[..., :-1], table.diff(dim=2).clamp(min=_NARROWEST)
        # The way through each step, 0 to 1, summed: how many steps lie below.
        return ((logs[..., None] - left) / width).clamp(0, 1).sum(dim=2)

    def _place_by_halving(
        self, logs: Tensor, weights: Tensor, rise: Tensor, given: Given
    ) -> Tensor:
        """Place of logarithms (N, M) by halving the table again and again: few numbers."""
        start, way = self._between(rise, given)
        pieces = self.pieces[::2]

        def value(node: Tensor) -> Tensor:
            """Value of each variable at a node of its table, (N, M)."""
            parts = pieces.index_select(1, (start + node).flatten()).reshape(2, *node.shape)
            return parts[0] + way * parts[1]

        low = torch.zeros_like(start.expand_as(logs))
        for power in reversed(range((self.steps - 1).bit_length())):
            node = (low + (1 << power)).clamp(max=self.steps - 2)
            # Of nodes with the same value the first, as the sums have it.
            low = torch.where(value(node) < logs, node, low)
        left = value(low)
        width = (value(low + 1) - left).clamp(min=_NARROWEST)
        return low + ((logs - left) / width).clamp(0, 1)

    # --- fitting ------------------------------------------------------------------------------
    @torch.no_grad()
    def fit(self, x: Array, kind: Array, log_energy: Array, enough: int) -> Array:
        """Set the tables from values (N, M).

        Returns y (N, M), by rank within each point, with the threshold where x = 0. In a spectrum
        what is ranked are the places in the tables, because the values themselves change with the
        energies between one point and the next. `enough` showers make a point stand for itself.
        A class that no shower has gets the tables of the one before it.
        """
        y = np.zeros(x.shape, dtype=np.float32)
        bins, scan = np.zeros(len(x), dtype=np.int64), True
        group, points = self.group.cpu().numpy(), self.knots.shape[1]
        members = [np.flatnonzero(group == g) for g in range(group.max() + 1)]
        for number in range(self.knots.shape[0]):
            rows = np.flatnonzero(kind == number)
            if number and not len(rows):
                for buffer in (self.knots, self.threshold, self.values):
                    buffer[number] = buffer[number - 1]
                continue
            knots = choose_knots(log_energy[rows], points)
            nearest = np.abs(log_energy[rows][:, None] - knots).argmin(axis=1)
            bins[rows] = number * points + nearest
            scan = scan and np.abs(log_energy[rows] - knots[nearest]).max(initial=0.0) < _NEAR
            table = _Table(len(knots), len(members), self.steps)
            for point in range(len(knots)):
                inside = rows[nearest == point]
                for g, cells in enumerate(members):
                    y[np.ix_(inside, cells)] = table.fill(point, g, x[np.ix_(inside, cells)])
            threshold, values = table.smooth(knots, np.bincount(nearest), enough)
            last = points - len(knots)
            beyond = knots[-1] + 1.0 + np.arange(last)
            for buffer, content in (
                (self.knots, np.concatenate([knots, beyond])),
                (self.threshold, np.concatenate([threshold, threshold[-1:].repeat(last, 0)])),
                (self.values, np.concatenate([values, values[-1:].repeat(last, 0)])),
            ):
                buffer[number] = torch.from_numpy(content).to(buffer)
        self._prepare()
        return y if scan else self._ranked(x, kind, log_energy, bins, members)

    def _ranked(
        self, x: Array, kind: Array, log_energy: Array, bins: Array, members: list[Array]
    ) -> Array:
        """y of values (N, M) by the rank of their places in the tables, among the showers of each
        bin and the cells of each table; the threshold at the shower's own energy where x = 0.
        """
        y, threshold = (np.empty(x.shape, dtype=np.float32) for _ in range(2))
        for rows in np.array_split(np.arange(len(x)), max(1, len(x) // _STRIDE)):
            energy, values = (torch.from_numpy(a[rows]).float() for a in (log_energy, x))
            given = Given(values[:, :0], energy, torch.from_numpy(kind[rows]).long())
            for where, place in zip((y, threshold), self.place(values, given), strict=True):
                where[rows] = place.numpy()
        share = ndtr(-threshold)  # of filled values
        for point in np.unique(bins):
            inside = np.flatnonzero(bins == point)
            for cells in members:
                block = np.ix_(inside, cells)
                full = x[block] > 0
                rank = np.empty(int(full.sum()))
                rank[np.argsort(y[block][full], kind="stable")] = np.arange(len(rank)) + 0.5
                level = share[block][full] * (1 - rank / max(len(rank), 1))
                at_point = threshold[block]
                at_point[full] = -ndtri(np.clip(level, 1e-9, 1.0))
                y[block] = at_point
        return y


def _prepared(module: Tables, _: Any) -> None:
    module._prepare()


def _mean_below(threshold: Tensor) -> Tensor:
    """`mean_below` to 2e-6 for thresholds up to `_FAR` from 0, with a fifth of the operators: in
    an exported graph one on a few numbers costs as much as one on hundreds.

    A parabola between any two neighbours of a grid, through their values and that in the middle.
    """
    start = torch.linspace(-_FAR, _FAR, 2 * _PARABOLAS + 1, dtype=torch.float64)
    value = mean_below(start)
    low, middle, high = value[:-2:2], value[1::2], value[2::2]
    bend = 2 * (low + high) - 4 * middle
    size = _PARABOLAS / (2 * _FAR)
    part = (threshold[..., None] * size - (start[:-2:2] * size).float()).clamp(0, 1)
    straight, bend = (t.float()[:, None] for t in (high - low - bend, bend))
    return (part @ straight + part.square() @ bend)[..., 0] + value[0].float()


def choose_knots(log_energy: Array, most: int) -> Array:
    """Energies at which tables are kept: those of a scan, or points of a spectrum that have the
    same number of showers between them.
    """
    knots = np.unique(log_energy.astype(np.float32)).astype(np.float64)
    if len(knots) > most:
        count = int(np.clip(len(log_energy) // FEW, 2, most))
        edges = np.quantile(log_energy, (np.arange(count) + 0.5) / count)
        knots = np.unique(edges)
    return knots if len(knots) > 1 else np.append(knots, knots + 1.0)


class _Table:
    """Thresholds and quantiles as they are at each point, before they are smoothed."""

    def __init__(self, points: int, groups: int, steps: int) -> None:
        self.threshold = np.zeros((points, groups))
        self.values = np.full((points, groups, steps), _UNUSED)
        self.seen, self.filled = np.zeros((points, groups)), np.zeros((points, groups))

    def fill(self, point: int, group: int, x: Array) -> Array:
        """Set one table from the values of its variables; returns their y."""
        full = x > 0
        count = int(full.sum())
        p = np.clip(count / max(x.size, 1), 0.5 / max(x.size, 1), 1 - 1e-6)
        threshold = ndtri(1 - p)
        self.threshold[point, group] = threshold
        self.seen[point, group], self.filled[point, group] = x.size, count
        y = np.full(x.shape, threshold)
        if count:
            logs = np.log(x[full])
            order = np.argsort(logs, kind="stable")
            # Above ranks from 1 - p on; Phi(-y) is exact where 1 - Phi(y) is not.
            rank = np.empty(count)
            rank[order] = (np.arange(count) + 0.5) / count
            y[full] = -ndtri(np.clip(p * (1 - rank), 1e-9, 1.0))
            steps = self.values.shape[2]
            grid = threshold + np.linspace(0, 1, steps) ** 2 * (HIGHEST - threshold)
            wanted = 1 - ndtr(-grid) / p
            self.values[point, group] = np.interp(
                wanted, (np.arange(count) + 0.5) / count, logs[order]
            )
        return y

    def smooth(self, knots: Array, showers: Array, enough: int) -> tuple[Array, Array]:
        """Thresholds (P, G) and values (P, G, S) where each point has `enough` showers, its own or
        its neighbours'.
        """
        showers = np.pad(showers, (0, len(knots) - len(showers)))
        threshold, values = np.empty_like(self.threshold), np.empty_like(self.values)
        for point, knot in enumerate(knots):
            away = np.abs(knots - knot)
            width = 1e-6
            # A point with few showers takes two neighbours at least: a line needs them.
            for candidate in np.sort(away)[1:]:
                near = away <= width
                if showers[near].sum() >= enough and (near.sum() != 2 or len(knots) == 2):
                    break
                width = candidate
            kernel = np.maximum(1 - (away / (REACH * width)) ** 2, 0.0)
            threshold[point] = _straight(knots - knot, kernel[:, None] * self.seen, self.threshold)
            values[point] = _straight(knots - knot, kernel[:, None] * self.filled, self.values)
        return threshold, np.maximum.accumulate(values, axis=2)


def _straight(x: Array, weight: Array, y: Array) -> Array:
    """The value at x = 0 of the straight line through y (P, G) or (P, G, S) at x (P,), by least
    squares with weights (P, G); the mean where only one point has weight.
    """
    total = weight.sum(axis=0) + 1e-12
    share = weight / total
    mean = (share * x[:, None]).sum(axis=0)
    centred = x[:, None] - mean
    spread = (share * centred**2).sum(axis=0)
    lever = np.where(spread > 1e-6, -mean / np.maximum(spread, 1e-6), 0.0)
    factor = share * (1 + lever * centred)
    extra = factor[..., None] if y.ndim == 3 else factor
    line: Array = (extra * y).sum(axis=0)
    # Not beyond what any of these points has: lines through few showers point anywhere.
    there = (weight > 0).reshape(weight.shape + (1,) * (y.ndim - 2))
    low = np.where(there, y, np.inf).min(axis=0)
    high = np.where(there, y, -np.inf).max(axis=0)
    line = np.minimum(np.maximum(line, low), np.maximum(high, low))
    nobody = weight.sum(axis=0) <= 0
    if nobody.any():  # no shower anywhere near: what the nearest point with any has
        for g in np.flatnonzero(nobody):
            known = np.abs(x) + np.where(y[:, g].reshape(len(x), -1)[:, 0] > _UNUSED, 0, 1e3)
            line[g] = y[known.argmin(), g]
    return line
