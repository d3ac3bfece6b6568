"""Results as JSON and as a table.

The JSON (schema `caloforge-results`, version 1)::

    schema      {name, version}
    reference   {name, file, n, geometry, geometry_hash, provenance}
    generators  NAME -> {metrics, per_energy, details}
                metrics     KEY -> {value, error, floor, n}; keys: chi2_ndf_energy and
                            separation/KEY, separation_with_flow/KEY, wasserstein/KEY
                per_energy  ENERGY in MeV (text) -> figures at that energy point or slice
                details     warnings, how the floor was made, figures at its size, resolution fits
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
from caloforge.evaluation.summary import Summary
from caloforge.files import write_text

SCHEMA = {"name": "caloforge-results", "version": 1}

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
    a figure beside a floor of another size misleads.
    """
    lines = [
        "| generator | N | " + " | ".join(COLUMNS) + " |",
        "|---|---|" + "---|" * len(COLUMNS),
    ]
    for comparison in comparisons:
        cells = leaderboard_row(comparison).values()
        lines.append(f"| {_escape(comparison.name)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", LEGEND]) + "\n"


def leaderboard_row(comparison: Comparison) -> dict[str, str]:
    """Heading -> figure with its error and, in brackets, its floor, of one generator."""
    metrics = comparison.details.get("at_floor_size", comparison.metrics)
    n = next(iter(metrics.values())).n
    return {"N": str(n)} | {name: _cell(metrics, keys) for name, keys in COLUMNS.items()}


def _cell(metrics: Mapping[str, Value], prefixes: tuple[str, ...]) -> str:
    chosen = [value for key, value in metrics.items() if key.startswith(prefixes)]
    if not chosen:
        return "–"
    scale = 1.0 if prefixes == ("chi2_ndf_energy",) else 1000.0
    text = f"{scale * float(np.mean([v.value for v in chosen])):.3g}"
    if len(chosen) == 1 and chosen[0].error is not None:
        text += f" ± {scale * chosen[0].error:.1g}"
    floors = [v.floor for v in chosen if v.floor is not None]
    if len(floors) == len(chosen):
        text += f" ({scale * float(np.mean(floors)):.3g})"
    return text


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
