"""How long a generator takes per shower at several batch sizes: the CaloChallenge's protocol.

Source: arXiv:2410.21611, timing: ms per shower at batch 1, 100 and 10 000, ten repeats.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

BATCHES = (1, 100, 10_000)
REPEATS = 10


@dataclass(frozen=True)
class Timing:
    """Milliseconds per shower at one batch size: mean and standard deviation of the repeats."""

    batch: int
    ms_per_shower: float
    error: float
    repeats: int
    threads: int


def time_generator(
    make: Callable[[int], object],
    threads: int,
    batches: Sequence[int] = BATCHES,
    repeats: int = REPEATS,
) -> list[Timing]:
    """Time `make(batch)`, which must make that many showers and wait until they are there.

    One call of each size goes before the timed ones, so that no one-off set-up is counted.
    """
    rows = []
    for batch in batches:
        make(batch)
        taken = []
        for _ in range(repeats):
            begin = time.perf_counter()
            make(batch)
            taken.append(1e3 * (time.perf_counter() - begin) / batch)
        rows.append(Timing(batch, float(np.mean(taken)), float(np.std(taken)), repeats, threads))
    return rows
