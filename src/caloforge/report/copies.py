"""Are showers copied? Distances to the training showers, and nearest neighbours side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from caloforge.evaluation.neighbours import fractions, nearest
from caloforge.evaluation.sample import whole
from caloforge.report.averages import ImageRow, image_figure, three_energies
from caloforge.report.blocks import Picture
from caloforge.report.estimates import Array, EnergySlice, energy_text
from caloforge.report.images import draw_map
from caloforge.report.panels import Grid, dress, legend, panel_figure
from caloforge.report.plots import Series, draw_comparison, overlay
from caloforge.report.samples import Samples, names
from caloforge.report.style import FLOOR_LOOK, INK

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison
    from caloforge.evaluation.summary import Summary


BINS = 40


def training_distances(samples: Samples, comparisons: Sequence[Comparison]) -> Picture | None:
    """Distances to the nearest training shower: generated against held-out Geant4 showers."""
    panels = [
        (look, notes, summary)
        for look, summary, c in zip(samples.looks, samples.generated, comparisons, strict=True)
        if np.isfinite((notes := c.details.get("memorising", {})).get("held_out", ())).any()
    ]
    if not panels:
        return None
    grid = Grid(columns=min(3, max(2, len(panels))), height=2.5, left=0.62, below=0.5)
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (look, notes, summary)) in enumerate(zip(pairs, panels, strict=True)):
        held_out, generated, relative = _scaled(notes, samples.reference, summary)
        # From 0, where copies are, to beyond nearly all held-out showers.
        end = 1.3 * float(np.quantile(held_out, 0.999)) or 1.0
        data = overlay(
            Series(held_out), [Series(generated, look)], edges=np.linspace(0, end, BINS + 1)
        )
        label = "distance to the nearest training shower"
        label += ", over the median of Geant4" if relative else r" / $E_\mathrm{inc}$"
        draw_comparison(pair, data, label=label)
        dress(pair, look.label, first=k % grid.columns == 0, y_label="fraction of showers")
    legend(figure, samples.looks, floor=False)
    said = [f"{look.label}: {_words(notes)}" for look, notes, _ in panels]
    return Picture(
        "training-distances",
        "Distance of each generated shower (line) to its nearest training shower, and the same of "
        "Geant4 showers that no training has seen (grey): energy in other cells as a share of the "
        "incident energy, over the median of held-out showers at the same energy. "
        "Memorised showers pile up at small distances, copies at 0; a curve to the right belongs "
        "to a generator that misses the training showers' "
        f"neighbourhood altogether. {'; '.join(said)}.",
        "Histograms of distances to the nearest training shower, generated and held-out Geant4.",
        figure,
    )


def _scaled(
    notes: Mapping[str, Any], reference: Summary, generated: Summary
) -> tuple[Array, Array, bool]:
    """Distances of held-out and generated showers, in units of the held-out median at an energy.

    As they are, and False, where it is not known which shower a distance belongs to.
    """
    held_out, judged = (np.asarray(notes[k], dtype=np.float64) for k in ("held_out", "generated"))
    plain = held_out[np.isfinite(held_out)], judged[np.isfinite(judged)]
    first, second = whole(reference).with_cells(), whole(generated).with_cells()
    if len(first) != len(held_out) or len(second) != len(judged):
        return *plain, False
    groups = first.groups(reference), second.groups(reference)
    scaled = np.full(len(held_out), np.nan), np.full(len(judged), np.nan)
    for energy in np.unique(groups[0][~np.isnan(groups[0])]).tolist():
        median = np.median(held_out[groups[0] == energy])
        if 0 < median < np.inf:
            for result, values, group in zip(scaled, (held_out, judged), groups, strict=True):
                result[group == energy] = values[group == energy] / median
    found = [x[np.isfinite(x)] for x in scaled]
    return (found[0], found[1], True) if all(map(len, found)) else (*plain, False)


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
