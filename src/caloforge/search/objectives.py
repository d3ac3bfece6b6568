"""What a search looks for: metrics of a trained generator on showers that no trial trains on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from caloforge.config import Recipe
from caloforge.errors import TrainingError, did_you_mean
from caloforge.generate.timing import time_generator
from caloforge.models.base import ShowerModel
from caloforge.models.file import load_model
from caloforge.noise import normals
from caloforge.showers import Showers
from caloforge.training.selection import HeldOut

TIMED = 1000  # number of showers of one call when ms_per_shower is measured
TIMED_REPEATS = 5


@dataclass(frozen=True)
class Objective:
    """A metric to make small or large, its name on the page, and whether it is known while a trial
    still trains; only then can it stop a trial early.
    """

    label: str
    direction: Literal["minimize", "maximize"]
    known_early: bool = False


OBJECTIVES = {
    "chi2_ndf": Objective("χ²/NDF of the total energy", "minimize", True),
    "prd_auc": Objective("PRD-AUC, the smaller of raw and physics", "maximize", True),
    "prd_auc_raw": Objective("PRD-AUC of the cells", "maximize", True),
    "prd_auc_physics": Objective("PRD-AUC of the observables", "maximize", True),
    "wasserstein": Objective("Wasserstein distance of the total energy / σ", "minimize", True),
    "ms_per_shower": Objective("ms per shower at batch 1000", "minimize"),
    "parameters": Objective("parameters of the generator", "minimize"),
}

# The objective of a search that names none, by the score that chooses the recipe's generator. The
# others choose by no score, or by a loss: what trials weight differently cannot be compared.
DEFAULTS = {"highest-prd-auc": "prd_auc", "lowest-wasserstein": "wasserstein"}


def check_objectives(names: tuple[str, ...], recipe: Recipe) -> tuple[str, ...]:
    """The objectives asked for; none given: the score that chooses the recipe's generator where
    it is PRD-AUC or the Wasserstein distance, else chi2/NDF.

    Raises
    ------
    TrainingError
        For an unknown objective, or one given twice.
    """
    for name in names:
        if name not in OBJECTIVES:
            raise TrainingError(f"Unknown objective '{name}': {did_you_mean(name, OBJECTIVES)}")
    if len(set(names)) != len(names):
        raise TrainingError(f"Got the objectives {', '.join(names)}; expected each once.")
    return names or (DEFAULTS.get(recipe.training.selection.keep, "chi2_ndf"),)


def early_value(name: str, entry: dict[str, float | None]) -> float | None:
    """The objective in an entry of a training's selection.json; None where it is not known."""
    if name == "prd_auc":
        both = (entry.get("prd_auc_raw"), entry.get("prd_auc_physics"))
        return None if None in both else min(v for v in both if v is not None)
    value = entry.get(name) if OBJECTIVES[name].known_early else None
    return value if value is not None and math.isfinite(value) else None


class Measure:
    """Metrics of a generator on the showers that a search holds out.

    Parameters
    ----------
    holdout
        (H, V) showers that no trial trains on or chooses its generator with; the same ones for
        all trials.
    recipe
        The recipe of the trials, which says how often noise is drawn anew for each held-out
        shower, and how many showers an energy point must have.
    names
        The objectives.
    seed
        Seed of the noise, the same for all trials.
    """

    def __init__(
        self, holdout: Showers, recipe: Recipe, names: tuple[str, ...], seed: int
    ) -> None:
        self.names, self.seed = names, seed
        keep = "highest-prd-auc" if any(n.startswith("prd") for n in names) else "lowest-chi2"
        settings = recipe.training.selection.model_copy(update={"keep": keep})
        self.score = HeldOut(holdout, settings, seed)

    def __call__(self, path: Path, device: torch.device) -> dict[str, float]:
        """All metrics that are known of a model file, the objectives among them.

        Raises
        ------
        TrainingError
            When an objective is not known: too few held-out showers.
        """
        model = load_model(path, device).model.eval()
        score = self.score(model, device)
        figures = {
            "chi2_ndf": score.chi2_ndf,
            "prd_auc": min(score.prd_auc_raw, score.prd_auc_physics),
            "prd_auc_raw": score.prd_auc_raw,
            "prd_auc_physics": score.prd_auc_physics,
            "wasserstein": score.wasserstein,
            "parameters": float(generator_parameters(model)),
        }
        if "ms_per_shower" in self.names:
            figures["ms_per_shower"] = self._time(model, device)
        for name in self.names:
            if not math.isfinite(figures[name]):
                raise TrainingError(
                    f"The objective {name} came out as {figures[name]}; expected enough held-out "
                    "showers to score: give more showers, or lower "
                    "training.selection.minimum with --set."
                )
        return {name: value for name, value in figures.items() if math.isfinite(value)}

    def _time(self, model: ShowerModel, device: torch.device) -> float:
        """Milliseconds per shower on this machine, noise included."""
        condition = self.score.condition
        rows = torch.arange(TIMED) % len(condition)
        condition = condition[rows].to(device)

        def make(batch: int) -> None:
            noise = torch.from_numpy(normals(self.seed, 0, batch, model.noise_size))
            with torch.inference_mode():
                model.sample(condition[:batch], noise.to(device)).cpu()

        threads = torch.get_num_threads()
        return time_generator(make, threads, (TIMED,), TIMED_REPEATS)[0].ms_per_shower


def generator_parameters(model: ShowerModel) -> int:
    """Trainable numbers of what the model file holds."""
    kept = model.generator_state()
    return sum(p.numel() for name, p in model.named_parameters() if name in kept)
