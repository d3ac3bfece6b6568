"""Checkpoints: the whole state of a training in one safetensors file, written atomically while the
training goes on; nothing is unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from caloforge.errors import CaloForgeError, ModelError, TrainingError
from caloforge.models.digests import read_checked
from caloforge.models.file import write_tensors

FORMAT = "caloforge-checkpoint"


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], about: dict[str, Any], keep: int
) -> Path:
    """Write `folder`/step-XXXXXXXX.safetensors and delete all but the newest `keep`."""
    path = folder / f"step-{step:08d}.safetensors"
    write_tensors(path, dict(tensors), {FORMAT: json.dumps({**about, "step": step})})
    for old in sorted(folder.glob("step-*.safetensors"))[:-keep]:
        with suppress(OSError):
            old.unlink()
    return path


class Checkpoints:
    """Writes checkpoints from a thread of its own, while the training goes on.

    `save` copies the state at once and returns; at most one write is under way. What goes wrong
    in the thread is raised by the next `check`, `save` or `wait`, or at the end of the `with`
    block, which waits. The interpreter too waits for the write under way before it exits.

    Parameters
    ----------
    folder
        Where the checkpoints go.
    keep
        How many of the newest are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: tuple[int, Future[Path]] | None = None
        self._pinned: dict[str, Tensor] = {}

    def save(self, step: int, tensors: Mapping[str, Tensor], about: dict[str, Any]) -> None:
        """Write the state as it is now.

        Raises TrainingError when the previous one could not be written.
        """
        self.wait()
        # The description is copied too: the training appends to its history.
        fixed = json.loads(json.dumps(about))
        copies = {name: self._copy(name, value.detach()) for name, value in tensors.items()}
        copied = None
        if any(value.is_cuda for value in tensors.values()):
            copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
            copied.record()
        self._pending = (step, self._thread.submit(self._write, step, copies, fixed, copied))

    def _copy(self, name: str, value: Tensor) -> Tensor:
        """Memory of its own (parts that share storage are refused by the format)."""
        if not value.is_cuda:
            return value.cpu().clone(memory_format=torch.contiguous_format)
        # Pinned memory lets the copy run behind the training; it is dear to make, and the last
        # write has ended, so it is used again.
        if name not in self._pinned or self._pinned[name].shape != value.shape:
            self._pinned[name] = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
        return self._pinned[name].copy_(value, non_blocking=True)

    def _write(
        self, step: int, tensors: dict[str, Tensor], about: dict[str, Any], copied: Any
    ) -> Path:
        if copied is not None:
            copied.synchronize()
        return save_checkpoint(self.folder, step, tensors, about, self.keep)

    def check(self) -> None:
        """Raise TrainingError when the last write has failed; never waits."""
        if self._pending is not None and self._pending[1].done():
            self.wait()

    def wait(self) -> None:
        """Return when nothing is being written. Raises TrainingError when the write failed."""
        pending, self._pending = self._pending, None
        if pending is None:
            return
        step, future = pending
        try:
            future.result()
        except (CaloForgeError, OSError, RuntimeError) as error:
            cause = error.__cause__ if isinstance(error.__cause__, OSError) else error
            reason = getattr(cause, "strerror", None) or cause
            raise TrainingError(
                f"Cannot write the checkpoint of step {step} into {self.folder} ({reason}); the "
                "one before it is kept: free some space, then --resume."
            ) from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        try:
            self.wait()
        except TrainingError:
            if error is None:  # else the first error is the one to tell
                raise


def latest_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and description of the newest readable checkpoint; None when there is none.

    Raises TrainingError when there are checkpoints and none can be read.
    """
    paths = sorted(folder.glob("step-*.safetensors"), reverse=True)
    for path in paths:
        try:
            tensors, description = read_checked(path, FORMAT)
            about = json.loads(description)
        except (ModelError, SafetensorError, OSError, ValueError, RecursionError):
            continue
        if isinstance(about, dict):
            return tensors, about
    if paths:
        raise TrainingError(
            f"None of the checkpoints in {folder} can be read; start again without --resume."
        )
    return None


def remove_partial(folder: Path) -> None:
    """Delete what a killed process had begun to write into `folder` and not finished."""
    for path in folder.glob(".*.part*"):
        with suppress(OSError):
            path.unlink()
