"""Write the HDF5 container: chunks are compressed by several threads and stored as they are.

HDF5's own filter compresses in the thread that writes, and holds a lock over all of HDF5.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloforge.data.containers import Array, dump_metadata, writing
from caloforge.data.deflate import LEVELS, deflate, inflate
from caloforge.executors import AHEAD, cores

_CHUNK_BYTES = 1 << 20
# Few enough that blocks of showers of any number of cells end where a chunk of every column ends.
_CHUNK_ROWS = 1024


class _Disk:
    """The file below HDF5, which must not see a write fail.

    When the disk is full the HDF5 library loses data silently or crashes while it closes. So the
    first error is kept here, later writes go nowhere, and `Hdf5Sink` raises the error itself after
    each of its steps.
    """

    def __init__(self, path: Path) -> None:
        self.failure: OSError | None = None
        self._file = path.open("w+b")

    def write(self, content: Any) -> int:
        self._keep(self._file.write, content)
        return len(content)

    def truncate(self, size: int) -> None:
        self._keep(self._file.truncate, size)

    def flush(self) -> None:
        self._keep(self._file.flush)

    def close(self) -> None:
        try:
            self._file.close()  # also after a failure: the descriptor must not stay open
        except OSError as error:
            self.failure = self.failure or error

    def seek(self, *where: int) -> int:
        self._keep(self._file.seek, *where)  # empties the write buffer, so it can fail too
        return self._file.tell() if self.failure is None else 0

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def readinto(self, buffer: Any) -> int:
        return self._file.readinto(buffer)

    def _keep(self, action: Any, *arguments: Any) -> None:
        if self.failure is None:
            try:
                action(*arguments)
            except OSError as error:
                self.failure = error

    def check(self) -> None:
        """Raise what went wrong so far."""
        if self.failure is not None:
            raise self.failure


def chunk_rows(values: Array) -> int:
    """Rows of a chunk for rows like those of `values`: about 1 MB, and a power of two, so that
    blocks of showers begin a chunk.
    """
    row_bytes = math.prod(values.shape[1:]) * values.dtype.itemsize
    rows = min(_CHUNK_ROWS, max(1, _CHUNK_BYTES // row_bytes))
    return 1 << (rows.bit_length() - 1)


def _padded(values: Array, rows: int) -> Array:
    """One chunk, whose last rows may hold nothing: HDF5 stores chunks in full."""
    if len(values) == rows:
        return np.ascontiguousarray(values)
    chunk = np.zeros((rows, *values.shape[1:]), values.dtype)
    chunk[: len(values)] = values
    return chunk


@dataclass(frozen=True)
class Packed:
    """Rows of a column as the compressed chunks of an HDF5 file, to be stored as they are.

    Parameters
    ----------
    empty
        Array (0, ...) without rows that has the column's shape and type.
    rows
        Number of rows.
    compression
        Compression of the chunks, as in `Hdf5Sink`.
    chunks
        Content of each chunk; the last may be filled in part.
    """

    empty: Array
    rows: int
    compression: str
    chunks: tuple[bytes, ...]

    @classmethod
    def pack(cls, values: Array, compression: str) -> Packed:
        """Compress rows, just as `Hdf5Sink` does."""
        size = chunk_rows(values)
        starts = range(0, len(values), size)
        chunks = tuple(deflate(_padded(values[k : k + size], size), compression) for k in starts)
        return cls(values[:0].copy(), len(values), compression, chunks)

    def unpack(self, first: int = 0) -> Array:
        """The rows again, from chunk `first` on."""
        size, shape = chunk_rows(self.empty), self.empty.shape[1:]
        contents = b"".join(inflate(chunk, self.compression) for chunk in self.chunks[first:])
        values = np.frombuffer(contents, self.empty.dtype).reshape(-1, *shape)
        return values[: self.rows - first * size]


class _Growing:
    """A dataset that is written chunk by chunk, with the rows that do not fill a chunk yet."""

    def __init__(self, dataset: Any, values: Array) -> None:
        self.dataset = dataset
        self.rows = 0  # in chunks
        self.size = chunk_rows(values)
        self.loose = np.empty((self.size, *values.shape[1:]), values.dtype)
        self.count = 0  # how many of the loose rows are filled


class Hdf5Sink:
    """Write columns to an HDF5 file in chunks of about 1 MB that every HDF5 build can read.

    Parameters
    ----------
    path
        File to write.
    compression
        "fast" (gzip 1), "small" (gzip 9) or "none".
    threads
        Number of threads that compress, by default one for each core. The file is the same for any
        number.
    """

    def __init__(self, path: Path, compression: str, threads: int | None = None) -> None:
        self._path, self._compression = path, compression
        self._columns: dict[str, _Growing] = {}
        self._threads = threads or cores()
        self._pool = ThreadPoolExecutor(self._threads, "compress") if self._threads > 1 else None
        self._waiting: deque[tuple[_Growing, int, int, Future[bytes] | bytes]] = deque()
        with writing(path):
            self._disk = _Disk(path)
            self._file = h5py.File(self._disk, "w")

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write rows at the end of every column."""
        with writing(self._path):
            for key, values in columns.items():
                if key not in self._columns:
                    self._columns[key] = _Growing(self._create(key, values), values)
                self._fill(self._columns[key], values)

    def append_packed(self, columns: Mapping[str, Packed]) -> None:
        """As `append`, rows that were compressed elsewhere."""
        with writing(self._path):
            for key, packed in columns.items():
                column = self._columns[key]
                whole = 0 if column.count else packed.rows // column.size
                for chunk in packed.chunks[:whole]:
                    self._put(column, column.size, chunk)
                self._fill(column, packed.unpack(whole))

    def _create(self, key: str, values: Array) -> Any:
        """A dataset without rows, for rows like those of `values`.

        gzip is in every HDF5 build. Without the shuffle filter: showers are mostly zeros, which
        shuffling scatters; measured on all shipped read-outs, files get 4 to 30 % larger with it.
        """
        filters: dict[str, Any] = {}
        if self._compression in LEVELS:
            filters = {"compression": "gzip", "compression_opts": LEVELS[self._compression]}
        return self._file.create_dataset(
            key,
            shape=(0, *values.shape[1:]),
            maxshape=(None, *values.shape[1:]),
            chunks=(chunk_rows(values), *values.shape[1:]),
            dtype=values.dtype,
            **filters,
        )

    def _fill(self, column: _Growing, values: Array) -> None:
        """Rows into chunks; what does not fill one waits for more."""
        start = 0
        while start < len(values):
            taken = values[start : start + column.size - column.count]
            column.loose[column.count : column.count + len(taken)] = taken
            column.count += len(taken)
            start += len(taken)
            if column.count == column.size:
                self._compress(column)

    def _compress(self, column: _Growing) -> None:
        """The loose rows become a chunk."""
        chunk, count = _padded(column.loose[: column.count], column.size), column.count
        if self._pool is None:
            self._put(column, count, deflate(chunk, self._compression))
        else:
            self._put(column, count, self._pool.submit(deflate, chunk, self._compression))
            column.loose = np.empty_like(column.loose)  # the other belongs to a thread now
        column.count = 0

    def _put(self, column: _Growing, count: int, content: Future[bytes] | bytes) -> None:
        """Chunks are stored in the order they are put; few of them wait."""
        self._waiting.append((column, column.rows, count, content))
        column.rows += count
        while len(self._waiting) > AHEAD * self._threads:
            self._store()

    def _store(self) -> None:
        column, row, count, content = self._waiting.popleft()
        stream = content if isinstance(content, bytes) else content.result()
        column.dataset.resize(row + count, axis=0)
        origin = (row,) + (0,) * (len(column.dataset.shape) - 1)
        column.dataset.id.write_direct_chunk(origin, stream)
        self._disk.check()

    def close(self, metadata: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Write what is left and the attributes, and close."""
        plain = json.loads(dump_metadata(metadata))
        with writing(self._path):
            for column in self._columns.values():
                if column.count:
                    self._compress(column)
            while self._waiting:
                self._store()
            for key, value in {**attributes, **plain}.items():
                # Text of any length is stored outside the object header, so the 64 kB limit does
                # not bite.
                self._file.attrs[key] = json.dumps(value) if isinstance(value, dict) else value
            self._columns.clear()
            self._file.close()
            self._disk.close()
            self._disk.check()

    def abort(self) -> None:
        """Close whatever is open."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._waiting.clear()
        self._columns.clear()
        with suppress(Exception):
            self._file.close()
        self._disk.close()
