"""Correlations of layer energies: matrices of Geant4 and generators, and their differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from caloforge.judge.folder import Result
from caloforge.metrics.correlations import RAREST
from caloforge.report.blocks import Picture
from caloforge.report.drawn import has_second, looks_of, names
from caloforge.report.floors import at_size
from caloforge.report.panels import WIDTH, Sheet, titles_within
from caloforge.report.style import INK

Array = NDArray[Any]

MOST_NUMBERS = 12  # layers with numbers written into the cells
DIFFERENCE = 0.3  # end of the colour scale of differences
_ACROSS = 4
_LEFT, _TOP, _GAP, _BAR = 0.45, 0.42, 0.42, 0.75  # inches


@dataclass(frozen=True)
class Drawn:
    """One matrix (L', L') of the figure with its title."""

    label: str
    color: str
    values: Array


def draw_correlations(
    ax: Axes, values: Array, labels: list[str], *, difference: bool = False, numbers: bool = True
) -> Any:
    """A matrix (L, L) as colours from -1 to 1 (differences: from -0.3 to 0.3). Returns the image.

    `numbers` writes the values into the cells.
    """
    end = DIFFERENCE if difference else 1.0
    image = ax.imshow(values, cmap="PuOr_r" if difference else "RdBu_r", vmin=-end, vmax=end)
    if numbers:
        for (row, column), value in np.ndenumerate(values):
            ax.text(
                column,
                row,
                _short(value),
                ha="center",
                va="center",
                fontsize=6.5 if len(values) <= 8 else 5,
                color="white" if abs(value) > 0.65 * end else INK,
            )
    shown = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), 12)).round().astype(int))
    ax.set_xticks(shown, [labels[k] for k in shown])
    ax.set_yticks(shown, [labels[k] for k in shown])
    ax.tick_params(length=0, labelsize=6.5, which="both")
    ax.minorticks_off()
    return image


def _short(value: float) -> str:
    """Two digits, without the zero before the point."""
    text = f"{value:.2f}".replace("0.", ".").replace("-", "−")
    return ".00" if text == "−.00" else text


def correlations(result: Result) -> Picture | None:
    """Correlation matrices of layer energies: Geant4 and generators above, differences below."""
    shown = [c.details.notes.correlations for c in result.comparisons]
    first = next((notes for notes in shown if notes is not None), None)
    if first is None:
        return None
    reference = first.matrices()[0]
    itself = "second Geant4 − Geant4" if has_second(result) else "halves of Geant4"
    tops = [Drawn("Geant4", INK, reference)]
    bottoms = [Drawn(itself, INK, _floor(result, reference))]
    looks = [look for look, notes in zip(looks_of(result), shown, strict=True) if notes]
    for look, notes in zip(looks, filter(None, shown), strict=True):
        one, other = notes.matrices()
        tops.append(Drawn(look.label, look.color, other))
        bottoms.append(Drawn(f"{look.label} − Geant4", look.color, other - one))
    left_out = result.shown.frame.geometry.n_layers - len(first.layers)
    return Picture(
        "layer-correlations",
        "Correlations of the layers' shares of the incident energy, layer against layer, and "
        "below their differences to Geant4. Under Geant4: how much two Geant4 samples differ; a "
        "block or a stripe of colour that is not there shows layers that a generator couples too "
        f"much or too little. Root mean square difference: {_differences(result)}."
        + (
            f" Left out: {left_out} layers that under {100 * RAREST:g} % of showers reach."
            if left_out
            else ""
        ),
        "Correlation matrices of layer energies for Geant4 and generators, and their differences.",
        _figure(tops, bottoms, [str(layer) for layer in first.layers]),
    )


def _differences(result: Result) -> str:
    """The metric of each generator beside its floor, both of one number of showers."""
    words = []
    smaller = False
    for look, comparison in zip(looks_of(result), result.comparisons, strict=True):
        figure = comparison.sized.get("correlations")
        if figure is None:
            continue
        floor = "" if figure.floor is None else f", floor {figure.floor:.2g}"
        size = at_size(comparison, "correlations")
        smaller = smaller or bool(size)
        words.append(f"{figure.value:.2g} ({look.label}{f' {size}' if size else ''}{floor})")
    drawn = " (the matrices of generators hold all of their showers)" if smaller else ""
    return names(words) + drawn


def _floor(result: Result, reference: Array) -> Array:
    """What Geant4 against Geant4 differs by; NaN where it is not known."""
    for comparison in result.comparisons:
        floor = comparison.details.floor
        if floor is not None and floor.notes.correlations is not None:
            one, other = floor.notes.correlations.matrices()
            difference: Array = other - one
            return difference
    return np.full_like(reference, np.nan)


def _figure(tops: list[Drawn], bottoms: list[Drawn], labels: list[str]) -> Figure:
    across = min(len(tops), _ACROSS)
    size = min((WIDTH - _BAR) / across - _LEFT, 3.1)
    labels_above = [matrix.label for matrix in (*tops, *bottoms)]
    titles, more = titles_within(labels_above, size + 0.8 * _LEFT, letter=0.07)
    sheet = Sheet(
        2 * -(-len(tops) // across),
        across,
        (size, size),
        left=_LEFT,
        top=_TOP + more,
        bottom=_GAP - 0.1,
        gap=(_LEFT, _GAP + more),
    )
    numbers = len(labels) <= MOST_NUMBERS and size / len(labels) > 0.25
    for below, matrices in enumerate((tops, bottoms)):
        for k, matrix in enumerate(matrices):
            line, column = divmod(k, across)
            ax = sheet.axes(2 * line + below, column)
            image = draw_correlations(
                ax, matrix.values, labels, difference=bool(below), numbers=numbers
            )
            ax.set_title(titles[below * len(tops) + k], y=1.0, color=matrix.color, fontsize=8)
            if column == 0:
                ax.set_ylabel("layer", fontsize=7.5)
        where = (sheet.x(across - 1) + size + 0.15, sheet.y(below), size)
        label, ends = ("difference", "both") if below else ("correlation", "neither")
        sheet.colorbar(image, where, label, extend=ends)
    return sheet.figure
