"""Files and folders are written whole or not at all: to a temporary name beside the target, which
is then renamed.

The temporary name is hidden, and ends in `.part`. A process that is killed leaves it behind; the
next one on the same machine that writes the same target deletes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import socket
import stat
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
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
    """Raise CaloForgeError when `folder`, or what should hold it, is a file or may not be written:
    asked before long work whose results go there.
    """
    places = (Path(folder), *Path(folder).parents)
    for place in places:
        if place.exists() and not place.is_dir():
            raise CaloForgeError(
                f"{place} is a file; expected a folder there: choose another place."
            )
    holder = next(place for place in places if place.exists())
    if not os.access(holder, os.W_OK | os.X_OK):
        raise CaloForgeError(
            f"Nothing may be written into {holder}; expected a folder of your own: choose another "
            "place, or change its permissions."
        )


def check_new_folder(folder: str | Path) -> None:
    """Raise CaloForgeError unless `folder` is new or empty, and can be written."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise CaloForgeError(
            f"{folder} exists already; expected a new or empty folder: choose another place."
        )
    check_folder(folder)


def check_target(
    target: str | Path, sources: Iterable[str | Path] = (), *, force: bool = True
) -> None:
    """Refuse a file to write that is a folder or in one that cannot be written, that is one of the
    `sources` it is made from, and, without `force`, one that exists: asked before any work.

    Raises
    ------
    CaloForgeError
        With the way out: another name, or --force where the file is no source.
    """
    target = Path(target)
    if target.is_dir():
        raise CaloForgeError(f"{target} is a folder; expected the name of a file to write.")
    check_folder(target.parent)
    if not target.exists():
        return
    for source in sources:
        if Path(source).exists() and target.samefile(source):
            raise CaloForgeError(
                f"{target} is what is read; it would be lost by writing there: choose another "
                "name for the output."
            )
    if not force:
        raise CaloForgeError(
            f"{target} exists; expected the name of a new file: choose another, or give --force "
            "to replace it."
        )


@contextmanager
def atomic_path(target: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the folder of `target`; rename it to `target` on success, delete
    it on any error.

    The file gets the permissions that the user's umask gives, whatever its writer sets.

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
    temporary = _temporary(target.parent, target.stem, target.suffix)
    try:
        with _renamed(temporary, target):
            permissions = _usual_permissions(temporary)
            yield temporary
            temporary.chmod(permissions)
    finally:
        with suppress(OSError):
            temporary.unlink()


def _temporary(folder: Path, name: str, suffix: str) -> Path:
    """The hidden name under which this thread of this process writes; what dead processes left is
    deleted.
    """
    start, end = re.escape(f".{name}.{_machine()}-"), re.escape(f".part{suffix}")
    pattern = re.compile(rf"{start}(\d+)(?:-\d+)?{end}")
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = pattern.fullmatch(entry.name)
            if match is None or _lives(int(match[1])):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink()
    who = f"{os.getpid()}-{threading.get_native_id()}"
    return folder / f".{name}.{_machine()}-{who}.part{suffix}"


@cache
def _machine() -> str:
    """A short name of the machine (and, in a container, of its own count of processes): the
    number of a process says nothing elsewhere, and folders are shared.
    """
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return hashlib.sha256(f"{socket.gethostname()} {space}".encode()).hexdigest()[:8]


def _lives(process: int) -> bool:
    """Whether a process of this machine runs; in doubt it does."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _usual_permissions(path: Path) -> int:
    """What a new file at `path` may be used for; none is left there.

    The umask itself could only be read by changing it, which other threads would notice.
    """
    path.touch()
    permissions = stat.S_IMODE(path.stat().st_mode)
    path.unlink()
    return permissions


@contextmanager
def _renamed(temporary: Path, target: Path) -> Iterator[None]:
    """Rename at the end of the block. Raises CaloForgeError for whatever the system refuses."""
    try:
        yield
        temporary.replace(target)
    except OSError as error:
        raise CaloForgeError(
            f"Cannot write {target}: {error.strerror or error}. Nothing of it was left; free "
            "some space or choose another place."
        ) from error


@contextmanager
def atomic_folder(target: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target`; it becomes `target` on success and is removed on
    any error.

    Raises
    ------
    CaloForgeError
        When `target` exists and is not an empty folder, or cannot be written.
    """
    target = Path(target)
    check_new_folder(target)
    temporary = _temporary(target.parent, target.name, "")
    try:
        with _renamed(temporary, target):
            temporary.mkdir(parents=True)
            yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_text(target: str | Path, text: str) -> None:
    """Write `text` to `target` in one piece."""
    with atomic_path(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
