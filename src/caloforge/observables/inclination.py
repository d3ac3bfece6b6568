"""The LHCb observables: asymmetry and width along and across the direction of inclination, numbers
of cells, and the edge of the read-out.

References: F. Ratnikov, A. Rogachev, "Fast simulation of the electromagnetic calorimeter response
using Self-Attention Generative Adversarial Networks" (which statistics); V. Chekalina et al.,
arXiv:1812.01319 (the WGAN before it, with the same ones). A cell counts by its centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.detector.particle import particle_line
from caloforge.errors import DataError
from caloforge.observables import axes
from caloforge.observables.axes import Family, Observable, share
from caloforge.observables.blocks import cut_cells
from caloforge.observables.challenge import ROUNDING, limits
from caloforge.showers import Showers

Array = NDArray[Any]

LHCB = "LHCb SAGAN study, arXiv:1812.01319; axis: CaloForge"
WAYS = ("along", "across")


def applies(geometry: Geometry) -> bool:
    """Whether a geometry has the family: it is one grid of cells, knows momentum and impact, and
    states its effective depth (`Limits.effective_depth`).
    """
    return geometry.limits.effective_depth is not None and _aims(geometry)


def _aims(geometry: Geometry) -> bool:
    line = particle_line(geometry)
    known = line.momentum is not None and None not in line.impact
    return geometry.n_layers == 1 and known


def rows(geometry: Geometry) -> list[Observable]:
    """Asymmetries, widths, offsets along and across, cells above thresholds, the hottest cell at
    the edge.
    """
    if not applies(geometry):
        return []
    layer = geometry.layers[0]
    width = max(limits(geometry, layer, axis)[2] for axis in layer.axes)
    table = []
    for name, label, axis, unit in (
        ("asymmetry", "asymmetry", (-1.0, 1.0), ""),
        ("width", "width of the profile", (0.0, width), "mm"),
        ("spread", "width of the whole image", (0.0, width), "mm"),
        ("offset", "centre minus projected impact", (-width / 2, width / 2), "mm"),
    ):
        for way in ("along", "across"):
            text = f"{label} {way} the inclination"
            table.append(axes.linear(f"{name}_{way}", text, axis, LHCB, unit=unit))
    table += [
        axes.number_of_cells(
            f"cells_above_{threshold:g}", f"cells above {threshold:g} MeV", layer.size, LHCB
        )
        for threshold in geometry.limits.thresholds
    ]
    table.append(axes.energy("edge_cell", "energy of the hottest edge cell", geometry, LHCB))
    return table


def values(showers: Showers, known: Mapping[str, Array]) -> dict[str, Array]:
    """`inclined` at the effective depth of the geometry, the cells above its thresholds, and the
    hottest cell at the edge.
    """
    if not applies(showers.geometry):
        return {}
    counts = cells_above(showers, showers.geometry.limits.thresholds)
    return inclined(showers) | counts | {"edge_cell": edge_cell(showers)}


def cells_above(showers: Showers, thresholds: tuple[float, ...]) -> dict[str, Array]:
    """Number of cells with more than each threshold (MeV): `cells_above_T` -> (N,)."""
    return {
        f"cells_above_{t:g}": np.count_nonzero(
            showers.energies > max(t, showers.geometry.cut), axis=1
        ).astype(np.float64)
        for t in thresholds
    }


def edge_cell(showers: Showers) -> Array:
    """Energy in MeV of the hottest cell in the outermost rows and columns, (N,): where F. Ratnikov
    and A. Rogachev (Fig. 3) see bright outliers of a WGAN.
    """
    outer = np.ones(showers.geometry.layers[0].shape, dtype=bool)
    outer[1:-1, 1:-1] = False
    hottest = showers.energies[:, outer.ravel()].max(axis=1).astype(np.float64)
    return np.where(hottest > showers.geometry.cut, hottest, 0.0)


class Aim(NamedTuple):
    """Where a shower is expected: projected impact (N, 2) in mm, unit direction (N, 2)."""

    point: Array
    direction: Array


def aim(showers: Showers, depth: float | None = None) -> Aim:
    """Impact projected along the momentum to `depth` mm, and the transverse direction.

    The default depth is the effective one of the geometry. A particle that comes in straight has
    no direction of inclination: the first axis of the cells is taken for it. A particle that flies
    backwards or sideways (p_z <= 0) is not projected.

    Raises
    ------
    DataError
        For a geometry without momentum and impact, or without an effective depth where no depth
        is given.
    """
    geometry, conditions = showers.geometry, showers.conditions
    line = particle_line(geometry)
    if not _aims(geometry) or line.momentum is None:
        raise DataError(
            f"'{geometry.name}' has no momentum and impact in one grid of cells; expected a "
            "read-out like lhcb."
        )
    depth = geometry.limits.effective_depth if depth is None else depth
    if depth is None:
        raise DataError(
            f"'{geometry.name}' states no effective depth; expected the key effective_depth in "
            "the table [limits] of its geometry file: `effective_depth` measures it."
        )
    forward = line.forward(conditions)
    point = line.entry(conditions)
    point[forward] = line.at(conditions[forward], depth)
    momentum = conditions[:, line.momentum[:2]]
    size = np.hypot(momentum[:, 0], momentum[:, 1])[:, None]
    direction = np.divide(
        momentum, size, out=np.tile([1.0, 0.0], (len(showers), 1)), where=size > 0
    )
    return Aim(point, direction)


def inclined(showers: Showers, depth: float | None = None) -> dict[str, Array]:
    """Asymmetry, widths and offset in coordinates (u, v) along and across the inclination.

    The origin is the impact projected to `depth` mm, by default the effective depth of the
    geometry. With w the energy of a cell:

    asymmetry_along = sum w sign(u) / sum w (in front of the point minus behind it),
    asymmetry_across = sum w sign(v) / sum w; a centre on the line counts for neither side;
    width_along = energy-weighted standard deviation of u over the cells that the line v = 0
    crosses, width_across likewise of v over the line u = 0: the profile of the image on the line;
    spread_along, spread_across: the same over all cells;
    offset_along, offset_across: <u>, <v> over all cells.

    Lengths are in mm; all are 0 for a shower without energy. Keys -> (N,).
    """
    layer = showers.geometry.layers[0]
    where = np.stack(layer.xy)  # (2, V)
    x, y = layer.xy
    powers = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    sizes = np.meshgrid(*(np.diff(e) for e in layer.edges), indexing="ij")
    half = 0.5 * np.stack([s.ravel() for s in sizes])
    if np.allclose(half, half[:, :1]):  # equal cells, as nearly always: one number does for all
        half = half[:, :1]
    point, direction = aim(showers, depth)
    normal = np.stack([-direction[:, 1], direction[:, 0]], axis=1)
    names = [f"{n}_{w}" for n in ("asymmetry", "width", "spread", "offset") for w in WAYS]
    result = {name: np.empty(len(showers)) for name in names}
    for block, w in cut_cells(showers):
        whole = w @ powers
        for way, ahead, beside in zip(WAYS, (direction, normal), (normal, direction), strict=True):
            along, across, origin = ahead[block], beside[block], point[block]
            side = np.sign(_distance(where, origin, along))
            # A cell reaches across the line as far as its farthest corner.
            crossed = np.abs(_distance(where, origin, across)) <= np.abs(across) @ half
            mean, spread = _moments(whole, along)
            asymmetry = share(np.einsum("bv,bv->b", w, side), whole[:, 0])
            result[f"asymmetry_{way}"][block] = asymmetry
            start = (along * origin).sum(axis=1)
            result[f"offset_{way}"][block] = np.where(whole[:, 0] > 0, mean - start, 0.0)
            result[f"spread_{way}"][block] = spread
            result[f"width_{way}"][block] = _moments((w * crossed) @ powers, along)[1]
    return result


def _distance(where: Array, point: Array, direction: Array) -> Array:
    """How far cells (2, V) lie from points (B, 2) in directions (B, 2): (B, V), mm."""
    return direction @ where - (direction * point).sum(axis=1, keepdims=True)


def _moments(sums: Array, direction: Array) -> tuple[Array, Array]:
    """Mean and standard deviation in directions (B, 2) of the sums (B, 6) of w times 1, x, y, x^2,
    xy, y^2: (B,), 0 without energy.
    """
    a, b = direction.T
    _, x, y, xx, xy, yy = (share(column, sums[:, 0]) for column in sums.T)
    mean, square = a * x + b * y, a * a * xx + 2 * a * b * xy + b * b * yy
    variance = square - mean**2
    # The variance of a single cell is rounding alone, whose root would be a false width.
    variance[variance < ROUNDING * (xx + yy)] = 0.0
    return mean, np.sqrt(variance)


class EffectiveDepth(NamedTuple):
    """Depth in mm with its statistical error."""

    depth: float
    error: float


def effective_depth(showers: Showers) -> EffectiveDepth:
    """Depth at which the centre of energy lies on the particle's line: the slope of centre minus
    impact against px/pz and py/pz, fitted to both by one least-squares line through 0.

    Raises
    ------
    DataError
        For another read-out, or without inclined showers.
    """
    geometry = showers.geometry
    point, _ = aim(showers, 0.0)
    slope = aim(showers, 1.0).point - point
    energies = showers.after_cut().energies.astype(np.float64)
    energies, point, slope = (a[energies.any(axis=1)] for a in (energies, point, slope))
    centre = energies @ np.stack(geometry.layers[0].xy, axis=1) / energies.sum(axis=1)[:, None]
    residual, slope = (centre - point).ravel(), slope.ravel()
    norm = float(slope @ slope)
    if not norm > 0:
        raise DataError("Got no inclined shower with energy; expected some to fit the depth.")
    depth = float(slope @ residual) / norm
    scatter = residual - depth * slope
    return EffectiveDepth(depth, float(np.sqrt((scatter**2).mean() / norm)))


FAMILY = Family("LHCb asymmetries and widths", rows, values)
