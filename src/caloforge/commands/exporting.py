"""`caloforge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.commands import FORCE, console


def export(
    model: Annotated[str, typer.Argument(help="Model file or a pretrained generator's name.")],
    to: Annotated[str, typer.Option(help="Format: onnx, lwtnn, fastcalosim, par04 or ddml.")],
    out: Annotated[Path, typer.Option(help="File to write; a folder for fastcalosim and ddml.")],
    eta: Annotated[
        tuple[int, int] | None,
        typer.Option(help="fastcalosim, gan: slice of |eta| in per cent, by default 20 25."),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="fastcalosim: json (LWTNN, the default) or onnx.")
    ] = None,
    shower: Annotated[
        str | None,
        typer.Option(help="fastcalosim: gan or ml; by default gan where the model allows it."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help=f"{FORCE} Folders are never replaced.")
    ] = False,
) -> None:
    """Write a trained model for the software of an experiment, after a comparison with PyTorch."""
    from caloforge.export import ENDINGS, TARGETS, export_model, exported_files
    from caloforge.files import check_new_folder, check_target
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model

    given = {"eta": eta, "network": network, "shower": shower}
    options = {name: value for name, value in given.items() if value is not None}
    path = resolve_model(model)
    file = load_model(path)
    for target in exported_files(file, to, out):
        if to in TARGETS and to not in ENDINGS:
            check_new_folder(target)
        else:
            check_target(target, [path], force=force)
    parity = export_model(file, to, out, **options)
    written = ", ".join(map(str, parity.files))
    console().print(f"{written}: as PyTorch, {parity}", soft_wrap=True)
