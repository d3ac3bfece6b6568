"""Spectra of the energies of single cells."""

from __future__ import annotations

import numpy as np

from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture
from caloforge.report.distributions import Overlay, distribution
from caloforge.report.drawn import drawn, ending, has_second, layer_title, shown_note
from caloforge.report.figures.layers import Panel, distributions, layer_grid


def cell_spectra(result: Result) -> Picture | None:
    """Spectrum of cell energies in each layer: cells per shower, on double-logarithmic axes."""
    frame, samples = result.shown.frame, drawn(result)
    panels: list[Panel] = []
    for place, position in enumerate(frame.layers):
        counts = np.stack([portrait.cell_spectrum[place] for _, portrait in samples])
        filled = np.flatnonzero(counts.sum(axis=0))
        if len(filled) == 0:
            continue
        first, last = int(filled[0]), int(filled[-1]) + 1
        edges = frame.cell_edges[first : last + 1]
        rows = [
            distribution(row[first:last], edges, len(portrait), look)
            for row, (look, portrait) in zip(counts, samples, strict=True)
        ]
        offset = 2 if has_second(result) else 1
        data = Overlay(
            reference=rows[0],
            generated=tuple(rows[offset:]),
            floor=rows[1] if has_second(result) else None,
            inner=(float(edges[0]), float(edges[-1])),
            log=True,
        )
        title = layer_title(frame.geometry.layers[position])
        panels.append((title, data, "cell energy [MeV]"))
    if not panels:
        return None
    return Picture(
        "cell-spectra",
        "Energies of single cells, in cells per shower. The low end shows whether the many soft "
        f"cells are there, the high end the core of the shower. {ending(result)} Errors count "
        f"cells as independent.{shown_note(result)}",
        "Spectra of the energies of single cells in each layer, Geant4 and generators, with "
        "ratios.",
        distributions(
            result, panels, layer_grid(len(panels)), log_y=True, y_label="cells per shower"
        ),
    )
