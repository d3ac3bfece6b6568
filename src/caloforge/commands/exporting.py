"""`caloforge export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from caloforge.commands import console


def export(
    model: Annotated[str, typer.Argument(help="Model file or a pretrained generator's name.")],
    to: Annotated[str, typer.Option(help="What to write: onnx.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """A trained model for the software of an experiment, compared with PyTorch before it is left
    on disk.
    """
    from caloforge.export import export_model
    from caloforge.models.file import load_model
    from caloforge.pretrained import resolve_model

    parity = export_model(load_model(resolve_model(model)), to, out)
    console().print(f"{out}: as PyTorch, {parity}", soft_wrap=True)
