"""Where a generator fails at a glance: every observable at every energy, over its floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from caloforge.report.blocks import Picture
from caloforge.report.energy_figures import observable_label
from caloforge.report.estimates import Array, energy_text
from caloforge.report.panels import WIDTH
from caloforge.report.samples import Samples, names
from caloforge.report.style import GEANT4_FILL

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison

PREFIX = "separation_with_flow/"
MOST_ROWS = 12  # of a family; longer ones are averaged over their layers
MOST_IN_ALL = 64  # rows; beyond, families of more than `FEW_ROWS` are averaged as well
FEW_ROWS = 3
RANGE = (1.0, 30.0)
_LEFT, _TOP, _BOTTOM, _ROW, _BAR = 3.1, 0.3, 0.62, 0.135, 0.75  # inches
_ACROSS = 3


@dataclass(frozen=True)
class Row:
    """One row of the map: what it is called, and the observables whose mean it is."""

    label: str
    family: str
    keys: tuple[str, ...]


def draw_energy_map(
    ax: Axes, ratios: Array, columns: Sequence[str], breaks: Sequence[int] = ()
) -> Any:
    """Ratios to the floor (R, K) as colours, white up to 1; grey where there is none.

    `columns` (K,) name the energies, `breaks` are rows above which a line is drawn. Returns the
    mesh.
    """
    ax.set_facecolor(GEANT4_FILL)
    rows, count = ratios.shape
    mesh = ax.pcolormesh(
        np.arange(count + 1) - 0.5,
        np.arange(rows + 1) - 0.5,
        np.ma.masked_invalid(np.maximum(ratios, RANGE[0])),
        norm=LogNorm(*RANGE),
        cmap="magma_r",
        rasterized=True,
    )
    for k in breaks:
        ax.axhline(k - 0.5, color="#9aa0a6", linewidth=0.6)
    ax.set_ylim(rows - 0.5, -0.5)
    ax.set_xticks(range(count), columns, rotation=60, ha="right", rotation_mode="anchor")
    ax.tick_params(length=0, labelsize=6.5, which="both")
    ax.minorticks_off()
    return mesh


def energy_map(samples: Samples, comparisons: Sequence[Comparison]) -> Picture | None:
    """Separation over floor of every observable at every energy, one map a generator."""
    energies = sorted({e for c in comparisons for e, p in c.per_energy.items() if _known(p)})
    keys = list(
        dict.fromkeys(k for c in comparisons for p in c.per_energy.values() for k in _known(p))
    )
    if not keys or not energies:
        return None
    rows = _rows(samples, keys)
    maps = [_ratios(c, samples, rows, energies) for c in comparisons]
    if not any(np.isfinite(m).any() for m in maps):
        return None
    found = [
        f"{look.label}: {rows[k].label} at {energy_text(energies[e])} ({values[k, e]:.3g} ×)"
        for look, values in zip(samples.looks, maps, strict=True)
        if np.isfinite(values).any()
        for k, e in [np.unravel_index(int(np.nanargmax(values)), values.shape)]
    ]
    averaged = any(len(row.keys) > 1 for row in rows)
    return Picture(
        "separation-map",
        "Separation power over its floor for every observable at every incident energy (over its "
        "error where that is larger, as in layers that are hardly ever reached): light is "
        "as good as Geant4, dark gives the generator away; grey: too few showers. A dark row is "
        "an observable that is wrong everywhere, a dark column an energy that was not learnt. "
        f"Darkest: {names(found)}."
        + (" Long lists of layers are shown as the mean over their layers." if averaged else ""),
        "Maps of separation power over floor, observables against incident energies, one a "
        "generator.",
        _figure(samples, rows, [energy_text(e) for e in energies], maps),
    )


def _known(point: dict[str, Any]) -> list[str]:
    return [k for k in point.get("metrics", {}) if k.startswith(PREFIX)]


def _rows(samples: Samples, keys: Sequence[str]) -> list[Row]:
    """Rows of one family together, in order of appearance; long families as one row."""
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(key.removeprefix(PREFIX).partition("/")[0], []).append(key)
    most = MOST_ROWS if len(keys) <= MOST_IN_ALL else FEW_ROWS
    rows = []
    for family, members in families.items():
        if len(members) > most:
            label = f"{family.replace('_', ' ')}, mean of {len(members)} layers"
            rows.append(Row(label, family, tuple(members)))
            continue
        rows += [
            Row(observable_label(samples, k.removeprefix(PREFIX)), family, (k,)) for k in members
        ]
    return rows


def _ratios(
    comparison: Comparison, samples: Samples, rows: Sequence[Row], energies: Sequence[float]
) -> Array:
    """Mean value over mean floor, or over its error where that is larger, (R, K).

    NaN where a figure or its floor is missing.
    """
    scale = _floor_scale(comparison, samples)
    result = np.full((len(rows), len(energies)), np.nan)
    for column, energy in enumerate(energies):
        found = comparison.per_energy.get(energy, {}).get("metrics", {})
        for line, row in enumerate(rows):
            mine = [found[k] for k in row.keys if k in found and found[k].floor is not None]
            if not mine:
                continue
            value = sum(v.value for v in mine)
            # A floor that is near 0 by chance, as in layers hardly ever reached, is no measure.
            error = float(np.sqrt(sum((v.error or 0.0) ** 2 for v in mine)))
            floor = max(scale * sum(v.floor or 0.0 for v in mine), error)
            result[line, column] = value / floor if floor > 0 else 1.0 if value == 0 else np.inf
    return result


def _floor_scale(comparison: Comparison, samples: Samples) -> float:
    """Floor at the number of showers of the figure over the one that was measured.

    The separation of equal samples is proportional to 1 / N + 1 / M, the numbers of showers.
    """
    made = comparison.details.get("floor")
    judged = next((len(s) for s in samples.generated if s.name == comparison.name), 0)
    if not made or not judged:
        return 1.0
    here = 1 / len(samples.reference) + 1 / judged
    return here / (1 / made["n_reference"] + 1 / made["n"])


def _figure(
    samples: Samples, rows: Sequence[Row], columns: Sequence[str], maps: Sequence[Array]
) -> Figure:
    across = min(len(maps), _ACROSS)
    lines = -(-len(maps) // across)
    height = _ROW * len(rows)
    total = lines * (_TOP + height + _BOTTOM)
    width = min((WIDTH - _LEFT - _BAR) / across, 0.55 * len(columns) + 0.4)
    figure = Figure(figsize=(WIDTH, total))
    breaks = [
        k
        for k in range(1, len(rows))
        if rows[k].family.partition("_")[0] != rows[k - 1].family.partition("_")[0]
    ]
    mesh = None
    for k, (look, values) in enumerate(zip(samples.looks, maps, strict=True)):
        bottom = total - (k // across + 1) * (_TOP + height + _BOTTOM) + _BOTTOM
        left = _LEFT + (k % across) * width
        box = (left / WIDTH, bottom / total, (width - 0.1) / WIDTH, height / total)
        ax = figure.add_axes(box)
        mesh = draw_energy_map(ax, values, columns, breaks)
        ax.set_title(look.label, y=1.0, color=look.color)
        first = k % across == 0
        ax.set_yticks(range(len(rows)), [row.label for row in rows] if first else [])
    bar_left = _LEFT + across * width + 0.1
    bar_height = min(height, 2.4)
    cax = figure.add_axes(
        (
            bar_left / WIDTH,
            (total - _TOP - bar_height) / total,
            0.12 / WIDTH,
            bar_height / total,
        )
    )
    if mesh is not None:
        bar = figure.colorbar(mesh, cax=cax, extend="max")
        bar.set_ticks([1, 3, 10, 30], labels=["1", "3", "10", "30"])
        bar.ax.minorticks_off()
        bar.ax.tick_params(labelsize=6.5)
        bar.set_label("separation / floor", fontsize=7.5)
    return figure
