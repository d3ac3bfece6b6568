"""Where a generator fails at a glance: every observable at every energy, over its floor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import energy_text
from caloforge.report.blocks import Picture
from caloforge.report.drawn import looks_of, names, observable_label
from caloforge.report.floors import SEPARATION, energies_of, metrics_at
from caloforge.report.panels import WIDTH, Sheet, titles_within
from caloforge.report.style import GEANT4_FILL

Array = NDArray[Any]

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


def separation_map(result: Result) -> Picture | None:
    """Separation over floor of every observable at every energy, one map a generator."""
    comparisons = result.comparisons
    energies = [energy for energy in energies_of(comparisons) if _known(result, energy)]
    keys = list(dict.fromkeys(key for energy in energies for key in _known(result, energy)))
    if not keys:
        return None
    rows = _rows(result, keys)
    maps = [ratios(result, k, rows, energies) for k in range(len(comparisons))]
    if not any(np.isfinite(m).any() for m in maps):
        return None
    darkest = [
        f"{look.label}: {rows[k].label} at {energy_text(energies[e])} ({values[k, e]:.3g} ×)"
        for look, values in zip(looks_of(result), maps, strict=True)
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
        f"Darkest: {names(darkest)}."
        + (" Long lists of layers are shown as the mean over their layers." if averaged else ""),
        "Maps of separation power over floor, observables against incident energies, one a "
        "generator.",
        _figure(result, rows, [energy_text(e) for e in energies], maps),
    )


def _known(result: Result, energy: float) -> list[str]:
    """Keys of the separation powers that one of the generators has at an energy."""
    return [
        key
        for comparison in result.comparisons
        for key in metrics_at(comparison, energy)
        if key.startswith(SEPARATION)
    ]


def _rows(result: Result, keys: Sequence[str]) -> list[Row]:
    """Rows of one family together, in order of appearance; long families as one row."""
    families: dict[str, list[str]] = {}
    for key in keys:
        families.setdefault(key.removeprefix(SEPARATION).partition("/")[0], []).append(key)
    most = MOST_ROWS if len(keys) <= MOST_IN_ALL else FEW_ROWS
    rows = []
    for family, members in families.items():
        if len(members) > most:
            label = f"{family.replace('_', ' ')}, mean of {len(members)} layers"
            rows.append(Row(label, family, tuple(members)))
            continue
        rows += [
            Row(observable_label(result, k.removeprefix(SEPARATION)), family, (k,))
            for k in members
        ]
    return rows


def ratios(result: Result, index: int, rows: Sequence[Row], energies: Sequence[float]) -> Array:
    """Mean value over mean floor of a generator, or over its error where that is larger, (R, K).

    NaN where a figure or its floor is missing.
    """
    values = np.full((len(rows), len(energies)), np.nan)
    for column, energy in enumerate(energies):
        figures = metrics_at(result.comparisons[index], energy)
        for line, row in enumerate(rows):
            judged = [
                figures[k] for k in row.keys if k in figures and figures[k].floor is not None
            ]
            if not judged:
                continue
            value = sum(v.value for v in judged)
            # A floor that is near 0 by chance, as in layers hardly ever reached, is no measure.
            error = float(np.sqrt(sum((v.error or 0.0) ** 2 for v in judged)))
            floor = max(sum(v.floor or 0.0 for v in judged), error)
            values[line, column] = value / floor if floor > 0 else 1.0 if value == 0 else np.inf
    return values


def _figure(
    result: Result, rows: Sequence[Row], columns: Sequence[str], maps: Sequence[Array]
) -> Figure:
    across = min(len(maps), _ACROSS)
    height = _ROW * len(rows)
    width = min((WIDTH - _LEFT - _BAR) / across, 0.55 * len(columns) + 0.4)
    titles, more = titles_within([look.label for look in looks_of(result)], width)
    top = _TOP + more
    sheet = Sheet(
        -(-len(maps) // across),
        across,
        (width - 0.1, height),
        left=_LEFT,
        top=top,
        bottom=_BOTTOM,
        gap=(0.1, top + _BOTTOM),
    )
    breaks = [
        k
        for k in range(1, len(rows))
        if rows[k].family.partition("_")[0] != rows[k - 1].family.partition("_")[0]
    ]
    for k, (look, values) in enumerate(zip(looks_of(result), maps, strict=True)):
        ax = sheet.axes(*divmod(k, across))
        mesh = draw_energy_map(ax, values, columns, breaks)
        ax.set_title(titles[k], y=1.0, color=look.color)
        first = k % across == 0
        ax.set_yticks(range(len(rows)), [row.label for row in rows] if first else [])
    bar = min(height, 2.4)
    where = (sheet.x(across) + 0.1, sheet.height - top - bar, bar)
    sheet.colorbar(mesh, where, "separation / floor", extend="max", ticks=(1, 3, 10, 30))
    return sheet.figure
