"""Which generator is kept: the one with the best score on held-out showers.

M. Faucci Giannelli and R. Zhang (2023, arXiv:2309.06515) look at a checkpoint every 1000
iterations and keep the one with the lowest chi-square of the total energy over all energies.
Showers outside the histogram count as two more bins here: without them a young generator whose
energies all lie outside scores better than one that is nearly right.

Others choose otherwise. The LHCb SAGAN (`models.sagan`) keeps the highest PRD-AUC (M. Sajjadi et
al. 2018, arXiv:1806.00035), the smaller of that of cells and that of observables. The LCD
recurrent network (`models.rnn`) stops early, at the lowest loss. The DNNCaloGAN
(`models.dnncalogan`) keeps the lowest Wasserstein distance of the total energy, which needs no
bins: with fewer than a hundred held-out showers an energy, a histogram of 30 bins takes a response
ten times too wide for better than one too narrow.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from caloforge.config import Selection
from caloforge.errors import DataError, TrainingError
from caloforge.metrics.chi2 import energy_chi2
from caloforge.metrics.prd import prd_aucs
from caloforge.models.base import Batch, Fit, ShowerModel
from caloforge.noise import normals
from caloforge.observables.slices import energy_slices
from caloforge.showers import Showers
from caloforge.training.average import evaluating

Array = NDArray[Any]

# Showers that are generated at a time, and for which a loss is computed at a time: they bound the
# memory that a choice takes beside the training.
CHUNK, LOSS_CHUNK = 4096, 64


@dataclass(frozen=True)
class Score:
    """What a generator reaches on the held-out showers; NaN without enough of them.

    Chi2/NDF over all energies and at each (MeV -> chi2/NDF), PRD-AUC of the cells and of the
    observables, the loss; Wasserstein distance of the total energy over its standard deviation,
    averaged over the energies.
    """

    chi2_ndf: float
    per_energy: dict[float, float]
    prd_auc_raw: float = math.nan
    prd_auc_physics: float = math.nan
    loss: float = math.nan
    wasserstein: float = math.nan

    def value(self, keep: str) -> float:
        """The number that chooses, the lower the better."""
        if keep == "highest-prd-auc":
            return 1.0 - min(self.prd_auc_raw, self.prd_auc_physics)
        if keep == "lowest-loss":
            return self.loss
        if keep == "lowest-wasserstein":
            return self.wasserstein
        return self.chi2_ndf

    def numbers(self) -> dict[str, float | None]:
        """All scores for the history of a run: None for chi2/NDF that is not known."""
        numbers = {"chi2_ndf": self.chi2_ndf if math.isfinite(self.chi2_ndf) else None}
        for name in ("prd_auc_raw", "prd_auc_physics", "loss", "wasserstein"):
            value = getattr(self, name)
            numbers |= {name: value} if math.isfinite(value) else {}
        return numbers


def in_words(value: float, keep: str) -> str:
    """A `Score.value` as a reader knows it."""
    if not math.isfinite(value):
        return "too few to score"
    if keep == "lowest-loss":
        return f"loss {value:.4g}"
    if keep == "lowest-wasserstein":
        return f"W1/sigma {value:.3f}"
    return f"PRD-AUC {1 - value:.3f}" if keep == "highest-prd-auc" else f"chi2/NDF {value:.2f}"


class HeldOut:
    """Scores a generator, with the same conditions and noise every time: scores can be compared.

    The held-out conditions are generated `repeats` times and scores are averaged over them: each
    generated sample is as large as the held-out one, because the weighted chi-square of samples
    of different size is biased, and PRD-AUC depends on the size.

    Parameters
    ----------
    holdout
        Held-out training showers; never those of the test file.
    settings
        How often their conditions are generated, how few of them an energy point may have, and
        which score chooses.
    seed
        Seed of the noise.
    """

    def __init__(self, holdout: Showers, settings: Selection, seed: int) -> None:
        self.settings, self.seed = settings, seed
        self.cut, self.geometry = holdout.geometry.cut, holdout.geometry
        cut = holdout.after_cut()
        self.total = cut.energies.sum(axis=1, dtype=np.float64)
        self.incident = holdout.incident_energy
        self.condition = torch.from_numpy(holdout.conditions).float().repeat(settings.repeats, 1)
        # Whole showers are only held where something looks at their cells.
        self.showers = cut if settings.keep == "highest-prd-auc" else None
        self.unseen = holdout if settings.keep == "lowest-loss" else None

    def __call__(self, model: ShowerModel, device: torch.device) -> Score:
        """Scores of the model, averaged over the repeats."""
        if not len(self.condition):
            return Score(math.nan, {})
        totals, cells = [], []
        with evaluating(model), torch.inference_mode():
            for start in range(0, len(self.condition), CHUNK):
                condition = self.condition[start : start + CHUNK]
                numbers = normals(self.seed, start, start + len(condition), model.noise_size)
                noise = torch.from_numpy(numbers)
                energies = model.sample(condition.to(device), noise.to(device))
                kept = torch.where(energies < self.cut, 0.0, energies)
                totals.append(kept.sum(dim=1).double().cpu())
                if self.showers is not None:
                    cells.append(kept.float().cpu())
            loss = math.nan if self.unseen is None else self._loss(model, self.unseen, device)
        generated = torch.cat(totals).numpy()
        chi2, per_energy = self._chi2(generated)
        score = Score(chi2, per_energy, loss=loss, wasserstein=self._wasserstein(generated))
        if self.showers is None:
            return score
        raw, physics = self._prd(self.showers, torch.cat(cells).numpy())
        return replace(score, prd_auc_raw=raw, prd_auc_physics=physics)

    def _loss(self, model: ShowerModel, showers: Showers, device: torch.device) -> float:
        """Mean loss a held-out shower, of a model that is trained in one phase."""
        phases = model.phases()
        phase = phases[0]
        if len(phases) != 1 or isinstance(phase, Fit):
            names = ", ".join(phase.name for phase in phases)
            raise TrainingError(
                f"training.selection.keep=lowest-loss needs a model of one phase; this one has "
                f"{names}: keep lowest-chi2 or highest-prd-auc."
            )
        rng = torch.Generator(device).manual_seed(self.seed)  # the same random numbers every time
        total = 0.0
        for start in range(0, len(showers), LOSS_CHUNK):
            part = showers[start : start + LOSS_CHUNK]
            batch = Batch(
                torch.from_numpy(part.energies).to(device),
                torch.from_numpy(part.conditions).float().to(device),
            )
            total += len(part) * phase.loss(batch, rng)[0].item()
        return total / len(showers)

    def _chi2(self, totals: Array) -> tuple[float, dict[float, float]]:
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
            for sample in np.split(totals, self.settings.repeats)
        ]
        points = results[0].per_energy
        return float(np.mean([r.chi2_ndf for r in results])), {
            e: float(np.mean([r.per_energy[e][0] for r in results])) / max(points[e][1], 1)
            for e in points
        }

    def _wasserstein(self, totals: Array) -> float:
        """Mean over the energies of W1 between the responses of the held-out showers and of all
        that were generated at their conditions, over the held-out standard deviation.
        """
        from scipy.stats import wasserstein_distance

        settings, distances = self.settings, []
        held = self.total / self.incident
        generated = totals / np.tile(self.incident, settings.repeats)
        for rows, _ in energy_slices(
            self.incident, self.incident, settings.minimum
        ).members.values():
            chosen = np.zeros(len(held), dtype=bool)
            chosen[rows] = True
            if len(rows) >= settings.minimum and held[chosen].std() > 0:
                moved = wasserstein_distance(
                    held[chosen], generated[np.tile(chosen, settings.repeats)]
                )
                distances.append(moved / held[chosen].std())
        return float(np.mean(distances)) if distances else math.nan

    def _prd(self, reference: Showers, cells: Array) -> tuple[float, float]:
        """PRD-AUC of cells and of observables; NaN for too few held-out showers."""
        try:
            areas = [
                prd_aucs(reference, replace(reference, energies=sample), self.seed)
                for sample in np.split(cells, self.settings.repeats)
            ]
        except DataError:
            return math.nan, math.nan
        raw, physics = (float(np.mean([area[k].value for area in areas])) for k in (0, 1))
        return raw, physics
