"""Files are written whole or not at all: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caloforge.errors import CaloForgeError


def make_folder(folder: str | Path) -> None:
    """Create a folder where there is none. Raises CaloForgeError when that cannot be."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        check_folder(folder)
        raise CaloForgeError(
            f"Cannot create the folder {folder}: {error.strerror}; choose another place."
        ) from error


def check_folder(folder: str | Path) -> None:
    """Raise CaloForgeError when `folder`, or what should hold it, is a file: asked before long
    work whose results go there.
    """
    for place in (Path(folder), *Path(folder).parents):
        if place.exists() and not place.is_dir():
            raise CaloForgeError(
                f"{place} is a file; expected a folder there: choose another place."
            )


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `target`; rename it to `target` on success, delete
    it on any error.

    Raises
    ------
    CaloForgeError
        When `target` is a folder, its own cannot be written, or the disk is full.
    """
    target = Path(target)
    if target.is_dir():
        raise CaloForgeError(f"{target} is a folder; expected the name of a file to write.")
    make_folder(target.parent)
    # The suffix is kept because some writers (numpy) add their own when it is missing.
    temporary = target.with_name(f".{target.stem}.{os.getpid()}.part{target.suffix}")
    try:
        yield temporary
        temporary.replace(target)
    except OSError as error:
        raise CaloForgeError(
            f"Cannot write {target}: {error.strerror or error}. Nothing was left behind; free "
            f"some space or choose "
            "another place."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def write_text(target: str | Path, text: str) -> None:
    """Write `text` to `target` in one piece."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
