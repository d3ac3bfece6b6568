"""Whether an exported generator makes the showers that PyTorch makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from caloforge.detector.geometry import Condition
from caloforge.errors import ExportError
from caloforge.models.file import ModelFile
from caloforge.noise import normals

# Largest difference of a cell, as a share of the energy in its shower. A shower with less than
# LEAST_SHARE of the incident energy counts as one with that share: a network that sees the energy
# in fractions of the incident one rounds its cells in proportion to that.
TOLERANCE, LEAST_SHARE = 2e-5, 1e-3
BATCHES = {0: (1, 2, 7, 1009), 1: (1, 2, 7, 64), 2: (1, 2, 7, 64)}  # for each seed
MOST_CORNERS = 256
# A shower of more than twice its incident energy is nonsense, as a model may make at a corner of
# the condition range that no particle has. Exponentials magnify rounding there: such showers are
# compared to a hundredth of their largest cell.
NONSENSE, NONSENSE_TOLERANCE = 2.0, 1e-2
# Such showers are a few at most of those inside the range. When there are more the weights are
# damaged or the training failed, and comparing the two makes no sense.
NONSENSE_SHARE = 0.5
EDGE_SHARE = 0.005  # largest share of showers that may stand on a step of the model
# Factors on noise and conditions, some rounding errors from 1: a continuous model does not notice
# them.
NUDGES = (1 - 1e-5, 1 - 1e-6, 1 - 2e-7, 1 + 2e-7, 1 + 1e-6, 1 + 1e-5)

Float32 = NDArray[np.float32]
# Showers in MeV (N, V) from noise (N, Z) and conditions (N, C).
Run = Callable[[Float32, Float32], NDArray[np.floating]]


@dataclass(frozen=True)
class Parity:
    """How far an export is from PyTorch.

    Parameters
    ----------
    worst
        Largest |difference| of a cell, as a fraction of the energy in its shower.
    showers
        Number of showers that were compared.
    nonsense
        Number of showers with more than twice their incident energy. They are compared less
        strictly and do not enter `worst`.
    edges
        Number of showers at which PyTorch itself jumps as far when its noise or its conditions
        change by a rounding error, because a cell is right at a threshold. They do not enter
        `worst`.
    files
        The files that the exporter wrote; a folder where it wrote one as a whole.
    """

    worst: float
    showers: int
    nonsense: int
    edges: int
    files: tuple[Path, ...] = ()

    @classmethod
    def joined(cls, parts: Sequence[Parity]) -> Parity:
        """How far several files together are from PyTorch."""
        return cls(
            max(part.worst for part in parts),
            sum(part.showers for part in parts),
            sum(part.nonsense for part in parts),
            sum(part.edges for part in parts),
            tuple(path for part in parts for path in part.files),
        )

    def written(self, *files: Path) -> Parity:
        """The same result with the names of the files that were written."""
        return replace(self, files=files)

    def __str__(self) -> str:
        notes = f"{self.showers} showers"
        if self.nonsense:
            notes += f", {self.nonsense} of more than {NONSENSE:g} times the incident energy"
        if self.edges:
            notes += f", {self.edges} at a threshold of the model"
        return f"largest difference {self.worst:.1g} of a shower's energy in a cell ({notes})"


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
        Largest allowed |difference| of a cell, as a fraction of the energy in its shower.

    Raises
    ------
    ExportError
        When a cell differs by more, a number is not finite, the shape is another, or most showers
        have more energy than their particle.
    """
    worst, showers, nonsense, edges = 0.0, 0, 0, 0
    for noise, condition in probes(file):
        energies = run(noise, condition)
        z, c = torch.from_numpy(noise), torch.from_numpy(condition)
        with torch.inference_mode():
            expected = core(z, c).numpy()
        if energies.shape != expected.shape:
            raise ExportError(
                f"The exported generator gives showers of the shape {energies.shape}; expected "
                f"{expected.shape}: the export is wrong and was not written."
            )
        incident = file.model.incident(c).numpy()[:, 0]
        wild = expected.sum(axis=1) > NONSENSE * incident
        # Rounding is relative: what a shower may be off by goes with its own energy.
        energy = np.maximum(LEAST_SHARE * incident, expected.sum(axis=1))
        off = np.abs(energies - expected).max(axis=1) / energy
        limit = np.where(
            wild, NONSENSE_TOLERANCE * expected.max(axis=1) / energy + tolerance, tolerance
        )
        apart = ~(off <= limit)  # also where it is NaN
        if apart.any():
            at_edge = _jumps(file, core, (z[apart], c[apart]), (limit * energy)[apart])
            if not at_edge.all():
                raise ExportError(
                    f"The exported generator differs from PyTorch by {off.max():.2g} of a "
                    f"shower's energy in a cell; expected at most {tolerance:g}: the export was "
                    "not written."
                )
            edges += int(apart.sum())
        worst = max(worst, float(off[~apart & ~wild].max(initial=0.0)))
        showers += len(energies)
        nonsense += int(wild.sum())
    if nonsense > NONSENSE_SHARE * showers:
        raise ExportError(
            f"{nonsense} of {showers} showers have more than {NONSENSE:g} times their incident "
            f"energy; expected at most {NONSENSE_SHARE:.0%}: the generator is damaged or badly "
            "trained, judge it with `caloforge evaluate`; the export was not written."
        )
    if edges > EDGE_SHARE * showers:
        raise ExportError(
            f"{edges} of {showers} showers change by more than {tolerance:g} of their energy from "
            "one rounding error to the next; expected a smoother model: the export was not "
            "written."
        )
    return Parity(worst, showers, nonsense, edges)


def _jumps(
    file: ModelFile,
    core: nn.Module,
    probe: tuple[torch.Tensor, torch.Tensor],
    limit: NDArray[np.floating],
) -> NDArray[np.bool_]:
    """Where PyTorch's own showers, of noise (N, Z) and conditions (N, C), change by more than
    `limit` (N,) in MeV under NUDGES of the noise or of the conditions, (N,). Codes of categories
    are left as they are.
    """
    noise, condition = probe
    codes = torch.tensor([c.scale == "category" for c in file.model.geometry.conditions])
    # Every second condition the other way too: a direction is a ratio of two of them.
    signs = [torch.ones(len(codes)), 1.0 - 2.0 * (torch.arange(len(codes)) % 2)]
    with torch.inference_mode():
        nudged = [core(noise, condition).numpy()]
        for factor in NUDGES:
            nudged.append(core(noise * factor, condition).numpy())
            for sign in signs:
                near = torch.where(codes, condition, condition * (1 + (factor - 1) * sign))
                nudged.append(core(noise, near).numpy())
    spread = np.max(nudged, axis=0) - np.min(nudged, axis=0)
    changed: NDArray[np.bool_] = spread.max(axis=1) > limit
    return changed


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


def trained_ranges(file: ModelFile) -> dict[str, tuple[float, float]]:
    """Smallest and largest value of each condition that the model was trained on, in physical
    units; the geometry's range where the file does not tell.

    Raises ModelError when the file tells something that is no range.
    """
    if "condition_range" in file.about:
        return file.condition_range
    return {c.name: (c.low, c.high) for c in file.model.geometry.conditions}


def probe_conditions(file: ModelFile, count: int, seed: int) -> Float32:
    """`count` conditions in physical units, (count, C): corners of the trained range (or of the
    geometry's, where the file does not tell) in an order of the seed, then values inside it.
    """
    conditions = file.model.geometry.conditions
    trained = trained_ranges(file)
    ranges = [trained[c.name] for c in conditions]
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
