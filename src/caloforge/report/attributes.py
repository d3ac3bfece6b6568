"""The section on attributes: what the showers say about their conditions, beside Geant4.

Everything comes from `Comparison.details["attributes"]`, see `caloforge.evaluation.attributes`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from numpy.typing import NDArray

from caloforge import units
from caloforge.evaluation.merit import LEVELS, RESOLVED, SIGMAS, Level
from caloforge.report.blocks import Cell, Picture, Section, Table
from caloforge.report.curves import draw_points, plain_decades
from caloforge.report.panels import Grid, columns, dress, legend, panel_figure
from caloforge.report.samples import Samples
from caloforge.report.style import REFERENCE_LOOK, Look

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison

Array = NDArray[Any]
Details = Mapping[str, Mapping[str, Any]]

NOTE = (
    "A regressor trained on other Geant4 showers reads the attributes back. Bias: mean of "
    "regressed minus requested; spread: half width of the central 68.3 %; slope: of regressed "
    "against requested (below 1 where showers do not tell all). Energy: relative; azimuth: arcs. "
    "In small print Geant4's held-out showers; colours say how far the figure is from theirs, the "
    "bias in units of their spread."
)


def attributes_section(samples: Samples, comparisons: Sequence[Comparison]) -> Section:
    """Table and figures; empty for geometries with the energy alone."""
    found = [c.details.get("attributes", {}) for c in comparisons]
    names = list(dict.fromkeys(name for one in found for name in one))
    if not names:
        return Section("Attributes")
    pictures = (_profiles(samples, found, names), _per_energy(samples, found, names))
    return Section(
        "Attributes",
        "How well requested impact, angles and energy are realised.",
        tables=(attributes_table(samples, comparisons),),
        pictures=tuple(p for p in pictures if p is not None),
    )


def attributes_table(samples: Samples, comparisons: Sequence[Comparison]) -> Table:
    """Bias, spread and slope of each attribute: a row each, a column a generator."""
    found = [c.details.get("attributes", {}) for c in comparisons]
    names = list(dict.fromkeys(name for one in found for name in one))
    rows = []
    for name in names:
        first = next(one[name] for one in found if name in one)
        for kind in ("bias", "spread", "slope"):
            unit = "" if kind == "slope" else first["unit"]
            geant4 = Cell(_text(first["reference"][kind]))
            cells = [_cell(one.get(name), kind) for one in found]
            head = Cell(f"{first['label']}: {kind}{f' [{unit}]' if unit else ''}")
            rows.append((head, geant4, *cells))
    return Table(
        "Attributes read back from the showers",
        ("attribute", "Geant4", *(s.name for s in samples.generated)),
        tuple(rows),
        note=NOTE,
    )


def _cell(one: Mapping[str, Any] | None, kind: str) -> Cell:
    if one is None:
        return Cell("–")
    judged, reference = one["judged"][kind], one["reference"][kind]
    unit = one["reference"]["spread"][0] if kind == "bias" else abs(reference[0])
    level, words = distance_level(judged, reference, unit)
    return Cell(_text(judged), level, words)


def distance_level(
    judged: tuple[float, float], reference: tuple[float, float], unit: float
) -> tuple[Level, str]:
    """How far a figure with its error is from Geant4's, in shares of `unit`."""
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


def _profiles(samples: Samples, found: Sequence[Details], names: Sequence[str]) -> Picture | None:
    """Regressed against requested: means and standard deviations, Geant4 as a band."""
    shown = [n for n in names if any(one.get(n, {}).get("profile") for one in found)]
    if not shown:
        return None
    grid = Grid(columns=columns(len(shown), 4), height=2.1, left=0.62, ratio=0)
    figure, pairs = panel_figure(len(shown), grid)
    for k, (pair, name) in enumerate(zip(pairs, shown, strict=True)):
        first = next(one[name] for one in found if name in one)
        log = name == "energy"
        scale = units.GEV if log else 1.0
        profile = {key: np.asarray(v) / scale for key, v in first["profile"].items()}
        curves: list[tuple[Look, Array, Array]] = [
            (REFERENCE_LOOK, profile["reference_mean"], profile["reference_std"])
        ]
        for look, one in zip(samples.looks, found, strict=True):
            if name in one:
                mine = {key: np.asarray(v) / scale for key, v in one[name]["profile"].items()}
                curves.append((look, mine["judged_mean"], mine["judged_std"]))
        ax = pair[0]
        ax.plot(profile["requested"], profile["requested"], color="black", linewidth=0.6)
        draw_points(ax, profile["requested"], curves, log_x=log)
        unit = "GeV" if log else first["unit"]
        dress(pair, first["label"], first=k % grid.columns == 0, y_label="regressed", linear=False)
        if log:
            _decades(ax)
            ax.set_yscale("log")
            plain_decades(ax)
        ax.set_xlabel(f"requested{f' [{unit}]' if unit else ''}")
    legend(figure, samples.looks, floor=False, kind="points")
    return Picture(
        "attributes-requested",
        "What a regressor trained on Geant4 reads in the showers against what was requested: mean "
        "and standard deviation in tenths of the showers; grey: Geant4's held-out showers, black: "
        "perfect. Look for points off the grey band, or another slope.",
        "Regressed against requested attributes for Geant4 and generators.",
        figure,
    )


def _per_energy(
    samples: Samples, found: Sequence[Details], names: Sequence[str]
) -> Picture | None:
    """Bias and spread against incident energy, Geant4 with its error as a band."""
    shown = [n for n in names if any(len(one.get(n, {}).get("tenths", ())) > 1 for one in found)]
    if not shown:
        return None
    across = min(len(shown), 5)
    grid = Grid(columns=across, height=1.7, left=0.74, ratio=0)
    blocks = [shown[k : k + across] for k in range(0, len(shown), across)]
    panels = [(kind, name) for block in blocks for kind in ("bias", "spread") for name in block]
    figure, pairs = panel_figure(len(panels), grid)
    for k, (pair, (kind, name)) in enumerate(zip(pairs, panels, strict=True)):
        first = next(one[name] for one in found if name in one)
        energies = np.array(sorted(first["tenths"]))
        x, curves = energies / units.GEV, []
        for look, one, which in [
            (REFERENCE_LOOK, first, 0),
            *((look, one.get(name), 1) for look, one in zip(samples.looks, found, strict=True)),
        ]:
            rows = [_at(one, e, which, kind) for e in energies.tolist()]
            curves.append((look, *np.array(rows).T))
        ax = pair[0]
        draw_points(ax, x, curves)
        dress(pair, first["label"], first=k % across == 0, y_label=kind)
        _decades(ax)
        if kind == "spread":
            ax.set_ylim(bottom=0)
        ax.set_xlabel("incident energy [GeV]")
    legend(figure, samples.looks, floor=False, kind="points")
    return Picture(
        "attributes-energy",
        "Bias and spread of the attributes read back, against incident energy; grey: Geant4's "
        "held-out showers with their errors. A larger spread says that the shower does not follow "
        "its condition, a smaller one that it follows too closely.",
        "Bias and spread of regressed attributes against incident energy.",
        figure,
    )


def _at(
    one: Mapping[str, Any] | None, energy: float, which: int, kind: str
) -> tuple[float, float]:
    if one is None or energy not in one["tenths"]:
        return math.nan, math.nan
    entry = one["tenths"][energy][which][kind]
    return float(entry[0]), float(entry[1])


def _decades(ax: Axes) -> None:
    """A logarithmic horizontal axis with plain numbers at 1, 2 and 5 of every decade."""
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.xaxis.set_minor_formatter(NullFormatter())
