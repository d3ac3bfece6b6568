"""`caloforge evaluate` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.commands import CLUSTER, FORCE, WORKERS, console
from caloforge.errors import CaloForgeError


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
        typer.Option(
            help="A second reference sample; it shows how well the reference agrees with itself."
        ),
    ] = None,
    train: Annotated[
        str | None,
        typer.Option(
            help="Training showers of the generators, to see whether they are memorised."
        ),
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
        int | None,
        typer.Option(help="Showers of each sample in the metrics that look at all cells."),
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where the classifiers are trained: auto, cpu or cuda.")
    ] = "auto",
    seed: Annotated[int, typer.Option(help="Seed of every random choice of the judge.")] = 0,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write every figure as PDF.")] = False,
    workers: Annotated[int | None, typer.Option(help=WORKERS)] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
    reference_label: Annotated[
        str, typer.Option(help="What the page calls the reference.")
    ] = "Geant4",
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """Judge showers against reference showers: results.json, results.md and one self-contained
    report.html.
    """
    from caloforge.cluster import open_executor
    from caloforge.evaluate import judge_files, result_files
    from caloforge.files import check_target
    from caloforge.judge.folder import read_results
    from caloforge.metrics.classifier import FEWEST
    from caloforge.metrics.effort import choose_effort
    from caloforge.progress import leaderboard, published_rows, verdict

    for path in result_files(out, pdf=pdf):
        check_target(path, force=force)
    if most is not None and most < FEWEST:
        raise CaloForgeError(
            f"Got --most {most}; expected at least {FEWEST} showers of each sample: with fewer "
            "there is no classifier."
        )
    chosen = tuple(name.strip() for name in inputs.split(",")) if inputs else None
    effort = choose_effort(metrics, chosen, repeats, most)
    screen = console()
    with (
        open_executor(workers, cluster, screen.print) as executor,
        screen.status("judging") as status,
    ):
        comparisons = judge_files(
            reference,
            generated,
            out,
            geometry=geometry,
            floor=floor,
            train=train,
            metrics=effort,
            device=device,
            seed=seed,
            pdf=pdf,
            tell=status.update,
            announce=screen.print,
            page={"reference_label": reference_label},
            executor=executor,
        )
    screen.print(leaderboard(comparisons))
    rows = published_rows(read_results(out).shown.frame.geometry.name, comparisons)
    if rows is not None:
        screen.print(rows)
    for comparison in comparisons:
        for warning in comparison.details.warnings:
            screen.print(f"{comparison.name}: {warning}", style="yellow", markup=False)
    screen.print(f"report: {out / 'report.html'}, numbers: {out / 'results.json'}")
    for comparison in comparisons:
        screen.print(verdict(comparison), markup=False, highlight=False)


def report(
    folders: Annotated[
        list[Path],
        typer.Argument(metavar="FOLDER...", help="What `evaluate` wrote, one folder or several."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Folder for report.html; by default that of the result itself."),
    ] = None,
    pdf: Annotated[bool, typer.Option("--pdf", help="Also write every figure as PDF.")] = False,
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """Draw the page of a result again, without the showers; several folders of one reference
    become one page with all their generators. A page in another folder than those of the results
    is replaced only with --force.
    """
    from caloforge.evaluate import draw_results, result_files
    from caloforge.files import check_target

    if out is not None and out.resolve() not in [folder.resolve() for folder in folders]:
        for path in result_files(out, pdf=pdf):
            check_target(path, force=force)
    with console().status("drawing"):
        path = draw_results(folders, out, pdf=pdf)
    console().print(f"report: {path}")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the run and the report.")] = Path("demo"),
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything that is random.")] = 0,
) -> None:
    """Train a generator from scratch on shipped Geant4 showers, generate, judge: about six
    minutes on two cores.
    """
    from caloforge.demo import run_demo

    run_demo(out, steps=steps, seed=seed)
