"""`caloforge simulate`: reference showers from a geometry file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from caloforge.commands import CLUSTER, WORKERS, console
from caloforge.errors import ConditionError, SimulationError

if TYPE_CHECKING:
    from caloforge.simulate.run import Engine, Spread

PARTICLE = "gamma, e-, e+, pi0, pi+, ...; several with commas, each as probable as the others."
ENERGY = (
    "Energy in MeV: 1000, or 1000,2000 (equally probable), 1000x50,2000x20 (with counts), "
    "uniform:LOW:HIGH, log-uniform:LOW:HIGH, power:INDEX:LOW:HIGH, normal:MEAN:SIGMA:LOW:HIGH. "
    "By default the whole range in the geometry file."
)
CONDITION = "NAME=VALUE for impact, slope, angle or alignment, as for --energy. May be repeated."
PHYSICS = "Electromagnetic physics of Geant4: standard, option1 to option4, livermore, penelope."
HADRONIC = (
    "Hadronic physics: none, FTFP_BERT, QGSP_BERT, QGSP_BIC and their _HP. By default FTFP_BERT "
    "for hadrons, none for others: photons and electrons then have nuclear reactions whose "
    "products leave unseen."
)


def simulate(
    geometry: Annotated[
        str, typer.Argument(help="Geometry name, or a geometry file with \\[stack].")
    ],
    out: Annotated[Path, typer.Option(help="File to write, in the format of the geometry.")],
    particle: Annotated[str | None, typer.Option(help=PARTICLE)] = None,
    energy: Annotated[str | None, typer.Option(help=ENERGY)] = None,
    number: Annotated[int | None, typer.Option("-n", help="Showers (default 1000).")] = None,
    condition: Annotated[list[str] | None, typer.Option(help=CONDITION)] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="GEOMETRY or GEOMETRY=FILE: another read-out of the same stack that sees the "
            "same showers. May be repeated."
        ),
    ] = None,
    engine: Annotated[
        str, typer.Option(help="geant4, or parametric, which needs neither Geant4 nor its data.")
    ] = "geant4",
    physics: Annotated[str, typer.Option(help=PHYSICS)] = "standard",
    hadronic: Annotated[str | None, typer.Option(help=HADRONIC)] = None,
    cut: Annotated[float, typer.Option(help="Production cut in mm.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Same seed, same showers.")] = 0,
    workers: Annotated[int | None, typer.Option(help=WORKERS)] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a simulation that was interrupted.")
    ] = False,
) -> None:
    """Reference showers of a calorimeter that a geometry file describes, with Geant4 or a
    parametrisation.
    """
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    from caloforge.detector.shipped import load_geometry
    from caloforge.progress import time_columns
    from caloforge.simulate.beam import Request
    from caloforge.simulate.particles import find_particle
    from caloforge.simulate.physics import Physics
    from caloforge.simulate.run import Job, simulate_file

    if workers is not None and workers < 1:
        raise SimulationError(f"Got --workers {workers}; expected at least one.")
    main = load_geometry(geometry)
    others, paths = _others(also or [], out)
    named = particle or ",".join(main.particles[:1])
    particles = tuple(find_particle(name.strip()) for name in named.split(","))
    values = _values(energy, condition or [])
    count = number if number is not None or "x" in values.get("energy", "") else 1000
    job = Job(
        (main, *(load_geometry(name) for name in others)),
        Request(particles, count, values, seed),
        cast("Engine", engine),
        Physics.suited_to(particles, physics, hadronic, cut),
    )
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with _spread(workers, cluster) as spread, Progress(*columns, *time_columns()) as bar:
        task = bar.add_task("simulating", total=None)
        counts = simulate_file(
            job,
            paths,
            workers=workers or 1,
            resume=resume,
            spread=spread,
            progress=lambda done, total: bar.update(task, advance=done, total=total),
        )
    for path, showers in zip(paths, counts, strict=True):
        console().print(f"{showers} showers written to {path}")


def _others(also: list[str], out: Path) -> tuple[list[str], list[Path]]:
    """Names of other read-outs, and all files."""
    names, paths = [], [out]
    for text in also:
        name, _, file = text.partition("=")
        names.append(name)
        stem = Path(name).stem
        paths.append(Path(file) if file else out.with_name(f"{out.stem}-{stem}{out.suffix}"))
    return names, paths


def _values(energy: str | None, conditions: list[str]) -> dict[str, str]:
    values = {} if energy is None else {"energy": energy}
    for text in conditions:
        name, sign, value = text.partition("=")
        if not sign:
            raise ConditionError(
                f"Got --condition {text}; expected NAME=VALUE, such as x0=uniform:-60:60."
            )
        if name in values:
            raise ConditionError(f"The condition '{name}' is given twice; expected it once.")
        values[name] = value
    return values


def _spread(workers: int | None, cluster: str | None) -> AbstractContextManager[Spread | None]:
    """A context whose value does the blocks on a cluster; None for this machine."""
    return nullcontext(None) if cluster is None else _on_cluster(workers, cluster)


@contextmanager
def _on_cluster(workers: int | None, cluster: str) -> Iterator[Spread]:
    from caloforge.cluster import open_executor
    from caloforge.executors import in_order

    with open_executor(workers, cluster, console().print) as executor:
        assert executor is not None  # a cluster was asked for
        yield lambda function, items: enumerate(in_order(executor, function, items))
