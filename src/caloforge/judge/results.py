"""Results as JSON, read back from it, and as tables.

The JSON (schema `caloforge-results`, version 1) is described key by key in docs/results.md::

    schema      {name, version}
    reference   {name, file, n, geometry, geometry_hash, provenance}
    generators  NAME -> {metrics, per_energy, details}
                metrics     KEY -> {value, error, floor, n}; keys: those of
                            `caloforge.metrics.table`, families with the key of an observable
                per_energy  ENERGY in MeV (text) -> metrics at that energy point or slice
                details     warnings, how floor and joint metrics were made, metrics at the
                            floor's size, resolution fits, curves
    runs        RECIPE -> {names, metrics, per_energy}: means over generators that one recipe made
                with several seeds, each {mean, spread, floor, runs}; only where there are some
    ...         whatever the caller adds (timing, versions, command)

A number that is not known or not finite is null; errors are standard deviations.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.errors import DataError
from caloforge.files import write_text
from caloforge.judge.comparison import Comparison, Details, Point, ReferenceInfo
from caloforge.judge.merit import Level, judge, mean_ranks, ranked_names
from caloforge.judge.plain import from_plain, plain_dict, text_key, to_plain
from caloforge.judge.runs import RecipeRuns, recipe_runs
from caloforge.judge.summary import Summary
from caloforge.metrics.base import Value
from caloforge.metrics.notes import Notes
from caloforge.metrics.table import metric, metrics

SCHEMA = {"name": "caloforge-results", "version": 1}
NOTHING = "–"
RESPONSE = "separation/response"
CHI2 = ("chi2", "ndf", "outside_reference", "outside_generated")  # absent where it was left out
MADE = ("chi2_left_out", "resolution_fit_reference", "resolution_fit_generated")

# Columns of the leaderboard: heading -> the metrics whose mean it shows.
COLUMNS = {
    "χ²/NDF of E_tot": ("chi2_ndf_energy",),
    "S response": ("separation/response",),
    "S layer energies": ("separation/layer_energy/",),
    "S centres": ("separation/centre_",),
    "S widths": ("separation/width_",),
    "S sparsity": ("separation/sparsity/",),
    "S voxels": ("separation/voxel_energy",),
}
LEGEND = (
    "N: generated showers that enter here, as many as in the floor. In brackets the floor, "
    "reference against reference; S: separation power in 10⁻³, the mean over layers and axes."
)
RANK = "mean rank"
RUNS_LEGEND = "Mean over the runs of a recipe ± standard deviation of one run; floors in brackets."


def to_json(
    reference: Summary | ReferenceInfo,
    comparisons: Sequence[Comparison],
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Results as plain JSON-able data, in the schema of this module; `extra` adds keys at the top.

    Raises
    ------
    DataError
        For two generators of one name, or an `extra` key that the schema uses.
    """
    names = [c.name for c in comparisons]
    if len(set(names)) != len(names):
        raise DataError(f"Two generators have one name in {names}; give each a name of its own.")
    info = reference if isinstance(reference, ReferenceInfo) else reference_info(reference)
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "reference": info,
        "generators": {c.name: _comparison_json(c) for c in comparisons},
    }
    runs = recipe_runs(comparisons)
    if runs:
        plain["runs"] = {r.recipe: r for r in runs}
    for key, value in (extra or {}).items():
        if key in plain:
            raise DataError(f"The results already have a key '{key}'; choose another name.")
        plain[key] = value
    return plain_dict(plain)


def reference_info(reference: Summary) -> ReferenceInfo:
    """What a result says of its reference sample."""
    file = reference.provenance.get("file")
    return ReferenceInfo(
        name=reference.name,
        file=None if file is None else str(file),
        n=len(reference),
        geometry=reference.geometry.name,
        geometry_hash=reference.geometry.hash,
        provenance=plain_dict(reference.provenance),
    )


def read_comparisons(results: Mapping[str, Any]) -> tuple[ReferenceInfo, list[Comparison]]:
    """The reference sample and the comparisons of a results.json: the inverse of `to_json`.

    Written again by `to_json` they give the same JSON.

    Raises
    ------
    DataError
        For data of another schema or version, and for a key that is missing or of another type.
    """
    schema = results.get("schema")
    if schema != SCHEMA:
        raise DataError(
            f"Got results of the schema {schema}; expected {SCHEMA['name']}, version "
            f"{SCHEMA['version']}: is this the results.json of an evaluation?"
        )
    info = from_plain(ReferenceInfo, results.get("reference"), "reference")
    generators = from_plain(dict[str, dict[str, object]], results.get("generators"), "generators")
    return info, [_comparison(name, generator) for name, generator in generators.items()]


# --- a comparison in JSON ------------------------------------------------------------------------
def _comparison_json(comparison: Comparison) -> dict[str, Any]:
    return {
        "metrics": comparison.metrics,
        "per_energy": {e: _point_json(p) for e, p in comparison.per_energy.items()},
        "details": _details_json(comparison),
    }


def _comparison(name: str, plain: Mapping[str, Any]) -> Comparison:
    where = f"generators/{name}"
    points = from_plain(dict[float, dict[str, object]], plain.get("per_energy"), where)
    return Comparison(
        name,
        from_plain(dict[str, Value], plain.get("metrics"), f"{where}/metrics"),
        {e: _point(p, f"{where}/per_energy/{e:g}") for e, p in points.items()},
        _details(from_plain(dict[str, object], plain.get("details"), where), f"{where}/details"),
    )


def _point_json(point: Point) -> dict[str, Any]:
    """The fields of a point that there are; the separation of the response under its key."""
    plain: dict[str, Any] = to_plain(point)
    separation, figures = plain.pop("separation_response"), plain.pop("metrics")
    absent = ("chi2_left_out",) if point.ndf is not None else CHI2
    for key in absent:
        del plain[key]
    if separation is not None:
        plain[RESPONSE] = separation
    return {**plain, "metrics": figures}


def _point(plain: Mapping[str, Any], where: str) -> Point:
    absent = dict.fromkeys(CHI2) | {"chi2_left_out": "", "metrics": {}}
    separation = plain.get(RESPONSE)
    point: Point = from_plain(Point, {**absent, **plain, "separation_response": separation}, where)
    return point


def _notes_json(notes: Notes) -> dict[str, Any]:
    """The notes that there are, the effort under the key `metrics`; no warnings."""
    plain: dict[str, Any] = to_plain(notes)
    del plain["warnings"]
    effort = {"metrics": plain.pop("effort")}
    return {k: v for k, v in {**effort, **plain}.items() if v}


def _notes(plain: Mapping[str, Any], where: str) -> Notes:
    given = {**plain, "effort": plain.get("metrics", "")}
    absent: dict[str, Any] = to_plain(Notes())
    notes: Notes = from_plain(Notes, {k: given.get(k, absent[k]) for k in absent}, where)
    return notes


def _details_json(comparison: Comparison) -> dict[str, Any]:
    details = comparison.details
    notes = _notes_json(details.notes)
    last = {k: notes.pop(k) for k in ("memorising", "attributes", "correlations") if k in notes}
    plain: dict[str, Any] = {"warnings": details.warnings}
    if details.floor is not None:
        joint = _notes_json(details.floor.notes)
        floor = {k: v for k, v in to_plain(details.floor).items() if k != "notes"}
        warnings = {"warnings": details.floor.notes.warnings}
        plain["floor"] = {**floor, "joint": {**joint, **warnings}} if joint else floor
    plain |= {"provenance": details.provenance, **notes}
    if details.at_floor_size:
        plain["at_floor_size"] = details.at_floor_size
    if details.spectrum is not None:
        plain["spectrum"] = details.spectrum
    for energy, point in comparison.per_energy.items():
        if point.separation_response is not None:
            plain[f"{RESPONSE}@{text_key(energy)}"] = point.separation_response
    for key in MADE:
        plain[key] = getattr(details, key)
    return plain | last


def _details(plain: Mapping[str, Any], where: str) -> Details:
    floor = None
    if "floor" in plain:
        joint = plain["floor"].get("joint", {})
        notes = to_plain(_notes(joint, f"{where}/floor/joint"))
        floor = {**plain["floor"], "notes": notes}
    given = {
        "warnings": plain.get("warnings", []),
        "floor": floor,
        "provenance": plain.get("provenance", {}),
        "at_floor_size": plain.get("at_floor_size", {}),
        "notes": to_plain(_notes({k: v for k, v in plain.items() if k != "warnings"}, where)),
        "spectrum": plain.get("spectrum"),
        "chi2_left_out": plain.get("chi2_left_out", {}),
        "resolution_fit_reference": plain.get("resolution_fit_reference"),
        "resolution_fit_generated": plain.get("resolution_fit_generated"),
    }
    details: Details = from_plain(Details, given, where)
    return details


def write_results(
    path: str | Path,
    reference: Summary,
    comparisons: Sequence[Comparison],
    extra: Mapping[str, Any] | None = None,
) -> None:
    """Write `to_json` to a file, whole or not at all."""
    content = to_json(reference, comparisons, extra)
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def markdown_table(comparisons: Sequence[Comparison]) -> str:
    """Leaderboard in Markdown: one row a generator, each metric with its floor in brackets.

    S is the separation power, times 1000; columns over several layers or axes show the mean. Where
    the floor has fewer showers than the generated sample, both are given at the size of the floor:
    a metric beside a floor of another size misleads. A second table has the metrics of all
    features together, where there are some; the last one has the mean rank of several generators.
    """
    tables = []
    for row_of, legend in ((leaderboard_row, LEGEND), (joint_row, joint_legend(comparisons))):
        rows = [row_of(comparison) for comparison in comparisons]
        headings = list(dict.fromkeys(heading for row in rows for heading in row))
        if headings:
            tables.append((headings, rows, legend))
    ranks = mean_ranks(comparisons)
    if ranks is not None:
        headings, rows, legend = tables[-1]
        rows = [row | {RANK: f"{rank:.1f}"} for row, rank in zip(rows, ranks, strict=True)]
        tables[-1] = ([*headings, RANK], rows, f"{legend} {rank_legend(comparisons)}")
    names = [comparison.name for comparison in comparisons]
    texts = [_markdown(names, *table) for table in tables]
    runs = recipe_runs(comparisons)
    if runs:
        rows = [runs_row(r) for r in runs]
        shown = [r.recipe for r in runs]
        texts.append(_markdown(shown, list(rows[0]), rows, RUNS_LEGEND, "recipe"))
    return "\n".join(texts)


def runs_row(runs: RecipeRuns) -> dict[str, str]:
    """Heading -> mean ± spread over the runs of a recipe and, in brackets, the floor."""
    row = {"runs": str(len(runs.names))}
    for known in metrics():
        if known.key in runs.metrics:
            m, scale = runs.metrics[known.key], known.scale
            text = f"{scale * m.mean:.3g} ± {scale * m.spread:.1g}"
            row[known.name] = text if m.floor is None else f"{text} ({scale * m.floor:.3g})"
    return row


def _markdown(
    names: Sequence[str],
    headings: Sequence[str],
    rows: Sequence[Mapping[str, str]],
    legend: str,
    what: str = "generator",
) -> str:
    lines = [f"| {what} | " + " | ".join(headings) + " |", "|---|" + "---|" * len(headings)]
    for name, row in zip(names, rows, strict=True):
        cells = [_escape(row.get(heading, NOTHING)) for heading in headings]
        lines.append(f"| {_escape(name)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", legend]) + "\n"


def leaderboard_row(comparison: Comparison) -> dict[str, str]:
    """Heading -> value with its error and, in brackets, its floor, of one generator."""
    figures = comparison.details.at_floor_size or comparison.metrics
    n = next(iter(figures.values())).n
    return {"N": str(n)} | {name: _cell(figures, keys) for name, keys in COLUMNS.items()}


def cell_levels(comparison: Comparison) -> dict[str, Level]:
    """Heading of `leaderboard_row` and `joint_row` -> how far the value is from its floor; of a
    mean over several metrics the level of the mean.
    """
    levels: dict[str, Level] = {}
    separate = comparison.details.at_floor_size or comparison.metrics
    for name, prefixes in COLUMNS.items():
        chosen = [(k, v) for k, v in separate.items() if k.startswith(prefixes)]
        known = [(k, v) for k, v in chosen if v.floor is not None and v.floor == v.floor]
        if known and len(known) == len(chosen):
            key, first = known[0]
            value = float(np.mean([v.value for _, v in known]))
            floor = float(np.mean([v.floor for _, v in known if v.floor is not None]))
            levels[name] = judge(
                key, value, first.joint_error if len(known) == 1 else None, floor
            )[0]
    for shown in metrics():
        figure = comparison.sized.get(shown.key)
        if shown.column and figure is not None:
            levels[shown.name] = judge(shown.key, figure.value, figure.joint_error, figure.floor)[
                0
            ]
    return levels


def joint_row(comparison: Comparison) -> dict[str, str]:
    """Heading -> value of each metric of all features together; empty without any.

    "metrics" is the effort they were made with, N the number of showers, a range where metrics
    take different ones.
    """
    figures = comparison.sized
    shown = [known for known in metrics() if known.column and known.key in figures]
    if not shown:
        return {}
    sizes = sorted({figures[known.key].n for known in shown})
    row = {
        "N": str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}",
        "metrics": comparison.details.notes.effort or NOTHING,
    }
    return row | {known.name: shown_value(figures[known.key], known.scale) for known in shown}


def joint_legend(comparisons: Sequence[Comparison]) -> str:
    """What the columns of `joint_row` mean, and which of them are reduced."""
    text = (
        "Floors in brackets. AUC, FPD, KPD: smaller is better; precision, recall, coverage, "
        "PRD-AUC: larger is better; density: as the floor."
    )
    if any("copies" in comparison.sized for comparison in comparisons):
        text += (
            " Copies: share of generated showers closer to a training shower than the closest "
            "percent of held-out Geant4 showers is."
        )
    if any("memorising" in comparison.sized for comparison in comparisons):
        text += (
            " Memorising: probability that a generated shower is closer to the training showers "
            "than a held-out Geant4 shower is (1: copies)."
        )
    keys = {key for comparison in comparisons for key in comparison.details.notes.reduced}
    reduced = [known.key for known in metrics() if known.key in keys]
    if reduced:
        text += (
            f" Reduced, with fewer showers than published: {', '.join(map(str.upper, reduced))}."
        )
    return text


def rank_legend(comparisons: Sequence[Comparison]) -> str:
    """What the mean rank is the mean of."""
    return f"Mean rank (1: best in all): over {', '.join(ranked_names(comparisons))}."


def _cell(figures: Mapping[str, Value], prefixes: tuple[str, ...]) -> str:
    chosen = [value for key, value in figures.items() if key.startswith(prefixes)]
    scale = 1000.0 if metric(prefixes[0]).family else 1.0
    if not chosen:
        return NOTHING
    if len(chosen) == 1:
        return shown_value(chosen[0], scale)
    text = f"{scale * float(np.mean([v.value for v in chosen])):.3g}"
    floors = [v.floor for v in chosen if v.floor is not None]
    if len(floors) == len(chosen):
        text += f" ({scale * float(np.mean(floors)):.3g})"
    return text


def shown_value(figure: Value, scale: float) -> str:
    """Value ± error (floor), each times `scale`."""
    text = f"{scale * figure.value:.3g}"
    if figure.error is not None:
        text += f" ± {one_digit(scale * figure.error)}"
    return text if figure.floor is None else f"{text} ({scale * figure.floor:.3g})"


def one_digit(error: float) -> str:
    """An error with one digit, and never as a power of ten for tens and hundreds."""
    return f"{float(f'{error:.1g}'):g}"


def _escape(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")
