"""The few showers of a sample that are kept to be shown one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST = 64
PER_OCTAVE = 8
SEED = 0


class Examples:
    """Up to eight showers of every octave of incident energy, whatever the size of the chunks."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(SEED)
        self.kept: dict[int, list[tuple[float, Array, Array, float]]] = {}

    def add(self, energies: Array, keep: Array, conditions: Array, incident: Array) -> None:
        """Look at more showers: cells (n, V), which of them `keep` their energy, conditions (n, C)
        and incident energies (n,), in MeV.
        """
        keys = self.rng.random(len(energies))
        octave = np.floor(np.log2(incident)).astype(int)
        for k in np.unique(octave).tolist():
            members = np.flatnonzero(octave == k)
            best = members[np.argsort(keys[members])[:PER_OCTAVE]]
            entries = self.kept.setdefault(k, [])
            entries += [
                (float(keys[i]), energies[i] * keep[i], conditions[i].copy(), float(incident[i]))
                for i in best
            ]
            entries.sort(key=lambda entry: entry[0])
            del entries[PER_OCTAVE:]

    def finish(self) -> tuple[Array, Array]:
        """Cells (M, V) and conditions (M, C): taken in turns from the octaves until there are 64,
        then ordered by energy.
        """
        turns = [
            entries[turn]
            for turn in range(PER_OCTAVE)
            for entries in self.kept.values()
            if turn < len(entries)
        ][:MOST]
        chosen = sorted(turns, key=lambda entry: (entry[3], entry[0]))
        return np.stack([c[1] for c in chosen]), np.stack([c[2] for c in chosen])
