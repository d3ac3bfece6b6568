"""`caloforge models`, `recipes` and `train`."""

from __future__ import annotations

import math
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloforge.commands import CLUSTER, FORCE, WORKERS, console
from caloforge.errors import CaloForgeError

if TYPE_CHECKING:
    from caloforge.config import Recipe
    from caloforge.report.blocks import Section
    from caloforge.training.train import Outcome


def models(
    name: Annotated[
        str | None, typer.Argument(help="Model file or a pretrained generator's name.")
    ] = None,
    page: Annotated[
        Path | None, typer.Option(help="HTML page to write about NAME, with its traversals.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """List the models that can be trained and the shipped generators, or describe one generator
    and the conditions that it takes.
    """
    if name is not None or page is not None:
        return _tell_generator(name, page, force)
    from rich.table import Table

    from caloforge.models import model_class, model_names
    from caloforge.pretrained import (
        left_out_names,
        pretrained_names,
        pretrained_summary,
        where_left_out,
    )

    table = Table("model", "what it is")
    for name in model_names():
        about = (sys.modules[model_class(name).__module__].__doc__ or "").strip()
        table.add_row(name, about.partition("\n")[0])
    console().print(table)
    shipped = Table(
        "pretrained generator",
        "trained for",
        title="Use the name wherever a model file is expected",
    )
    for name in pretrained_names():
        shipped.add_row(name, pretrained_summary(name))
    console().print(shipped)
    if missing := left_out_names():
        console().print(where_left_out(missing), highlight=False)


def _tell_generator(name: str | None, page: Path | None, force: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    from caloforge.commands.model_page import generator_tables, write_model_page
    from caloforge.files import check_target
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model

    if name is None:
        raise CaloForgeError(
            "Got --page alone; expected a generator too: caloforge models NAME --page OUT.html."
        )
    path = resolve_model(name)
    if page is not None:
        check_target(page, [path], force=force)
    file = load_model(path)
    if page is not None:
        write_model_page(file, name, page)
        console().print(f"page in {page}")
        return
    for content in generator_tables(file):
        table = Table(*content.columns, title=content.title, caption=content.note or None)
        for row in content.rows:
            table.add_row(*(escape(cell.text) for cell in row))
        console().print(table)


def recipes(
    name: Annotated[
        str | None, typer.Argument(help="Print this recipe with all its defaults.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Also list the tiny recipes of the tests (smoke-*).")
    ] = False,
) -> None:
    """List the shipped recipes, or print one of them in full."""
    from rich.table import Table

    from caloforge.config import dump_recipe, load_recipe, recipe_names

    if name is not None:
        # As it is, however wide: it can be saved as a recipe file.
        print(dump_recipe(load_recipe(name)), end="")
        return
    table = Table("recipe", "geometry", "steps", "what it trains")
    for entry in recipe_names():
        if entry.startswith("smoke-") and not every:
            continue
        recipe = load_recipe(entry)
        table.add_row(
            entry, recipe.geometry or "any", f"{recipe.training.steps:,}", recipe.description
        )
    console().print(table)


def train(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe or TOML file.")],
    data: Annotated[str, typer.Option(help="Training showers: a file or a shipped sample.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    steps: Annotated[
        int | None,
        typer.Option(
            help="Number of steps; each is one generator update with its critic updates."
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of weights, batches and noise.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint in --out.")
    ] = False,
    init: Annotated[
        str | None, typer.Option(help="Trained generator to begin from: a file, a run or a name.")
    ] = None,
    freeze: Annotated[
        list[str] | None,
        typer.Option(help="Part that keeps its weights, such as generator. May be repeated."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, for example training.batch_size=256."),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(help="Number of seeds to train, from --seed on, each into OUT/seed-K."),
    ] = None,
    workers: Annotated[int | None, typer.Option(help=f"With --seeds: {WORKERS}")] = None,
    cluster: Annotated[str | None, typer.Option(help=f"With --seeds: {CLUSTER}")] = None,
) -> None:
    """Train a recipe. It writes OUT/model.safetensors (the chosen generator), OUT/checkpoints and
    OUT/index.html.
    """
    from caloforge.commands.live import LiveBar
    from caloforge.config import load_recipe
    from caloforge.data import read_showers, resolve_data
    from caloforge.signals import exit_status
    from caloforge.training.parallel import started
    from caloforge.training.train import train as run
    from caloforge.training.train import with_settings

    chosen = with_settings(load_recipe(recipe, set_ or []), steps=steps, seed=seed, freeze=freeze)
    if seeds is not None and init is not None:
        raise CaloForgeError(
            "Got --seeds with --init; expected one of them: give each transfer a --seed and an "
            "--out of its own."
        )
    if seeds is not None:
        _train_seeds(chosen, resolve_data(data), out, seeds, device, resume, (workers, cluster))
        return
    if workers is not None or cluster is not None:
        raise CaloForgeError(
            "Got --workers or --cluster without --seeds; expected several seeds to share out: one "
            "training is shared by processes that torchrun starts."
        )
    first = started().first  # of the processes that torchrun may have started: it alone tells
    with LiveBar(out) if first else nullcontext() as bar:
        outcome = run(
            chosen,
            read_showers(resolve_data(data)),  # held by nobody else, the training lets them go
            out,
            device=device,
            resume=resume,
            observer=bar,
            data=Path(data).name,
            init=init,
        )
    if not first:
        return
    _tell(chosen, out, outcome)
    if outcome.interrupted:
        sys.exit(exit_status())


def _train_seeds(
    recipe: Recipe,
    showers: Path,
    out: Path,
    seeds: int,
    device: str,
    resume: bool,
    spread: tuple[int | None, str | None],
) -> None:
    from caloforge.cluster import open_executor
    from caloforge.progress import TrainingBar
    from caloforge.signals import exit_status
    from caloforge.training.several import train_seeds

    with open_executor(*spread, console().print) as executor:
        runs = train_seeds(
            recipe,
            showers,
            out,
            seeds,
            device=device,
            resume=resume,
            executor=executor,
            observe=TrainingBar,
        )
        for run, outcome in runs:
            _tell(run.recipe, out / run.out.name, outcome)
            if outcome.interrupted:
                sys.exit(exit_status())


def _tell(recipe: Recipe, out: Path, outcome: Outcome) -> None:
    """How a training ended, and the page of its run."""
    from caloforge.report.training import write_training_page
    from caloforge.training.selection import in_words

    model = out / "model.safetensors"
    write_training_page(out, [_traversal_section(model)] if model.exists() else [])
    ending = "stopped at" if outcome.interrupted else "done:"
    # A model split in energy is joined when each of its ranges has been trained.
    joined = (out / "model.safetensors").exists()
    scored = math.isfinite(outcome.best_score)
    score_in_words = in_words(outcome.best_score, recipe.training.selection.keep)
    score = f", {score_in_words} on the held-out showers" if scored else ""
    console().print(
        f"{ending} step {outcome.step}; kept: step {outcome.best_step}{score}; generator in "
        f"{out / 'model.safetensors' if joined else out / 'range*'}, curves in "
        f"{out / 'index.html'}" + ("; continue with --resume" if outcome.interrupted else "")
    )


def _traversal_section(model: Path) -> Section:
    from caloforge.commands.model_page import traversals
    from caloforge.models.file import load_model
    from caloforge.report.traversal import traversal_section

    return traversal_section(traversals(load_model(model)))
