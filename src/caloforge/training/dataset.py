"""Training showers: what a recipe shows of a file; shuffled batches drawn on the device, turned
and mirrored where a recipe asks.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.config import Data
from caloforge.detector.symmetries import symmetry_group
from caloforge.errors import TrainingError
from caloforge.models.base import Batch, Source
from caloforge.showers import Showers
from caloforge.training.parallel import Processes
from caloforge.training.storage import store

SAME = 1e-6  # relative: incident energies in files are rounded to 32 bits


def prepare_showers(showers: Showers, data: Data, seed: int) -> Showers:
    """What the table [data] of a recipe lets a training see, in the order of the file.

    Parameters
    ----------
    showers
        Showers of the file, (N, V).
    data
        `leave_out` drops all showers of an incident energy, `at_most` keeps so many of them,
        `average` then takes the mean of so many showers of nearly the same conditions.
    seed
        Chooses which are kept.

    Raises
    ------
    TrainingError
        For no showers at all, an energy that they do not have, naming the nearest one, or when
        fewer than two showers are left.
    """
    if not len(showers):
        raise TrainingError("Got a file of no showers to train on; expected at least 2.")
    incident = showers.incident_energy
    kept = np.ones(len(showers), dtype=bool)
    for energy in data.leave_out:
        kept &= ~_at(energy, incident)
    for number, most in enumerate(data.at_most):
        there = np.flatnonzero(kept & _at(most.energy, incident))
        rng = np.random.default_rng([seed, number])
        kept[rng.permutation(there)[most.showers :]] = False
    if kept.sum() < 2:
        raise TrainingError(
            f"The table [data] leaves {kept.sum()} of {len(showers)} showers; expected at least "
            "2: leave out fewer energies."
        )
    shown = showers if kept.all() else showers[kept]
    return average_showers(shown, data.average) if data.average > 1 else shown


def check_filled(showers: Showers) -> None:
    """Raise TrainingError when no cell of any training shower (N, V) has energy: nothing can be
    learnt from them, and no scale of a transform fits them.
    """
    if not showers.energies.any():
        raise TrainingError(
            f"None of the {len(showers)} training showers deposits any energy; expected cell "
            "energies in MeV."
        )


def average_showers(showers: Showers, size: int) -> Showers:
    """Means of energies and conditions over groups of at least `size` showers that share their
    categories (particle) and are neighbours in incident energy.

    Source: C. Guthrie, I. Malkin, A. Pine 2017 (see `caloforge.models.rnn.model`), "evenly sized
    (particle-type, input-momentum) bins", Fig. 24. Raises TrainingError for a category with fewer
    showers than `size`, or for conditions that have no mean (angles).
    """
    geometry = showers.geometry
    angles = [c.name for c in geometry.conditions if c.scale == "angle"]
    if angles:
        raise TrainingError(
            f"The showers of '{geometry.name}' have the angle '{angles[0]}', which has no mean; "
            "expected data.average = 1."
        )
    columns = [k for k, c in enumerate(geometry.conditions) if c.scale == "category"]
    _, kind = np.unique(showers.conditions[:, columns], axis=0, return_inverse=True)
    groups: list[NDArray[np.int64]] = []
    for number in range(int(kind.max()) + 1):
        rows = np.flatnonzero(kind == number)
        rows = rows[np.argsort(showers.incident_energy[rows], kind="stable")]
        if len(rows) < size:
            raise TrainingError(
                f"data.average = {size}, but a category has {len(rows)} showers; expected at "
                "least as many: average fewer."
            )
        groups += np.array_split(rows, len(rows) // size)
    energies = np.stack([showers.energies[rows].mean(axis=0, dtype=np.float64) for rows in groups])
    conditions = np.stack([showers.conditions[rows].mean(axis=0) for rows in groups])
    provenance = {**showers.provenance, "averaged": size}
    return Showers(energies.astype(np.float32), conditions, geometry, provenance)


def _at(energy: float, incident: NDArray[np.float64]) -> NDArray[np.bool_]:
    there: NDArray[np.bool_] = np.isclose(incident, energy, rtol=SAME, atol=0.0)
    if not there.any():
        nearest = incident[np.abs(incident - energy).argmin()]
        raise TrainingError(
            f"The table [data] names the incident energy {energy:g} MeV, at which there are no "
            f"showers; expected one of the file, the nearest is {nearest:g} MeV."
        )
    return there


class TrainingSet:
    """All training showers on one device.

    Every epoch is a fresh permutation made from (seed, epoch) alone, so that the position (epoch,
    cursor) is all a checkpoint needs. Batches run across the end of an epoch: none is short. Where
    most cells are empty only the hits are kept (`store`); the batches are the same bit for bit.

    Parameters
    ----------
    showers
        The training showers, N of them.
    augment
        Names of exact symmetries of the geometry; each drawn shower is put through a random
        element of the group they make, its conditions too.
    processes
        Who trains together: each draws the joint batch and keeps its own showers.
    """

    def __init__(
        self,
        showers: Showers,
        *,
        device: torch.device,
        seed: int,
        augment: tuple[str, ...] = (),
        processes: Processes | None = None,
    ) -> None:
        self.processes = processes or Processes()
        self.energies = store(showers.energies, device)
        self.condition = torch.from_numpy(showers.conditions).float().to(device)
        self.device, self.seed = device, seed
        self.epoch, self.cursor = 0, 0
        self._order = self._permutation(0)
        self._drawn: list[tuple[Tensor, Tensor | None]] = []  # of the next showers, in this step
        self._tables: Tensor | None = None
        self._maps: tuple[Tensor, Tensor] | None = None
        if augment:
            group = symmetry_group(showers.geometry, augment)
            self._tables = torch.from_numpy(np.stack([s.permutation for s in group])).to(device)
            if any(
                not np.array_equal(s.matrix, np.eye(len(s.offset))) or s.offset.any()
                for s in group
            ):
                matrices = torch.from_numpy(np.stack([s.matrix for s in group])).float().to(device)
                offsets = torch.from_numpy(np.stack([s.offset for s in group])).float().to(device)
                self._maps = (matrices, offsets)
        scales = [c.scale == "angle" for c in showers.geometry.conditions]
        self._angles = torch.tensor(scales, device=device)

    def __len__(self) -> int:
        return len(self.energies)

    def _permutation(self, epoch: int) -> Tensor:
        rng = torch.Generator(self.device).manual_seed((self.seed * 1_000_003 + epoch) % 2**63)
        return torch.randperm(len(self), generator=rng, device=self.device)

    def seek(self, epoch: int, cursor: int) -> None:
        """Continue from a position that a checkpoint holds."""
        self.epoch, self.cursor = epoch, cursor
        self._order = self._permutation(epoch)

    def walk(self, size: int) -> Iterator[Batch]:
        """Every shower as it is, once and in order, `size` at a time."""
        for start in range(0, len(self), size):
            rows = torch.arange(start, min(start + size, len(self)), device=self.device)
            yield Batch(self.energies.rows(rows), self.condition[rows])

    def begin_step(self) -> None:
        """Forget what was drawn: another training step begins."""
        self._drawn.clear()

    def draw(self, size: int, rng: torch.Generator, source: Source = "next") -> Batch:
        """`size` showers, from where `Phase.source` says; of these, what falls to this process.

        Raises TrainingError when they should come from the step's batches and there are none.
        """
        part = self.processes.part(size)
        rows, element = self._choose(size, rng, source)
        if source == "next":
            self._drawn.append((rows, element))
        return self._showers(rows[part], None if element is None else element[part])

    def _choose(
        self, size: int, rng: torch.Generator, source: Source
    ) -> tuple[Tensor, Tensor | None]:
        """Row of each shower of the joint batch, and the symmetry it is put through."""
        if source in ("last", "step") and not self._drawn:
            raise TrainingError(
                "A player wants the showers of the players before it in a step, and there are "
                'none; expected it after one whose source is "next".'
            )
        if source == "last":
            return self._drawn[-1]
        if source == "step":
            before = torch.cat([rows for rows, _ in self._drawn])
            elements = [element for _, element in self._drawn if element is not None]
            at = torch.randperm(len(before), generator=rng, device=self.device)[:size]
            return before[at], torch.cat(elements)[at] if elements else None
        if source == "all":  # one may come twice
            rows = torch.randint(len(self), (size,), generator=rng, device=self.device)
        else:
            rows = self._next(size)
        if self._tables is None:
            return rows, None
        return rows, torch.randint(len(self._tables), (size,), generator=rng, device=self.device)

    def _next(self, size: int) -> Tensor:
        pieces, missing = [], size
        while missing:
            if self.cursor == len(self):
                self.seek(self.epoch + 1, 0)
            taken = min(missing, len(self) - self.cursor)
            pieces.append(self._order[self.cursor : self.cursor + taken])
            self.cursor += taken
            missing -= taken
        return torch.cat(pieces) if len(pieces) > 1 else pieces[0]

    def _showers(self, rows: Tensor, element: Tensor | None) -> Batch:
        energies, condition = self.energies.rows(rows), self.condition[rows]
        if self._tables is not None and element is not None:
            energies = energies.gather(1, self._tables[element])
            if self._maps is not None:
                matrix, offset = self._maps[0][element], self._maps[1][element]
                condition = torch.einsum("bij,bj->bi", matrix, condition) + offset
                turned = torch.remainder(condition + math.pi, 2 * math.pi) - math.pi
                condition = torch.where(self._angles, turned, condition)
        return Batch(energies, condition)


@dataclass(frozen=True)
class Walks:
    """The training set as something that can be walked through any number of times, `size` showers
    at a time.
    """

    data: TrainingSet
    size: int

    def __iter__(self) -> Iterator[Batch]:
        return self.data.walk(self.size)
