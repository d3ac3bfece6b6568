"""The centre of energy against the impact of the particle: offsets, and the S-shape.

Reference: A. Ghosh, D. Rousseau, "Generative Adversarial Networks for Fast Shower Simulation in
ATLAS", IN2P3/IRFU ML workshop, 2019 (average eta, average eta minus impact eta, S-shape and the
control with the impact of another shower).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.errors import DataError
from caloforge.observables import axes
from caloforge.observables.axes import Family, Observable, share
from caloforge.observables.challenge import limits
from caloforge.showers import Showers

Array = NDArray[Any]

TALK = "ATLAS DNNCaloGAN talk (2019); axis: CaloForge"
# Eight strips make a middle cell: eight bins a strip show their bumps.
S_SHAPE_BINS = 64


def impact_axes(geometry: Geometry) -> tuple[str, ...]:
    """Axes of the read-out along which it knows the impact; all layers must be grids on them.

    There are none where the geometry states an effective depth: the offsets of such a detector
    are those from the particle's line at that depth, see `caloforge.observables.inclination`.
    """
    if geometry.limits.effective_depth is not None:
        return ()
    first = geometry.layers[0].axes
    if any(layer.kind != "grid" or layer.axes != first for layer in geometry.layers):
        return ()
    return tuple(axis for axis in first if geometry.find("impact", axis) is not None)


def rows(geometry: Geometry) -> list[Observable]:
    """Average position over all layers, and centre minus impact in each layer."""
    table = []
    for axis in impact_axes(geometry):
        ranges = [limits(geometry, layer, axis) for layer in geometry.layers]
        label = f"average {axis} of the energy in all layers"
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        table.append(axes.linear(f"average_{axis}", label, (low, high), TALK, unit="mm"))
    for axis in impact_axes(geometry):
        for position, layer in enumerate(geometry.layers):
            high = limits(geometry, layer, axis)[2]
            table.append(
                axes.linear(
                    f"offset_{axis}/{layer.id}",
                    f"centre minus impact in {axis}, layer {layer.id} ({layer.name})",
                    (-high, high),
                    TALK,
                    unit="mm",
                    layer=position,
                )
            )
    return table


def values(showers: Showers, known: Mapping[str, Array]) -> dict[str, Array]:
    """Average position sum(w x) / sum(w) over the cells of all layers, and centre minus impact of
    each layer, mm; 0 where there is no energy.
    """
    result: dict[str, Array] = {}
    layers, total = showers.geometry.layers, known["total_energy"]
    for axis in impact_axes(showers.geometry):
        impact = showers.conditions[:, showers.geometry.column_of("impact", axis)]
        weighted = np.zeros(len(showers))
        for layer in layers:
            energy, centre = known[f"layer_energy/{layer.id}"], known[f"centre_{axis}/{layer.id}"]
            weighted += energy * centre
            result[f"offset_{axis}/{layer.id}"] = np.where(energy > 0, centre - impact, 0.0)
        result[f"average_{axis}"] = share(weighted, total)
    return result


FAMILY = Family("position against the impact", rows, values)


# --- S-shape -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Profile:
    """Mean of one quantity in bins (B,) of another.

    Parameters
    ----------
    edges
        Edges of the bins, (B + 1,).
    mean, error
        Mean in each bin and its standard error, (B,); NaN for a mean of no entry and for an error
        of fewer than two.
    count
        Entries of each bin, (B,).
    """

    edges: Array
    mean: Array
    error: Array
    count: Array

    @property
    def centres(self) -> Array:
        """Centres of the bins, (B,)."""
        return 0.5 * (self.edges[1:] + self.edges[:-1])


def profile(x: Array, y: Array, edges: Array) -> Profile:
    """Mean of `y` (N,) in bins `edges` (B + 1,) of `x` (N,), the last bin closed.

    Raises
    ------
    DataError
        For x and y of different lengths, or edges that do not increase.
    """
    x, y, edges = (np.asarray(a, dtype=np.float64) for a in (x, y, edges))
    if x.shape != y.shape or x.ndim != 1:
        raise DataError(
            f"Got x of shape {x.shape} and y of {y.shape}; expected one (N,) for both."
        )
    if edges.ndim != 1 or len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise DataError("Got bin edges that do not increase; expected at least two that do.")
    number = len(edges) - 1
    index = np.searchsorted(edges, x, side="right") - 1
    index[x == edges[-1]] = number - 1
    inside = (index >= 0) & (index < number)
    index, y = index[inside], y[inside]
    count = np.bincount(index, minlength=number)
    nan = np.full(number, np.nan)
    mean = np.divide(np.bincount(index, y, number), count, out=nan.copy(), where=count > 0)
    square = np.bincount(index, (y - mean[index]) ** 2, number)
    variance = np.divide(square, count - 1, out=nan.copy(), where=count > 1)
    return Profile(edges, mean, np.sqrt(variance / np.maximum(count, 1)), count)


def s_shape(
    geometry: Geometry,
    conditions: Array,
    observables: Mapping[str, Array],
    layer: int,
    axis: str = "eta",
    *,
    bins: int = S_SHAPE_BINS,
    minus_impact: bool = False,
    control: np.random.Generator | None = None,
) -> Profile:
    """Centre of energy of a layer against the impact: a staircase with one step for each cell.

    Cells see a shower's position only where two of them share it, so the mean centre (or the mean
    centre minus impact) follows the impact in S-shapes: one in a middle cell, eight in the strips.

    Parameters
    ----------
    geometry
        A read-out with the impact among its conditions.
    conditions, observables
        Conditions (N, C) and values (N,) by key, as in a `Summary`.
    layer, axis
        Position of the layer, and one of `impact_axes`. Showers without energy there do not count.
    bins
        Number of bins over the range of the impact.
    minus_impact
        Subtract the impact from the centre.
    control
        Source of randomness to give each shower the impact of another one: what Geant4 looks like
        to a generator that does not follow the impact.

    Raises
    ------
    DataError
        For an axis along which the geometry does not know the impact.
    """
    if axis not in impact_axes(geometry):
        raise DataError(
            f"'{geometry.name}' does not know the impact along '{axis}'; expected one of "
            f"{list(impact_axes(geometry))}."
        )
    chosen = geometry.layers[layer]
    column = geometry.column_of("impact", axis)
    hit = observables[f"layer_energy/{chosen.id}"] > 0
    impact = conditions[hit, column]
    centre = observables[f"centre_{axis}/{chosen.id}"][hit]
    if control is not None:
        impact = of_another(impact, control)
    condition = geometry.conditions[column]
    edges = np.linspace(condition.low, condition.high, bins + 1)
    return profile(impact, centre - impact if minus_impact else centre, edges)


def of_another(values: Array, rng: np.random.Generator) -> Array:
    """Values (N,) in another order, in which no shower keeps its own value (for N > 1)."""
    order = rng.permutation(len(values))
    result = np.empty_like(values)
    result[order] = values[np.roll(order, 1)]
    return result
