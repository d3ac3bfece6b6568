"""Are showers copied? Distances to the training showers, and nearest neighbours side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.evaluation.neighbours import fractions, nearest
from caloforge.report.averages import ImageRow, image_figure, three_energies
from caloforge.report.blocks import Picture
from caloforge.report.estimates import Array, EnergySlice, energy_text
from caloforge.report.images import draw_map
from caloforge.report.panels import Grid, dress, panel_figure
from caloforge.report.plots import Series, draw_comparison, overlay, shown_edges
from caloforge.report.samples import Samples, names
from caloforge.report.style import FLOOR_LOOK, GEANT4_EDGE, INK, Look

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison
    from caloforge.evaluation.summary import Summary

HELD_OUT_LOOK = Look("Geant4, held out", GEANT4_EDGE)


def training_distances(samples: Samples, comparisons: Sequence[Comparison]) -> Picture | None:
    """Distances to the nearest training shower: generated against held-out Geant4 showers."""
    panels = [
        (look, notes)
        for look, c in zip(samples.looks, comparisons, strict=True)
        if (notes := c.details.get("memorising")) is not None
    ]
    if not panels:
        return None
    grid = Grid(columns=min(3, max(2, len(panels))), height=2.5, left=0.62, below=0.5)
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (look, notes)) in enumerate(zip(pairs, panels, strict=True)):
        held_out, generated = _finite(notes["held_out"]), _finite(notes["generated"])
        log = bool((held_out > 0).any())
        data = overlay(
            Series(held_out, HELD_OUT_LOOK),
            [Series(generated, look)],
            edges=shown_edges(held_out, log=log),
            log=log,
        )
        label = "distance to the nearest training shower / $E_\\mathrm{inc}$"
        draw_comparison(pair, data, label=label)
        dress(pair, look.label, first=k % grid.columns == 0, y_label="fraction of showers")
    figure.legends.clear()
    said = [f"{look.label}: {_words(notes)}" for look, notes in panels]
    return Picture(
        "training-distances",
        "Distance of each generated shower (line) to its nearest training shower, and the same of "
        "Geant4 showers that no training has seen (grey), in shares of the incident energy. "
        "Memorised showers pile up at small distances, in the shaded end bin where they are "
        "copies; a curve to the right belongs to a generator that misses the training showers' "
        f"neighbourhood altogether. {'; '.join(said)}.",
        "Histograms of distances to the nearest training shower, generated and held-out Geant4.",
        figure,
    )


def _finite(values: Any) -> Array:
    found = np.asarray(values, dtype=np.float64)
    return found[np.isfinite(found)]


def _words(notes: Mapping[str, Any]) -> str:
    """The figures of the check, those that are there."""
    text = f"closer than held out with probability {notes['closer']:.3g}"
    if notes.get("closer_error") is not None:
        text += f" ± {notes['closer_error']:.1g}"
    if notes.get("copied") is not None:
        text += (
            f", excess nearest to training rather than held-out showers {notes['copied']:.2g} "
            f"(0 without memorising, scatter {notes['copied_error']:.1g}; 1 for copies)"
        )
    return text


# --- nearest neighbours --------------------------------------------------------------------------
def nearest_showers(samples: Samples) -> Picture | None:
    """A Geant4 shower at each of three energies, and what of each sample comes nearest to it."""
    rows: list[ImageRow] = []
    told = []
    for part in three_energies(samples):
        shower = _first(samples.reference, part)
        if shower is None:
            continue
        cells, incident = shower
        rows.append(ImageRow(f"Geant4\n{energy_text(incident)}", INK, cells))
        distances = []
        for look, summary in samples.drawn[1:]:
            found = _nearest(cells, incident, summary, part)
            if found is None:
                continue
            second = look is FLOOR_LOOK
            name = "second Geant4" if second else look.label
            rows.append(ImageRow(f"nearest of\n{name}", INK if second else look.color, found[0]))
            distances.append(f"{found[1]:.3g} ({name})")
        if distances:
            told.append(f"{energy_text(incident)}: {names(distances)}")
    if not told:
        return None
    polar = any(layer.kind == "polar" for layer in samples.geometry.layers)
    better = " A good generator comes as near as the second Geant4 sample does."
    return Picture(
        "nearest-showers",
        "A Geant4 shower at three energies and, below it, the shower of each sample that comes "
        "nearest to it at about that energy, MeV (logarithmic). Look for a generator whose "
        "nearest shower lacks the tail or the empty cells of the real one. Distances in shares of "
        f"the incident energy: {'; '.join(told)}.{better if samples.floor else ''}",
        "Single Geant4 showers and their nearest neighbours among the showers of each sample.",
        image_figure(samples, rows, draw_map, 0.5 if polar else 0.9, "MeV"),
    )


def _first(summary: Summary, part: EnergySlice) -> tuple[Array, float] | None:
    """The first shower of a slice that was kept whole, with its incident energy."""
    incident = summary.incident_energy[summary.cell_rows]
    rows = np.flatnonzero(part.select(incident))
    return None if len(rows) == 0 else (summary.cells[rows[0]], float(incident[rows[0]]))


def _nearest(
    cells: Array, incident: float, summary: Summary, part: EnergySlice
) -> tuple[Array, float] | None:
    """The shower of a sample in the slice that is nearest to `cells` (V,), and its distance."""
    energies = summary.incident_energy[summary.cell_rows]
    rows = np.flatnonzero(part.select(energies))
    if len(rows) == 0:
        return None
    here = fractions(cells[None], np.array([incident]))
    index, distance = nearest(here, fractions(summary.cells[rows], energies[rows]))
    return summary.cells[rows[int(index[0])]], float(distance[0])
