"""Which generator is kept: that of the lowest chi2/NDF of the total energy on held-out showers.

Source: CaloShowerGAN (arXiv:2309.06515): a checkpoint each 1000 iterations, the lowest chi-square
over all energies wins. Showers outside the histogram count as two more bins here: without them a
young generator whose energies all lie outside scores better than one that is nearly right.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from caloforge.config import Selection
from caloforge.evaluation.chi2 import energy_chi2
from caloforge.models.base import ShowerModel
from caloforge.noise import normals
from caloforge.showers import Showers

CHUNK = 4096  # showers made at a time


@dataclass(frozen=True)
class Score:
    """Chi2/NDF over all energies and at each (MeV -> chi2/NDF); NaN without enough showers."""

    chi2_ndf: float
    per_energy: dict[float, float]


class EnergyChi2:
    """Scores a generator; the lower the better. The same conditions and noise every time, so that
    scores compare.

    The held-out conditions are generated `repeats` times and chi-square is averaged over them:
    each generated sample is as large as the held-out one, because the weighted chi-square of
    samples of different size is biased.

    Parameters
    ----------
    holdout
        Held-out training showers (never the test file's).
    settings
        Repeats, and how few held-out showers an energy point may have.
    seed
        Of the noise.
    """

    def __init__(self, holdout: Showers, settings: Selection, seed: int) -> None:
        self.settings, self.seed, self.cut = settings, seed, holdout.geometry.cut
        self.total = holdout.after_cut().energies.sum(axis=1, dtype=np.float64)
        self.incident = holdout.incident_energy
        self.condition = torch.from_numpy(holdout.conditions).float().repeat(settings.repeats, 1)

    def __call__(self, model: ShowerModel, device: torch.device) -> Score:
        """Chi2/NDF of the model's total energy against the held-out showers'."""
        if not len(self.condition):
            return Score(float("nan"), {})
        noise = torch.from_numpy(normals(self.seed, 0, len(self.condition), model.noise_size))
        totals = []
        training = model.training
        model.eval()
        with torch.inference_mode():
            for start in range(0, len(noise), CHUNK):
                part = slice(start, start + CHUNK)
                energies = model.sample(self.condition[part].to(device), noise[part].to(device))
                kept = torch.where(energies < self.cut, 0.0, energies)
                totals.append(kept.sum(dim=1).double().cpu())
        model.train(training)
        results = [
            energy_chi2(
                self.total,
                self.incident,
                sample,
                self.incident,
                range_rms=self.settings.range_rms,
                minimum=self.settings.minimum,
                flow=True,
            )
            for sample in np.split(torch.cat(totals).numpy(), self.settings.repeats)
        ]
        points = results[0].per_energy
        return Score(
            float(np.mean([r.chi2_ndf for r in results])),
            {
                e: float(np.mean([r.per_energy[e][0] for r in results])) / max(points[e][1], 1)
                for e in points
            },
        )
