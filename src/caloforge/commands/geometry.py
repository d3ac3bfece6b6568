"""`caloforge geometry`: read-outs and materials of calorimeters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caloforge.commands import FORCE, console
from caloforge.errors import CaloForgeError, GeometryError

if TYPE_CHECKING:
    from caloforge.detector.geometry import Geometry

app = typer.Typer(
    help="Geometries of calorimeters: list, show, check, draw, and begin a new one.",
    no_args_is_help=True,
)
GEOMETRY = "Name of a shipped geometry, or a geometry file (.toml, or .xml of the CaloChallenge)."


@app.command("list")
def list_() -> None:
    """Shipped geometries: cells, conditions, and the depth of the stack of materials."""
    from rich.table import Column, Table

    from caloforge.detector.shipped import geometry_names, load_geometry

    name_column = Column("geometry", no_wrap=True)
    table = Table(name_column, "title", "layers", "cells", "conditions", "particles", "stack")
    for name in geometry_names():
        geometry = load_geometry(name)
        stack = geometry.stack
        table.add_row(
            name,
            geometry.title,
            str(geometry.n_layers),
            str(geometry.n_cells),
            ", ".join(geometry.condition_names),
            ", ".join(geometry.particles),
            "none" if stack is None else f"{stack.depth:g} mm",
        )
    console().print(table)


@app.command("show")
def show(geometry: Annotated[str, typer.Argument(help=GEOMETRY)]) -> None:
    """Layers, conditions, symmetries and materials of a geometry."""
    from rich.table import Table

    from caloforge.detector.shipped import load_geometry

    read_out = load_geometry(geometry)
    out = console()
    out.print(f"{read_out.name}: {read_out.title}", highlight=False)
    out.print(
        f"{read_out.n_cells} cells in {read_out.n_layers} layers; hash {read_out.hash}; particles "
        f"{', '.join(read_out.particles) or 'not stated'}; symmetries "
        f"{', '.join(name for name, _ in read_out.symmetries) or 'none'}",
        highlight=False,
    )
    conditions = Table("condition", "role", "unit", "low", "high", "scale", title="Conditions")
    for c in read_out.conditions:
        role = f"{c.role} {c.axis}".strip()
        conditions.add_row(c.name, role, c.unit, f"{c.low:.7g}", f"{c.high:.7g}", c.scale)
    out.print(conditions)
    out.print(_layers(read_out))
    if read_out.stack is None:
        out.print("No stack of materials: `caloforge simulate` needs one.")
    else:
        out.print(_slabs(read_out))


def _layers(geometry: Geometry) -> object:
    """A table of the layers, in which equal ones that follow each other share a row."""
    from rich.table import Table

    table = Table("layers", "name", "kind", "cells", "extent (mm)", "z (mm)", title="Layers")
    rows: list[list[int]] = []
    for k, layer in enumerate(geometry.layers):
        before = geometry.layers[k - 1]
        same = k and (layer.kind, layer.edges, layer.part) == (
            before.kind,
            before.edges,
            before.part,
        )
        if same:
            rows[-1].append(k)
        else:
            rows.append([k])
    for indices in rows:
        first, last = geometry.layers[indices[0]], geometry.layers[indices[-1]]
        edges = first.edges if first.kind == "grid" else first.edges[1:]
        extent = ", ".join(
            f"{axis} {e[0]:g} to {e[-1]:g}"
            for axis, e in zip(first.axes[-len(edges) :], edges, strict=True)
        )
        z = "" if first.z is None or last.z is None else f"{first.z[0]:g} to {last.z[1]:g}"
        numbers = f"{first.id}" if first is last else f"{first.id} to {last.id}"
        name = first.name if first is last else first.part
        shape = " x ".join(str(n) for n in first.shape)
        table.add_row(numbers, name, first.kind, shape, extent, z)
    return table


def _slabs(geometry: Geometry) -> object:
    from rich.table import Table

    stack = geometry.stack
    assert stack is not None
    title = (
        f"Stack: {stack.depth:g} mm deep, {stack.width:g} mm wide, threshold {stack.threshold:g} "
        f"MeV, {'calibrated' if stack.calibrated else 'not calibrated'}; hash {stack.hash}"
    )
    table = Table("repeats", "slabs (active ones in brackets)", "layers", "fraction", title=title)
    for group in stack.groups:
        words = " + ".join(
            ("({})" if slab.active else "{}").format(f"{slab.thickness:g} mm {slab.material}")
            for slab in group.slabs
        )
        layers = group.layers
        which = "none" if not layers else str(layers[0])
        if len(layers) > 1:
            which += f" to {layers[-1]}"
        share = "" if group.sampling_fraction is None else f"{group.sampling_fraction:g}"
        table.add_row(str(group.repeats), words, which, share)
    return table


@app.command("check")
def check(geometry: Annotated[str, typer.Argument(help=GEOMETRY)]) -> None:
    """Say in a sentence what is wrong with a geometry file, or that nothing is."""
    from caloforge.detector.checks import check_name
    from caloforge.detector.shipped import load_geometry
    from caloforge.detector.symmetries import symmetry_group
    from caloforge.simulate.beam import drawn_by
    from caloforge.simulate.medium import check_materials
    from caloforge.simulate.particles import find_particle

    read_out = load_geometry(geometry)
    for what, name in (
        ("geometry", read_out.name),
        *(("condition", name) for name in read_out.condition_names),
    ):
        check_name(name, what)
    symmetry_group(read_out)
    drawn_by(read_out)
    for name in read_out.particles:
        find_particle(name)
    stack = read_out.stack
    if stack is not None:
        check_materials(stack)
    what = "no stack of materials" if stack is None else f"a stack of {stack.depth:g} mm"
    console().print(
        f"'{read_out.name}' is sound: {read_out.n_cells} cells in {read_out.n_layers} layer(s), "
        f"the conditions {', '.join(read_out.condition_names)}, and {what}.",
        highlight=False,
    )


@app.command("draw")
def draw(
    geometry: Annotated[str, typer.Argument(help=GEOMETRY)],
    out: Annotated[Path, typer.Option(help="Picture to write: .png, .pdf or .svg.")],
    force: Annotated[bool, typer.Option("--force", help=FORCE)] = False,
) -> None:
    """A picture of the slabs along the axis and of the cells."""
    from caloforge.detector.shipped import load_geometry
    from caloforge.files import check_target
    from caloforge.simulate.draw import draw_geometry

    check_target(out, force=force)
    draw_geometry(load_geometry(geometry), out)
    console().print(f"Picture written to {out}", highlight=False)


@app.command("new")
def new(
    file: Annotated[Path, typer.Argument(help="Geometry file to write, .toml.")],
) -> None:
    """Write a commented geometry file to begin with: 30 layers of tungsten and silicon."""
    from importlib import resources

    from caloforge.files import write_text

    if file.suffix != ".toml":
        raise GeometryError(f"Got {file}; expected the name of a file that ends in .toml.")
    if file.exists():
        raise CaloForgeError(f"{file} exists; expected the name of a new file.")
    template = resources.files("caloforge") / "simulate" / "geometry.toml.template"
    write_text(file, template.read_text(encoding="utf-8").replace("NAME", file.stem))
    console().print(f"Written to {file}: edit it, then `caloforge geometry check {file}`.")
