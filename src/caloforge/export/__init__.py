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
from caloforge.export.lwtnn import export_lwtnn
from caloforge.export.onnx import export_onnx
from caloforge.export.par04 import export_par04
from caloforge.export.parity import Parity
from caloforge.models.file import ModelFile

# What `caloforge export --to` takes: each writes to a path and returns how far it is from PyTorch.
TARGETS: dict[str, Callable[..., Parity]] = {
    "onnx": export_onnx,
    "lwtnn": export_lwtnn,
    "fastcalosim": export_fastcalosim,
    "par04": export_par04,
}


def export_model(file: ModelFile, target: str, out: str | Path, **options: Any) -> Parity:
    """Write a generator for `target`, one of TARGETS, to `out`; `options` are those of the target.

    Raises ExportError for an unknown target or option, for a model that cannot be written so (with
    its reason), and when the result is not what PyTorch makes; then nothing is written.
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
    return TARGETS[target](file, Path(out), **options)


__all__ = ["TARGETS", "Parity", "export_model"]
