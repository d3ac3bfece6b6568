"""CPU-seconds of training until a generator of photons has a given quality: AUC high of 0.60.

    python benchmarks/quality.py [RECIPE ...] [--data FILE] [--budgets STEPS ...] [--goal AUC]

The quality is read on the held-out tenth of the training showers, which the training did not see,
so that no test file chooses anything. Training seconds are those of all threads together (CPU time
of the process), without the time of judging. A recipe that fits in closed form has one budget. By
default the demo's two recipes are trained on the shipped photons.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from common import table

from caloforge.config import load_recipe
from caloforge.data import holdout_split, read_showers, resolve_data
from caloforge.demo import CLOSED, ONE_STEP, STEPS
from caloforge.generate import Conditions, generate_showers
from caloforge.metrics import inputs
from caloforge.metrics.classifier import ClassifierResult, classify
from caloforge.models.file import load_model
from caloforge.observables.features import compute
from caloforge.showers import Showers
from caloforge.training.train import train, with_settings


def high(showers: Showers) -> object:
    """The observables that the classifier sees, (N, F)."""
    observables = compute(showers.energies, showers.conditions, showers.geometry)
    return inputs.high(observables, showers.conditions, showers.geometry)


def quality(run: Path, held_out: Showers) -> ClassifierResult:
    """AUC high of the generator in `run` against showers that were held out."""
    file = load_model(run / "model.safetensors")
    conditions = Conditions(file.model.geometry, held_out.conditions)
    generated = generate_showers(file, conditions, seed=1)
    pair = [high(held_out), high(generated)]
    return classify(*pair, conditions=(held_out.conditions, held_out.conditions))


def main() -> None:
    """Train with growing budgets and print what each gave."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", default=[CLOSED, ONE_STEP], metavar="RECIPE")
    parser.add_argument("--data", default="ds1-photons-train", help="file or shipped sample")
    parser.add_argument("--budgets", type=int, nargs="+", default=[STEPS // 3, STEPS])
    parser.add_argument("--goal", type=float, default=0.60)
    given = parser.parse_args()
    showers = read_showers(resolve_data(given.data))
    rows = []
    for name in given.recipes:
        rows += one_recipe(name, showers, given.budgets, given.goal)
    table(["recipe", "steps", "CPU-seconds", "AUC high, held out", "reached"], rows)


def one_recipe(name: str, showers: Showers, budgets: list[int], goal: float) -> list[list[str]]:
    """A row for each budget, up to the first that reaches the goal."""
    recipe, rows = load_recipe(name), []
    fitted = recipe.training.steps == 1
    for steps in [1] if fitted else sorted(budgets):
        short = with_settings(recipe, steps=steps)
        settings = short.training
        _, held = holdout_split(showers.incident_energy, settings.holdout, settings.seed)
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            train(short, showers, Path(folder))
            seconds = time.process_time() - begin
            result = quality(Path(folder), showers[held])
        reached = result.auc <= goal
        rows.append(
            [
                name,
                str(steps),
                f"{seconds:.0f}",
                f"{result.auc:.3f} ± {result.auc_error:.3f}",
                "yes" if reached else "no",
            ]
        )
        if reached:
            break
    return rows


if __name__ == "__main__":
    main()
