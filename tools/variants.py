"""Compare variants of a recipe: train each with several seeds, and judge all of them together.

    python tools/variants.py TRAIN TEST --steps 1000 --seeds 2 --out runs/variants \\
        atlas-gan "atlas-gan model.critic_steps=5" "atlas-gan training.batch_size=32"

A variant is the name of a recipe, followed by the settings that differ, as `caloforge train --set`
takes them. TRAIN and TEST are Geant4 showers of two independent runs. Each generator makes showers
with conditions of TRAIN, so that none is the twin of a shower of TEST, and is judged against
TEST. The floor is TRAIN against TEST. The network classifiers are left out, because they take
longer than most of these trainings; boosted trees are stronger anyway. `--init MODEL` lets every
training begin from a trained generator.

The program prints a Markdown table, a row for each metric of --metrics and a column for each
variant in OUT: the mean of the seeds, and behind ± half of the difference between the largest and
the smallest. Of a family, such as `separation/`, the mean is shown. OUT/results.json has all
metrics of all seeds. The same command again continues where it was stopped.
"""

import argparse
import hashlib
import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from ship import conditions_like

from caloforge.config import load_recipe
from caloforge.data import read_showers, resolve_data
from caloforge.files import write_text
from caloforge.generate import generate_file
from caloforge.judge.compare import compare
from caloforge.judge.comparison import Comparison
from caloforge.judge.pairs import How
from caloforge.judge.summary import summarise
from caloforge.metrics.effort import FAST
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model
from caloforge.showers import Showers
from caloforge.training.train import train, with_settings

EFFORT = replace(FAST, inputs=(), features=1)
Figures = dict[str, dict[str, dict[str, list[float | None]]]]  # variant, seed, key of the metric


def main() -> None:
    """Train and judge what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("train", help="file of training showers")
    parser.add_argument("test", help="file of showers of an independent run")
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--steps", type=int, help="steps of each training")
    parser.add_argument("--seeds", type=int, default=1, help="number of seeds, from 0")
    parser.add_argument("--init", help="trained generator that every training begins from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--metrics", nargs="+", default=["chi2_ndf_energy", "auc_boosted"])
    given = parser.parse_args()
    showers = read_showers(resolve_data(given.train))
    reference = summarise(resolve_data(given.test), keep=EFFORT.keep)
    results = given.out / "results.json"
    figures: Figures = json.loads(results.read_text("utf-8")) if results.exists() else {}
    names, samples = [], []
    for variant in given.variants:
        for seed in range(given.seeds):
            name = named(variant, given)
            if str(seed) not in figures.setdefault(name, {}):
                made = trained(variant, showers, given, seed, given.out / f"{slug(name)}-{seed}")
                names.append((name, str(seed)))
                samples.append(summarise(made, like=reference, keep=EFFORT.keep))
    if samples:
        floor = summarise(resolve_data(given.train), like=reference, keep=EFFORT.keep)
        judged = compare(reference, samples, floor=floor, how=How(effort=EFFORT))
        for (name, of_seed), comparison in zip(names, judged, strict=True):
            figures[name][of_seed] = numbers(comparison)
        write_text(results, json.dumps(figures, indent=1, ensure_ascii=False) + "\n")
    print(table({name: of for name, of in figures.items() if of}, given.metrics))


def named(variant: str, given: argparse.Namespace) -> str:
    """The variant with the options that make it another training."""
    steps = f" --steps {given.steps}" if given.steps else ""
    return variant + steps + (f" --init {given.init}" if given.init else "")


def trained(
    variant: str, showers: Showers, given: argparse.Namespace, seed: int, folder: Path
) -> Path:
    """The showers that a variant generates, once it is trained."""
    begin = time.perf_counter()
    name, *settings = variant.split()
    recipe = with_settings(load_recipe(name, settings), steps=given.steps, seed=seed)
    data = Path(given.train).name
    init = None if given.init is None else resolve_model(given.init)
    outcome = train(recipe, showers, folder, resume=True, data=data, init=init)
    if outcome.interrupted:
        raise SystemExit(f"Stopped at step {outcome.step} of {name}; the same command goes on.")
    model = load_model(folder / "model.safetensors")
    conditions = conditions_like(given.train, given.test, model.model.geometry)
    generate_file(model, conditions, folder / "showers.hdf5")
    seconds = time.perf_counter() - begin
    print(f"{variant}, seed {seed}: step {outcome.best_step}, {seconds:.0f} s", file=sys.stderr)
    return folder / "showers.hdf5"


def numbers(judged: Comparison) -> dict[str, list[float | None]]:
    """Value, error and floor of each metric."""
    return {key: [v.value, v.error, v.floor] for key, v in judged.metrics.items()}


def slug(variant: str) -> str:
    """A name of a folder: what can be read of a variant, and a digest that makes it unique."""
    digest = hashlib.sha256(variant.encode()).hexdigest()[:8]
    return re.sub(r"[^A-Za-z0-9.]+", "-", variant)[:60].strip("-") + f"-{digest}"


def of_key(figures: Mapping[str, Sequence[float | None]], key: str, index: int) -> float:
    """A metric, or the mean of a family; index 0 is its value, 2 its floor."""
    rows = [
        row for k, row in figures.items() if k == key or (key[-1] == "/" and k.startswith(key))
    ]
    known = [value for value in (row[index] for row in rows) if value is not None]
    return float(np.mean(known)) if known else float("nan")


def table(figures: Figures, keys: Sequence[str]) -> str:
    """A Markdown table, a row for each metric and a column for each variant."""
    names = list(figures)
    lines = [f"| metric | floor | {' | '.join(f'`{name}`' for name in names)} |"]
    lines.append("|---" * (len(names) + 2) + "|")
    for key in keys:
        floor = next(iter(figures[names[0]].values()))
        cells = [f"{of_key(floor, key, 2):.3g}"]
        for name in names:
            values = [of_key(seed, key, 0) for seed in figures[name].values()]
            spread = f" ± {np.ptp(values) / 2:.2g}" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3g}{spread}")
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
