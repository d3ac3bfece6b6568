"""`caloforge demo`: the flagship on shipped Geant4 showers, from nothing to a judged generator.

The closed form is fitted, the whole family is trained up to the generator of one pass, and both
are judged beside a shipped GAN.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from caloforge.config import Recipe, load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.errors import CaloForgeError
from caloforge.evaluate import judge_files, result_files
from caloforge.generate import Conditions, generate_file, generate_showers
from caloforge.generate.timing import time_generator
from caloforge.metrics.effort import choose_effort
from caloforge.models.file import ModelFile, load_model
from caloforge.pretrained import pretrained_summary, resolve_model
from caloforge.progress import TrainingBar, counter, leaderboard
from caloforge.report.training import training_section
from caloforge.showers import Showers
from caloforge.training.train import Outcome, train, with_settings

CLOSED, ONE_STEP = "copula-photons", "one-step-photons"
# Steps of the one-step training, about three minutes on two cores; the recipe has ten times more.
STEPS = 3000
EVERY = 500  # steps after which the training is scored, for its curve
SHIPPED = "caloshowergan-photon"
TRAINING_SAMPLE, TEST_SAMPLE = "ds1-photons-train", "ds1-photons-test"
FITTED_NOW, TRAINED_NOW = "closed form, fitted now", "one step, trained now"
BESIDE = f"{SHIPPED} (shipped)"


def run_demo(out: str | Path, *, steps: int | None = None, seed: int = 0) -> Path:
    """Run the demo into the folder `out`; returns the path of the report.

    Parameters
    ----------
    steps
        Training steps of the one-step generator (default: STEPS).
    seed
        Seed of weights, batches and noise.

    Raises
    ------
    CaloForgeError
        When files are in the way that are not of an earlier demo.
    """
    out, console, begin = Path(out), Console(), time.perf_counter()
    closed_run, run = out / "closed-form", out / "run"
    if not closed_run.exists() and (strangers := result_files(out)):
        raise CaloForgeError(
            f"{strangers[0]} would be replaced by the demo; expected a new folder, or that of an "
            "earlier demo: give another --out."
        )
    showers = read_showers(sample_path(TRAINING_SAMPLE))
    closed = with_settings(load_recipe(CLOSED), seed=seed)
    console.print(
        f"[bold]1/4[/] fitting the closed form ({CLOSED}) to {len(showers)} Geant4 photon "
        "showers: no network, less than a minute"
    )
    _, fitted = _train(closed, showers, closed_run)
    recipe = _one_step_recipe(STEPS if steps is None else steps, seed)
    console.print(
        f"[bold]2/4[/] training {ONE_STEP} from scratch: the closed form once more, then the "
        "flow, then the network that does the flow's work in one pass "
        f"({recipe.training.steps} steps; Ctrl-C stops early and keeps the model)"
    )
    outcome, trained = _train(recipe, showers, run)
    console.print(f"[bold]3/4[/] generating with the conditions of {TEST_SAMPLE}")
    names = {
        FITTED_NOW: closed_run / "model.safetensors",
        TRAINED_NOW: run / "model.safetensors",
        BESIDE: resolve_model(SHIPPED),
    }
    files, timing = {}, []
    for name, path in names.items():
        model = load_model(path)
        files[name] = _generate(model, out / f"{path.parent.name}.hdf5", name, seed)
        timing += [{"generator": name, **row} for row in _times(model)]
    console.print("[bold]4/4[/] judging against Geant4 showers that no training has seen")
    intro = (
        "Two generators of this package's own family, a censored Gaussian copula of the cells: "
        f"its closed form, fitted just now in {fitted:.0f} s, and the closed form with a small "
        "network that corrects in one pass what is not Gaussian, trained just now for "
        f"{outcome.step} steps in {trained:.0f} s on this machine. Beside them stands the shipped "
        f"{pretrained_summary(SHIPPED)}. The floor is what the training showers, an independent "
        "Geant4 run, give against the same test showers."
    )
    comparisons = judge_files(
        sample_path(TEST_SAMPLE),
        files,
        out,
        floor=sample_path(TRAINING_SAMPLE),
        # One training of each classifier is enough for a demo; three take over a minute longer.
        metrics=choose_effort("fast", repeats=1),
        seed=seed,
        extra={"timing": timing},
        page={
            "title": "CaloForge demo: photon showers in an ATLAS-like calorimeter",
            "intro": intro,
            "extra_sections": [training_section(run)],
        },
    )
    console.print(leaderboard(comparisons))
    seconds = time.perf_counter() - begin
    console.print(f"Done in {seconds:.0f} s. Open {out / 'report.html'} in a browser.")
    return out / "report.html"


def _one_step_recipe(steps: int, seed: int) -> Recipe:
    """The recipe, shorter and scored more often; the newest generator is kept as it says."""
    recipe = load_recipe(ONE_STEP)
    selection = {**recipe.training.selection.model_dump(), "every": EVERY}
    return with_settings(recipe, steps=steps, seed=seed, selection=selection)


def _train(recipe: Recipe, showers: Showers, run: Path) -> tuple[Outcome, float]:
    """Train with a progress bar, or go on where a stopped demo was; also the seconds it took."""
    begin = time.perf_counter()
    with TrainingBar() as bar:
        outcome = train(recipe, showers, run, resume=True, observer=bar)
    return outcome, time.perf_counter() - begin


def _generate(model: ModelFile, path: Path, name: str, seed: int) -> Path:
    conditions = Conditions.like(sample_path(TEST_SAMPLE), model.model.geometry)
    with counter(name, len(conditions.table)) as advance:
        generate_file(model, conditions, path, seed=seed, progress=advance)
    return path


def _times(model: ModelFile) -> list[dict[str, Any]]:
    """Rows for the report; three repeats and at most 1000 showers a batch keep the demo short."""
    import torch

    conditions = Conditions.like(sample_path(TEST_SAMPLE), model.model.geometry)
    rows = time_generator(
        lambda batch: generate_showers(model, conditions, batch, batch=batch),
        torch.get_num_threads(),
        batches=(1, 100, 1000),
        repeats=3,
    )
    return [
        {
            "batch": row.batch,
            "ms per shower": row.ms_per_shower,
            "± ms": row.error,
            "CPU threads": row.threads,
        }
        for row in rows
    ]
