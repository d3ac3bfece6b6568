"""Histograms of the energy in each layer, of all showers and at three energies."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import EnergySlice
from caloforge.judge.shown.histograms import at
from caloforge.report.blocks import Picture
from caloforge.report.distributions import Overlay, draw_comparison
from caloforge.report.drawn import (
    ending,
    has_second,
    histograms,
    looks_of,
    shown_note,
    suffix_of,
    title_of,
    varies,
)
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure

Panel = tuple[str, Overlay, str]  # title, histograms, name of the horizontal axis


def distributions(
    result: Result, panels: Sequence[Panel], grid: Grid, *, log_y: bool, y_label: str
) -> Figure:
    """A figure of panels with histograms and their ratios to the reference."""
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (title, data, label)) in enumerate(zip(pairs, panels, strict=True)):
        draw_comparison(pair, data, label=label, log_y=log_y)
        dress(pair, title, first=k % grid.columns == 0, y_label=y_label, linear=not log_y)
    legend(figure, looks_of(result), floor=has_second(result))
    return figure


def layer_grid(count: int, height: float = 2.1, ratio: float = 0.28) -> Grid:
    """Three panels a row for up to six layers, four for more."""
    across = columns(count, 3 if count <= 6 else 4)
    return Grid(columns=across, height=height, left=0.62, ratio=ratio)


def layer_energies(result: Result) -> Picture | None:
    """Energy in each layer, of all showers."""
    return _layer_energies(result, None)


def layer_energies_at(result: Result) -> list[Picture | None]:
    """Energy in each layer at a low, a middle and a high energy."""
    return [_layer_energies(result, part) for part in result.shown.frame.chosen]


def _layer_energies(result: Result, part: EnergySlice | None) -> Picture | None:
    panels: list[Panel] = []
    for observable in result.shown.frame.families("layer_energy"):
        key = observable.key
        data = histograms(result, key if part is None else at(key, part))
        if data is not None and varies(result, key):
            panels.append((title_of(result, observable), data, "energy [MeV]"))
    if not panels:
        return None
    where = "all showers" if part is None else f"{part.label} incident energy"
    return Picture(
        f"layer-energies{suffix_of(part)}",
        f"Energy in each layer, {where}. Look for the shaded first bin (layers without energy), "
        f"the shape of the rise and the end point. {ending(result)}{shown_note(result)}",
        f"Histograms of the energy in each layer, {where}, Geant4 and generators, with ratios.",
        distributions(
            result, panels, layer_grid(len(panels)), log_y=True, y_label="fraction of showers"
        ),
    )
