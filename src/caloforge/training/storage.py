"""How the training showers are kept: whole, or their hits alone where most cells are empty."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SMALLEST = 16 << 20  # bytes of showers below which there is nothing worth saving
SAVING = 2.0  # so many times smaller at least, else they stay as they are
BLOCK = 4096  # showers looked at a time


class Stored(Protocol):
    """Energies (N, V) of all training showers, somehow."""

    @property
    def nbytes(self) -> int:
        """Memory they take."""

    def __len__(self) -> int: ...

    def rows(self, chosen: Tensor) -> Tensor:
        """Energies of the chosen showers, (B, V), float32."""


class Dense:
    """Every cell of every shower."""

    def __init__(self, energies: NDArray[np.float32], device: torch.device) -> None:
        self.energies = torch.from_numpy(energies).to(device)

    @property
    def nbytes(self) -> int:
        """See `Stored`."""
        return self.energies.nbytes

    def __len__(self) -> int:
        return len(self.energies)

    def rows(self, chosen: Tensor) -> Tensor:
        """See `Stored`."""
        return self.energies[chosen]


class Hits:
    """Cells with energy alone, shower after shower (compressed sparse rows): values as they are
    (32 bits), so that `rows` gives what `Dense` gives bit for bit.

    Cell numbers take 16 bits where all fit. A batch is spread over its cells on the device.
    """

    def __init__(self, energies: NDArray[np.float32], device: torch.device) -> None:
        self.cells = energies.shape[1]
        small = np.int16 if self.cells <= np.iinfo(np.int16).max + 1 else np.int32
        counts, cells, values = [], [], []
        for start in range(0, len(energies), BLOCK):
            block = energies[start : start + BLOCK]
            row, cell = np.nonzero(block)
            counts.append(np.bincount(row, minlength=len(block)))
            cells.append(cell.astype(small))
            values.append(block[row, cell])
        ends = np.cumsum(np.concatenate([[0], *counts]))
        self.ends = torch.from_numpy(ends).to(device)
        self.cell = torch.from_numpy(np.concatenate(cells)).to(device)
        self.value = torch.from_numpy(np.concatenate(values)).to(device)

    @property
    def nbytes(self) -> int:
        """See `Stored`."""
        return self.ends.nbytes + self.cell.nbytes + self.value.nbytes

    def __len__(self) -> int:
        return len(self.ends) - 1

    def rows(self, chosen: Tensor) -> Tensor:
        """See `Stored`."""
        first, count = self.ends[chosen], self.ends[chosen + 1] - self.ends[chosen]
        row = torch.repeat_interleave(count)
        before = count.cumsum(0) - count  # hits of the chosen showers in front of each
        hit = torch.arange(len(row), device=row.device) + (first - before)[row]
        energies = self.value.new_zeros(len(chosen), self.cells)
        energies[row, self.cell[hit].long()] = self.value[hit]
        return energies


def store(energies: NDArray[np.float32], device: torch.device) -> Stored:
    """Energies (N, V) on the device: their hits alone where that is at least SAVING times smaller
    and they take more than SMALLEST bytes, else all cells.
    """
    hits = np.count_nonzero(energies)
    smaller = energies.size * 4 > SAVING * hits * (6 if energies.shape[1] <= 1 << 15 else 8)
    compact = smaller and energies.nbytes > SMALLEST
    return Hits(energies, device) if compact else Dense(energies, device)
