"""Divide showers into parts: seeded, and with the same energy spectrum in each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError


def holdout_split(
    incident_energy: NDArray[np.float64], fraction: float = 0.1, seed: int = 0
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Set aside a fraction of showers, stratified in energy.

    The showers are put in order of energy (equal ones in random order), cut into equal blocks, and
    one of each block is held out. A scan is so divided point by point to within one shower, a
    spectrum quantile by quantile.

    Parameters
    ----------
    incident_energy
        (N,) MeV.
    fraction
        Part to hold out, between 0 and 1.
    seed
        Same seed, same split.

    Returns
    -------
    train_index, holdout_index
        Sorted row numbers, (N - H,) and (H,) with H = round(fraction N), at least 1.

    Raises
    ------
    DataError
        For a fraction outside (0, 1), fewer than two showers, or energies that are not finite.
    """
    energy = np.asarray(incident_energy, dtype=np.float64)
    if not 0 < fraction < 1:
        raise DataError(f"Got a hold-out fraction of {fraction}; expected between 0 and 1.")
    if energy.ndim != 1 or len(energy) < 2 or not np.isfinite(energy).all():
        raise DataError(
            f"Got incident energies of shape {energy.shape}; expected at least two finite numbers "
            "in MeV."
        )
    count = len(energy)
    held = min(count - 1, max(1, round(fraction * count)))
    generator = np.random.default_rng(seed)
    order = np.lexsort((generator.random(count), energy))
    edges = np.arange(held + 1, dtype=np.int64) * count // held
    holdout = np.sort(order[generator.integers(edges[:-1], edges[1:])])
    return np.setdiff1d(np.arange(count, dtype=np.int64), holdout), holdout
