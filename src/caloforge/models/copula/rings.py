"""Matrices that a rotation leaves alone, as small blocks by a Fourier transform along the rings.

In a polar read-out whose layers have one or A bins along alpha, a turn by one bin carries the
cells of a ring into each other. A matrix M with this symmetry depends, for two rings a and b, on
the number d of bins between two cells alone: it is block-circulant. Where a reflection makes it
even in d, the real Fourier transform along the rings, orthonormal and here called F, makes it
block-diagonal:

    frequency 0:    one block for all rings and the cells that the turn leaves where they are;
    frequency f:    sum_d M_ab(d) cos(2 pi f d / A), the same for the cosine and the sine.

A product with M then costs a transform there and back and the products with the blocks: for the
photons of data set 1 about a tenth of the multiplications.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Integers = NDArray[np.int64]
FEWEST = 4  # bins along alpha below which the transforms cost more than they save


class Rings(NamedTuple):
    """Numbers of the cells that a turn leaves where they are (F,) and of those of the rings, in
    the order in which the turn carries them into each other (A, R).
    """

    fixed: Integers
    turned: Integers

    @property
    def order(self) -> Integers:
        """All cells: first those that stay, then bin by bin one cell of each ring."""
        return np.concatenate([self.fixed, self.turned.ravel()])


def find_rings(permutations: Sequence[Integers], pairs: Integers) -> Rings | None:
    """The rings of the turn with the most bins among the symmetries.

    None where there is no turn whose cycles all have the same length, or where the matrices, which
    have one value for each number in `pairs` (V, V), are not even in the bins between two cells.
    """
    for permutation in permutations:
        rings = _cycles(permutation)
        if rings is None or len(rings.turned) < _longest(permutations):
            continue
        start, bins = rings.turned[0], np.arange(len(rings.turned))
        along = pairs[start[:, None, None], rings.turned[None]]  # (R, A, R)
        if (along == along[:, -bins]).all():
            return rings
    return None


def _longest(permutations: Sequence[Integers]) -> int:
    """Bins of the turn with the most of them."""
    turns = [_cycles(p) for p in permutations]
    return max([FEWEST, *(len(rings.turned) for rings in turns if rings is not None)])


def _cycles(permutation: Integers) -> Rings | None:
    """The cycles of a permutation, if all that are longer than one have one length."""
    here = np.arange(len(permutation))
    moved = here[permutation != here]
    steps, now = [moved], permutation[moved]
    while len(moved) and (now != moved).any():
        if (now == moved).any() or len(steps) == len(permutation):
            return None  # some cells are back before the others
        steps.append(now)
        now = permutation[now]
    cycle = np.stack(steps)
    first = cycle.min(axis=0) == moved  # each ring begins at its first cell
    return Rings(here[permutation == here], cycle[:, first])


def fourier(bins: int) -> Tensor:
    """The real transform F (A, A), orthonormal: row 0 is constant, then cosine and sine of each
    frequency.
    """
    angle = 2 * math.pi / bins * torch.arange(bins).double()
    rows = [torch.full_like(angle, math.sqrt(1 / bins))]
    for row in range(1, bins):
        wave = torch.cos if row % 2 else torch.sin
        size = math.sqrt((1 if 2 * frequency(row) == bins else 2) / bins)
        rows.append(size * wave(frequency(row) * angle))
    return torch.stack(rows)


def frequency(row: int) -> int:
    """The frequency of a row of `fourier`."""
    return (row + 1) // 2


def blocks(rings: Rings, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of matrices (Q, V, V): those of frequency 0, (Q, F + R, F + R), and those of the
    other rows of the transform, (Q, A - 1, R, R).
    """
    fixed, turned = (torch.from_numpy(part).to(matrix.device) for part in rings)
    bins, count = turned.shape
    first = turned[0]
    along = matrix[:, first][:, :, turned.flatten()].double()
    along = along.reshape(len(matrix), count, bins, count)
    angle = torch.arange(bins, device=matrix.device).double() * (2 * math.pi / bins)
    waves = torch.stack([torch.cos(frequency(row) * angle) for row in range(1, bins)])
    still = matrix[:, fixed].double()
    side = still[:, :, first] * math.sqrt(bins)
    zero = torch.cat(
        [
            torch.cat([still[:, :, fixed], side], dim=2),
            torch.cat([side.mT, along.sum(dim=2)], dim=2),
        ],
        dim=1,
    )
    return zero.float(), torch.einsum("fd,qadb->qfab", waves, along).float()


__all__ = ["Rings", "blocks", "find_rings", "fourier"]
