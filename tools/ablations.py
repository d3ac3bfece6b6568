"""Measure what each setting of the flagship's closed form contributes, one change at a time.

    python tools/ablations.py TRAINING_FILE [--set sweeps=5] [--set shrink=0.03] ...

The program fits the recipe `copula-photons` (or --recipe) as it is, and once more for each
`--set NAME=VALUE`. NAME is a hyper-parameter of `src/caloforge/models/copula/model.py`; commas
separate several changes at once: `--set points=8,quantiles=32`. Without --set the program makes
the changes listed in `CHANGES`. (The hyper-parameter `draws` is for the remainder; to
the closed form it adds a few draws to a mean over many.)

The model is fitted to the training showers without a held-out tenth, or the part that --holdout
says (seeded, stratified in incident energy). It generates showers with the conditions of that
part, and boosted trees compare the two; no test shower is used. With --given-layers the generated
showers also have the layer energies of that part, so that the trees judge the cells alone. The
program prints a Markdown table. The boosted AUC is the mean over several sets of noise; 0.5 means
that the trees cannot tell generated showers from Geant4's.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from caloforge.config import Recipe, load_recipe
from caloforge.data import holdout_split, read_showers, resolve_data
from caloforge.generate import Conditions, generate_showers
from caloforge.metrics.boosted import boosted_of
from caloforge.models.copula.given import Given
from caloforge.models.copula.model import Copula
from caloforge.models.file import ModelFile, load_model
from caloforge.showers import Showers
from caloforge.training.train import train, with_settings

# Each entry changes one default, to half of it or less, or to twice of it or more.
CHANGES = (
    "shrink=0.0003",
    "shrink=0.03",
    "sweeps=5",
    "sweeps=50",
    "enough=100",
    "enough=1000",
    "knots=1",
    "knots=5",
    "quantiles=16",
    "quantiles=256",
    "points=4",
    "points=8",
)


def main() -> None:
    """Print the ablations that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", help="file of training showers, or a shipped sample")
    parser.add_argument("--recipe", default="copula-photons")
    parser.add_argument("--set", dest="changes", action="append", metavar="NAME=VALUE")
    parser.add_argument("--repeats", type=int, default=3, help="number of sets of noise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--holdout", type=float, default=0.1, help="part of the showers")
    parser.add_argument("--given-layers", action="store_true", help="judge the cells alone")
    given = parser.parse_args()
    showers = read_showers(resolve_data(given.train))
    print("| change | AUC boosted | error | fit in s |\n|---|---|---|---|")
    for change in ("", *(given.changes or CHANGES)):
        overrides = [f"model.{single}" for single in change.split(",") if single]
        overrides.append(f"training.holdout={given.holdout}")
        recipe = with_settings(load_recipe(given.recipe, overrides), seed=given.seed)
        value, error, seconds = ablation(recipe, showers, given.repeats, given.given_layers)
        name = f"`{change}`" if change else "none"
        print(f"| {name} | {value:.3f} | {error:.3f} | {seconds:.0f} |")
        sys.stdout.flush()


def ablation(
    recipe: Recipe, showers: Showers, repeats: int, given_layers: bool = False
) -> tuple[float, float, float]:
    """Boosted AUC on the held-out part, its error, and the seconds that the fit took.

    The error is that of a single AUC, because all repeats have the same Geant4 showers.
    """
    settings = recipe.training
    # This is the split of the training: `train` holds out these showers and no others.
    _, held_out = holdout_split(showers.incident_energy, settings.holdout, settings.seed)
    reference = showers[held_out]
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as scratch:
        train(recipe, showers, Path(scratch) / "run")
        model = load_model(Path(scratch) / "run" / "model.safetensors")
    seconds = time.perf_counter() - begin
    if given_layers:
        hold_layers(model, reference)
    found = [boosted_of(reference, generated(model, reference, k), k) for k in range(repeats)]
    return float(np.mean([f.auc for f in found])), found[0].error, seconds


def hold_layers(file: ModelFile, reference: Showers) -> None:
    """Let the model make its next showers with the layer energies of the reference, in order."""
    model = file.model
    assert isinstance(model, Copula)
    energies = model.scale.sums(torch.from_numpy(reference.energies))
    at = 0

    def layer_energies(given: Given, about: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        nonlocal at
        rows = (at + torch.arange(len(z))) % len(energies)
        at += len(z)
        return energies[rows]

    model.layer_energies = layer_energies  # type: ignore[method-assign]


def generated(model: ModelFile, reference: Showers, seed: int) -> Showers:
    """Showers with the conditions of the reference."""
    conditions = Conditions(model.model.geometry, reference.conditions)
    return generate_showers(model, conditions, seed=seed)


if __name__ == "__main__":
    main()
