"""Parametrisation: a baseline designed by hand after FastCaloSim, fitted in seconds without a GPU.

Reference: ATLAS collaboration, "AtlFast3: the next generation of fast simulation in ATLAS", 2021,
arXiv:2109.02551 (Sec. 4: parametrisation of the longitudinal and the lateral development).

Layer energies. At each point (a class and an energy) the pull of the total energy and the share of
each layer are made Gaussian by their cumulative distributions; the first principal component of
the Gaussians cuts the showers into bins of equal probability; in each bin the variables are made
Gaussian again and rotated to principal components, which are drawn independently.
Cells. In each bin a mean lateral shape (`lateral.py`): Gaussians about the particle's
axis, integrated over the cells, or a histogram over the voxels. Whether a
cell is empty, and else its energy, is drawn from the distribution that cells of the same mean
energy have (`spectra.py`); then the cells of a layer are scaled to the layer's energy.
Between points. The neighbour is drawn with a probability linear in log E; the mean response is
interpolated linearly in log E, and its deviation carried over in proportion to sqrt(E).

Differs from the paper:
- AtlFast3 splits a layer's energy into hits, a random number of them. Here every cell has one
  number of its own, so that the noise has a fixed size and the parametrisation can be exported;
  empty cells, hits and shower fluctuations are all in the distribution of a cell's energy.
- The lateral shape of read-outs with an impact is a sum of Gaussians instead of a histogram in
  distance and angle: no cells finer than those read out are needed to fit it.
- No slices in pseudorapidity, no wiggle of cell boundaries: the read-outs here are flat.

Shapes: condition (N, C), noise (N, 3 + L + V): neighbour, bin, components, cells.

Example
-------
>>> import torch
>>> from caloforge.data import read_showers, sample_path
>>> from caloforge.models.base import Batch
>>> showers = read_showers(sample_path("ds1-photons-test"))
>>> model = Parametrisation(showers.geometry, hyper=ParametrisationHyper(points=15))
>>> energies, condition = (torch.from_numpy(a).float() for a in (showers.energies,
...     showers.conditions))
>>> numbers = model.fit([Batch(energies, condition)])
>>> noise = torch.randn(2000, model.noise_size, generator=torch.Generator().manual_seed(0))
>>> mean = model.sample(torch.full((2000, 1), 65536.0), noise).sum(dim=1).mean()
>>> expected = energies[condition[:, 0] == 65536.0].sum(dim=1).mean()
>>> bool((mean / expected - 1).abs() < 0.01)
True
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.base import Batch, Fit, ShowerModel
from caloforge.models.hyper import Hyper
from caloforge.models.parametrisation.lateral import lateral_shape
from caloforge.models.parametrisation.quantiles import (
    SCORES,
    look_up,
    normal_scores,
    principal_components,
    quantile_table,
)
from caloforge.models.parametrisation.spectra import MEANS, WIDTH, draw, tabulate
from caloforge.nn.normal import cdf
from caloforge.transforms import IncidentFraction, Transform, response_curve

KNOTS = 16  # energies between which the response curve is linear
MOST = 2000  # showers of a point that its lateral shape is fitted to
CELLS = 1 << 22  # cells made at a time: bounds the memory of finely segmented read-outs
# Smallest sum of shares, and mean energy of a cell in MeV, that is divided by or whose logarithm
# is taken: none of them is ever as small, unless it is empty.
LEAST_SHARE, LEAST_MEAN = 1e-12, 1e-20
LEAST_LEVEL = 1e-7  # of a uniform number: keeps the logarithm of its logarithm finite


@dataclass(frozen=True)
class ParametrisationHyper(Hyper):
    """Hyper-parameters of `Parametrisation`."""

    points: Annotated[int, Field(ge=2)] = 16
    """Most energies at which tables are kept: the energies of a scan, or intervals of a
    spectrum."""
    bins: PositiveInt = 5
    """Number of bins of the first principal component."""
    minimum: PositiveInt = 40
    """How many showers a point and a bin must have: neighbouring points, and bins, are joined
    until they do."""
    gaussians: PositiveInt = 10
    """Number of widths of the Gaussians of the lateral shape, for read-outs with an impact."""
    depths: PositiveInt = 4
    """Number of depths of these Gaussians along an inclined axis."""


class Parametrisation(ShowerModel):
    """FastCaloSim-like: tables of quantiles, principal components, lateral shapes."""

    hyper_class = ParametrisationHyper
    not_dense = "looks up tables"
    log_energy: Tensor
    knots: Tensor
    response: Tensor
    tables: Tensor
    rotation: Tensor
    shape: Tensor
    cells: Tensor
    log_mean: Tensor
    floor: Tensor
    layer: Tensor

    def __init__(
        self,
        geometry: Geometry,
        transform: Transform | None = None,
        hyper: ParametrisationHyper | None = None,
    ) -> None:
        hyper = hyper or ParametrisationHyper()
        super().__init__(geometry, transform or IncidentFraction(geometry, 0.0, 0), hyper)
        points, bins = hyper.points, hyper.bins
        self.points, self.bins, self.minimum = points, bins, hyper.minimum
        self.lateral = lateral_shape(geometry, hyper.gaussians, hyper.depths)
        shifts = {layer.shift.condition for layer in geometry.layers if layer.shift is not None}
        self.categories = [
            (column, c.low, round(c.high - c.low) + 1)
            for column, c in enumerate(geometry.conditions)
            if c.scale == "category" and c.name not in shifts
        ]
        classes = math.prod(count for _, _, count in self.categories)
        layers, weights = geometry.n_layers, sum(self.lateral.sizes)
        sizes = {
            "log_energy": (classes, points),
            "knots": (classes, KNOTS),
            "response": (classes, KNOTS),
            "tables": (classes, points, bins, 1 + layers, SCORES),
            "rotation": (classes, points, bins, 1 + layers, 1 + layers),
            "shape": (classes, points, bins, weights),
            "cells": (classes, points, layers, MEANS, WIDTH),
            "log_mean": (classes, points, layers, 2),
            "floor": (),
        }
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size))
        # Before the fit: points in order, nothing divided by 0.
        self.log_energy += torch.arange(points)
        self.knots += torch.arange(KNOTS)
        self.log_mean[..., 1] = 1.0
        self.register_buffer(
            "layer", torch.from_numpy(geometry.layer_of_cell.copy()), persistent=False
        )

    @property
    def noise_size(self) -> int:
        """Z = 3 + L + V."""
        return 3 + self.geometry.n_layers + self.geometry.n_cells

    def phases(self) -> list[Fit]:
        """There is one fit, of all tables."""
        return [Fit("tables", lambda showers, _: self.fit(showers))]

    def kind(self, condition: Tensor) -> Tensor:
        """Class of each shower by its categories, (N,)."""
        kind = torch.zeros_like(condition[:, 0], dtype=torch.long)
        for column, low, count in self.categories:
            category = (condition[:, column] - low).round().long().clamp(0, count - 1)
            kind = kind * count + category
        return kind

    # --- sampling -----------------------------------------------------------------------------
    def sample(self, condition: Tensor, noise: Tensor, *, context: Tensor | None = None) -> Tensor:
        """See `ShowerModel.sample`."""
        size = max(1, CELLS // self.geometry.n_cells)
        if torch.compiler.is_exporting() or condition.shape[0] <= size:
            return self.make(condition, noise)
        pairs = zip(torch.split(condition, size), torch.split(noise, size), strict=True)
        return torch.cat([self.make(c, z) for c, z in pairs])

    def make(self, condition: Tensor, noise: Tensor) -> Tensor:
        """Showers (N, V) in MeV, all at once."""
        incident, kind = self.incident(condition)[:, 0], self.kind(condition)
        table = (kind, self._point(kind, incident.log(), noise[:, 0]), self._bin(noise[:, 1]))
        numbers = 1 + self.geometry.n_layers
        gaussian = torch.einsum("nij,nj->ni", self.rotation[table], noise[:, 2 : 2 + numbers])
        values = look_up(self.tables[table], gaussian)
        response = self._response(kind, incident.log()) + values[:, 0] / incident.sqrt()
        layers = self._layers(response.clamp(min=0) * incident, values[:, 1:].clamp(min=0))
        return self._cells(table, condition, layers, noise[:, 2 + numbers :])

    def _point(self, kind: Tensor, log_energy: Tensor, z: Tensor) -> Tensor:
        """One of the two points beside each energy, the upper one with a probability that grows
        linearly in log E between them.
        """
        points = self.log_energy[kind]
        low = ((log_energy[:, None] >= points).sum(dim=1) - 1).clamp(0, self.points - 2)
        below, above = (points.gather(1, k[:, None])[:, 0] for k in (low, low + 1))
        return low + (cdf(z) < (log_energy - below) / (above - below)).long()

    def _bin(self, z: Tensor) -> Tensor:
        return (cdf(z) * self.bins).long().clamp(max=self.bins - 1)

    def _response(self, kind: Tensor, log_energy: Tensor) -> Tensor:
        """Mean response at each energy, (N,): linear in log E, constant beyond the ends."""
        knots, means = self.knots[kind], self.response[kind]
        right = (log_energy[:, None] > knots).sum(dim=1, keepdim=True).clamp(1, KNOTS - 1)
        x0, x1 = knots.gather(1, right - 1), knots.gather(1, right)
        share = ((log_energy[:, None] - x0) / (x1 - x0)).clamp(0, 1)
        return torch.lerp(means.gather(1, right - 1), means.gather(1, right), share)[:, 0]

    def _layers(self, total: Tensor, shares: Tensor) -> Tensor:
        """Energies of the layers in MeV, (N, L); none below the floor."""
        for _ in range(2):
            shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=LEAST_SHARE)
            shares = torch.where(shares * total[:, None] < self.floor, 0.0, shares)
        return shares / shares.sum(dim=1, keepdim=True).clamp(min=LEAST_SHARE) * total[:, None]

    def _cells(
        self, table: tuple[Tensor, Tensor, Tensor], condition: Tensor, layers: Tensor, z: Tensor
    ) -> Tensor:
        """Energies of the cells, which add up to those of the layers."""
        kind, point, _ = table
        mean = self.lateral(self.shape[table], condition) * layers[:, self.layer]
        log_mean = mean.clamp(min=LEAST_MEAN).log()
        first, step = self.log_mean[kind, point][:, self.layer].unbind(dim=2)
        position = ((log_mean - first) / step).clamp(0, MEANS - 1)
        beyond = log_mean - first - position * step
        node = position.floor().clamp(max=MEANS - 2)
        number = (kind * self.points + point)[:, None] * self.geometry.n_layers + self.layer
        row, part = (number * MEANS + node.long()) * WIDTH, position - node
        cells = draw(self.cells.flatten(), row, part, beyond, z) * self.floor
        for _ in range(2):
            empty = (self._sums(cells) <= 0)[:, self.layer]
            cells = torch.where(empty, self._spots(log_mean, z), cells)
            cells = cells * (layers / self._sums(cells).clamp(min=LEAST_MEAN))[:, self.layer]
            cells = torch.where(cells < self.floor, 0.0, cells)
        return cells * (layers / self._sums(cells).clamp(min=LEAST_MEAN))[:, self.layer]

    def _sums(self, cells: Tensor) -> Tensor:
        size = (cells.shape[0], self.geometry.n_layers)
        return cells.new_zeros(size).index_add(1, self.layer, cells)

    def _spots(self, log_mean: Tensor, z: Tensor) -> Tensor:
        """One cell of each layer, drawn with the probability of its mean share: where the energy
        goes when all cells came out empty. The largest of log mean + Gumbel noise is such a draw.
        """
        level = cdf(z).clamp(LEAST_LEVEL, 1 - LEAST_LEVEL)
        score = log_mean - (-level.log()).log()
        spots = [
            (part == part.amax(dim=1, keepdim=True)).to(z.dtype)
            for part in (score[:, where] for where in self.geometry.slices)
        ]
        return torch.cat(spots, dim=1)

    # --- fitting ------------------------------------------------------------------------------
    @torch.no_grad()
    def fit(self, showers: Iterable[Batch]) -> dict[str, float]:
        """Set all tables from the showers; returns how many points and showers there were.

        Raises ModelError when a category has too few showers.
        """
        seen = [
            (self._sums(self._cut(batch.energies)), batch.condition, self._least(batch.energies))
            for batch in showers
        ]
        layers, condition = (torch.cat([s[k] for s in seen]) for k in (0, 1))
        self.floor.copy_(torch.stack([s[2] for s in seen]).min())
        kind, energy = self.kind(condition), self.incident(condition)[:, 0]
        used = 0
        for number in range(len(self.log_energy)):
            chosen = (kind == number).nonzero()[:, 0]
            if len(chosen) < self.minimum:
                raise ModelError(
                    f"Got {len(chosen)} training showers of category {number}; expected at least "
                    f"{self.minimum}: give more, or a smaller model.minimum."
                )
            pull = self._fit_response(number, energy[chosen], layers[chosen].sum(dim=1))
            group = _grouped(energy[chosen].log(), self.points, self.minimum)
            count = int(group.max()) + 1
            used += count
            for point in range(count):
                rows = chosen[group == point]
                shares = layers[rows] / layers[rows].sum(dim=1, keepdim=True).clamp(
                    min=LEAST_SHARE
                )
                values = torch.cat([pull[group == point][:, None], shares], dim=1)
                self.log_energy[number, point] = energy[rows].log().mean()
                bins = self._fit_layers(number, point, values)
                self._fit_cells(number, point, self._gather(showers, rows[:MOST]), bins[:MOST])
            self._repeat_last(number, count)
        return {"points": float(used), "showers": float(len(layers))}

    def _cut(self, energies: Tensor) -> Tensor:
        return torch.where(energies < self.geometry.cut, 0.0, energies)

    def _least(self, energies: Tensor) -> Tensor:
        """Smallest energy of a cell that counts."""
        kept = self._cut(energies)
        return torch.where(kept > 0, kept, math.inf).min()

    def _gather(self, showers: Iterable[Batch], rows: Tensor) -> Batch:
        """The showers with these numbers, which increase."""
        start, parts = 0, []
        for batch in showers:
            end = start + len(batch.energies)
            here = rows[(rows >= start) & (rows < end)] - start
            parts.append(Batch(self._cut(batch.energies[here]), batch.condition[here]))
            start = end
        energies, condition = (torch.cat([p[k] for p in parts]) for k in (0, 1))
        return Batch(energies, condition)

    def _fit_response(self, kind: int, energy: Tensor, total: Tensor) -> Tensor:
        """The mean response; returns the pulls (E_total / E - mean) sqrt(E / MeV), (n,)."""
        response = (total / energy).double()
        knots, means = response_curve(energy.log().cpu(), response.cpu(), KNOTS)
        self.knots[kind] = knots
        self.response[kind] = means.float()
        kinds = torch.full_like(energy, kind, dtype=torch.long)
        mean = self._response(kinds, energy.log())
        return (response.float() - mean) * energy.sqrt()

    def _fit_layers(self, kind: int, point: int, values: Tensor) -> Tensor:
        """Tables and principal components of pull and shares (n, 1 + L); returns the bin of each
        shower, (n,): fewer than `bins` where there are few showers, and then some tables repeat.
        """
        count = max(1, min(self.bins, len(values) // self.minimum))
        gaussian = normal_scores(values)
        leading = gaussian @ principal_components(gaussian)[:, -1]
        depth = values[:, 1:] @ torch.arange(values.shape[1] - 1).to(values)
        leading = leading * torch.sign(((leading - leading.mean()) * (depth - depth.mean())).sum())
        bins = leading.argsort(stable=True).argsort() * count // len(values)
        for number in range(self.bins):
            members = values[bins == number * count // self.bins]
            self.tables[kind, point, number] = quantile_table(members)
            self.rotation[kind, point, number] = principal_components(normal_scores(members))
        return bins

    def _fit_cells(self, kind: int, point: int, showers: Batch, bins: Tensor) -> None:
        """Lateral shapes, and how cells fluctuate about them."""
        energies, condition = showers
        count = int(bins.max()) + 1
        shapes = torch.stack(
            [self.lateral.fit(energies[bins == b], condition[bins == b]) for b in range(count)]
        )
        self.shape[kind, point] = shapes[torch.arange(self.bins) * count // self.bins]
        mean = self.lateral(shapes[bins], condition) * self._sums(energies)[:, self.layer]
        for number, where in enumerate(self.geometry.slices):
            hit = mean[:, where] > LEAST_SHARE
            if hit.any():
                nodes, table = tabulate(mean[:, where][hit], energies[:, where][hit], self.floor)
                self.log_mean[kind, point, number] = nodes
                self.cells[kind, point, number] = table

    def _repeat_last(self, kind: int, count: int) -> None:
        """The last point once more for every one that is not used, at energies beyond it."""
        beyond = torch.arange(1, self.points - count + 1).to(self.log_energy)
        self.log_energy[kind, count:] = self.log_energy[kind, count - 1] + beyond
        for table in (self.tables, self.rotation, self.shape, self.cells, self.log_mean):
            table[kind, count:] = table[kind, count - 1]


def _grouped(log_energy: Tensor, points: int, minimum: int) -> Tensor:
    """Number of the point of each shower, (n,): every energy of a scan, or intervals of a spectrum
    with as many showers each; joined upwards until each has `minimum`.
    """
    values = torch.unique(log_energy)
    if len(values) <= points:
        index = torch.searchsorted(values, log_energy)
    else:
        inner = torch.linspace(0, 1, points + 1)[1:-1].to(log_energy)
        index = torch.bucketize(log_energy, torch.quantile(log_energy, inner))
    numbers, current, size = [], 0, 0
    counts = torch.bincount(index).tolist()
    for count in counts:
        if size >= minimum:
            current, size = current + 1, 0
        numbers.append(current)
        size += count
    if size < minimum and current:
        numbers = [min(number, current - 1) for number in numbers]
    return torch.tensor(numbers, device=log_energy.device)[index]
