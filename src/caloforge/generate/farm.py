"""Showers from a trained model, made in blocks by the workers of a farm."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from caloforge.data import create_showers
from caloforge.data.writer import Packer, Part, Spread
from caloforge.errors import ModelError
from caloforge.generate.conditions import Array, Conditions, check_range
from caloforge.generate.engines import Engine, make_engine
from caloforge.generate.showers import check_space, checked_batch, make_batch, provenance
from caloforge.models.file import ModelFile, load_model
from caloforge.showers import Showers

# A worker makes so many showers at a time, in whole batches, unless they fill more memory.
BLOCK_SHOWERS, BLOCK_BYTES = 4096, 64 << 20


@dataclass(frozen=True)
class Block:
    """Showers from number `start` on of a farmed generation, made by one worker.

    Parameters
    ----------
    model, digest
        The model file, which every worker must find under this path, and its SHA-256.
    rows
        (N, C) conditions, physical units.
    """

    model: str
    digest: str
    rows: Array
    start: int
    seed: int
    batch: int
    engine: str
    packer: Packer


def farm_file(
    path: str | Path,
    conditions: Conditions,
    out: str | Path,
    count: int | None = None,
    *,
    spread: Spread,
    seed: int = 0,
    batch: int | None = None,
    extrapolate: bool = False,
    engine: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> float:
    """As `generate_file`, from the model file at `path`, by the workers behind `spread`.

    The showers are cut into blocks that depend on the read-out and on `batch` alone, and are
    written in order: the file is the same whatever the number of workers.
    """
    path = Path(path).absolute()
    file, digest = load_model(path), _digest(path)
    check_range(file, conditions, extrapolate=extrapolate)
    pace = checked_batch(batch, file.model)
    number = len(conditions.table) if count is None else count
    geometry = file.model.geometry
    check_space(out, geometry, number)
    size = pace * max(1, min(BLOCK_SHOWERS, BLOCK_BYTES // (4 * geometry.n_cells)) // pace)
    begin = time.perf_counter()
    chosen = make_engine(file, engine, pace, number).name
    about = provenance(file, seed, chosen)
    with create_showers(out, geometry, provenance=about) as writer:
        blocks = (
            Block(
                str(path),
                digest,
                conditions.rows(k, min(k + size, number), seed),
                k,
                seed,
                pace,
                chosen,
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
    file, engine = _loaded(block.model, block.digest, block.engine, block.batch)
    showers = [
        make_batch(file, engine, block.rows[k : k + block.batch], block.start + k, block.seed)
        for k in range(0, len(block.rows), block.batch)
    ]
    return block.packer(Showers.concatenate(showers))


@lru_cache(maxsize=4)
def _loaded(path: str, digest: str, engine: str, batch: int) -> tuple[ModelFile, Engine]:
    """Loaded once in a worker, and again when the file was replaced."""
    file = load_model(path)
    if _digest(Path(path)) != digest:
        raise ModelError(
            f"The model file {path} is not the one that the generation began with; expected the "
            "same on every machine: start again."
        )
    return file, make_engine(file, engine, batch)


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
