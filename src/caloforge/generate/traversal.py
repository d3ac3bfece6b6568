"""Traversals of a trained generator: showers at fixed noise along one condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.errors import ConditionError
from caloforge.generate import Conditions, check_range, middle_condition
from caloforge.models.file import ModelFile
from caloforge.noise import normals

LATENTS = 10


def traverse(
    file: ModelFile,
    name: str,
    values: Sequence[float] | NDArray[np.float64],
    latents: int = LATENTS,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Mean showers (K, V) in MeV along K values of the condition `name`.

    The noise of `latents` showers is the same for every value, and all other conditions are in
    the middle of their trained ranges: what differs is due to the condition alone (arXiv:
    1711.08813, Fig. 3-5). Raises ConditionError for an unknown name, values outside the trained
    range and fewer than one shower.
    """
    model, middle = file.model, middle_condition(file)
    if latents < 1 or not len(values):
        raise ConditionError(
            f"Got {len(values)} values and {latents} showers each; expected at least one of both."
        )
    rows = [Conditions.of(model.geometry, {**middle, name: float(v)}).table for v in values]
    conditions = Conditions(model.geometry, np.concatenate(rows))
    check_range(file, conditions)
    device = model.device
    noise = torch.from_numpy(normals(seed, 0, latents, model.noise_size)).to(device)
    table = torch.from_numpy(np.repeat(conditions.table, latents, axis=0)).float().to(device)
    with torch.inference_mode():
        energies = model.sample(table, noise.repeat(len(values), 1)).double()
    mean: NDArray[np.float64] = energies.view(len(values), latents, -1).mean(dim=1).cpu().numpy()
    return mean
