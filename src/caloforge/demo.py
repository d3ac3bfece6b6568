"""`caloforge demo`: train on shipped Geant4 showers, generate, judge, compare."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from rich.console import Console

from caloforge.config import load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.evaluation.timing import time_generator
from caloforge.generate import Conditions, generate_file, generate_showers
from caloforge.judge import judge_files
from caloforge.models.file import ModelFile, load_model
from caloforge.pretrained import pretrained_summary, resolve_model
from caloforge.progress import TrainingBar, counter, leaderboard
from caloforge.report.training import training_section
from caloforge.training import train, with_settings

RECIPE = "flow-matching-photon"
STEPS = 5000  # two minutes on two cores; the recipe goes on to twice as many
SHIPPED = "caloshowergan-photon"
TRAINING_SAMPLE, TEST_SAMPLE = "ds1-photons-train", "ds1-photons-test"


def run_demo(out: str | Path, *, steps: int | None = None, seed: int = 0) -> Path:
    """Run the demo into the folder `out`; returns the path of the report.

    Parameters
    ----------
    steps
        Training steps (default: STEPS).
    seed
        Of weights, batches and noise.
    """
    out, console, begin = Path(out), Console(), time.perf_counter()
    recipe = with_settings(load_recipe(RECIPE), steps=STEPS if steps is None else steps, seed=seed)
    showers = read_showers(sample_path(TRAINING_SAMPLE))
    console.print(
        f"[bold]1/3[/] training {recipe.model['name']} from scratch on {len(showers)} Geant4 "
        f"photon showers ({recipe.training.steps} steps; Ctrl-C stops early and keeps the model)"
    )
    run = out / "run"
    with TrainingBar() as bar:
        outcome = train(recipe, showers, run, resume=True, observer=bar)
    trained = time.perf_counter() - begin
    console.print(f"[bold]2/3[/] generating with the conditions of {TEST_SAMPLE}")
    names = {
        "trained now": run / "model.safetensors",
        f"{SHIPPED} (shipped)": resolve_model(SHIPPED),
    }
    files, timing = {}, []
    for name, path in names.items():
        model = load_model(path)
        files[name] = _generate(model, out / f"{path.parent.name}.hdf5", name, seed)
        timing += [{"generator": name, **row} for row in _times(model)]
    console.print("[bold]3/3[/] judging against Geant4 showers that no training has seen")
    intro = (
        f"Flow matching, trained just now for {outcome.step} steps in {trained:.0f} s on this "
        f"machine, beside the shipped {pretrained_summary(SHIPPED)}. Floor: the training showers, "
        "which are an independent Geant4 run."
    )
    comparisons = judge_files(
        sample_path(TEST_SAMPLE),
        files,
        out,
        floor=sample_path(TRAINING_SAMPLE),
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
