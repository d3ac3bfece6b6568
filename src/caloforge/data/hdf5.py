"""HDF5 container: columns are root-level datasets, metadata are root attributes."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloforge.data.containers import (
    METADATA_KEYS,
    MOST_BLOCK,
    Array,
    Column,
    check_size,
    dump_metadata,
    parse_metadata,
    plain_note,
    reading,
    writing,
)
from caloforge.errors import DataError

_CACHE = (
    32 << 20
)  # bytes of decompressed chunks kept: a chunk read in two halves is decompressed once
_CHUNK_BYTES = 1 << 20
_CHUNK_ROWS = 8192
_MOST_MEMBERS = 1000


class Hdf5Source:
    """Read columns of an HDF5 file row by row.

    Only plain datasets in the root group count. Links that lead out of the file (external links,
    external raw data, virtual datasets) and soft links are refused: a file from elsewhere must not
    make us read another one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with reading(path):
            # locking=False: data often lie on read-only or network file systems where HDF5 cannot
            # lock.
            self._file = h5py.File(path, "r", rdcc_nbytes=_CACHE, locking=False)
        try:
            with reading(path):
                self._datasets = self._find_datasets()
                self.columns: Mapping[str, Column] = {
                    key: Column(d.shape, d.dtype) for key, d in self._datasets.items()
                }
                attributes = {str(k): self._file.attrs[k] for k in self._file.attrs}
                self.random_access = True
                self.block_rows = max(
                    (d.chunks[0] for d in self._datasets.values() if d.chunks), default=1
                )
            self.metadata: Mapping[str, Any] = self._parse(attributes)
            notes = {k: plain_note(v) for k, v in attributes.items() if k not in METADATA_KEYS}
            self.notes: Mapping[str, Any] = {k: v for k, v in notes.items() if v is not None}
        except BaseException:
            self.close()
            raise

    def _find_datasets(self) -> dict[str, Any]:
        if len(self._file) > _MOST_MEMBERS:
            raise DataError(
                f"{self._path} holds {len(self._file)} members; expected a handful of datasets."
            )
        datasets = {}
        for key in self._file:
            if not isinstance(self._file.get(key, getlink=True), h5py.HardLink):
                raise DataError(
                    f"'{key}' in {self._path} is a link to another place; expected data in the "
                    "file itself: copy the "
                    "data (h5repack, h5copy) first."
                )
            if self._file.get(key, getclass=True) is h5py.Dataset:
                datasets[key] = self._file[key]
        return {key: d for key, d in datasets.items() if d.shape}

    def _parse(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        if "geometry_hash" not in attributes:
            return {}
        found = {key: plain_or_text(attributes[key]) for key in METADATA_KEYS if key in attributes}
        for key in ("geometry", "provenance"):
            if key in found:
                found[key] = parse_metadata(str(found[key]), self._path)
        return found

    def check(self, key: str) -> None:
        """Raise DataError when the dataset lies elsewhere or claims more than it stores."""
        dataset = self._datasets[key]
        with reading(self._path):
            if dataset.is_virtual or dataset.external:
                raise DataError(
                    f"'{key}' in {self._path} keeps its data in another file; expected data in "
                    "the file itself: copy "
                    "the data (h5repack) first."
                )
            stored = dataset.id.get_storage_size()
            claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
            block = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
            if stored > self._path.stat().st_size:
                raise DataError(
                    f"'{key}' in {self._path} claims {stored} bytes, more than the file has: it "
                    "is truncated; fetch or "
                    "write it again."
                )
        check_size(key, claimed, stored, self._path)
        if block > MOST_BLOCK:
            raise DataError(
                f"'{key}' in {self._path} is stored in chunks of {block:.3g} bytes; expected at "
                f"most {MOST_BLOCK}: "
                "rewrite it with smaller chunks (h5repack)."
            )

    def read(self, key: str, start: int, stop: int) -> Array:
        """Rows start to stop."""
        with reading(self._path):
            return np.asarray(self._datasets[key][start:stop])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


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


@dataclass(frozen=True)
class Packed:
    """Rows of a column as the compressed chunks of an HDF5 file, to be stored as they are.

    Parameters
    ----------
    empty
        (0, ...): the column's shape and type.
    rows
        Rows of the column.
    compression
        As in `Hdf5Sink`.
    chunks
        Filter mask and content of each chunk; the last may be filled in part.
    """

    empty: Array
    rows: int
    compression: str
    chunks: tuple[tuple[int, bytes], ...]

    @classmethod
    def pack(cls, values: Array, compression: str) -> Packed:
        """Compress rows in memory, just as `Hdf5Sink` does in its file."""
        with _in_memory() as file:
            dataset = _create(file, "column", values, compression)
            dataset.resize(len(values), axis=0)
            dataset[:] = values
            file.flush()
            origins = _origins(dataset, 0, len(values))
            chunks = tuple(dataset.id.read_direct_chunk(origin) for origin in origins)
        return cls(values[:0].copy(), len(values), compression, chunks)

    def store(self, dataset: Any, before: int) -> None:
        """Write the chunks into a dataset, from a row on that begins one of its chunks."""
        origins = _origins(dataset, before, before + self.rows)
        for origin, (mask, content) in zip(origins, self.chunks, strict=True):
            dataset.id.write_direct_chunk(origin, content, mask)

    def unpack(self) -> Array:
        """The rows again."""
        with _in_memory() as file:
            dataset = _create(file, "column", self.empty, self.compression)
            dataset.resize(self.rows, axis=0)
            self.store(dataset, 0)
            return np.asarray(dataset[:])


def _in_memory() -> Any:
    return h5py.File("part", "w", driver="core", backing_store=False)


def _origins(dataset: Any, start: int, stop: int) -> list[tuple[int, ...]]:
    """First element of every chunk that begins in the rows start..stop-1."""
    rest = (0,) * (len(dataset.shape) - 1)
    return [(row, *rest) for row in range(start, stop, dataset.chunks[0])]


def _create(file: Any, key: str, values: Array, compression: str) -> Any:
    """A dataset without rows, for rows like those of `values`."""
    row_bytes = math.prod(values.shape[1:]) * values.dtype.itemsize
    rows = min(_CHUNK_ROWS, max(1, _CHUNK_BYTES // row_bytes))
    rows = 1 << (rows.bit_length() - 1)  # a power of two, so that blocks of showers begin a chunk
    levels = {"fast": 1, "small": 9}
    # gzip is in every HDF5 build. Without the shuffle filter: showers are mostly zeros, which
    # shuffling scatters; measured on all shipped read-outs, files get 4 to 30 % larger with it and
    # writing slower.
    filters: dict[str, Any] = (
        {"compression": "gzip", "compression_opts": levels[compression]}
        if compression in levels
        else {}
    )
    return file.create_dataset(
        key,
        shape=(0, *values.shape[1:]),
        maxshape=(None, *values.shape[1:]),
        chunks=(rows, *values.shape[1:]),
        dtype=values.dtype,
        **filters,
    )


class Hdf5Sink:
    """Write columns to an HDF5 file in chunks of about 1 MB that every HDF5 build can read."""

    def __init__(self, path: Path, compression: str) -> None:
        self._path, self._compression = path, compression
        self._datasets: dict[str, Any] = {}
        with writing(path):
            self._disk = _Disk(path)
            self._file = h5py.File(self._disk, "w", rdcc_nbytes=_CACHE)

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write rows at the end of every column."""
        with writing(self._path):
            for key, values in columns.items():
                if key not in self._datasets:
                    self._datasets[key] = _create(self._file, key, values, self._compression)
                dataset = self._datasets[key]
                if len(values):
                    before = dataset.shape[0]
                    dataset.resize(before + len(values), axis=0)
                    dataset[before:] = values
                self._disk.check()

    def append_packed(self, columns: Mapping[str, Packed]) -> None:
        """As `append`, rows that were compressed elsewhere."""
        with writing(self._path):
            for key, packed in columns.items():
                dataset = self._datasets[key]
                before = dataset.shape[0]
                dataset.resize(before + packed.rows, axis=0)
                if before % dataset.chunks[0]:
                    dataset[before:] = packed.unpack()
                else:
                    packed.store(dataset, before)
                self._disk.check()

    def close(self, metadata: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Write the attributes and close."""
        plain = json.loads(dump_metadata(metadata))
        with writing(self._path):
            for key, value in {**attributes, **plain}.items():
                # Text of any length is stored outside the object header, so the 64 kB limit does
                # not bite.
                self._file.attrs[key] = json.dumps(value) if isinstance(value, dict) else value
            self._datasets.clear()
            self._file.close()
            self._disk.close()
            self._disk.check()

    def abort(self) -> None:
        """Close whatever is open."""
        self._datasets.clear()
        with suppress(Exception):
            self._file.close()
        self._disk.close()


def plain_or_text(value: Any) -> Any:
    """An attribute of ours: text in full, numbers as Python numbers."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else plain_note(value)
