"""Showers from a trained model: any number, streamed, each a function of its condition, the seed
and its own number.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.data import create_showers, open_showers
from caloforge.errors import ConditionError, did_you_mean
from caloforge.geometry import Condition, Geometry
from caloforge.models.file import ModelFile
from caloforge.noise import normals
from caloforge.showers import SCHEMA_VERSION, Showers

# Showers made at a time: a multiple of the noise block, few enough for the caches to help.
BATCH = 4096
EDGE = 0.05  # of a trained range that a condition may lie beyond it


@dataclass(frozen=True)
class Conditions:
    """Conditions for any number of showers: `table` (M, C) in physical units, repeated from the
    top when it runs out.
    """

    geometry: Geometry
    table: NDArray[np.float64]

    def rows(self, start: int, stop: int) -> NDArray[np.float64]:
        """Conditions of the showers start..stop-1, (stop - start, C)."""
        return self.table[np.arange(start, stop) % len(self.table)]

    @classmethod
    def like(cls, path: str | Path, geometry: Geometry) -> Conditions:
        """The conditions of a file of showers of the same read-out."""
        with open_showers(path) as source:
            if source.geometry.hash != geometry.hash:
                raise ConditionError(
                    f"{path} holds showers of '{source.geometry.name}', the model makes "
                    f"'{geometry.name}'; expected the same read-out."
                )
            if not len(source):
                raise ConditionError(f"{path} holds no showers; expected at least one condition.")
            return cls(geometry, source.conditions())

    @classmethod
    def of(cls, geometry: Geometry, values: dict[str, float]) -> Conditions:
        """One condition for all showers, every column named. Raises ConditionError for unknown or
        missing names.
        """
        for name in values:
            if name not in geometry.condition_names:
                hint = did_you_mean(name, geometry.condition_names)
                raise ConditionError(f"'{geometry.name}' has no condition '{name}': {hint}")
        missing = [name for name in geometry.condition_names if name not in values]
        if missing:
            raise ConditionError(
                f"The condition lacks {', '.join(missing)}; give --condition {missing[0]}=VALUE "
                "for each, or --like FILE."
            )
        return cls(
            geometry, np.array([[float(values[name]) for name in geometry.condition_names]])
        )


def check_range(file: ModelFile, conditions: Conditions, *, extrapolate: bool = False) -> None:
    """Raise ConditionError when a condition is no number or, unless `extrapolate`, lies outside
    what the model was trained on (by more than a twentieth of its range).
    """
    low_high = file.condition_range
    for column, condition in enumerate(file.model.geometry.conditions):
        low, high = low_high[condition.name]
        values = conditions.table[:, column]
        if not (np.abs(values) < np.finfo(np.float32).max).all():
            raise ConditionError(
                f"The condition '{condition.name}' is NaN or infinite; expected a number."
            )
        if condition.scale == "log" and values.min() <= 0:
            raise ConditionError(
                f"{condition.name} = {values.min():g} {condition.unit} cannot be; expected more "
                "than 0."
            )
        if extrapolate:
            continue
        least, most = _allowed(condition, low, high)
        outside = values[(values < least) | (values > most)]
        if len(outside):
            raise ConditionError(
                f"{condition.name} = {outside[0]:g} {condition.unit} lies outside the trained "
                f"range [{low:g}, {high:g}]; choose a value inside, or --extrapolate at your own "
                "risk."
            )


def _allowed(condition: Condition, low: float, high: float) -> tuple[float, float]:
    """What a condition may be when the training showers had it from `low` to `high`.

    The ends of a sample are not those of what it was drawn from: EDGE of the range beyond them is
    allowed, as far as the geometry goes. Numbers may have been rounded to 32 bits.
    """
    if condition.scale == "log":
        factor = (high / low) ** EDGE
        least, most = max(low / factor, condition.low), min(high * factor, condition.high)
    else:
        margin = EDGE * (high - low)
        least, most = max(low - margin, condition.low), min(high + margin, condition.high)
    least, most = min(least, low), max(most, high)
    return least - 1e-6 * abs(least), most + 1e-6 * abs(most)


def middle_condition(file: ModelFile) -> dict[str, float]:
    """A condition in the middle of the trained ranges (geometric on a logarithmic scale)."""
    middle = {}
    for condition in file.model.geometry.conditions:
        low, high = file.condition_range[condition.name]
        value = (low * high) ** 0.5 if condition.scale == "log" else 0.5 * (low + high)
        middle[condition.name] = round(value) if condition.scale == "category" else value
    return middle


def provenance(file: ModelFile, seed: int) -> dict[str, str | int]:
    """What is written into a file of generated showers about their origin."""
    return {
        "producer": f"CaloForge {file.about['model']}",
        "recipe": file.about.get("recipe", {}).get("name", ""),
        "seed": seed,
        "schema_version": SCHEMA_VERSION,
    }


def stream(
    file: ModelFile,
    conditions: Conditions,
    count: int,
    *,
    seed: int = 0,
    batch: int = BATCH,
) -> Iterator[Showers]:
    """`count` showers, `batch` at a time, in order.

    Shower k is made from condition k and the noise of counter k under `seed`: the same whatever
    `batch` is, to 1e-5 of the incident energy (bit for bit at the same batch, threads and
    machine).
    """
    if batch < 1:
        raise ConditionError(f"Got --batch {batch}; expected at least one shower at a time.")
    model, device = file.model, next(file.model.parameters()).device
    origin = provenance(file, seed)
    for start in range(0, count, batch):
        stop = min(start + batch, count)
        rows = conditions.rows(start, stop)
        noise = torch.from_numpy(normals(seed, start, stop, model.noise_size)).to(device)
        with torch.inference_mode():
            energies = model.sample(torch.from_numpy(rows).float().to(device), noise)
        yield Showers(energies.cpu().numpy(), rows, model.geometry, origin)


def generate_showers(
    file: ModelFile,
    conditions: Conditions,
    count: int | None = None,
    *,
    seed: int = 0,
    batch: int = BATCH,
    extrapolate: bool = False,
) -> Showers:
    """`count` showers in memory (default: one for each condition). See `stream`; raises
    ConditionError out of range.
    """
    check_range(file, conditions, extrapolate=extrapolate)
    number = len(conditions.table) if count is None else count
    return Showers.concatenate(list(stream(file, conditions, number, seed=seed, batch=batch)))


def generate_file(
    file: ModelFile,
    conditions: Conditions,
    out: str | Path,
    count: int | None = None,
    *,
    seed: int = 0,
    batch: int = BATCH,
    extrapolate: bool = False,
    progress: Callable[[int], None] | None = None,
) -> float:
    """As `generate_showers`, into a file of the geometry's own format; memory stays flat. Returns
    seconds it took.
    """
    check_range(file, conditions, extrapolate=extrapolate)
    number = len(conditions.table) if count is None else count
    begin = time.perf_counter()
    with create_showers(out, file.model.geometry, provenance=provenance(file, seed)) as writer:
        for showers in stream(file, conditions, number, seed=seed, batch=batch):
            writer.append(showers)
            if progress is not None:
                progress(len(showers))
    return time.perf_counter() - begin
