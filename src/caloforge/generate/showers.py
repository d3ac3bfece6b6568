"""Showers from a trained model: any number, streamed, each a function of its condition, the seed
and its own number.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypedDict, Unpack

import numpy as np
import torch

from caloforge.data import create_showers
from caloforge.data.containers import MOST_COMPRESSION
from caloforge.detector.geometry import Geometry
from caloforge.errors import CaloForgeError, ConditionError
from caloforge.executors import in_order, one_thread_each
from caloforge.generate.conditions import Array, Conditions, check_range
from caloforge.generate.engines import Engine, default_batch, make_engine
from caloforge.models import ShowerModel
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import normals
from caloforge.showers import SCHEMA_VERSION, Showers


class Settings(TypedDict, total=False):
    """How showers are made, by any function that takes these settings by name.

    Parameters
    ----------
    seed
        Seed of the noise and of conditions that are drawn; by default 0.
    batch
        Number of showers of one call of the model; by default `default_batch`.
    extrapolate
        Whether conditions outside the trained range are allowed; by default they are refused.
    engine
        What runs the model: a name of `ENGINES` ("auto" by default) or an engine.
    """

    seed: int
    batch: int | None
    extrapolate: bool
    engine: str | Engine


class Plan(NamedTuple):
    """A generation into a file that can be done.

    Parameters
    ----------
    seed, batch, number
        Seed of the noise, showers of one call of the model, and showers in all.
    engine
        What runs the model.
    begin
        When the work on it began, in seconds of `time.perf_counter`.
    """

    seed: int
    batch: int
    number: int
    engine: Engine
    begin: float


def plan(
    file: ModelFile, conditions: Conditions, out: str | Path, count: int | None, given: Settings
) -> Plan:
    """Check what is asked for, and make the engine; see `generate_file`."""
    check_range(file, conditions, extrapolate=given.get("extrapolate", False))
    batch = checked_batch(given.get("batch"), file.model)
    number = checked_count(count, conditions)
    check_space(out, file.model.geometry, number)
    begin = time.perf_counter()
    engine = given.get("engine", "auto")
    runner = make_engine(file, engine, batch, number) if isinstance(engine, str) else engine
    return Plan(given.get("seed", 0), batch, number, runner, begin)


def checked_batch(batch: int | None, model: ShowerModel) -> int:
    """Showers of one call of the model; None stands for `default_batch`. Raises ConditionError for
    a batch of nothing.
    """
    if batch is not None and batch < 1:
        raise ConditionError(f"Got --batch {batch}; expected at least one shower at a time.")
    return default_batch(model) if batch is None else batch


def checked_count(count: int | None, conditions: Conditions) -> int:
    """Number of showers; None stands for one for each row of the conditions. Raises ConditionError
    for none or part of one.
    """
    if count is not None and (count % 1 or count < 1):
        raise ConditionError(
            f"Got {count} showers to make; expected a whole number, at least one."
        )
    return len(conditions.table) if count is None else int(count)


def check_space(out: str | Path, geometry: Geometry, count: int) -> None:
    """Raise CaloForgeError when so many showers cannot fit beside `out`, however well they are
    compressed.
    """
    least = 4 * geometry.n_cells * count // MOST_COMPRESSION
    folder = next(place for place in Path(out).absolute().parents if place.is_dir())
    free = shutil.disk_usage(folder).free
    if least > free:
        raise CaloForgeError(
            f"{count} showers need at least {least / 1e9:.3g} GB and {folder} has "
            f"{free / 1e9:.3g} GB left; choose fewer showers or another place."
        )


def provenance(file: ModelFile, seed: int, engine: str) -> dict[str, str | int]:
    """What is written into a file of generated showers about their origin."""
    recipe = file.about.get("recipe", {})
    left_out = recipe.get("data", {}).get("leave_out", [])
    return {
        "producer": f"CaloForge {file.about['model']}",
        "recipe": recipe.get("name", ""),
        "training_seed": str(file.about.get("seed", "")),
        **({"left_out": " ".join(f"{energy:g}" for energy in left_out)} if left_out else {}),
        "seed": seed,
        "engine": engine,
        "schema_version": SCHEMA_VERSION,
    }


def make_batch(file: ModelFile, engine: Engine, rows: Array, start: int, seed: int) -> Showers:
    """One call of the engine: showers from number `start` on, under the conditions `rows`."""
    noise = normals(seed, start, start + len(rows), file.model.noise_size)
    energies = engine(rows.astype(np.float32), noise)
    return Showers(energies, rows, file.model.geometry, provenance(file, seed, engine.name))


def stream(
    file: ModelFile,
    conditions: Conditions,
    count: int,
    *,
    seed: int = 0,
    batch: int | None = None,
    engine: str | Engine = "auto",
) -> Iterator[Showers]:
    """`count` showers, `batch` at a time (default: `default_batch`), in order, made by as many
    threads as PyTorch has.

    Shower k is made from condition k and the noise of counter k under `seed`: the same whatever
    `batch` and `engine` are, to 2e-5 of the incident energy, and bit for bit with the same batch,
    engine and machine, whatever the number of threads. While it runs, PyTorch uses one thread in
    each thread of this process.
    """
    size, count = checked_batch(batch, file.model), checked_count(count, conditions)
    runner = make_engine(file, engine, size, count) if isinstance(engine, str) else engine

    def make(start: int) -> Showers:
        rows = conditions.rows(start, min(start + size, count), seed)
        return make_batch(file, runner, rows, start, seed)

    starts = range(0, count, size)
    with one_thread_each(len(starts)) as executor:
        yield from in_order(executor, make, starts)


def generate_showers(
    file: ModelFile | str | Path,
    conditions: Conditions,
    count: int | None = None,
    *,
    seed: int = 0,
    batch: int | None = None,
    extrapolate: bool = False,
    engine: str | Engine = "auto",
) -> Showers:
    """`count` showers in memory (default: one for each row of the conditions). See `stream`;
    raises ConditionError out of range.
    """
    file = file if isinstance(file, ModelFile) else load_model(file)
    check_range(file, conditions, extrapolate=extrapolate)
    number = checked_count(count, conditions)
    parts = stream(file, conditions, number, seed=seed, batch=batch, engine=engine)
    return Showers.concatenate(list(parts))


def generate_file(
    file: ModelFile | str | Path,
    conditions: Conditions,
    out: str | Path,
    count: int | None = None,
    *,
    progress: Callable[[int], None] | None = None,
    **settings: Unpack[Settings],
) -> float:
    """As `generate_showers`, into a file of the geometry's own format; memory stays flat.

    Returns the seconds that it took.

    Parameters
    ----------
    file
        The model, its path, or the name of a shipped generator.
    conditions
        Conditions of the showers.
    out
        File to write.
    count
        Number of showers; by default one for each row of the conditions.
    progress
        It is called with the number of showers that were written since the last call.
    settings
        See `Settings`.
    """
    file = file if isinstance(file, ModelFile) else load_model(file)
    seed, batch, number, engine, begin = plan(file, conditions, out, count, settings)
    about, threads = provenance(file, seed, engine.name), torch.get_num_threads()
    with create_showers(out, file.model.geometry, provenance=about, threads=threads) as writer:
        for showers in stream(file, conditions, number, seed=seed, batch=batch, engine=engine):
            writer.append(showers)
            if progress is not None:
                progress(len(showers))
    return time.perf_counter() - begin
