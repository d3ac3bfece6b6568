"""Checkpoints: the whole state of a training in one safetensors file, written atomically; nothing
is unpickled.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from caloforge.errors import TrainingError
from caloforge.models.file import write_tensors

FORMAT = "caloforge-checkpoint"


def save_checkpoint(
    folder: Path, step: int, tensors: dict[str, Tensor], about: dict[str, Any], keep: int
) -> Path:
    """Write `folder`/step-XXXXXXXX.safetensors and delete all but the newest `keep`."""
    path = folder / f"step-{step:08d}.safetensors"
    # Cloned: parts that share storage are refused by the format.
    own = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
    write_tensors(path, own, {FORMAT: json.dumps({**about, "step": step})})
    for old in sorted(folder.glob("step-*.safetensors"))[:-keep]:
        with suppress(OSError):
            old.unlink()
    return path


def latest_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and description of the newest readable checkpoint; None when there is none.

    Raises TrainingError when there are checkpoints and none can be read.
    """
    paths = sorted(folder.glob("step-*.safetensors"), reverse=True)
    for path in paths:
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads(file.metadata()[FORMAT])
                return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            continue
    if paths:
        raise TrainingError(
            f"None of the checkpoints in {folder} can be read; start again without --resume."
        )
    return None
