"""Distances to the training showers: whether showers were copied."""

from __future__ import annotations

from caloforge.judge.folder import Result
from caloforge.metrics.notes import Memorising
from caloforge.report.blocks import Picture
from caloforge.report.distributions import Series, draw_comparison, overlay
from caloforge.report.drawn import looks_of
from caloforge.report.panels import Grid, dress, legend, panel_figure


def training_distances(result: Result) -> Picture | None:
    """Distances to the nearest training shower: generated against held-out Geant4 showers."""
    panels = [
        (look, portrait.copies, comparison.details.notes.memorising)
        for look, portrait, comparison in zip(
            looks_of(result), result.shown.generated, result.comparisons, strict=True
        )
        if portrait.copies is not None
    ]
    if not panels:
        return None
    grid = Grid(columns=min(3, max(2, len(panels))), height=2.5, left=0.62, below=0.5)
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (look, copies, _)) in enumerate(zip(pairs, panels, strict=True)):
        data = overlay(
            Series(copies.held_out), [Series(copies.generated, look)], None, copies.bins
        )
        label = "distance to the nearest training shower"
        label += ", over the median of Geant4" if copies.relative else r" / $E_\mathrm{inc}$"
        draw_comparison(pair, data, label=label)
        dress(pair, look.label, first=k % grid.columns == 0, y_label="fraction of showers")
    legend(figure, looks_of(result), floor=False)
    words = [f"{look.label}: {_words(notes)}" for look, _, notes in panels if notes]
    return Picture(
        "training-distances",
        "Distance of each generated shower (line) to its nearest training shower, and the same of "
        "Geant4 showers that no training has seen (grey): energy in other cells as a share of the "
        "incident energy, over the median of held-out showers at the same energy. "
        "Memorised showers pile up at small distances, copies at 0; a curve to the right belongs "
        "to a generator that misses the training showers' "
        f"neighbourhood altogether. {'; '.join(words)}.",
        "Histograms of distances to the nearest training shower, generated and held-out Geant4.",
        figure,
    )


def _words(notes: Memorising) -> str:
    """The numbers of the check."""
    return (
        f"closer than held out with probability {notes.closer:.3g} ± {notes.closer_error:.1g}, "
        f"excess nearest to training rather than held-out showers {notes.copied:.2g} (0 without "
        f"memorising, scatter {notes.copied_error:.1g}; 1 for copies)"
    )
