"""Which showers of two samples are judged together: energy points or slices of a spectrum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.showers import MOST_POINTS, energy_points, point_of

Array = NDArray[Any]

SLICES = 8


@dataclass(frozen=True)
class Slices:
    """Showers of a reference and a generated sample, energy by energy.

    Parameters
    ----------
    members
        Incident energy in MeV -> indices of the reference showers and of the generated ones. For a
        spectrum the key is the median of the reference in the slice.
    spectrum
        Whether the incident energies are a spectrum, cut at quantiles of the reference.
    unknown
        Energy points in MeV that only the generated sample has.
    edges
        Edges of the slices of a spectrum in MeV, (K + 1,); empty for points. A slice has its lower
        edge and not its upper one, but the last has both.
    """

    members: dict[float, tuple[Array, Array]]
    spectrum: bool
    unknown: tuple[float, ...]
    edges: Array


def energy_slices(reference: Array, generated: Array, minimum: int = 100) -> Slices:
    """Cut two samples by incident energy (MeV), (N,) and (M,).

    Up to 40 distinct energies of the reference are the points of a scan. More are a spectrum, cut
    into up to eight slices with equal numbers of reference showers, not fewer than four times
    `minimum` each, so that a smaller generated sample counts as well; generated showers beyond the
    range of the reference belong to none.
    """
    points = energy_points(reference)
    if len(points):
        first, second = point_of(reference, points), point_of(generated, points)
        members = {
            float(p): (np.flatnonzero(first == k), np.flatnonzero(second == k))
            for k, p in enumerate(points)
        }
        unknown = np.unique(generated[second < 0])[:MOST_POINTS]
        return Slices(members, False, tuple(unknown.tolist()), np.empty(0))
    number = int(np.clip(len(reference) // (4 * max(minimum, 1)), 1, SLICES))
    # An energy that many showers have is several quantiles at once, but one edge.
    edges = np.unique(np.quantile(reference, np.linspace(0, 1, number + 1)))
    first = _bin(reference, edges)
    second = _bin(generated, edges)
    members = {
        float(np.median(reference[first == k])): (
            np.flatnonzero(first == k),
            np.flatnonzero(second == k),
        )
        for k in range(len(edges) - 1)
    }
    return Slices(members, True, (), edges)


def _bin(values: Array, edges: Array) -> Array:
    """Bin of each value, the last edge belonging to the last bin; -1 outside."""
    index = np.searchsorted(edges, values, side="right") - 1
    index[values == edges[-1]] = len(edges) - 2
    index[(values < edges[0]) | (values > edges[-1])] = -1
    return index
