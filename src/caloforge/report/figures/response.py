"""The energy response: total over incident energy, of all showers and at each energy."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import FEWEST
from caloforge.judge.shown.histograms import WIDE, at
from caloforge.report.blocks import Picture
from caloforge.report.distributions import Overlay, draw_comparison
from caloforge.report.drawn import column, ending, has_second, histograms, looks_of, names
from caloforge.report.floors import chi2_at, floor_chi2
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.style import FLOOR

BROAD = 0.27  # of a panel: the width of the numbers of chi-square
LINE = 8.5  # points: the height of one of them
RESPONSE = r"$E_\mathrm{tot}\,/\,E_\mathrm{inc}$"


def response(result: Result) -> Picture:
    """Total over incident energy of all showers, on a linear and on a logarithmic axis."""
    figure, pairs = panel_figure(2, Grid(columns=2, height=2.7, left=0.62, below=0.5))
    for k, (pair, name) in enumerate(zip(pairs, ("response", WIDE), strict=True)):
        data = histograms(result, name)
        assert data is not None  # samples are never empty
        draw_comparison(pair, data, label=RESPONSE, log_y=k == 1)
        title = "all showers" if k == 0 else "all showers, full range of the reference"
        dress(pair, title, first=k == 0, y_label="fraction of showers", linear=k == 0)
    legend(figure, looks_of(result), floor=has_second(result))
    shown = result.shown
    means = [
        f"{portrait.mean_response:.4g} ({look.label})"
        for look, portrait in zip(looks_of(result), shown.generated, strict=True)
    ]
    return Picture(
        "response",
        "Total deposited over incident energy. Look for a peak that is shifted or too wide "
        "(left) and for tails that are missing or too long (right). Mean response: "
        f"{shown.reference.mean_response:.4g} (Geant4), {names(means)}. {ending(result)} Shaded "
        "end bins collect what lies outside the axis.",
        "Histograms of the energy response for Geant4 and the generators, with ratios.",
        figure,
    )


def response_per_energy(result: Result) -> Picture | None:
    """Response at every energy point (or slice), with chi-square in the panel."""
    slices = result.shown.frame.slices
    panels = [
        (part, data)
        for part in slices
        if (data := histograms(result, at("response", part))) is not None
    ]
    if len(slices) < 2 or not panels:
        return None
    grid = Grid(columns=columns(len(panels), 4), height=1.75, below=0.32, left=0.5)
    figure, pairs = panel_figure(len(panels), grid)
    floor = floor_chi2(result)
    for k, (pair, (part, data)) in enumerate(zip(pairs, panels, strict=True)):
        label = RESPONSE if k + grid.columns >= len(panels) else ""
        draw_comparison(pair, data, label=label, headroom=1.3)
        title = f"{part.label}  (N = {int(data.reference.entries)})"
        dress(pair, title, first=k % grid.columns == 0, y_label="fraction of showers")
        lines = [(FLOOR, float(floor[column(result, part)]))]
        for look, comparison in zip(looks_of(result), result.comparisons, strict=True):
            chi2, ndf = chi2_at(comparison, part)
            lines.append((look.color, chi2 / ndf))
        known = [line for line in lines if not np.isnan(line[1])]
        _write_chi2(pair[0], data, known, grid.height * (1 - grid.ratio))
    legend(figure, looks_of(result), floor=has_second(result))
    left_out = len(slices) - len(panels)
    return Picture(
        "response-per-energy",
        "Total deposited over incident energy at each incident energy. Look for a shifted peak, "
        "tails, and the spike of showers that deposit next to nothing at low energy. χ²/NDF of "
        "the total energy is written in the colour of its sample, dark grey for Geant4 against "
        f"Geant4. {ending(result)}"
        + (
            f" Not shown: {left_out} energies with fewer than {FEWEST} reference showers."
            if left_out
            else ""
        ),
        "One histogram of the energy response per incident energy, Geant4 and generators, with "
        "ratios.",
        figure,
    )


def _write_chi2(ax: Axes, data: Overlay, values: list[tuple[str, float]], height: float) -> None:
    """Numbers, each with its colour, in the upper corner of a panel where the curves are lower.

    The axis becomes as high as they need, but not more than twice as high as it was. `height` is
    that of the panel in inches.
    """
    if not values:
        return
    edges = data.reference.histogram.axes[0].edges
    place = (edges - edges[0]) / (edges[-1] - edges[0])
    drawn = [data.reference, *data.generated, *([data.floor] if data.floor else [])]
    heights = np.max([one.histogram.values() for one in drawn], axis=0)
    corners = {"left": heights[place[:-1] < BROAD], "right": heights[place[1:] > 1 - BROAD]}
    side = min(("right", "left"), key=lambda name: float(corners[name].max()))
    free = max(0.1, 1 - LINE * (len(values) + 2) / (72 * height))
    top = ax.get_ylim()[1]
    ax.set_ylim(0, float(np.clip(corners[side].max() / free, top, 2 * top)))
    lines = [("#55595d", "χ²/NDF")] + [(color, f"{value:.3g}") for color, value in values]
    for line, (color, text) in enumerate(lines):
        ax.annotate(
            text,
            (0.97 if side == "right" else 0.03, 0.95),
            xytext=(0, -LINE * line),
            xycoords="axes fraction",
            textcoords="offset points",
            ha=side,
            va="top",
            fontsize=6.8,
            color=color,
        )
