"""Measure how few Geant4 showers are enough for the closed form of the flagship.

    python tools/learning_curve.py photons TRAINING_FILE TEST_FILE [--parts 16 4 1] [--seed 0]

The program fits the recipe `copula-DETECTOR` to 1/16, 1/4 and all of the training showers. Each
part is chosen at random (seeded) with the spectrum of incident energies of the whole file. As in
every training, a tenth of the part is held out and has no share in the fit. As many generated
showers as the test file has are then judged. The program prints a Markdown table with the boosted
AUC and the AUC of the judge's networks (see docs/results.md), each with the floor that the
training showers give against the test showers. An AUC of 0.5 means that the classifier cannot tell
the showers from Geant4's.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from caloforge.config import load_recipe
from caloforge.data import holdout_split, read_showers, resolve_data
from caloforge.evaluate import judge_files
from caloforge.generate import Conditions, generate_file
from caloforge.judge.comparison import Comparison
from caloforge.metrics.table import metric
from caloforge.models.file import load_model
from caloforge.showers import Showers
from caloforge.training.train import train, with_settings

# Keys of the metrics shown.
COLUMNS = ("auc_boosted", "auc_low", "auc_low_normed", "auc_high")


def main() -> None:
    """Print the learning curve that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("detector", help="as in the name of the recipe copula-DETECTOR")
    parser.add_argument("train", help="file of training showers, or a shipped sample")
    parser.add_argument("test", help="file of showers of an independent run")
    parser.add_argument(
        "--parts", type=int, nargs="+", default=[16, 4, 1], help="the fractions 1/PART"
    )
    parser.add_argument("--steps", type=int, help="steps of a training (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    recipe = with_settings(
        load_recipe(f"copula-{given.detector}"), steps=given.steps, seed=given.seed
    )
    showers = read_showers(resolve_data(given.train))
    counts, seconds = [], []
    with tempfile.TemporaryDirectory() as scratch:
        made = {}
        for part in given.parts:
            own = a_part(showers, part, given.seed)
            name = "all" if part == 1 else f"1/{part}"
            folder = Path(scratch) / f"part{part}"
            begin = time.perf_counter()
            train(recipe, own, folder / "run")
            seconds.append(time.perf_counter() - begin)
            counts.append(len(own))
            model = load_model(folder / "run" / "model.safetensors")
            conditions = Conditions.like(resolve_data(given.test), model.model.geometry)
            made[name] = folder / "showers.hdf5"
            # A small part may lack the rarest energies of the test showers.
            generate_file(model, conditions, made[name], seed=given.seed, extrapolate=True)
            print(f"{name}: fitted to {len(own)} showers", file=sys.stderr)
        judged = judge_files(given.test, made, scratch, floor=given.train, seed=given.seed)
    print(table(judged, counts, seconds))


def a_part(showers: Showers, part: int, seed: int) -> Showers:
    """One `part`-th of the showers, with the spectrum of incident energies of all."""
    if part == 1:
        return showers
    _, chosen = holdout_split(showers.incident_energy, 1 / part, seed)
    return showers[chosen]


def table(judged: Sequence[Comparison], counts: Sequence[int], seconds: Sequence[float]) -> str:
    """A Markdown table with one row for each part and the floors in brackets."""
    headings = " | ".join(metric(key).name for key in COLUMNS)
    lines = [f"| part | Geant4 showers | {headings} | fit in s |"]
    lines.append("|" + "---|" * (3 + len(COLUMNS)))
    for comparison, count, taken in zip(judged, counts, seconds, strict=True):
        found = [comparison.metrics[key] for key in COLUMNS]
        cells = [f"{f.value:.3f} ± {f.error or 0:.3f} ({f.floor or 0:.3f})" for f in found]
        lines.append(f"| {comparison.name} | {count} | {' | '.join(cells)} | {taken:.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
