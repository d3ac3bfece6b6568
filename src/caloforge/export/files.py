"""Folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from caloforge.errors import ExportError


@contextmanager
def folder_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; it becomes `target` on success and is removed on
    any error.

    Raises ExportError when `target` is there already and not an empty folder, or cannot be
    written.
    """
    target = Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ExportError(f"{target} is there already; expected a new or empty folder.")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise ExportError(
            f"Cannot write {target}: {error.strerror or error}. Nothing was left behind."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
