"""Results as JSON and as tables.

The JSON (schema `caloforge-results`, version 1) is described key by key in docs/results.md::

    schema      {name, version}
    reference   {name, file, n, geometry, geometry_hash, provenance}
    generators  NAME -> {metrics, per_energy, details}
                metrics     KEY -> {value, error, floor, n}; keys: those of
                            `caloforge.evaluation.merit.FIGURES`, and separation/KEY,
                            separation_with_flow/KEY, wasserstein/KEY of every observable
                per_energy  ENERGY in MeV (text) -> figures at that energy point or slice
                details     warnings, how floor and joint figures were made, figures at the
                            floor's size, resolution fits, curves
    runs        RECIPE -> {names, metrics, per_energy}: means over generators that one recipe made
                with several seeds, each {mean, spread, floor, runs}; only where there are some
    ...         whatever the caller adds (timing, versions, command)

A number that is not known or not finite is null; errors are standard deviations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.errors import DataError
from caloforge.evaluation.compare import Comparison, Value
from caloforge.evaluation.merit import FIGURES, at_floor_size, mean_ranks, ranked_names
from caloforge.evaluation.runs import RecipeRuns, recipe_runs
from caloforge.evaluation.summary import Summary
from caloforge.files import write_text

SCHEMA = {"name": "caloforge-results", "version": 1}
NOTHING = "–"

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
# Figures of all features or cells together, in their own table.
JOINT = tuple(
    key
    for key in FIGURES
    if key not in ("chi2_ndf_energy", "prd_auc") and not key.startswith("jsd_")
)

LEGEND = (
    "N: generated showers that enter here, as many as in the floor. In brackets the floor, "
    "reference against reference; S: separation power in 10⁻³, the mean over layers and axes."
)
RANK = "mean rank"
RUNS_LEGEND = "Mean over the runs of a recipe ± standard deviation of one run; floors in brackets."


def to_json(
    reference: Summary,
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
    plain: dict[str, Any] = {
        "schema": SCHEMA,
        "reference": {
            "name": reference.name,
            "file": reference.provenance.get("file"),
            "n": len(reference),
            "geometry": reference.geometry.name,
            "geometry_hash": reference.geometry.hash,
            "provenance": reference.provenance,
        },
        "generators": {
            c.name: {"metrics": c.metrics, "per_energy": c.per_energy, "details": c.details}
            for c in comparisons
        },
    }
    runs = recipe_runs(comparisons)
    if runs:
        plain["runs"] = {r.recipe: r for r in runs}
    for key, value in (extra or {}).items():
        if key in plain:
            raise DataError(f"The results already have a key '{key}'; choose another name.")
        plain[key] = value
    return _plain(plain)


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
    """Leaderboard in Markdown: one row a generator, each figure with its floor in brackets.

    S is the separation power, times 1000; columns over several layers or axes show the mean. Where
    the floor has fewer showers than the generated sample, both are given at the size of the floor:
    a figure beside a floor of another size misleads. A second table has the figures of all
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
    for key in FIGURES:
        if key in runs.metrics:
            m, scale = runs.metrics[key], FIGURES[key].scale
            text = f"{scale * m.mean:.3g} ± {scale * m.spread:.1g}"
            row[FIGURES[key].name] = text if m.floor is None else f"{text} ({scale * m.floor:.3g})"
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
    """Heading -> figure with its error and, in brackets, its floor, of one generator."""
    metrics = comparison.details.get("at_floor_size", comparison.metrics)
    n = next(iter(metrics.values())).n
    return {"N": str(n)} | {name: _cell(metrics, keys) for name, keys in COLUMNS.items()}


def joint_row(comparison: Comparison) -> dict[str, str]:
    """The same for the figures of `JOINT` that there are; nothing where there are none.

    "metrics" is the effort they were made with, N the number of showers, a range where figures
    take different ones.
    """
    found = {k: v for k, v in at_floor_size(comparison).items() if k in JOINT}
    if not found:
        return {}
    sizes = sorted({value.n for value in found.values()})
    row = {
        "N": str(sizes[0]) if len(sizes) == 1 else f"{sizes[0]}–{sizes[-1]}",
        "metrics": str(comparison.details.get("metrics", NOTHING)),
    }
    return row | {FIGURES[k].name: _shown(found[k], FIGURES[k].scale) for k in JOINT if k in found}


def joint_legend(comparisons: Sequence[Comparison]) -> str:
    """What the columns of `joint_row` mean, and which of them are reduced."""
    text = (
        "Floors in brackets. AUC, FPD, KPD: smaller is better; precision, recall, coverage, "
        "PRD-AUC: larger is better; density: as the floor."
    )
    found = {key for comparison in comparisons for key in at_floor_size(comparison)}
    if "memorising" in found:
        text += (
            " Memorising: probability that a generated shower is closer to the training showers "
            "than a held-out Geant4 shower is (1: copies)."
        )
    reduced = [
        key for key in FIGURES if any(key in c.details.get("reduced", ()) for c in comparisons)
    ]
    if reduced:
        text += (
            f" Reduced, with fewer showers than published: {', '.join(map(str.upper, reduced))}."
        )
    return text


def rank_legend(comparisons: Sequence[Comparison]) -> str:
    """What the mean rank is the mean of."""
    return f"Mean rank (1: best in all): over {', '.join(ranked_names(comparisons))}."


def _cell(metrics: Mapping[str, Value], prefixes: tuple[str, ...]) -> str:
    chosen = [value for key, value in metrics.items() if key.startswith(prefixes)]
    scale = 1.0 if prefixes == ("chi2_ndf_energy",) else 1000.0
    if not chosen:
        return NOTHING
    if len(chosen) == 1:
        return _shown(chosen[0], scale)
    text = f"{scale * float(np.mean([v.value for v in chosen])):.3g}"
    floors = [v.floor for v in chosen if v.floor is not None]
    if len(floors) == len(chosen):
        text += f" ({scale * float(np.mean(floors)):.3g})"
    return text


def _shown(figure: Value, scale: float) -> str:
    """Value ± error (floor)."""
    text = f"{scale * figure.value:.3g}"
    if figure.error is not None:
        text += f" ± {scale * figure.error:.1g}"
    return text if figure.floor is None else f"{text} ({scale * figure.floor:.3g})"


def _escape(text: str) -> str:
    return text.replace("|", r"\|").replace("\n", " ")


def _plain(value: Any) -> Any:
    """Dataclasses, NumPy values and any keys to what JSON knows; NaN and infinities to None."""
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(asdict(value))
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)


def _key(key: Any) -> str:
    return f"{key:.10g}" if isinstance(key, float) else str(key)
