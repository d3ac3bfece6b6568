"""Trained generators as files for the software of the experiments, compared with PyTorch before
they are left on disk.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from caloforge.errors import ExportError, did_you_mean
from caloforge.export.fastcalosim import export_fastcalosim
from caloforge.export.lwtnn import export_lwtnn, lwtnn_files
from caloforge.export.onnx import export_onnx
from caloforge.export.par04 import export_ddml, export_par04, par04_files
from caloforge.export.parity import Parity
from caloforge.models.file import ModelFile, load_model

# What `caloforge export --to` takes: each writes to a path and returns how far it is from PyTorch.
TARGETS: dict[str, Callable[..., Parity]] = {
    "onnx": export_onnx,
    "lwtnn": export_lwtnn,
    "fastcalosim": export_fastcalosim,
    "par04": export_par04,
    "ddml": export_ddml,
}

# The ending of the file that a target writes; the others write a folder.
ENDINGS = {"onnx": ".onnx", "lwtnn": ".json", "par04": ".onnx"}


def export_model(
    file: ModelFile | str | Path, target: str, out: str | Path, **options: Any
) -> Parity:
    """Write a generator for `target`, one of TARGETS, to `out`; `options` are those of the target.
    The generator is a model file, its path, or the name of a shipped one.

    Raises ExportError for an unknown target or option, an `out` without a name or with an ending
    that says another format, a model that cannot be written so (with its reason), and when the
    result is not what PyTorch makes; then nothing is written.
    """
    if target not in TARGETS:
        raise ExportError(f"Unknown target '{target}': {did_you_mean(target, TARGETS)}")
    known = list(inspect.signature(TARGETS[target]).parameters)[2:]
    for option in options:
        if option not in known:
            raise ExportError(
                f"The target '{target}' has no option '{option}'; expected "
                f"{' or '.join(known) or 'none'}."
            )
    out = _named(target, out)
    file = file if isinstance(file, ModelFile) else load_model(file)
    return TARGETS[target](file, out, **options)


def _named(target: str, out: str | Path) -> Path:
    """`out` as a path. Raises ExportError where it has no name (such as . or /) or an ending that
    says another format.
    """
    out, ending = Path(out), ENDINGS.get(target, "")
    if not out.name:
        raise ExportError(
            f"Got {out} as output; expected the name of a {'file' if ending else 'new folder'}."
        )
    if out.suffix not in ("", ending) and (ending or out.suffix in (*ENDINGS.values(), ".hdf5")):
        raise ExportError(
            f"Got {out} for the target '{target}', whose ending {out.suffix} says another format; "
            f"expected {f'a name that ends in {ending}' if ending else 'the name of a folder'}."
        )
    return out


def exported_files(file: ModelFile, target: str, out: str | Path) -> list[Path]:
    """What `export_model` writes: besides `out`, or in its place, there may be others.

    Raises ExportError for a model that the target's format cannot hold, and for an `out` without a
    name or with an ending that says another format.
    """
    out = _named(target, out)
    if target == "lwtnn":
        return lwtnn_files(file, out)
    return par04_files(out) if target == "par04" else [out]


__all__ = ["TARGETS", "Parity", "export_model", "exported_files"]
