"""Showers from a trained model, made in blocks by the workers of an executor."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Unpack

from caloforge.data import create_showers
from caloforge.data.writer import Packer, Part
from caloforge.errors import ModelError
from caloforge.executors import in_order
from caloforge.generate.conditions import Array, Conditions
from caloforge.generate.engines import Engine, make_engine
from caloforge.generate.showers import Settings, make_batch, plan, provenance
from caloforge.models.file import ModelFile, load_model
from caloforge.showers import Showers

# A worker makes so many showers at a time, in whole batches, unless they fill more bytes.
BLOCK_SHOWERS, BLOCK_BYTES = 4096, 64 << 20


@dataclass(frozen=True)
class Block:
    """Showers from number `start` on, which one worker makes.

    Parameters
    ----------
    model
        Path of the model file, under which every worker must find it.
    digest
        SHA-256 of the model file.
    rows
        (N, C) conditions of the showers, physical units.
    start
        Number of the first shower.
    seed
        Seed of all showers.
    batch
        Number of showers of one call of the model.
    engine
        Name of what runs the model.
    packer
        Encodes and compresses the showers as the file stores them.
    """

    model: str
    digest: str
    rows: Array
    start: int
    seed: int
    batch: int
    engine: str
    packer: Packer


def generate_blocks(
    path: str | Path,
    conditions: Conditions,
    out: str | Path,
    count: int | None = None,
    *,
    executor: Executor,
    progress: Callable[[int], None] | None = None,
    **settings: Unpack[Settings],
) -> float:
    """As `generate_file`, from the model file at `path`, by the workers of an executor.

    The showers are cut into blocks that depend on the read-out and on `batch` alone, and are
    written in order: the file is the same whatever the number of workers.
    """
    path = Path(path).absolute()
    file, digest = load_model(path), _digest(path)
    seed, batch, number, engine, begin = plan(file, conditions, out, count, settings)
    geometry, about = file.model.geometry, provenance(file, seed, engine.name)
    size = batch * max(1, min(BLOCK_SHOWERS, BLOCK_BYTES // (4 * geometry.n_cells)) // batch)
    with create_showers(out, geometry, provenance=about) as writer:
        blocks = (
            Block(
                str(path),
                digest,
                conditions.rows(k, min(k + size, number), seed),
                k,
                seed,
                batch,
                engine.name,
                writer.packer,
            )
            for k in range(0, number, size)
        )
        for part in in_order(executor, make_block, blocks):
            writer.append_part(part)
            if progress is not None:
                progress(part.count)
    return time.perf_counter() - begin


def make_block(block: Block) -> Part:
    """The showers of a block, encoded and compressed; this is what a worker does.

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
    """The model and its engine, loaded once in a worker, and again when the file was replaced."""
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
