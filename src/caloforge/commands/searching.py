"""`caloforge search`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from caloforge.commands import CLUSTER, console
from caloforge.errors import TrainingError


def search(
    recipe: Annotated[str, typer.Argument(help="Shipped recipe or TOML file.")],
    data: Annotated[str, typer.Option(help="Training showers: a file or a shipped sample.")],
    out: Annotated[Path, typer.Option(help="Folder of the search; begun again, it goes on.")],
    trials: Annotated[
        int,
        typer.Option(help="Number of trials in all, over all workers; 0 only writes the report."),
    ] = 20,
    steps: Annotated[int | None, typer.Option(help="Training steps of each trial.")] = None,
    seed: Annotated[int, typer.Option(help="Trial k trains with seed + k.")] = 0,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="chi2_ndf, prd_auc, ms_per_shower, parameters, ...; may be repeated."),
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="TOML file with a table \\[search]; else the model's own.")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="Database URL or journal:FILE, shared by all workers; else in --out."),
    ] = None,
    study: Annotated[str | None, typer.Option(help="Name of the study in the storage.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="Number of processes that take trials (default: one).")
    ] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
    startup: Annotated[
        int, typer.Option(help="Number of random trials before the sampler learns and prunes.")
    ] = 10,
    prune: Annotated[
        bool, typer.Option(help="Stop hopeless trials early (one objective).")
    ] = True,
    keep: Annotated[
        int, typer.Option(help="Number of best trials whose generators are kept.")
    ] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="key=value, for example training.selection.every=200."),
    ] = None,
) -> None:
    """Search the hyper-parameters of a recipe. It writes OUT/best (recipe and generator),
    OUT/search.json and OUT/index.html.
    """
    from caloforge.cluster import open_executor
    from caloforge.config import load_recipe
    from caloforge.report.search import write_search_page
    from caloforge.search import Search, run_search
    from caloforge.signals import exit_status
    from caloforge.training.train import with_settings

    asked = Search(
        with_settings(load_recipe(recipe, set_ or []), steps=steps),
        data,
        out,
        space,
        tuple(objective or ()),
        trials,
        seed,
        storage,
        study,
        device,
        keep,
        startup,
        prune,
    )
    screen = console()
    here = cluster in (None, "local")  # a search begins processes of this machine itself
    with (
        open_executor(
            None if here else workers, None if here else cluster, screen.print
        ) as executor,
        screen.status("searching") as status,
    ):
        content, interrupted = run_search(
            asked,
            1 if workers is None or not here else workers,
            executor=executor,
            tell=lambda text: screen.print(text, markup=False, highlight=False),
            watch=status.update,
        )
        status.update("drawing")
        write_search_page(out)
    if interrupted:
        screen.print("Interrupted; the same command goes on.")
        sys.exit(exit_status())
    screen.print(_ending(content, data, out), markup=False, highlight=False)


def _ending(content: dict[str, Any], data: str, out: Path) -> str:
    """The best trials, and what to do next."""
    if not content["best"]:
        sentences = [t["sentence"] for t in content["trials"] if t["sentence"]]
        if sentences:
            raise TrainingError(f"No trial was completed, the last: {sentences[-1]}")
        return f"No trial is complete yet; report: {out / 'index.html'}"
    several = len(content["objectives"]) > 1
    best = ", ".join(str(n) for n in content["best"])
    place = out / "best" / f"{content['best'][0]:03d}" if several else out / "best"
    kind = "Pareto front: trials" if several else "best: trial"
    return (
        f"{kind} {best}; report: {out / 'index.html'}. At full length: caloforge train "
        f"{place / 'recipe.toml'} --data {data} --steps N --out RUN"
    )
