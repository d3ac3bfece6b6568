"""Showers from a trained model: any number, streamed, each a function of its condition, the seed
and its own number.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.data import create_showers, open_showers
from caloforge.data.writer import Packer, Part, Spread
from caloforge.errors import ConditionError, ModelError, did_you_mean
from caloforge.geometry import Condition, Geometry
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import normals
from caloforge.showers import SCHEMA_VERSION, Showers

# Showers made at a time: a multiple of the noise block, few enough for the caches to help.
BATCH = 4096
# A worker of a farm makes so many batches at a time, unless they fill more memory than this.
BLOCK_BATCHES, BLOCK_BYTES = 4, 64 << 20
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


def check_batch(batch: int) -> None:
    """Raise ConditionError for a batch of nothing."""
    if batch < 1:
        raise ConditionError(f"Got --batch {batch}; expected at least one shower at a time.")


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
    recipe = file.about.get("recipe", {})
    left_out = recipe.get("data", {}).get("leave_out", [])
    return {
        "producer": f"CaloForge {file.about['model']}",
        "recipe": recipe.get("name", ""),
        "training_seed": str(file.about.get("seed", "")),
        **({"left_out": " ".join(f"{energy:g}" for energy in left_out)} if left_out else {}),
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
    check_batch(batch)
    for start in range(0, count, batch):
        yield _batch(file, conditions.rows(start, min(start + batch, count)), start, seed)


def _batch(file: ModelFile, rows: NDArray[np.float64], start: int, seed: int) -> Showers:
    """One call of the model: showers from number `start` on, under the conditions `rows`."""
    model, device = file.model, file.model.device
    noise = torch.from_numpy(normals(seed, start, start + len(rows), model.noise_size)).to(device)
    with torch.inference_mode():
        energies = model.sample(torch.from_numpy(rows).float().to(device), noise)
    return Showers(energies.cpu().numpy(), rows, model.geometry, provenance(file, seed))


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


@dataclass(frozen=True)
class Block:
    """Showers start..stop-1 of a farmed generation, made by one worker.

    Parameters
    ----------
    model, digest
        The model file, which every worker must find under this path, and its SHA-256.
    rows
        (stop - start, C) conditions, physical units.
    """

    model: str
    digest: str
    rows: NDArray[np.float64]
    start: int
    seed: int
    batch: int
    packer: Packer


def farm_file(
    path: str | Path,
    conditions: Conditions,
    out: str | Path,
    count: int | None = None,
    *,
    spread: Spread,
    seed: int = 0,
    batch: int = BATCH,
    extrapolate: bool = False,
    progress: Callable[[int], None] | None = None,
) -> float:
    """As `generate_file`, from the model file at `path`, by the workers behind `spread`.

    The showers are cut into blocks that depend on the read-out and on `batch` alone, and are
    written in order: the file is the same whatever the number of workers.
    """
    path = Path(path).absolute()
    file, digest = load_model(path), _digest(path)
    check_range(file, conditions, extrapolate=extrapolate)
    check_batch(batch)
    number = len(conditions.table) if count is None else count
    geometry = file.model.geometry
    size = batch * min(BLOCK_BATCHES, max(1, BLOCK_BYTES // (4 * geometry.n_cells * batch)))
    begin = time.perf_counter()
    with create_showers(out, geometry, provenance=provenance(file, seed)) as writer:
        blocks = (
            Block(
                str(path),
                digest,
                conditions.rows(k, min(k + size, number)),
                k,
                seed,
                batch,
                writer.packer,
            )
            for k in range(0, number, size)
        )
        for part in spread(make_block, blocks):
            writer.append_part(part)
            if progress is not None:
                progress(part.count)
    return time.perf_counter() - begin


def make_block(block: Block) -> Part:
    """The showers of a block, encoded and compressed; what a worker does.

    Raises ModelError when the model file is not there or is another one.
    """
    file, rows, batch = _model(block.model, block.digest), block.rows, block.batch
    showers = [
        _batch(file, rows[k : k + batch], block.start + k, block.seed)
        for k in range(0, len(rows), batch)
    ]
    return block.packer(Showers.concatenate(showers))


@lru_cache(maxsize=4)
def _model(path: str, digest: str) -> ModelFile:
    """Loaded once in a worker, and again when the file was replaced."""
    file = load_model(path)
    if _digest(Path(path)) != digest:
        raise ModelError(
            f"The model file {path} is not the one that the generation began with; expected the "
            "same on every machine: start again."
        )
    return file


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
