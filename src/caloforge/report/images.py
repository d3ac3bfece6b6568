"""Drawing of showers as images: average or single, in space or cell by cell."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from numpy.typing import NDArray

from caloforge.detector.geometry import Layer

Array = NDArray[Any]

ENERGY_MAP = "viridis"
RATIO_MAP = "RdBu_r"
RATIO_NORM = (0.5, 2.0)
RATIO_TICKS = (0.5, 0.7, 1.0, 1.4, 2.0)
DECADES = 7
_ARC = 2 * np.pi / 60  # an alpha bin is drawn as straight pieces of this angle at most


def draw_disc(
    ax: Axes,
    layer: Layer,
    cells: Array,
    norm: Normalize,
    cmap: str = ENERGY_MAP,
    *,
    radius: float | None = None,
) -> Any:
    """One layer in transverse space (mm), `cells` (size,) as colours. Returns the mesh.

    Polar layers become rings and sectors, drawn out to `radius` (mm; default: all). The caller
    chooses what a colour means (MeV per cell or per mm^2).
    """
    values = _image(layer, cells)
    if layer.kind == "polar":
        alpha, r = (np.asarray(e) for e in layer.edges)
        rings = len(r) - 1 if radius is None else int(np.searchsorted(r, radius - 1e-9))
        r, values = r[: rings + 1], values[:, :rings]
        pieces = max(1, int(np.ceil((alpha[1] - alpha[0]) / _ARC)))
        fine = np.interp(
            np.arange(pieces * layer.shape[0] + 1) / pieces, np.arange(len(alpha)), alpha
        )
        x, y = np.outer(np.cos(fine), r), np.outer(np.sin(fine), r)
        mesh = ax.pcolormesh(
            x, y, np.repeat(values, pieces, axis=0), norm=norm, cmap=cmap, rasterized=True
        )
    else:
        mesh = ax.pcolormesh(
            layer.edges[0], layer.edges[1], values.T, norm=norm, cmap=cmap, rasterized=True
        )
    ax.set_aspect("equal" if _is_squarish(layer) else "auto")
    return mesh


def draw_map(ax: Axes, layer: Layer, cells: Array, norm: Normalize, cmap: str = ENERGY_MAP) -> Any:
    """One layer with all cells of one size: core and tail are seen alike.

    Columns are the fast axis (r), rows the slow one (alpha); ticks give the edges. `cells`
    (size,). Returns the mesh. Grid layers are drawn to scale, their cells being of one size
    already.
    """
    values = _image(layer, cells)
    slow, fast = layer.shape
    if layer.kind == "grid":
        return draw_disc(ax, layer, cells, norm, cmap)
    mesh = ax.pcolormesh(
        np.arange(fast + 1), np.arange(slow + 1), values, norm=norm, cmap=cmap, rasterized=True
    )
    shown = np.unique(np.linspace(0, fast, min(fast, 3) + 1).round().astype(int))
    ax.set_xticks(shown, [f"{layer.edges[1][k]:g}" for k in shown])
    # The numbers at the ends stay inside, clear of the neighbouring panel's.
    ax.get_xticklabels()[0].set_horizontalalignment("left")
    ax.get_xticklabels()[-1].set_horizontalalignment("right")
    ax.set_yticks([])
    return mesh


def _image(layer: Layer, cells: Array) -> NDArray[Any]:
    values = np.asarray(cells, dtype=np.float64).reshape(layer.shape)
    return np.ma.masked_where(~(values > 0), values)  # empty cells stay white


def _is_squarish(layer: Layer) -> bool:
    extents = [abs(e[-1] - e[0]) for e in layer.edges]
    return layer.kind == "polar" or 0.4 < extents[0] / extents[1] < 2.5


def core_radius(layer: Layer, cells: Array, share: float = 0.95) -> float:
    """Edge (mm) of the inner rings of a polar layer that hold `share` of its energy (size,)."""
    rings = np.cumsum(np.asarray(cells, dtype=np.float64).reshape(layer.shape).sum(axis=0))
    if not rings.max(initial=0.0) > 0:  # a layer without voxels has no ring at all
        return float(layer.edges[1][-1])
    return float(layer.edges[1][int(np.searchsorted(rings, share * rings[-1])) + 1])


def energy_norm(cells: list[Array]) -> LogNorm:
    """Common logarithmic colour scale of images: at most seven decades below the largest value."""
    positive = np.concatenate([np.ravel(c)[np.ravel(c) > 0] for c in cells] or [np.zeros(0)])
    if len(positive) == 0:
        return LogNorm(1e-3, 1.0)
    highest = float(positive.max())
    lowest = max(float(positive.min()), highest * 10.0**-DECADES)
    return LogNorm(min(lowest, 0.5 * highest), highest)


def ratio_norm() -> LogNorm:
    """Colour scale of ratios, symmetric about one: from a half to two."""
    return LogNorm(*RATIO_NORM)


def ratio(values: Array, reference: Array) -> Array:
    """values / reference, (V,): NaN where the reference is empty, a zero at the low end."""
    with np.errstate(divide="ignore", invalid="ignore"):
        result = np.where(reference > 0, values / reference, np.nan)
    return np.where(result == 0, RATIO_NORM[0] / 10, result)
