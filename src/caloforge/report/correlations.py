"""Correlations of layer energies: matrices of Geant4 and generators, and their differences."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from caloforge.report.blocks import Picture
from caloforge.report.estimates import Array
from caloforge.report.panels import WIDTH
from caloforge.report.samples import Samples, names
from caloforge.report.style import INK

MOST_NUMBERS = 12  # layers with numbers written into the cells
RAREST = 0.01  # share of showers that reach a layer, below which its correlations are noise
DIFFERENCE = 0.3  # end of the colour scale of differences
_ACROSS = 4
_LEFT, _TOP, _GAP, _BAR = 0.45, 0.42, 0.42, 0.75  # inches


@dataclass(frozen=True)
class Matrix:
    """Correlations (L', L') of the energies of the layers with these positions, of one sample."""

    label: str
    color: str
    values: Array


def layer_correlations(layer_energies: Array, incident: Array) -> Array:
    """Pearson correlations (L, L) of the layers' shares of the incident energy.

    `layer_energies` (N, L) and `incident` (N,) in MeV. Shares, because energies themselves all
    grow with the incident energy, which would hide everything else. A layer whose share does not
    vary has correlation 0 with all others.
    """
    shares = layer_energies / incident[:, None]
    centred = shares - shares.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return scaled.T @ scaled / len(shares)


def off_diagonal(values: Array) -> float:
    """Root mean square of the pairs of different layers."""
    pairs = values[~np.eye(len(values), dtype=bool)]
    return float(np.sqrt((pairs**2).mean())) if len(pairs) else 0.0


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


def correlations(samples: Samples) -> Picture | None:
    """Correlation matrices of layer energies: Geant4 and generators above, differences below."""
    layers = [
        k
        for k, layer in enumerate(samples.geometry.layers)
        if (samples.reference.observables[f"layer_energy/{layer.id}"] > 0).mean() >= RAREST
    ]
    if len(layers) < 2:
        return None
    reference = _matrix(samples, samples.reference, layers)
    tops = [Matrix("Geant4", INK, reference)]
    bottoms = [_floor(samples, layers, reference)]
    for look, summary in zip(samples.looks, samples.generated, strict=True):
        values = _matrix(samples, summary, layers)
        tops.append(Matrix(look.label, look.color, values))
        bottoms.append(Matrix(f"{look.label} − Geant4", look.color, values - reference))
    labels = [str(samples.geometry.layers[k].id) for k in layers]
    found = [
        f"{off_diagonal(m.values):.2g} ({look.label})"
        for m, look in zip(bottoms[1:], samples.looks, strict=True)
    ]
    left_out = samples.geometry.n_layers - len(layers)
    return Picture(
        "layer-correlations",
        "Correlations of the layers' shares of the incident energy, layer against layer, and "
        "below their differences to Geant4. Under Geant4: how much two Geant4 samples differ; a "
        "block or a stripe of colour that is not there shows layers that a generator couples too "
        f"much or too little. Root mean square difference: {off_diagonal(bottoms[0].values):.2g} "
        f"(Geant4 against Geant4), {names(found)}."
        + (
            f" Left out: {left_out} layers that under {100 * RAREST:g} % of showers reach."
            if left_out
            else ""
        ),
        "Correlation matrices of layer energies for Geant4 and generators, and their differences.",
        _figure(tops, bottoms, labels),
    )


def _matrix(samples: Samples, summary: Any, layers: list[int], rows: Any = slice(None)) -> Array:
    ids = [samples.geometry.layers[k].id for k in layers]
    energies = np.stack([summary.observables[f"layer_energy/{i}"][rows] for i in ids], axis=1)
    return layer_correlations(energies, summary.incident_energy[rows])


def _floor(samples: Samples, layers: list[int], reference: Array) -> Matrix:
    """Second sample minus first; without one the difference of the two halves of the reference."""
    if samples.floor is not None:
        values = _matrix(samples, samples.floor, layers) - reference
        return Matrix("second Geant4 − Geant4", INK, values)
    order = np.argsort(samples.reference.incident_energy, kind="stable")
    halves = [_matrix(samples, samples.reference, layers, order[k::2]) for k in (0, 1)]
    return Matrix("halves of Geant4", INK, halves[1] - halves[0])


def _figure(tops: list[Matrix], bottoms: list[Matrix], labels: list[str]) -> Figure:
    across = min(len(tops), _ACROSS)
    size = min((WIDTH - _BAR) / across - _LEFT, 3.1)
    blocks = -(-len(tops) // across)
    total = blocks * 2 * (size + _GAP) + _TOP - 0.1
    figure = Figure(figsize=(WIDTH, total))
    numbers = len(labels) <= MOST_NUMBERS and size / len(labels) > 0.25
    images: dict[bool, Any] = {}
    for k, pair in enumerate(zip(tops, bottoms, strict=True)):
        for below, matrix in enumerate(pair):
            row = 2 * (k // across) + below
            left = (k % across) * (size + _LEFT) + _LEFT
            bottom = total - _TOP - row * (size + _GAP) - size
            box = (left / WIDTH, bottom / total, size / WIDTH, size / total)
            ax = figure.add_axes(box)
            images[bool(below)] = draw_correlations(
                ax, matrix.values, labels, difference=bool(below), numbers=numbers
            )
            ax.set_title(matrix.label, y=1.0, color=matrix.color, fontsize=8)
            if k % across == 0:
                ax.set_ylabel("layer", fontsize=7.5)
    for below, image in images.items():
        left = across * (size + _LEFT) + 0.15
        bottom = total - _TOP - below * (size + _GAP) - size
        cax = figure.add_axes((left / WIDTH, bottom / total, 0.11 / WIDTH, size / total))
        bar = figure.colorbar(image, cax=cax, extend="both" if below else "neither")
        bar.ax.tick_params(labelsize=6.5)
        bar.set_label("difference" if below else "correlation", fontsize=7.5)
    return figure
