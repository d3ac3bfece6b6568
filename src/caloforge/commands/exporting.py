"""`caloforge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.commands import console


def export(
    model: Annotated[str, typer.Argument(help="Model file or a pretrained generator's name.")],
    to: Annotated[str, typer.Option(help="onnx, lwtnn, fastcalosim or par04.")],
    out: Annotated[Path, typer.Option(help="File to write; a folder for fastcalosim.")],
    eta: Annotated[
        tuple[int, int] | None,
        typer.Option(help="fastcalosim: slice of |eta| in per cent, 20 25 unless told."),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="fastcalosim: json (LWTNN, the default) or onnx.")
    ] = None,
) -> None:
    """A trained model for the software of an experiment, compared with PyTorch before it is left
    on disk.
    """
    from caloforge.export import export_model
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model

    given = {"eta": eta, "network": network}
    options = {name: value for name, value in given.items() if value is not None}
    parity = export_model(load_model(resolve_model(model)), to, out, **options)
    console().print(f"{out}: as PyTorch, {parity}", soft_wrap=True)
