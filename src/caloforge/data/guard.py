"""HDF5 files are first opened in a process of its own, because damaged ones can hang the HDF5
library for ever or crash it, and nothing can stop it from inside.

The process is started for the first file and kept: it costs a tenth of a second once, and for
each file the time to decompress two chunks. Files that this process wrote itself and those of the
package are not examined.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import caloforge
from caloforge.errors import DataError

_CHILD = Path(__file__).with_name("guard_child.py")
_PACKAGE = Path(caloforge.__file__).parent
# A file that was changed so many seconds ago may change again within the grain of the clock of
# the file system, unseen; its verdict is not remembered.
_SETTLED = 1.0

Key = tuple[str, int, int, int]


class _Examiner:
    """The other process, as long as it lives."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="ascii",
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self.works = self._answer() == "ready"

    def ask(self, path: Path, size: int) -> str:
        """The answer of the process, empty when it ended instead."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps([os.fspath(path), size]) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> int:
        """Close the pipes and wait: the process ends with its input. Returns its exit status."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        return self._process.wait()


_lock = threading.Lock()
_examiner: _Examiner | None = None
_known: dict[Key, str] = {}  # what `_verdict` said, for each file


def examine(path: Path) -> None:
    """Return when the HDF5 library can open the file and come back.

    What the library says about a file is not looked at here: whoever opens it next hears it too.

    Raises
    ------
    DataError
        When the library loops, crashes or wants more memory than any file of showers needs.
    """
    key = _key(path)
    if key is None or _PACKAGE in Path(path).absolute().parents:
        return
    with _lock:
        verdict = _known[key] if key in _known else _verdict(path, key[1])
    if abs(time.time() - key[2] / 1e9) > _SETTLED:
        _known[key] = verdict
    if verdict:
        raise DataError(
            f"{path} makes the HDF5 library {verdict}; expected a whole file of showers: it is "
            "damaged, fetch or write it again."
        )


def trust(path: Path) -> None:
    """Remember that this process wrote the file itself."""
    key = _key(path)
    if key is not None:
        _known[key] = ""


def _key(path: Path) -> Key | None:
    """Name, size, time of the last change (ns) and number of a file; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino


def _verdict(path: Path, size: int) -> str:
    """What the library does with the file that it should not; empty where all is well."""
    global _examiner
    if _examiner is None or _examiner.owner != os.getpid():  # a fork shares the pipes
        try:
            _examiner = _Examiner()
        except OSError:  # no room for another process: the file is then opened unexamined
            return ""
    if not _examiner.works:  # h5py cannot be loaded there: the next file tries again
        _examiner.end()
        _examiner = None
        return ""
    answer = _examiner.ask(path.absolute(), size)
    if answer == "fine":
        return ""
    if answer == "memory":
        return "want more memory than any file of showers needs"
    status = _examiner.end()
    _examiner = None
    return "loop without end" if status == -signal.SIGPROF else "crash"


def _close() -> None:
    """End the other process with this one."""
    if _examiner is not None and _examiner.owner == os.getpid():
        _examiner.end()


atexit.register(_close)
