"""Trained generators as files for the software of the experiments, compared with PyTorch before
they are left on disk.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from caloforge.errors import ExportError, did_you_mean
from caloforge.export.onnx import export_onnx
from caloforge.export.parity import Parity
from caloforge.models.file import ModelFile

# What `caloforge export --to` takes: each writes to a path and returns how far it is from PyTorch.
TARGETS: dict[str, Callable[[ModelFile, Path], Parity]] = {
    "onnx": export_onnx,
}


def export_model(file: ModelFile, target: str, out: str | Path) -> Parity:
    """Write a generator for `target`, one of TARGETS, to `out`.

    Raises ExportError for an unknown target, for a model that cannot be written so (with its
    reason), and when the result is not what PyTorch makes; then nothing is written.
    """
    if target not in TARGETS:
        raise ExportError(f"Unknown target '{target}': {did_you_mean(target, TARGETS)}")
    return TARGETS[target](file, Path(out))


__all__ = ["TARGETS", "Parity", "export_model"]
