"""Showers from a trained model: any number, streamed, each a function of its condition, the seed
and its own number.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from caloforge.data import create_showers
from caloforge.data.containers import MOST_COMPRESSION
from caloforge.errors import CaloForgeError, ConditionError
from caloforge.generate.conditions import Array, Conditions, check_range
from caloforge.generate.engines import Engine, default_batch, make_engine
from caloforge.geometry import Geometry
from caloforge.models import ShowerModel
from caloforge.models.file import ModelFile
from caloforge.noise import normals
from caloforge.showers import SCHEMA_VERSION, Showers
from caloforge.threads import in_order


def checked_batch(batch: int | None, model: ShowerModel) -> int:
    """Showers of one call of the model; None stands for `default_batch`. Raises ConditionError for
    a batch of nothing.
    """
    if batch is not None and batch < 1:
        raise ConditionError(f"Got --batch {batch}; expected at least one shower at a time.")
    return default_batch(model) if batch is None else batch


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


@contextmanager
def one_thread_each() -> Iterator[int]:
    """PyTorch uses one thread in each of ours; gives the number of threads it had.

    Batches side by side need no waiting for each other, unlike pieces of one batch. It also makes
    the showers the same, bit for bit, whatever the number of threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


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
    `batch` and `engine` are, to 1e-5 of the incident energy, and bit for bit with the same batch,
    engine and machine, whatever the number of threads. While it runs, PyTorch uses one thread in
    each thread of this process.
    """
    size = checked_batch(batch, file.model)
    runner = make_engine(file, engine, size, count) if isinstance(engine, str) else engine

    def make(start: int) -> Showers:
        rows = conditions.rows(start, min(start + size, count), seed)
        return make_batch(file, runner, rows, start, seed)

    starts = range(0, count, size)
    with one_thread_each() as threads:
        yield from in_order(make, starts, min(threads, len(starts)))


def generate_showers(
    file: ModelFile,
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
    check_range(file, conditions, extrapolate=extrapolate)
    number = len(conditions.table) if count is None else count
    parts = stream(file, conditions, number, seed=seed, batch=batch, engine=engine)
    return Showers.concatenate(list(parts))


def generate_file(
    file: ModelFile,
    conditions: Conditions,
    out: str | Path,
    count: int | None = None,
    *,
    seed: int = 0,
    batch: int | None = None,
    extrapolate: bool = False,
    engine: str | Engine = "auto",
    progress: Callable[[int], None] | None = None,
) -> float:
    """As `generate_showers`, into a file of the geometry's own format; memory stays flat. Returns
    seconds it took.
    """
    check_range(file, conditions, extrapolate=extrapolate)
    size = checked_batch(batch, file.model)
    check_space(out, file.model.geometry, len(conditions.table) if count is None else count)
    number = len(conditions.table) if count is None else count
    begin = time.perf_counter()
    runner = make_engine(file, engine, size, number) if isinstance(engine, str) else engine
    about, threads = provenance(file, seed, runner.name), torch.get_num_threads()
    geometry = file.model.geometry
    with create_showers(out, geometry, provenance=about, threads=threads) as writer:
        for showers in stream(file, conditions, number, seed=seed, batch=size, engine=runner):
            writer.append(showers)
            if progress is not None:
                progress(len(showers))
    return time.perf_counter() - begin
