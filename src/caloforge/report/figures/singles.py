"""Single showers: examples of each sample, and what comes nearest to a Geant4 shower."""

from __future__ import annotations

from caloforge.judge.folder import Result
from caloforge.judge.shown.energies import energy_text
from caloforge.report.blocks import Picture
from caloforge.report.drawn import drawn, has_second, names
from caloforge.report.figures.rows_of_images import ImageRow, example_rows, layer_images
from caloforge.report.images import draw_map
from caloforge.report.style import FLOOR_LOOK, INK


def single_showers(result: Result) -> Picture | None:
    """Single showers: a row a shower, a column a layer; None without any."""
    rows = example_rows(result)
    if not rows:
        return None
    return Picture(
        "single-showers",
        "Single showers of each sample at about the same incident energies, cell by cell, MeV "
        "(logarithmic). Single showers fluctuate: look for what no real shower does, such as "
        "smeared-out or repeated images.",
        "Single showers of Geant4 and of each generator, cell by cell.",
        layer_images(result, rows, draw_map, _height(result), "MeV"),
    )


def _height(result: Result) -> float:
    """Height of a row in inches: cells of polar layers are drawn in flat boxes."""
    polar = any(layer.kind == "polar" for layer in result.shown.frame.geometry.layers)
    return 0.5 if polar else 0.9


def nearest_showers(result: Result) -> Picture | None:
    """A Geant4 shower at each of three energies, and what of each sample comes nearest to it."""
    rows: list[ImageRow] = []
    distances = []
    for k, anchor in enumerate(result.shown.reference.nearest):
        if anchor is None:
            continue
        rows.append(ImageRow(f"Geant4\n{energy_text(anchor.energy)}", INK, anchor.cells))
        measured = []
        for look, portrait in drawn(result)[1:]:
            neighbour = portrait.nearest[k] if portrait.nearest else None
            if neighbour is None:
                continue
            second = look is FLOOR_LOOK
            name, color = ("second Geant4", INK) if second else (look.label, look.color)
            rows.append(ImageRow(f"nearest of\n{name}", color, neighbour.cells))
            measured.append(f"{neighbour.distance:.3g} ({name})")
        if measured:
            distances.append(f"{energy_text(anchor.energy)}: {names(measured)}")
    if not distances:
        return None
    better = " A good generator comes as near as the second Geant4 sample does."
    return Picture(
        "nearest-showers",
        "A Geant4 shower at three energies and, below it, the shower of each sample that comes "
        "nearest to it at about that energy, MeV (logarithmic). Look for a generator whose "
        "nearest shower lacks the tail or the empty cells of the real one. Distances in shares of "
        f"the incident energy: {'; '.join(distances)}.{better if has_second(result) else ''}",
        "Single Geant4 showers and their nearest neighbours among the showers of each sample.",
        layer_images(result, rows, draw_map, _height(result), "MeV"),
    )
