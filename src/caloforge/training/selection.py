"""Which generator is kept: the one with the lowest chi2/NDF of the total energy on held-out
training showers.

Source: CaloShowerGAN (arXiv:2309.06515): a checkpoint each 1000 iterations, the lowest chi-square
over all energies wins. Showers outside the histogram count as two more bins here: without them a
young generator whose energies all lie outside scores better than one that is nearly right.
"""

from __future__ import annotations

import numpy as np
import torch

from caloforge.config import Selection
from caloforge.evaluation.chi2 import Chi2, energy_chi2
from caloforge.models.base import ShowerModel
from caloforge.noise import normals
from caloforge.showers import Showers, energy_points


class EnergyChi2:
    """Scores a generator; the lower the better. The same conditions and noise every time, so that
    scores compare.

    Parameters
    ----------
    holdout
        Held-out training showers (never the test file's).
    settings
        Showers to generate for each energy point, and how few held-out ones an energy point may
        have.
    seed
        Of the conditions and the noise.
    """

    def __init__(self, holdout: Showers, settings: Selection, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.cut = holdout.geometry.cut
        self.total = holdout.after_cut().energies.sum(axis=1, dtype=np.float64)
        self.incident = holdout.incident_energy
        rng = np.random.default_rng(seed)
        points = energy_points(self.incident)
        groups = (
            [np.flatnonzero(self.incident == p) for p in points]
            if len(points)
            else [np.arange(len(holdout))]
        )
        wanted = settings.showers if len(points) else 8 * settings.showers
        rows = [rng.choice(g, wanted) for g in groups if len(g) >= settings.minimum]
        self.rows = np.concatenate(rows) if rows else np.arange(0)
        self.condition = torch.from_numpy(holdout.conditions[self.rows]).float()

    def __call__(self, model: ShowerModel, device: torch.device) -> Chi2:
        """Chi-square of the model's total energy against the held-out showers'."""
        noise = torch.from_numpy(normals(self.seed, 0, len(self.rows), model.noise_size))
        totals = []
        training = model.training
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(self.rows), 4096):
                part = slice(start, start + 4096)
                energies = model.sample(self.condition[part].to(device), noise[part].to(device))
                totals.append(
                    torch.where(energies < self.cut, 0.0, energies).sum(dim=1).double().cpu()
                )
        model.train(training)
        return energy_chi2(
            self.total,
            self.incident,
            torch.cat(totals).numpy() if totals else np.zeros(0),
            self.incident[self.rows],
            range_rms=self.settings.range_rms,
            minimum=self.settings.minimum,
            flow=True,
        )
