"""Files are written whole or not at all: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from caloforge.errors import CaloForgeError


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `target`; rename it to `target` on success, delete
    it on any error.

    Raises
    ------
    CaloForgeError
        When the folder cannot be written or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaloForgeError(
            f"Cannot create the folder {target.parent}: {error.strerror}."
        ) from error
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
