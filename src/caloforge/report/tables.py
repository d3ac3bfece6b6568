"""The tables of a report: what was compared, leaderboard, all figures, per energy, timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from caloforge.report.blocks import Cell, Level, Table
from caloforge.report.energy_figures import above_floor, at_floor_size, observable_label
from caloforge.report.estimates import energy_slices, energy_text
from caloforge.report.samples import Samples

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison, Value
    from caloforge.evaluation.summary import Summary

# How many times its floor a figure may be; beyond the last it is "far".
LEVELS: tuple[tuple[float, Level], ...] = (
    (1.5, "good"),
    (3.0, "near"),
    (10.0, "off"),
)
NAMES = {"chi2_ndf_energy": "χ²/NDF of total energy"}
FAMILIES = {
    "separation": "Separation power, bins and ranges of the CaloChallenge",
    "separation_with_flow": "Separation power, under- and overflow counted",
    "wasserstein": "Wasserstein distance, in the unit of the observable",
}
WORST = 3


def number(value: float | None) -> str:
    """Three significant digits; a dash for nothing."""
    if value is None or value != value:
        return "–"
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def judge(value: float, floor: float | None) -> tuple[Level, str]:
    """How far a figure is from its floor, as a level and in words."""
    if floor is None or not floor > 0 or value != value:
        return "", ""
    times = value / floor
    level: Level = next((name for most, name in LEVELS if times <= most), "far")
    return level, f"{times:.1f} × floor" if times < 100 else f"{times:.0f} × floor"


def figure_cell(comparison: Comparison, key: str) -> Cell:
    """Value ± error with its floor, coloured by their ratio (both at the size of the floor)."""
    value: Value | None = comparison.metrics.get(key)
    if value is None:
        return Cell("–")
    error = "" if value.error is None else f" ± {value.error:.1g}"
    sized = at_floor_size(comparison, key)
    return _with_floor(comparison, f"{number(value.value)}{error}", sized, value.floor)


def mean_cell(comparison: Comparison, family: str) -> Cell:
    """Mean of a family of figures over all observables, with the mean of their floors."""
    keys = [k for k in comparison.metrics if k.startswith(f"{family}/")]
    if not keys:
        return Cell("–")
    floors = [f for k in keys if (f := comparison.metrics[k].floor) is not None]
    value = sum(comparison.metrics[k].value for k in keys) / len(keys)
    sized = sum(at_floor_size(comparison, k) for k in keys) / len(keys)
    floor = sum(floors) / len(floors) if len(floors) == len(keys) else None
    return _with_floor(comparison, number(value), sized, floor)


def _with_floor(comparison: Comparison, text: str, sized: float, floor: float | None) -> Cell:
    """A cell with its floor below; `sized` is the value at the size of the floor."""
    level, times = judge(sized, floor)
    if floor is None:
        return Cell(text)
    note = f"floor {number(floor)}" + (f", {times}" if times else "")
    if "at_floor_size" in comparison.details:
        made = comparison.details.get("floor", {}).get("n", "fewer")
        note = f"at {made} showers {number(sized)}, {note}"
    return Cell(text, level, note)


def leaderboard(samples: Samples, comparisons: Sequence[Comparison]) -> Table:
    """One row a generator: figures over all showers, mean separation, worst observables."""
    single = list(dict.fromkeys(k for c in comparisons for k in c.metrics if "/" not in k))
    rows = [
        (
            Cell(summary.name, color=look.color),
            Cell(_count(len(summary))),
            *(figure_cell(comparison, k) for k in single),
            mean_cell(comparison, "separation_with_flow"),
            mean_cell(comparison, "separation"),
            Cell(_worst(samples, comparison)),
        )
        for look, summary, comparison in zip(
            samples.looks, samples.generated, comparisons, strict=True
        )
    ]
    return Table(
        "Leaderboard",
        (
            "generator",
            "showers",
            *(NAMES.get(k, k.replace("_", " ")) for k in single),
            "mean separation, all observables",
            "mean separation as in the CaloChallenge",
            "separations farthest above their floor",
        ),
        tuple(rows),
    )


def _worst(samples: Samples, comparison: Comparison) -> str:
    prefix = "separation_with_flow/"
    keys = [k for k in comparison.metrics if k.startswith(prefix)]
    worst = sorted(keys, key=lambda k: -above_floor(comparison, k))[:WORST]
    return "; ".join(
        f"{observable_label(samples, k.removeprefix(prefix))} "
        f"{number(comparison.metrics[k].value)} (floor {number(comparison.metrics[k].floor)})"
        for k in worst
    )


def _count(number_of: int) -> str:
    return f"{number_of:,}".replace(",", "\u202f")  # narrow space between thousands


def compared(samples: Samples) -> Table:
    """Every sample: its role, number of showers, energies and where it comes from."""
    roles = ["reference", *(["second reference"] if samples.floor else [])]
    roles += ["generated"] * len(samples.generated)
    rows = [
        (
            Cell(summary.name),
            Cell(role),
            Cell(_count(len(summary))),
            *_origin(summary),
        )
        for role, summary in zip(roles, (samples.reference, *samples.others), strict=True)
    ]
    return Table(
        "What was compared",
        ("sample", "role", "showers", "incident energies", "provenance"),
        tuple(rows),
    )


def _origin(summary: Summary) -> tuple[Cell, Cell]:
    low, high = float(summary.incident_energy.min()), float(summary.incident_energy.max())
    span = energy_text(low) if low == high else f"{energy_text(low)} – {energy_text(high)}"
    points = energy_slices(summary.incident_energy)
    scan = f", {len(points)} values" if len(points) > 1 and points[0].is_point else ""
    plain = [
        f"{key.replace('_', ' ')}: {value}"
        for key, value in summary.provenance.items()
        if isinstance(value, str | int | float)
    ]
    return Cell(span + scan), Cell("; ".join(plain) or "not stated")


def metric_tables(samples: Samples, comparisons: Sequence[Comparison]) -> tuple[Table, ...]:
    """All figures of all generators: one collapsed table a family, those without one first."""
    keys = list(dict.fromkeys(k for c in comparisons for k in c.metrics))
    families = list(dict.fromkeys(k.partition("/")[0] if "/" in k else "" for k in keys))
    tables = []
    for family in sorted(families, key=lambda f: f != ""):
        mine = [k for k in keys if (k.partition("/")[0] if "/" in k else "") == family]
        rows = tuple(
            (
                Cell(_row_name(samples, k)),
                *(figure_cell(c, k) for c in comparisons),
            )
            for k in mine
        )
        title = (
            FAMILIES.get(family, family.replace("_", " "))
            if family
            else "Figures over all showers"
        )
        tables.append(
            Table(
                title,
                ("figure" if not family else "observable", *_names(samples)),
                rows,
                collapsed=True,
            )
        )
    return tuple(tables)


def _row_name(samples: Samples, key: str) -> str:
    if "/" not in key:
        return NAMES.get(key, key.replace("_", " "))
    return observable_label(samples, key.partition("/")[2])


def _names(samples: Samples) -> tuple[str, ...]:
    return tuple(s.name for s in samples.generated)


def energy_table(samples: Samples, comparisons: Sequence[Comparison]) -> Table:
    """Chi-square, response and resolution at each incident energy, the reference first."""
    energies = list(dict.fromkeys(e for c in comparisons for e in c.per_energy))
    rows = []
    for energy in sorted(energies):
        points = [c.per_energy.get(energy, {}) for c in comparisons]
        reference: Mapping[str, Any] = next((p["reference"] for p in points if p), {})
        cells = [Cell(energy_text(energy)), _response_cell(reference)]
        for point in points:
            cells += [_chi2_cell(point), _response_cell(point.get("generated", {}))]
        rows.append(tuple(cells))
    columns = ["incident energy", "Geant4: response, resolution"]
    for name in _names(samples):
        columns += [f"{name}: χ²/NDF", f"{name}: response, resolution"]
    return Table(
        "Per incident energy",
        tuple(columns),
        tuple(rows),
        note="Response: mean of total over incident energy; resolution: its relative standard "
        "deviation. In a spectrum the energy is the median of its slice.",
        collapsed=True,
    )


def _chi2_cell(point: Mapping[str, Any]) -> Cell:
    if not point.get("ndf"):
        return Cell("–", "", str(point.get("chi2_left_out", "")))
    outside = 100 * float(point["outside_generated"])
    return Cell(
        f"{point['chi2']:.1f} / {point['ndf']} = {point['chi2'] / point['ndf']:.3g}",
        "",
        f"{outside:.1f} % outside the histogram",
    )


def _response_cell(found: Mapping[str, Any]) -> Cell:
    if found.get("response") is None:
        return Cell("–")
    resolution = found.get("resolution")
    text = f"{found['response']:.4f}"
    if found.get("response_error") is not None:
        text += f" ± {found['response_error']:.4f}"
    if resolution is not None:
        text += f", ({100 * resolution:.2f} ± {100 * (found['resolution_error'] or 0):.2f}) %"
    return Cell(text, "", f"{found.get('n', 0)} showers")


def timing_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Rows of equal keys as they come: names as columns, numbers with three digits."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return Table(
        "Time",
        tuple(c.replace("_", " ") for c in columns),
        tuple(tuple(Cell(_plain(row.get(c))) for c in columns) for row in rows),
    )


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value)
    return str(value)
