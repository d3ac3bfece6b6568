"""The LHCb observables: asymmetry and width along and across the direction of inclination.

References: F. Ratnikov, A. Rogachev, "Fast simulation of the electromagnetic calorimeter response
using Self-Attention Generative Adversarial Networks" (which statistics); V. Chekalina et al.,
arXiv:1812.01319 (the WGAN before it, with the same ones). A cell counts by its centre.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.evaluation import axes
from caloforge.evaluation.axes import Family, Observable, share
from caloforge.evaluation.blocks import cut_cells
from caloforge.evaluation.challenge import ROUNDING, limits
from caloforge.geometry import Geometry
from caloforge.showers import Showers

Array = NDArray[Any]

LHCB = "LHCb SAGAN study, arXiv:1812.01319; axis: ours"
# mm behind the front face at which the centre of energy lies on the particle's line on average:
# `effective_depth` of the 4000 Geant4 electrons of `lhcb_electrons_train`, 129.6 +- 0.5 (it grows
# with the energy, from 101 at 1-3 GeV to 158 at 30-100 GeV).
EFFECTIVE_DEPTH = 129.6
# MeV of energy in the scintillator: the document names no thresholds, these span core and halo.
THRESHOLDS = (1.0, 10.0, 100.0)
WAYS = ("along", "across")
CONDITIONS = ("px", "py", "pz", "x", "y")


def applies(geometry: Geometry) -> bool:
    """Whether a geometry is one LHCb-like layer in x and y with momentum and impact known."""
    return (
        geometry.format == "lhcb"
        and geometry.n_layers == 1
        and geometry.layers[0].axes == ("x", "y")
        and set(CONDITIONS) <= set(geometry.condition_names)
    )


def rows(geometry: Geometry) -> list[Observable]:
    """Asymmetries, widths, offsets along and across, then cells above thresholds."""
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
        for threshold in THRESHOLDS
    ]
    return table


def values(showers: Showers, known: Mapping[str, Array]) -> dict[str, Array]:
    """`inclined` at the default effective depth, and the numbers of cells above `THRESHOLDS`."""
    if not applies(showers.geometry):
        return {}
    return inclined(showers) | cells_above(showers)


def cells_above(showers: Showers, thresholds: tuple[float, ...] = THRESHOLDS) -> dict[str, Array]:
    """Number of cells with more than each threshold (MeV): `cells_above_T` -> (N,)."""
    return {
        f"cells_above_{t:g}": np.count_nonzero(
            showers.energies > max(t, showers.geometry.cut), axis=1
        ).astype(np.float64)
        for t in thresholds
    }


class Aim(NamedTuple):
    """Where a shower is expected: projected impact (N, 2) in mm, unit direction (N, 2)."""

    point: Array
    direction: Array


def aim(showers: Showers, depth: float = EFFECTIVE_DEPTH) -> Aim:
    """Impact projected along the momentum to `depth` mm, and the transverse direction.

    A particle that comes in straight has no direction of inclination: x is taken for it. One that
    flies backwards or sideways (pz <= 0) is not projected.
    """
    momentum = np.stack([showers.condition(c) for c in ("px", "py")], axis=1)
    impact = np.stack([showers.condition(c) for c in ("x", "y")], axis=1)
    forward = showers.condition("pz")[:, None]
    slope = np.divide(momentum, forward, out=np.zeros_like(momentum), where=forward > 0)
    size = np.hypot(momentum[:, 0], momentum[:, 1])[:, None]
    direction = np.divide(
        momentum, size, out=np.tile([1.0, 0.0], (len(showers), 1)), where=size > 0
    )
    return Aim(impact + depth * slope, direction)


def inclined(showers: Showers, depth: float = EFFECTIVE_DEPTH) -> dict[str, Array]:
    """Asymmetry, widths and offset in coordinates (u, v) along and across the inclination.

    The origin is the impact projected to `depth` mm. With w the energy of a cell:

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
    # Of a single cell only rounding is left, whose root would be a false width.
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
    if not applies(geometry):
        raise DataError(
            f"'{geometry.name}' has no momentum and impact; expected a read-out like lhcb."
        )
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
