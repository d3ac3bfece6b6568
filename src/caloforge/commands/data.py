"""`caloforge data`: files of showers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.commands import CLUSTER, WORKERS, console

app = typer.Typer(help="Files of showers: list, inspect, fetch and convert.", no_args_is_help=True)


@app.command("list")
def list_() -> None:
    """Shipped samples and the public data sets that `fetch` can get."""
    from rich.table import Table

    from caloforge.data import CATALOGUE, open_showers, sample_names, sample_path

    table = Table(
        "shipped sample",
        "geometry",
        "showers",
        title="Use a sample's name wherever a file is expected",
    )
    for name in sample_names():
        with open_showers(sample_path(name)) as source:
            table.add_row(name, source.geometry.name, str(len(source)))
    console().print(table)
    public = Table("public data set", "what it is", title="caloforge data fetch NAME")
    for name, entry in CATALOGUE.items():
        public.add_row(name, entry.title)
    console().print(public)


@app.command("info")
def info(
    file: Annotated[str, typer.Argument(help="A file of showers or a shipped sample's name.")],
) -> None:
    """What a file holds: geometry, conditions, showers per energy, response, occupancy,
    provenance.
    """
    from rich.pretty import Pretty

    from caloforge.data import describe, resolve_data

    console().print(Pretty(describe(resolve_data(file)), expand_all=False))


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A public data set of `caloforge data list`.")],
    out: Annotated[Path, typer.Option(help="Folder to put the files in.")] = Path(),
) -> None:
    """Download a public data set: resumable, checksummed."""
    from caloforge.data import fetch

    for path in fetch(name, out):
        console().print(f"{path}")


@app.command("convert")
def convert(
    source: Annotated[
        list[str],
        typer.Argument(help="File of showers or shipped sample; several are joined in order."),
    ],
    target: Annotated[
        Path, typer.Argument(help="File to write; .root and .npz choose the format.")
    ],
    geometry: Annotated[
        str | None, typer.Option(help="Geometry name or file, where the content does not tell.")
    ] = None,
    to: Annotated[str | None, typer.Option("--format", help="Format to write.")] = None,
    workers: Annotated[int | None, typer.Option(help=WORKERS)] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
) -> None:
    """Read any known format, write another; streams, so that files may be larger than memory."""
    from rich.progress import Progress

    from caloforge.cluster import open_farm
    from caloforge.data import convert, resolve_data
    from caloforge.geometry import load_geometry

    with open_farm(workers, cluster, console().print) as farm, Progress() as bar:
        task = bar.add_task("converting", total=None)
        count = convert(
            [resolve_data(name) for name in source],
            target,
            geometry=load_geometry(geometry) if geometry else None,
            format=to,
            spread=None if farm is None else farm.map,
            progress=lambda done, total: bar.update(task, advance=done, total=total),
        )
    console().print(f"{count} showers written to {target}")
