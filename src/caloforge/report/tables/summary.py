"""The tables at the top of a page: the leaderboard, and what was compared."""

from __future__ import annotations

from caloforge.judge.comparison import Comparison
from caloforge.judge.folder import Result
from caloforge.judge.merit import judge, mean_ranks, worst
from caloforge.judge.results import RANK, rank_legend
from caloforge.judge.shown.energies import energy_text
from caloforge.judge.shown.portrait import Portrait
from caloforge.metrics.table import metric, metrics
from caloforge.report.blocks import Cell, Table
from caloforge.report.drawn import has_second, looks_of, observable_label
from caloforge.report.floors import (
    SEPARATION,
    above_floor,
    at_floor_size,
    at_size,
    floor_of,
    separations,
)
from caloforge.report.tables.cells import count, figure_cell, generators, mean_cell, number

WORST = 3


def leaderboard(result: Result) -> Table:
    """One column a generator: ranks, the leading metrics, mean separation, worst observables."""
    comparisons = result.comparisons
    leading = [
        known
        for known in metrics()
        if known.leading and any(known.key in c.metrics for c in comparisons)
    ]
    ranks = mean_ranks(comparisons)
    shown = [
        Cell(count(len(portrait)), color=look.color)
        for look, portrait in zip(looks_of(result), result.shown.generated, strict=True)
    ]
    rows = [("showers", shown)]
    if ranks:
        rows.append((RANK, [Cell(f"{rank:.1f}") for rank in ranks]))
    rows.append(("worst metric", [_worst_cell(result, c) for c in comparisons]))
    rows += [(m.name, [figure_cell(c, m.key) for c in comparisons]) for m in leading]
    mean = [mean_cell(c, "separation_with_flow") for c in comparisons]
    rows.append(("mean separation of all observables", mean))
    apart = [Cell(_worst(result, c), note=at_size(c, SEPARATION)) for c in comparisons]
    rows.append(("separations farthest above their floor", apart))
    return Table(
        "Leaderboard",
        ("metric", *generators(result)),
        tuple((Cell(name), *cells) for name, cells in rows),
        note=f"{rank_legend(comparisons)} No single metric ranks generators well."
        if ranks
        else "",
    )


def _worst_cell(result: Result, comparison: Comparison) -> Cell:
    """The metric farthest above its floor: a mean over many hides one that is wrong."""
    found = worst(comparison)
    if found is None:
        return Cell("–")
    key, _ = found
    known = metric(key)
    name = known.name
    if known.family:
        name = f"{name}: {observable_label(result, key.partition('/')[2])}"
    figure = comparison.sized[key]
    level, words = judge(key, figure.value, figure.joint_error, figure.floor)
    value, floor = number(known.scale * figure.value), number(known.scale * (figure.floor or 0.0))
    return Cell(f"{value} (floor {floor})", level, f"{name}; {words}" if words else name)


def _worst(result: Result, comparison: Comparison) -> str:
    worst = sorted(separations(comparison), key=lambda k: -above_floor(comparison, k))[:WORST]
    return "; ".join(
        f"{observable_label(result, k.removeprefix(SEPARATION))} "
        f"{number(at_floor_size(comparison, k))} (floor {number(floor_of(comparison, k))})"
        for k in worst
    )


def compared(result: Result) -> Table:
    """Every sample: its role, number of showers, energies and where it comes from."""
    roles = ["reference", *(["second reference"] if has_second(result) else [])]
    roles += ["generated"] * len(result.shown.generated)
    rows = [
        (
            Cell(portrait.name),
            Cell(role),
            Cell(count(len(portrait))),
            *_origin(portrait),
        )
        for role, portrait in zip(roles, result.shown.samples, strict=True)
    ]
    return Table(
        "What was compared",
        ("sample", "role", "showers", "incident energies", "provenance"),
        tuple(rows),
    )


def _origin(portrait: Portrait) -> tuple[Cell, Cell]:
    low, high, points = (
        portrait.incident.low,
        portrait.incident.high,
        portrait.incident.points,
    )
    span = energy_text(low) if low == high else f"{energy_text(low)} – {energy_text(high)}"
    scan = f", {points} values" if points > 1 else ""
    plain = [f"{key.replace('_', ' ')}: {value}" for key, value in portrait.provenance.items()]
    return Cell(span + scan), Cell("; ".join(plain) or "not stated")
