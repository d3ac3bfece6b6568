"""The process behind `caloforge.data.guard`: it opens HDF5 files before the package does.

It is run as a script and needs h5py alone, so that it is there quickly. Each line of its input is
the path of a file as JSON. For each it answers one line: "fine" when the HDF5 library came back
(with the content or with an error of its own), "memory" when it wanted too much of it. When the
library loops or crashes there is no answer: the system ends this process.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

# Processor time, not time on the clock: a slow disk or a busy machine is no fault of the file.
SECONDS = 1.0
SECONDS_PER_GB = 1.0  # the index of a large file takes a while
SECONDS_PER_GB_READ = 50.0  # slow filters decompress 20 MB in a second
MEMORY = 2 << 30  # bytes beyond those of the process itself; the largest chunk takes half a GB
MOST_MEMBERS = 1000
# Bytes of a chunk and of an attribute, as in `caloforge.data.containers`.
MOST_BLOCK = 1 << 29
MOST_METADATA = 1 << 24
# Filters whose parameters or data cannot lead the library astray: deflate, shuffle, fletcher32.
PLAIN_FILTERS = {1, 2, 3}


def main() -> None:
    """Answer until the input ends, which it does when the other process ends."""
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that asks
    with suppress(OSError, ValueError):  # limits of the other process are no limits of this one
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    import h5py

    limit_memory()
    print("ready", flush=True)
    for line in sys.stdin:
        path, size = json.loads(line)
        allow(SECONDS_PER_GB * size / 1e9)
        answer = "fine"
        try:
            with h5py.File(path, "r", locking=False) as file:
                visit(file, h5py)
        except MemoryError:
            answer = "memory"
        except Exception as error:  # the other process meets it again and says it in a sentence
            if "memory allocation failed" in str(error):
                answer = "memory"
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(answer, flush=True)


def allow(more: float) -> None:
    """From now on this process lives for SECONDS and `more` seconds of processor time."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS + more)


def limit_memory() -> None:
    """Let this process grow by MEMORY at most."""
    with suppress(OSError, ValueError, IndexError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        used = int(pages) * resource.getpagesize()
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))


def visit(file: Any, h5py: Any) -> None:
    """Read what opening a file of showers reads, the index of every dataset, and its ends."""
    if len(file) > MOST_MEMBERS:
        return
    for key in file.attrs:
        with suppress(OSError, KeyError, TypeError, ValueError, RuntimeError):
            if file.attrs.get_id(key).get_storage_size() <= MOST_METADATA:
                file.attrs[key]
    for key in file:
        if not isinstance(file.get(key, getlink=True), h5py.HardLink):
            return  # refused by the package
        if file.get(key, getclass=True) is h5py.Dataset:
            with suppress(OSError, KeyError, TypeError, ValueError, RuntimeError):
                visit_dataset(file[key])


def visit_dataset(dataset: Any) -> None:
    """The whole index of a dataset and its first and last row; all rows where its filters are
    unusual.
    """
    if dataset.is_virtual or dataset.external or not dataset.shape:
        return
    stored = dataset.id.get_storage_size()
    chunk = dataset.chunks
    if dataset.dtype.kind not in "fiu" or not stored:
        return
    block = dataset.dtype.itemsize * product(chunk or (1, *dataset.shape[1:]))
    if block > MOST_BLOCK:
        return
    plist = dataset.id.get_create_plist()
    filters = {plist.get_filter(k)[0] for k in range(plist.get_nfilters())}
    rows = dataset.shape[0]
    if filters <= PLAIN_FILTERS:
        for row in {0, rows - 1}:
            dataset[row : row + 1]
        return
    step = chunk[0] if chunk else 1
    for first in range(0, rows, step):
        allow(SECONDS_PER_GB_READ * block / 1e9)
        dataset[first : first + step]


def product(numbers: tuple[int, ...]) -> int:
    """Product of whole numbers."""
    result = 1
    for number in numbers:
        result *= number
    return result


if __name__ == "__main__":
    main()
