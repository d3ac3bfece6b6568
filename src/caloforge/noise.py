"""Counter-based random numbers: those of shower k are the same whatever the batch, worker or
machine.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import ConditionError

# Showers that share one counter: row k % BLOCK of block k // BLOCK belongs to shower k. Changing
# it changes every seed.
BLOCK = 256
# The second word of the counter keeps the streams of a seed apart.
_NOISE, _CONDITIONS = 0, 1


def normals(seed: int, start: int, stop: int, size: int) -> NDArray[np.float32]:
    """Standard normals (stop - start, size) of the showers start..stop-1 under `seed`.

    Each block of showers has its own Philox4x64 stream (Salmon et al. 2011,
    doi:10.1145/2063384.2063405) with the seed as key and the block as counter, so any shower's
    noise can be made without that of the showers before it. Raises ConditionError for a seed that
    cannot be a key.
    """
    check_seed(seed)
    first = start // BLOCK
    # The last block is drawn only as far as it is needed: a stream's beginning needs no end.
    out = np.empty((stop - first * BLOCK, size), np.float32)
    for block in range(first, -(-stop // BLOCK)):
        rows = slice((block - first) * BLOCK, (block - first + 1) * BLOCK)
        _stream(seed, block, _NOISE).standard_normal(dtype=np.float32, out=out[rows])
    return out[start - first * BLOCK :]


def uniforms(seed: int, start: int, stop: int, size: int) -> NDArray[np.float64]:
    """Uniform numbers (stop - start, size), 0 <= u < 1, that have nothing to do with `normals`:
    from them conditions are drawn. Raises as `normals` does.
    """
    check_seed(seed)
    first = start // BLOCK
    out = np.empty((stop - first * BLOCK, size))
    for block in range(first, -(-stop // BLOCK)):
        rows = slice((block - first) * BLOCK, (block - first + 1) * BLOCK)
        _stream(seed, block, _CONDITIONS).random(out=out[rows])
    return out[start - first * BLOCK :]


def check_seed(seed: int) -> None:
    """Raise ConditionError for a seed that cannot be a key."""
    if not 0 <= seed < 2**64:
        raise ConditionError(f"Got the seed {seed}; expected a whole number from 0 to 2^64 - 1.")


def _stream(seed: int, block: int, kind: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, kind, block, 0]))
