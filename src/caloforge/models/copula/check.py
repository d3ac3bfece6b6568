"""Whether the marginals are right: the level u of every cell has to be uniform.

A filled cell has the level u = Phi(y), an empty one a random level below Phi(t). If the marginals
are those of the showers, u is uniform from 0 to 1 in every layer, at every condition and at every
distance from the particle's line. A remainder that is trained on wrong marginals would have to
learn them first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from caloforge.nn.normal import cdf

if TYPE_CHECKING:
    from caloforge.models.copula.model import Copula

BINS = 5  # of each condition, with the same number of showers
RINGS = 6  # of the distance from the line, with the same number of cells
STEPS = 50  # of u
FEW = 2000  # cells that a bin has at least


class Departure(NamedTuple):
    """The largest difference between the cumulative distribution of u and the straight line, in
    the `cells` cells for which `what` lies between `low` and `high`.
    """

    what: str
    low: float
    high: float
    cells: int
    distance: float


@torch.no_grad()
def departures(
    model: Copula, energies: Tensor, condition: Tensor, rng: torch.Generator
) -> list[Departure]:
    """How far u is from uniform in bins of layer, condition and distance from the line, the worst
    bin first, for showers (N, V) in MeV at conditions (N, C).
    """
    given = model.given(condition)
    y, threshold = model.cells.place(energies, given)
    level = torch.rand(y.shape, generator=rng, device=y.device)
    u = torch.where(energies > 0, cdf(y), level * cdf(threshold))
    place = (u * STEPS).long().clamp(0, STEPS - 1)
    bins = [
        Departure(what, low, high, count, distance)
        for what, low, high, inside in _bins(model, given.condition, given.log_energy)
        for count, distance in [_distance(place[inside])]
        if count >= FEW
    ]
    return sorted(bins, key=lambda d: -d.distance)


def _bins(
    model: Copula, condition: Tensor, log_energy: Tensor
) -> Iterator[tuple[str, float, float, tuple[Tensor, ...] | tuple[slice, slice]]]:
    """Name, borders and index of the cells of each bin."""
    geometry = model.geometry
    for layer, where in zip(geometry.layers, geometry.slices, strict=True):
        yield f"layer {layer.name}", layer.id, layer.id, (slice(None), where)
    for k, named in enumerate(geometry.conditions):
        for low, high, rows in _parts(condition[:, k], BINS):
            yield named.name, low, high, (rows.nonzero()[:, 0],)
    if model.frame.moves:
        away = model.frame.offsets(condition, log_energy).norm(dim=2)
        for low, high, cells in _parts(away, RINGS):
            yield "distance from the line in mm", low, high, (cells,)


def _parts(values: Tensor, count: int) -> Iterator[tuple[float, float, Tensor]]:
    """Parts with about the same number of values, or one for each value where there are few."""
    distinct = torch.unique(values)
    if len(distinct) <= 32:
        for value in distinct:
            yield float(value), float(value), values == value
        return
    level = torch.linspace(0, 1, count + 1, dtype=torch.float64)
    ordered = values.flatten().sort().values
    edges = ordered[(level * (len(ordered) - 1)).long()]
    for k in range(count):
        last = values <= edges[k + 1] if k == count - 1 else values < edges[k + 1]
        yield float(edges[k]), float(edges[k + 1]), (values >= edges[k]) & last


def _distance(place: Tensor) -> tuple[int, float]:
    counts = torch.bincount(place.flatten(), minlength=STEPS).double()
    total = counts.sum().clamp(min=1)
    straight = torch.arange(1, STEPS + 1, dtype=torch.float64, device=counts.device) / STEPS
    return int(counts.sum()), float((counts.cumsum(0) / total - straight).abs().max())
