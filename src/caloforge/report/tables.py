"""The tables of a report: what was compared, leaderboard, all figures, per energy, timing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from caloforge.evaluation.compare import Value
from caloforge.evaluation.merit import FIGURES, figure, judge, mean_ranks
from caloforge.evaluation.results import RANK, RUNS_LEGEND, rank_legend, runs_row
from caloforge.evaluation.runs import recipe_runs
from caloforge.report.blocks import Cell, Table
from caloforge.report.energy_figures import above_floor, at_floor_size, observable_label
from caloforge.report.estimates import energy_slices, energy_text
from caloforge.report.samples import Samples

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison
    from caloforge.evaluation.summary import Summary

FAMILIES = {
    "separation": "Separation power, bins and ranges of the CaloChallenge",
    "separation_with_flow": "Separation power, under- and overflow counted",
    "wasserstein": "Wasserstein distance, in the unit of the observable",
    "attribute_bias": "Attributes read back from the showers: bias, in their unit",
    "attribute_spread": "Attributes read back from the showers: spread, in their unit",
    "attribute_slope": "Attributes read back from the showers: slope against the requested ones",
}
# What a figure says, for those who meet it for the first time.
MEANING = {
    "auc_low": "classifier on the cells: 0.5 cannot tell, 1 always can",
    "auc_low_normed": "classifier on the cells as shares of their layer",
    "auc_high": "classifier on layer energies, centres, widths, sparsity",
    "auc_boosted": "boosted trees on observables, filled cells and largest cells of each layer",
    "jsd_low": "distance of the two score distributions: 0 same, 1 disjoint",
    "jsd_low_normed": "the same for cells as shares of their layer",
    "jsd_high": "the same for the shower shapes",
    "fpd": "distance of means and covariances of the shower shapes: 0 same",
    "kpd": "distance of all moments up to the fourth: 0 same",
    "precision": "share of generated showers that look like a Geant4 one",
    "recall": "share of Geant4 showers that the generator can make",
    "density": "how densely Geant4 showers surround the generated ones",
    "coverage": "share of Geant4 showers with a generated one close by",
    "prd_auc_raw": "precision against recall over clusters of cell images: 1 same, 0 disjoint",
    "prd_auc_physics": "the same over clusters of the observables",
    "prd_auc": "the smaller of the two",
    "memorising": "closer to the training set than held-out Geant4: 0.5 as fresh, 1 copies",
}
WORST = 3
# Figures of the leaderboard; all of them are in the tables further down.
LEADING = (
    "chi2_ndf_energy",
    "auc_low",
    "auc_high",
    "auc_boosted",
    "fpd",
    "coverage",
    "prd_auc",
    "memorising",
)


def number(value: float | None) -> str:
    """Three significant digits; a dash for nothing."""
    if value is None or value != value:
        return "–"
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def figure_cell(comparison: Comparison, key: str) -> Cell:
    """Value ± error with its floor, coloured by how far they are (both at the floor's size)."""
    value: Value | None = comparison.metrics.get(key)
    if value is None:
        return Cell("–")
    scale = figure(key).scale
    error = "" if value.error is None else f" ± {scale * value.error:.1g}"
    sized = comparison.details.get("at_floor_size", {}).get(key, value)
    return _with_floor(
        comparison, f"{number(scale * value.value)}{error}", sized, value.floor, key
    )


def mean_cell(comparison: Comparison, family: str) -> Cell:
    """Mean of a family of figures over all observables, with the mean of their floors."""
    keys = [k for k in comparison.metrics if k.startswith(f"{family}/")]
    if not keys:
        return Cell("–")
    floors = [f for k in keys if (f := comparison.metrics[k].floor) is not None]
    value = sum(comparison.metrics[k].value for k in keys) / len(keys)
    sized = sum(at_floor_size(comparison, k) for k in keys) / len(keys)
    floor = sum(floors) / len(floors) if len(floors) == len(keys) else None
    mean = Value(sized, None, floor, len(keys))
    return _with_floor(comparison, number(value), mean, floor, family)


def _with_floor(
    comparison: Comparison, text: str, sized: Value, floor: float | None, key: str
) -> Cell:
    """A cell with its floor below; `sized` is the figure at the size of the floor."""
    if floor is None:
        return Cell(text)
    level, words = judge(key, sized.value, sized.error, floor)
    scale = figure(key).scale
    note = f"floor {number(scale * floor)}" + (f", {words}" if words else "")
    if key in comparison.details.get("at_floor_size", {}) or (
        "at_floor_size" in comparison.details and key in FAMILIES
    ):
        made = comparison.details.get("floor", {}).get("n", "fewer")
        note = f"at {made} showers {number(scale * sized.value)}, {note}"
    return Cell(text, level, note)


def leaderboard(samples: Samples, comparisons: Sequence[Comparison]) -> Table:
    """One column a generator: ranks, the leading figures, mean separation, worst observables."""
    leading = [k for k in LEADING if any(k in c.metrics for c in comparisons)]
    ranks = mean_ranks(comparisons)
    shown = [
        Cell(_count(len(summary)), color=look.color)
        for look, summary in zip(samples.looks, samples.generated, strict=True)
    ]
    rows = [("showers", shown)]
    if ranks:
        rows.append((RANK, [Cell(f"{rank:.1f}") for rank in ranks]))
    rows += [(figure(k).name, [figure_cell(c, k) for c in comparisons]) for k in leading]
    mean = [mean_cell(c, "separation_with_flow") for c in comparisons]
    rows.append(("mean separation of all observables", mean))
    worst = [Cell(_worst(samples, c)) for c in comparisons]
    rows.append(("separations farthest above their floor", worst))
    return Table(
        "Leaderboard",
        ("figure", *_names(samples)),
        tuple((Cell(name), *cells) for name, cells in rows),
        note=f"{rank_legend(comparisons)} No single figure ranks generators well."
        if ranks
        else "",
    )


def runs_table(comparisons: Sequence[Comparison]) -> Table | None:
    """Means over the runs of each recipe that made several of the generators."""
    runs = recipe_runs(comparisons)
    rows = [runs_row(r) for r in runs]
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    if not runs:
        return None
    return Table(
        "Means over the runs of a recipe",
        ("figure", *(r.recipe for r in runs)),
        tuple((Cell(h), *(Cell(row.get(h, "–")) for row in rows)) for h in headings),
        note=RUNS_LEGEND,
    )


def joint_table(samples: Samples, comparisons: Sequence[Comparison]) -> Table | None:
    """All figures of all features or cells together: a row a figure, a column a generator."""
    keys = [
        k for k in FIGURES if k != "chi2_ndf_energy" and any(k in c.metrics for c in comparisons)
    ]
    if not keys:
        return None
    reduced = {k for c in comparisons for k in c.details.get("reduced", ())}
    rows = tuple(
        (
            Cell(figure(k).name + (" (reduced)" if k in reduced else "")),
            Cell(MEANING[k]),
            *(_joint_cell(comparison, k) for comparison in comparisons),
        )
        for k in keys
    )
    return Table(
        "All features together",
        ("figure", "what it says", *_names(samples)),
        rows,
        note=_effort_note(comparisons),
    )


def _joint_cell(comparison: Comparison, key: str) -> Cell:
    cell = figure_cell(comparison, key)
    value = comparison.metrics.get(key)
    n = "" if value is None else f"N\u00a0=\u00a0{_count(value.n)}"
    return replace(cell, note="; ".join(part for part in (cell.note, n) if part))


def _effort_note(comparisons: Sequence[Comparison]) -> str:
    """With which effort and by which classifiers the figures were made."""
    efforts = list(dict.fromkeys(str(c.details.get("metrics", "")) for c in comparisons))
    text = ""
    if any(efforts):
        text = f"Metrics: {', '.join(e for e in efforts if e)}. "
    trained = [
        f"{figure(f'auc_{name}').name.removeprefix('AUC ')}: {made['n_train']} showers of each "
        f"sample to train on, {made['n_held_out']} held out, {made['repeats']} repeat"
        f"{'s' if made['repeats'] != 1 else ''} ({_protocol(made)})"
        for name, made in comparisons[0].details.get("classifier", {}).items()
    ]
    if trained:
        text += f"Classifiers of {comparisons[0].name}: {'; '.join(trained)}. "
    if any(c.details.get("boosted") for c in comparisons):
        text += "AUC boosted: every shower judged once, in four folds. "
    if any(c.details.get("reduced") for c in comparisons):
        text += "Reduced: made with fewer showers than the published rule asks for. "
    return text + "An AUC grows with the training sample: read it beside its floor only."


def _protocol(made: Mapping[str, Any]) -> str:
    protocol = made.get("protocol", "")
    return str(protocol.get("name", "") if isinstance(protocol, Mapping) else protocol)


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
        return figure(key).name
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
        "Chi-square, response and resolution in numbers",
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
