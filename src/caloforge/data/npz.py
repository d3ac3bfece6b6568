"""npz container: columns are members of a zip archive, read and written as streams."""

from __future__ import annotations

import io
import math
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from caloforge.data.containers import (
    MOST_METADATA,
    Array,
    Column,
    check_size,
    dump_metadata,
    parse_metadata,
    reading,
    writing,
)
from caloforge.errors import DataError

_METADATA = "caloforge.json"
_COPY = 1 << 20
_MOST_MEMBERS = 1000
MOST_HEADER = 10_000  # bytes; that of a column has about a hundred


class NpzSource:
    """Read columns of an npz file row by row; nothing is unpickled and nothing is held in full.

    Compressed members can only be read forwards. Rows are therefore cheapest in order; stepping
    back starts the member again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._streams: dict[str, IO[bytes]] = {}
        self._offsets: dict[str, int] = {}
        columns: dict[str, Column] = {}
        self.columns: Mapping[str, Column] = columns
        self.metadata: Mapping[str, Any] = {}
        self.notes: Mapping[str, Any] = {}
        self.block_rows = 1
        self.random_access = False
        with reading(path):
            self._zip = zipfile.ZipFile(path)
        try:
            with reading(path):
                names = self._zip.namelist()
                if len(names) > _MOST_MEMBERS:
                    raise DataError(f"{path} holds {len(names)} members; expected a handful.")
                for name in names:
                    if name.endswith(".npy"):
                        self._open_member(name, columns)
                if _METADATA in names:
                    self.metadata = self._read_metadata()
        except BaseException:
            self.close()
            raise

    def _open_member(self, name: str, columns: dict[str, Column]) -> None:
        key = name.removesuffix(".npy")
        if self._zip.getinfo(name).compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError(  # others may ask for memory without end
                f"'{key}' in {self._path} is compressed in a way that NumPy never uses; save it "
                "with numpy.savez_compressed."
            )
        stream = self._zip.open(name)
        self._streams[key] = stream
        version = npy.read_magic(stream)
        # The length of the header, of which NumPy reads as much as is said before it looks at it.
        size = 2 if version == (1, 0) else 4
        length = int.from_bytes(stream.read(size), "little")
        if length > MOST_HEADER:
            raise DataError(
                f"'{key}' in {self._path} has a header of {length} bytes; expected at most "
                f"{MOST_HEADER}: save it as a plain array."
            )
        stream.seek(-size, io.SEEK_CUR)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        if version not in readers:
            raise DataError(
                f"'{key}' in {self._path} has npy version {version}; expected 1.0 or 2.0."
            )
        shape, fortran, dtype = readers[version](stream)
        if dtype.hasobject:
            raise DataError(
                f"'{key}' in {self._path} holds pickled Python objects, which are never loaded; "
                "expected numbers: save it as a float32 array."
            )
        if fortran and len(shape) > 1:
            raise DataError(
                f"'{key}' in {self._path} is stored in Fortran order; expected C order: save "
                "numpy.ascontiguousarray(...) instead."
            )
        self._offsets[key] = stream.tell()
        if shape:
            columns[key] = Column(shape, dtype)

    def _read_metadata(self) -> dict[str, Any]:
        with self._zip.open(_METADATA) as stream:
            return parse_metadata(stream.read(MOST_METADATA + 1), self._path)

    def check(self, key: str) -> None:
        """Raise DataError when the header claims other than the archive holds."""
        info = self._zip.getinfo(f"{key}.npy")
        column = self.columns[key]
        claimed = math.prod(column.shape) * column.dtype.itemsize
        if self._offsets[key] + claimed != info.file_size:
            raise DataError(
                f"'{key}' in {self._path} claims the shape {column.shape} but holds "
                f"{info.file_size} bytes: it is truncated; fetch or write it again."
            )
        check_size(key, claimed, info.compress_size, self._path)

    def read(self, key: str, start: int, stop: int) -> Array:
        """Rows start to stop."""
        column = self.columns[key]
        row_bytes = math.prod(column.shape[1:]) * column.dtype.itemsize
        with reading(self._path):
            stream = self._streams[key]
            stream.seek(self._offsets[key] + start * row_bytes)
            content = stream.read((stop - start) * row_bytes)
            rows = np.frombuffer(content, dtype=column.dtype)
            return rows.reshape(stop - start, *column.shape[1:])

    def close(self) -> None:
        """Close the archive."""
        for stream in self._streams.values():
            stream.close()
        self._zip.close()


class NpzSink:
    """Write columns to an npz file in bounded memory.

    The header of a member states its length, which is known only at the end; rows wait in
    temporary files beside the target until then.
    """

    def __init__(self, path: Path, compression: str) -> None:
        self._path = path
        self._level = {"fast": 1, "small": 9, "none": None}[compression]
        self._spools: dict[str, IO[bytes]] = {}
        self._rows: dict[str, int] = {}
        self._like: dict[str, Array] = {}

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write rows at the end of every column."""
        with writing(self._path):
            for key, values in columns.items():
                if key not in self._spools:
                    # Without a name: it vanishes with the process, whatever happens.
                    spool = tempfile.TemporaryFile(dir=self._path.parent)  # noqa: SIM115
                    self._spools[key] = spool
                    self._rows[key] = 0
                    self._like[key] = values[:0]
                self._spools[key].write(np.ascontiguousarray(values).data)
                self._rows[key] += len(values)

    def close(self, metadata: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Write the archive."""
        text = dump_metadata({**metadata, "attributes": dict(attributes)})
        method = zipfile.ZIP_STORED if self._level is None else zipfile.ZIP_DEFLATED
        with (
            writing(self._path),
            zipfile.ZipFile(self._path, "w", method, compresslevel=self._level) as archive,
        ):
            for key, spool in self._spools.items():
                self._write_member(archive, key, spool)
            # Not writestr: it would record the time, and the same showers should give the same
            # file.
            with archive.open(_METADATA, "w") as member:
                member.write(text.encode())
        self.abort()

    def _write_member(self, archive: zipfile.ZipFile, key: str, spool: IO[bytes]) -> None:
        like = self._like[key]
        header = {
            "descr": npy.dtype_to_descr(like.dtype),
            "fortran_order": False,
            "shape": (self._rows[key], *like.shape[1:]),
        }
        spool.seek(0)
        with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
            npy.write_array_header_1_0(member, header)
            while piece := spool.read(_COPY):
                member.write(piece)

    def abort(self) -> None:
        """Drop the temporary files."""
        for spool in self._spools.values():
            with suppress(OSError):
                spool.close()
