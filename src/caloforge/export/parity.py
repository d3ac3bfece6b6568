"""Whether an exported generator makes the showers that PyTorch makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caloforge.errors import ExportError, ModelError
from caloforge.geometry import Condition
from caloforge.models.file import ModelFile
from caloforge.noise import normals

TOLERANCE = 1e-5  # of the incident energy, for every cell
BATCHES = {0: (1, 2, 7, 1009), 1: (1, 2, 7, 64), 2: (1, 2, 7, 64)}  # for each seed
MOST_CORNERS = 256
# A shower of more than twice its incident energy is nonsense, as a model may make at a corner of
# the condition range that no particle has. Exponentials magnify rounding there: such showers are
# compared to a hundredth of their largest cell.
NONSENSE, NONSENSE_TOLERANCE = 2.0, 1e-2
EDGE_SHARE = 0.002  # of the showers that may stand on a step of the model
# Factors on the noise, a few rounding errors from 1: a continuous model does not notice them.
NUDGES = (1 - 1e-6, 1 - 2e-7, 1 + 2e-7, 1 + 1e-6)

Float32 = NDArray[np.float32]
# Showers in MeV (N, V) from noise (N, Z) and conditions (N, C).
Run = Callable[[Float32, Float32], NDArray[np.floating]]


@dataclass(frozen=True)
class Parity:
    """How far an export is from PyTorch.

    Parameters
    ----------
    worst
        Largest |difference| of a cell, as a fraction of the incident energy.
    showers
        Compared.
    nonsense
        Left out of `worst`: showers of more than twice their incident energy, compared less
        strictly.
    edges
        Left out of `worst`: showers at which PyTorch itself jumps as far when its noise changes
        by a rounding error (a cell right at a threshold).
    """

    worst: float
    showers: int
    nonsense: int
    edges: int

    @classmethod
    def joined(cls, parts: Sequence[Parity]) -> Parity:
        """Of several files together."""
        return cls(
            max(part.worst for part in parts),
            sum(part.showers for part in parts),
            sum(part.nonsense for part in parts),
            sum(part.edges for part in parts),
        )

    def __str__(self) -> str:
        notes = f"{self.showers} showers"
        if self.nonsense:
            notes += f", {self.nonsense} of more than {NONSENSE:g} times the incident energy"
        if self.edges:
            notes += f", {self.edges} at a threshold of the model"
        return f"largest difference {self.worst:.1g} of the incident energy in a cell ({notes})"


def check_parity(
    file: ModelFile, core: nn.Module, run: Run, *, tolerance: float = TOLERANCE
) -> Parity:
    """Compare `run` with `core` at several batch sizes and seeds, and at the corners and inside of
    the condition range.

    Parameters
    ----------
    core
        The reference: forward(noise, condition) -> MeV.
    tolerance
        Largest allowed |difference| of a cell, as a fraction of the incident energy, or of the
        energy in the shower where that is more.

    Raises
    ------
    ExportError
        When a cell differs by more, a number is not finite, or the shape is another.
    """
    worst, showers, nonsense, edges = 0.0, 0, 0, 0
    for noise, condition in probes(file):
        found = run(noise, condition)
        z, c = torch.from_numpy(noise), torch.from_numpy(condition)
        with torch.inference_mode():
            expected = core(z, c).numpy()
        if found.shape != expected.shape:
            raise ExportError(
                f"The exported generator gives showers of the shape {found.shape}; expected "
                f"{expected.shape}: the export is wrong and was not written."
            )
        energy = file.model.incident(c).numpy()[:, 0]
        wild = expected.sum(axis=1) > NONSENSE * energy
        # Rounding is relative: a shower of more than its incident energy may be off by more.
        energy = np.maximum(energy, expected.sum(axis=1))
        off = np.abs(found - expected).max(axis=1) / energy
        limit = np.where(
            wild, NONSENSE_TOLERANCE * expected.max(axis=1) / energy + tolerance, tolerance
        )
        apart = ~(off <= limit)  # also where it is NaN
        if apart.any():
            at_edge = _jumps(core, z[apart], c[apart], (limit * energy)[apart])
            if not at_edge.all():
                raise ExportError(
                    f"The exported generator differs from PyTorch by {off.max():.2g} of the "
                    f"incident energy in a cell; expected at most {tolerance:g}: the export was "
                    "not written."
                )
            edges += int(apart.sum())
        worst = max(worst, float(off[~apart & ~wild].max(initial=0.0)))
        showers += len(found)
        nonsense += int(wild.sum())
    if edges > EDGE_SHARE * showers:
        raise ExportError(
            f"{edges} of {showers} showers change by more than {tolerance:g} of the incident "
            "energy from one rounding error to the next; expected a smoother model: the export "
            "was not written."
        )
    return Parity(worst, showers, nonsense, edges)


def _jumps(
    core: nn.Module, noise: torch.Tensor, condition: torch.Tensor, limit: NDArray[np.floating]
) -> NDArray[np.bool_]:
    """Where PyTorch's own showers change by more than `limit` (N,) in MeV under NUDGES, (N,)."""
    with torch.inference_mode():
        made = [core(noise * factor, condition).numpy() for factor in (1.0, *NUDGES)]
    spread = np.max(made, axis=0) - np.min(made, axis=0)
    found: NDArray[np.bool_] = spread.max(axis=1) > limit
    return found


def probes(file: ModelFile) -> Iterator[tuple[Float32, Float32]]:
    """Noise (N, Z) and conditions (N, C) of all seeds and sizes in BATCHES."""
    size = file.model.noise_size
    for seed, batches in BATCHES.items():
        rows = probe_conditions(file, sum(batches), seed)
        start = 0
        for batch in batches:
            stop = start + batch
            yield normals(seed, start, stop, size), rows[start:stop]
            start = stop


def probe_conditions(file: ModelFile, count: int, seed: int) -> Float32:
    """`count` conditions in physical units, (count, C): corners of the trained range (or of the
    geometry's, where the file does not tell) in an order of the seed, then values inside it.
    """
    conditions = file.model.geometry.conditions
    try:
        ranges = [file.condition_range[c.name] for c in conditions]
    except ModelError:
        ranges = [(c.low, c.high) for c in conditions]
    rng = np.random.default_rng(seed)
    corners = np.array(list(product(*ranges))[:MOST_CORNERS])
    rng.shuffle(corners)
    columns = [
        _draw(condition, low, high, count, rng)
        for condition, (low, high) in zip(conditions, ranges, strict=True)
    ]
    return np.concatenate([corners, np.stack(columns, axis=1)])[:count].astype(np.float32)


def _draw(
    condition: Condition, low: float, high: float, count: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    if condition.scale == "category":
        return rng.integers(round(low), round(high) + 1, count).astype(np.float64)
    if condition.scale == "log":
        return np.exp(rng.uniform(np.log(low), np.log(high), count))
    return rng.uniform(low, high, count)
