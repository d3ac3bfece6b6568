"""`caloforge evaluate` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.commands import CLUSTER, WORKERS, console


def evaluate(
    reference: Annotated[
        str, typer.Argument(help="Reference showers (Geant4): a file or a shipped sample.")
    ],
    generated: Annotated[
        list[str], typer.Argument(help="Files of showers to judge, one or several.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for report.html and results.json.")],
    geometry: Annotated[
        str | None, typer.Option(help="Geometry name or file, where the files do not tell.")
    ] = None,
    floor: Annotated[
        str | None,
        typer.Option(help="A second reference sample: how well Geant4 agrees with itself."),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(help="Training showers of the generators: are they memorised?"),
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(help="fast: a minute or two on two cores; full: as published, for a GPU."),
    ] = "fast",
    inputs: Annotated[
        str | None,
        typer.Option(help="Classifier inputs: low, low_normed, high, comma-separated."),
    ] = None,
    repeats: Annotated[int | None, typer.Option(help="Trainings of each classifier.")] = None,
    most: Annotated[
        int | None, typer.Option(help="Showers of each sample in figures of all cells.")
    ] = None,
    device: Annotated[str, typer.Option(help="Of the classifiers: auto, cpu or cuda.")] = "auto",
    seed: Annotated[int, typer.Option(help="Of every random choice the judge makes.")] = 0,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write every figure as PDF.")] = False,
    workers: Annotated[int | None, typer.Option(help=WORKERS)] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
) -> None:
    """Judge showers against reference showers: results.json, results.md and one self-contained
    report.html.
    """
    from caloforge.cluster import open_farm
    from caloforge.evaluation.effort import choose_effort
    from caloforge.judge import judge_files
    from caloforge.progress import leaderboard

    chosen = tuple(name.strip() for name in inputs.split(",")) if inputs else None
    effort = choose_effort(metrics, chosen, repeats, most)
    screen = console()
    with (
        open_farm(workers, cluster, screen.print) as farm,
        screen.status("judging") as status,
    ):
        comparisons = judge_files(
            reference,
            generated,
            out,
            geometry=geometry,
            floor=floor,
            train=train,
            effort=effort,
            device=device,
            seed=seed,
            pdf=pdf,
            tell=status.update,
            announce=screen.print,
            farm=farm,
        )
    console().print(leaderboard(comparisons))
    console().print(f"report: {out / 'report.html'}, numbers: {out / 'results.json'}")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run and the report.")] = Path("demo"),
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
) -> None:
    """Train a generator from scratch on shipped Geant4 showers, generate, judge: about five
    minutes on two cores.
    """
    from caloforge.demo import run_demo

    run_demo(out, steps=steps, seed=seed)
