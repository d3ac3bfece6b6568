"""The table of attributes: what the showers say about their conditions, beside Geant4.

Everything comes from `Notes.attributes`, see `caloforge.metrics.attributes`.
"""

from __future__ import annotations

import math

from caloforge.judge.folder import Result
from caloforge.judge.merit import LEVELS, RESOLVED, SIGMAS, Level
from caloforge.metrics.notes import AttributeValues
from caloforge.report.blocks import Cell, Table
from caloforge.report.floors import attributes_of
from caloforge.report.tables.cells import generators

NOTE = (
    "A regressor trained on other Geant4 showers reads the attributes back. Bias: mean of "
    "regressed minus requested; spread: half width of the central 68.3 %; slope: of regressed "
    "against requested (below 1 where showers do not tell all). Energy: relative; azimuth: arcs. "
    "In small print Geant4's held-out showers; colours say how far the value is from theirs, the "
    "bias in units of their spread."
)


def attributes_table(result: Result) -> Table | None:
    """Bias, spread and slope of each attribute: a row each, a column a generator."""
    attributes, names = attributes_of(result)
    if not names:
        return None
    rows = []
    for name in names:
        first = next(one[name] for one in attributes if name in one)
        for kind in ("bias", "spread", "slope"):
            unit = "" if kind == "slope" else first.unit
            geant4 = Cell(_text(getattr(first.reference, kind)))
            cells = [_cell(one.get(name), kind) for one in attributes]
            head = Cell(f"{first.label}: {kind}{f' [{unit}]' if unit else ''}")
            rows.append((head, geant4, *cells))
    return Table(
        "Attributes read back from the showers",
        ("attribute", "Geant4", *generators(result)),
        tuple(rows),
        note=NOTE,
    )


def _cell(one: AttributeValues | None, kind: str) -> Cell:
    if one is None:
        return Cell("–")
    judged, reference = getattr(one.judged, kind), getattr(one.reference, kind)
    unit = one.reference.spread[0] if kind == "bias" else abs(reference[0])
    level, words = distance_level(judged, reference, unit)
    return Cell(_text(judged), level, words)


def distance_level(
    judged: tuple[float, float], reference: tuple[float, float], unit: float
) -> tuple[Level, str]:
    """How far a value with its error is from Geant4's, in shares of `unit`."""
    beyond = judged[0] - reference[0]
    if not (math.isfinite(beyond) and unit > 0):
        return "", ""
    share = beyond / unit
    words = f"{100 * share:+.2g} %" if abs(share) < 0.995 else f"{share:+.2g} times"
    if abs(beyond) <= SIGMAS * math.hypot(judged[1], reference[1]):
        return "good", f"{words}, within errors"
    return next((name for _, most, name in LEVELS if abs(share) <= most), "far"), words


def _text(figure: tuple[float, float]) -> str:
    value, error = figure
    if not math.isfinite(value):
        return "–"
    # As many digits as two of the error.
    digits = 2 - math.ceil(math.log10(error)) if error > RESOLVED * 1e-9 else 3
    digits = min(max(digits, 0), 6)
    return f"{value:.{digits}f} ± {error:.{digits}f}"
