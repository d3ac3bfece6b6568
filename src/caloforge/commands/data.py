"""`caloforge data`: files of showers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloforge.commands import CLUSTER, FORCE, WORKERS, console

if TYPE_CHECKING:
    from caloforge.detector.geometry import Geometry

FORMAT = (
    "Format to write, by default the one in which the field keeps this geometry: caloforge, "
    "calochallenge, calogan, lcd, lhcb, atlas-cells, lemurs, ..."
)
app = typer.Typer(help="Files of showers: list, inspect, fetch and convert.", no_args_is_help=True)


@app.command("list")
def list_(
    online: Annotated[
        bool,
        typer.Option("--online", help="Ask the archives how large the public data sets are."),
    ] = False,
) -> None:
    """List the shipped samples and the public data sets that `fetch` can get."""
    from rich.table import Table

    from caloforge.data import CATALOGUE, open_showers, sample_names, sample_path
    from caloforge.data.download import download_size

    table = Table(
        "shipped sample",
        "geometry",
        "showers",
        "size",
        title="Use a sample's name wherever a file is expected",
    )
    for name in sample_names():
        path = sample_path(name)
        with open_showers(path) as source:
            table.add_row(name, source.geometry.name, str(len(source)), _size(path.stat().st_size))
    console().print(table)
    columns = ["public data set", "what it is", "DOI", *(["size"] if online else [])]
    public = Table(*columns, title="caloforge data fetch NAME")
    for name, entry in CATALOGUE.items():
        size = [_size(download_size(name))] if online else []
        public.add_row(name, entry.title, entry.doi, *size)
    console().print(public)


def _size(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"


@app.command("info")
def info(
    file: Annotated[str, typer.Argument(help="A file of showers or a shipped sample's name.")],
    geometry: Annotated[
        str | None, typer.Option(help="Geometry name or file, where the content does not tell.")
    ] = None,
) -> None:
    """Describe a file: geometry, conditions, showers per energy, response, occupancy and
    provenance.
    """
    from rich.table import Table

    from caloforge.data import describe, resolve_data
    from caloforge.detector.shipped import load_geometry

    path = resolve_data(file)
    about = describe(path, load_geometry(geometry) if geometry else None)
    out = console()
    lines = Table(show_header=False, title=str(path.name))
    for key, value in about.items():
        if not isinstance(value, dict):
            lines.add_row(key.replace("_", " "), _words(value))
    lines.add_row("size", f"{path.stat().st_size / 1e6:.3g} MB")
    out.print(lines)
    conditions = Table("condition", "unit", "from", "to", title="Conditions")
    for name, row in about["conditions"].items():
        conditions.add_row(name, row["unit"], f"{row['low']:.7g}", f"{row['high']:.7g}")
    out.print(conditions)
    if about["energy_points"]:
        points = about["energy_points"].items()
        out.print("showers per energy in MeV: " + ", ".join(f"{e:.7g}: {n}" for e, n in points))
    if about["provenance"]:
        origin = Table("provenance", "", title="Where they come from")
        for key, value in about["provenance"].items():
            origin.add_row(key, str(value))
        out.print(origin)


def _words(value: object) -> str:
    """Numbers with four digits; of long lists the beginning."""
    if isinstance(value, list):
        words = [f"{number:.4g}" for number in value]
        return ", ".join(words[:8]) + (f", ... ({len(words)} in all)" if len(words) > 8 else "")
    return f"{value:.4g}" if isinstance(value, float) else str(value)


@app.command("fetch")
def fetch(
    name: Annotated[str, typer.Argument(help="A public data set of `caloforge data list`.")],
    out: Annotated[Path, typer.Option(help="Folder to put the files in.")] = Path(),
) -> None:
    """Download a public data set. It goes on where it stopped, and checksums are compared."""
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
    to: Annotated[str | None, typer.Option("--format", help=FORMAT)] = None,
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
    workers: Annotated[int | None, typer.Option(help=WORKERS)] = None,
    cluster: Annotated[str | None, typer.Option(help=CLUSTER)] = None,
) -> None:
    """Read any known format and write another. Files may be larger than memory."""
    from rich.progress import Progress

    from caloforge.cluster import open_executor
    from caloforge.data import convert, resolve_data
    from caloforge.detector.shipped import load_geometry
    from caloforge.files import check_target

    read_out = load_geometry(geometry) if geometry else None
    files = [resolve_data(name) for name in source]
    check_target(target, files, force=force)
    for file in files:
        console().print(_understood(file, read_out), highlight=False)
    with open_executor(workers, cluster, console().print) as executor, Progress() as bar:
        task = bar.add_task("converting", total=None)
        count = convert(
            files,
            target,
            geometry=read_out,
            format=to,
            executor=executor,
            progress=lambda done, total: bar.update(task, advance=done, total=total),
        )
    console().print(f"{count} showers written to {target}")


def _understood(path: Path, geometry: Geometry | None) -> str:
    """A sentence on what a file is taken for."""
    from caloforge.data import open_showers

    with open_showers(path, geometry) as file:
        conditions = ", ".join(
            f"{c.name} ({c.unit})" if c.unit else c.name for c in file.geometry.conditions
        )
        return (
            f"{path.name}: {len(file)} showers of '{file.geometry.name}' in the {file.format} "
            f"format, {file.geometry.n_cells} cells in MeV, conditions {conditions}."
        )
