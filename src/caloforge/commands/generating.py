"""`caloforge generate` and `bench`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloforge.commands import CLUSTER, FORCE, WORKERS, console
from caloforge.errors import CaloForgeError, ExportError

if TYPE_CHECKING:
    from caloforge.generate import Conditions
    from caloforge.generate.timing import Timing
    from caloforge.models.file import ModelFile


ENGINE = "What runs the model: auto, torch, compile or onnx."


def generate(
    model: Annotated[str, typer.Argument(help="Model file or a pretrained generator's name.")],
    out: Annotated[
        Path, typer.Option(help="File to write, in the field's own format for the geometry.")
    ],
    number: Annotated[
        int | None,
        typer.Option(
            "-n",
            help="Number of showers (default: rows of --like or --particles, else 1000).",
        ),
    ] = None,
    like: Annotated[
        str | None, typer.Option(help="Take the conditions of this file of showers, in order.")
    ] = None,
    particles: Annotated[
        Path | None, typer.Option(help="Table of particles: csv, tsv or HDF5, columns by name.")
    ] = None,
    energy: Annotated[
        str | None, typer.Option(help="Incident energy in MeV, as for --condition.")
    ] = None,
    condition: Annotated[
        list[str] | None,
        typer.Option(
            help="name=VALUE in MeV, mm or rad, name=A,B,C for a grid, or a spectrum: "
            "name=uniform:LOW:HIGH, log-uniform:LOW:HIGH, power:INDEX:LOW:HIGH, "
            "normal:MEAN:SIGMA:LOW:HIGH. May be repeated."
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of the noise: the same seed gives the same showers.")
    ] = 0,
    batch: Annotated[
        int | None, typer.Option(help="Number of showers of one call of the model.")
    ] = None,
    engine: Annotated[str, typer.Option(help=ENGINE)] = "auto",
    extrapolate: Annotated[
        bool, typer.Option("--extrapolate", help="Allow conditions outside the trained range.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help=WORKERS)] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """Make showers with a trained model; they are streamed into a file."""
    from caloforge.cluster import open_executor
    from caloforge.data import resolve_data
    from caloforge.files import check_target
    from caloforge.generate import generate_blocks, generate_file
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model
    from caloforge.progress import counter

    path = resolve_model(model)
    sources = [path, *([] if like is None else [resolve_data(like)])]
    check_target(out, [*sources, *([] if particles is None else [particles])], force=force)
    loaded = load_model(path)
    conditions = _conditions(loaded, like, particles, energy, condition or [])
    rows = len(conditions.table) if like is not None or particles is not None else 1000
    count = rows if number is None else number
    if count < 1:
        raise CaloForgeError(f"Got -n {count}; expected at least one shower.")
    if extrapolate:
        warnings.warn(
            "conditions outside the trained range are allowed; nothing is known about such "
            "showers",
            stacklevel=1,
        )
    settings: dict[str, Any] = {
        "seed": seed,
        "batch": batch,
        "extrapolate": extrapolate,
        "engine": engine,
    }
    with (
        open_executor(workers, cluster, console().print) as executor,
        counter("generating", count) as advance,
    ):
        if executor is None:
            seconds = generate_file(loaded, conditions, out, count, progress=advance, **settings)
        else:
            seconds = generate_blocks(
                path, conditions, out, count, executor=executor, progress=advance, **settings
            )
    console().print(
        f"{count} showers in {seconds:.2f} s ({1e6 * seconds / count:.1f} µs each, file "
        f"included): {out}"
    )


def _conditions(
    loaded: ModelFile,
    like: str | None,
    particles: Path | None,
    energy: str | None,
    pairs: list[str],
) -> Conditions:
    """The conditions that the options ask for."""
    from caloforge.data import resolve_data
    from caloforge.generate import Conditions

    geometry = loaded.model.geometry
    if like is not None:
        if energy is not None or pairs or particles is not None:
            raise CaloForgeError(
                "Got --like together with --energy, --condition or --particles; give one or the "
                "other."
            )
        return Conditions.like(resolve_data(like), geometry)
    column = geometry.find("energy")
    name_of_energy = "energy" if column is None else geometry.condition_names[column]
    values = {} if energy is None else {name_of_energy: energy}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise CaloForgeError(
                f"Got --condition {pair}; expected name=value, for example x0=12.5."
            )
        if name.strip() in values:
            raise CaloForgeError(f"The condition '{name.strip()}' is given twice; expected once.")
        values[name.strip()] = text
    return Conditions.of(geometry, values, particles)


def bench(
    model: Annotated[str, typer.Argument(help="Model file or a pretrained generator's name.")],
    engine: Annotated[
        list[str] | None, typer.Option(help=ENGINE + " May be repeated; default: torch and onnx.")
    ] = None,
    repeats: Annotated[int, typer.Option(help="Calls timed at each batch size.")] = 10,
) -> None:
    """Measure the time per shower at batch 1, 100 and 10 000, noise included and in memory, and
    compare it with Geant4.
    """
    from rich.table import Table

    from caloforge.data.samples import geant4_times
    from caloforge.generate.engines import has_onnx
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model

    if repeats < 1:
        raise CaloForgeError(f"Got --repeats {repeats}; expected at least one.")
    loaded = load_model(resolve_model(model))
    fastest: dict[int, float] = {}
    table = Table("engine", "threads", "batch", "µs per shower", "±", title=model)
    for name in engine or (["torch", "onnx"] if has_onnx() else ["torch"]):
        try:
            rows = _times(loaded, name, repeats)
        except ExportError as error:
            if engine:
                raise
            console().print(f"{error}", highlight=False)
            continue
        for row in rows:
            micro = 1e3 * row.ms_per_shower
            fastest[row.batch] = min(micro, fastest.get(row.batch, micro))
            figures = (f"{micro:.2f}", f"{1e3 * row.error:.2f}")
            table.add_row(name, str(row.threads), str(row.batch), *figures)
    console().print(table)
    for geant4 in geant4_times(loaded.model.geometry.name):
        factors = ", ".join(
            f"{1e6 * geant4.seconds / micro:,.0f} times at batch {batch}"
            for batch, micro in fastest.items()
        )
        console().print(
            f"Geant4 took {geant4.seconds:g} s for a {geant4.particle} of "
            f"{geant4.energy / 1000:g} GeV: {factors}",
            highlight=False,
        )


def _times(loaded: ModelFile, engine: str, repeats: int) -> list[Timing]:
    """Times at every batch size, with one thread and with all.

    The batches of the CaloChallenge are made in pieces of `default_batch`, side by side; a single
    shower is asked for as another program would do it.
    """
    import torch

    from caloforge.executors import torch_threads
    from caloforge.generate import Generator, middle_condition
    from caloforge.generate.timing import time_generator

    condition = middle_condition(loaded)
    generator = Generator(loaded, engine=engine)
    rows = []
    for threads in sorted({1, torch.get_num_threads()}):
        with torch_threads(threads):
            if threads == 1:
                rows += time_generator(
                    lambda _: generator.one(**condition), 1, (1,), 100 * repeats
                )
            rows += time_generator(
                lambda batch: list(generator.stream(condition, batch)),
                threads,
                (100, 10_000) if threads == 1 else (10_000,),
                repeats,
            )
    return rows
