"""`caloforge models`, `recipes` and `train`."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloforge.commands import console
from caloforge.errors import CaloForgeError

if TYPE_CHECKING:
    from caloforge.report.blocks import Section


def models(
    name: Annotated[
        str | None, typer.Argument(help="Model file or a pretrained generator's name.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page to write about NAME, with its traversals.")
    ] = None,
) -> None:
    """The models one can train and the shipped generators, or a page about one generator."""
    if name is not None or page is not None:
        return _model_page(name, page)
    from rich.table import Table

    from caloforge.models import MODELS
    from caloforge.pretrained import pretrained_names, pretrained_summary

    table = Table("model", "what it is")
    for name, kind in MODELS.items():
        table.add_row(name, (sys.modules[kind.__module__].__doc__ or "").splitlines()[0])
    console().print(table)
    shipped = Table(
        "pretrained generator",
        "trained for",
        title="Use the name wherever a model file is expected",
    )
    for name in pretrained_names():
        shipped.add_row(name, pretrained_summary(name))
    console().print(shipped)


def _model_page(name: str | None, page: Path | None) -> None:
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model
    from caloforge.traversal import write_model_page

    if name is None or page is None:
        raise CaloForgeError(
            "Got NAME or --page alone; expected both: caloforge models NAME --page OUT.html."
        )
    write_model_page(load_model(resolve_model(name)), name, page)
    console().print(f"page in {page}")


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe with all its defaults.")
    ] = None,
) -> None:
    """The shipped recipes, or one of them in full."""
    from rich.table import Table

    from caloforge.config import dump_recipe, load_recipe, recipe_names

    if name is not None:
        # As it is, however wide: it can be saved as a recipe file.
        print(dump_recipe(load_recipe(name)), end="")
        return
    table = Table("recipe", "geometry", "steps", "what it trains")
    for entry in recipe_names():
        recipe = load_recipe(entry)
        table.add_row(entry, recipe.geometry, f"{recipe.training.steps:,}", recipe.description)
    console().print(table)


def train(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe or TOML file.")],
    data: Annotated[str, typer.Option(help="Training showers: a file or a shipped sample.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    steps: Annotated[
        int | None, typer.Option(help="Steps: one generator update with its critic updates each.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, batches and noise.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint in --out.")
    ] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, for example training.batch_size=256."),
    ] = None,
) -> None:
    """Train a recipe; writes OUT/model.safetensors (the chosen generator), OUT/checkpoints and
    OUT/index.html.
    """
    from caloforge.config import load_recipe
    from caloforge.data import read_showers, resolve_data
    from caloforge.progress import TrainingBar
    from caloforge.report.training import write_training_page
    from caloforge.training import train as run
    from caloforge.training import with_settings
    from caloforge.training.parallel import started
    from caloforge.training.selection import in_words

    chosen = with_settings(load_recipe(recipe, set_ or []), steps=steps, seed=seed)
    showers = read_showers(resolve_data(data))
    first = started().first  # of the processes that torchrun may have started: it alone tells
    with TrainingBar() if first else nullcontext() as bar:
        outcome = run(
            chosen,
            showers,
            out,
            device=device,
            resume=resume,
            observer=bar,
            data=Path(data).name,
        )
    if not first:
        return
    model = out / "model.safetensors"
    write_training_page(out, [_traversal_section(model)] if model.exists() else [])
    ending = "stopped at" if outcome.interrupted else "done:"
    # A model split in energy is joined when each of its ranges has been trained.
    joined = (out / "model.safetensors").exists()
    scored = math.isfinite(outcome.best_score)
    told = in_words(outcome.best_score, chosen.training.selection.keep)
    score = f", {told} on the held-out showers" if scored else ""
    console().print(
        f"{ending} step {outcome.step}; kept: step {outcome.best_step}{score}; generator in "
        f"{out / 'model.safetensors' if joined else out / 'range*'}, curves in "
        f"{out / 'index.html'}" + ("; continue with --resume" if outcome.interrupted else "")
    )
    if outcome.interrupted:
        sys.exit(130)


def _traversal_section(model: Path) -> Section:
    from caloforge.models.file import load_model
    from caloforge.report.traversal import traversal_section
    from caloforge.traversal import traversals

    return traversal_section(traversals(load_model(model)))
