"""Open and read files of showers, whatever their format, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from caloforge.data.checks import check_conditions, check_units
from caloforge.data.containers import Source
from caloforge.data.formats import FORMATS, find_format
from caloforge.data.layout import same_tail
from caloforge.data.samples import resolve_data
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import embedded_geometry
from caloforge.errors import CaloForgeError, DataError
from caloforge.showers import SCHEMA_VERSION, Showers

BLOCK_BYTES = 64 << 20  # energies held at once while streaming


class ShowerFile:
    """A file of showers, open for reading; use it as a context manager (see `open_showers`).

    Attributes
    ----------
    geometry
        The read-out.
    provenance
        Who made the showers, as far as the file tells.
    format
        Name of the format that the columns follow, a key of `FORMATS`.
    """

    def __init__(self, path: Path, source: Source, geometry: Geometry | None) -> None:
        self._path = path
        self._source = source
        self._layout = find_format(source.columns, str(path)).adapt(source.columns, source.notes)
        self._ours = bool(source.metadata)
        self.geometry = self._find_geometry(geometry)
        self.provenance = self._find_provenance()
        self._count = self._check_columns()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; reading is over."""
        self._source.close()

    def __len__(self) -> int:
        return self._count

    @property
    def format(self) -> str:
        """Name of the format that the columns follow."""
        return self._layout.name

    @property
    def random_access(self) -> bool:
        """False where reading any showers means reading all before them (npz)."""
        return self._source.random_access

    def read(self, start: int = 0, stop: int | None = None) -> Showers:
        """Showers start to stop (default: all) as one object of (n, V) energies in MeV and (n, C)
        conditions.

        Raises
        ------
        DataError
            For damaged content, NaN or negative energies, rows that are not there, or energies in
            the wrong unit.
        """
        stop = len(self) if stop is None else stop
        if not 0 <= start <= stop <= len(self):
            raise DataError(
                f"Rows {start} to {stop} of {self._path} were asked for; it holds {len(self)} "
                f"showers: choose within 0 to {len(self)}."
            )
        check_memory(stop - start, self.geometry.n_cells, self._path)
        energies = np.empty((stop - start, self.geometry.n_cells), dtype=np.float32)
        cells = self._layout.cells(self.geometry)
        for first in range(start, stop, self.block_rows()):
            last = min(first + self.block_rows(), stop)
            columns = {key: self._source.read(key, first, last) for key in cells}
            # An overflow becomes infinite and is then refused by Showers with a sentence.
            with np.errstate(over="ignore", invalid="ignore"):
                energies[first - start : last - start] = self._layout.decode_cells(
                    columns, self.geometry
                )
        conditions = self._read_conditions(start, stop)
        try:
            showers = Showers(energies, conditions, self.geometry, dict(self.provenance))
        except DataError as error:
            raise DataError(f"{self._path}, counting from shower {start}: {error}") from error
        if not self._ours:  # the package's own files say their units
            check_units(showers, str(self._path))
            check_conditions(showers, str(self._path))
        return showers

    def chunks(self, size: int = 8192) -> Iterator[Showers]:
        """All showers in order, at most `size` and at most 64 MiB of energies at a time."""
        if size < 1:
            raise DataError(f"Got a chunk size of {size}; expected 1 or more.")
        step = min(size, self.block_rows())
        for start in range(0, len(self), step):
            yield self.read(start, min(start + step, len(self)))

    def conditions(self) -> NDArray[np.float64]:
        """Conditions of all showers, (N, C) in MeV, mm, rad; cells are not read."""
        return self._read_conditions(0, len(self))

    def _read_conditions(self, start: int, stop: int) -> NDArray[np.float64]:
        keys = self._layout.conditions(self.geometry)
        columns = {key: self._source.read(key, start, stop) for key in keys}
        with np.errstate(over="ignore", invalid="ignore"):
            return self._layout.decode_conditions(columns, self.geometry)

    def block_rows(self) -> int:
        """Showers whose energies fill 64 MiB, a multiple of what the file is compressed in."""
        rows = max(1, BLOCK_BYTES // (4 * self.geometry.n_cells))
        unit = self._source.block_rows
        return rows // unit * unit if rows > unit else rows

    def _find_geometry(self, given: Geometry | None) -> Geometry:
        embedded = self._embedded_geometry()
        if given is None and embedded is not None:
            return embedded
        if given is None:
            return self._guess_geometry()
        # The layout as written down: conditions that a file may lack are filled in.
        problem = FORMATS[self._layout.name].problem(given)
        if embedded is not None and (
            [layer.shape for layer in embedded.layers] != [layer.shape for layer in given.layers]
            or embedded.condition_names != given.condition_names
        ):
            problem = (
                f"it was written for '{embedded.name}' with {embedded.n_cells} cells in "
                f"{embedded.n_layers} layers"
            )
        if problem:
            raise DataError(
                f"{self._path} does not belong to the geometry '{given.name}': {problem}; give "
                "the geometry it was made with, or none."
            )
        return given

    def _guess_geometry(self) -> Geometry:
        if self._layout.name in ("caloforge", "root"):
            raise DataError(
                f"{self._path} does not say its geometry; name the geometry it was made with."
            )
        candidates = self._layout.candidates(self._source.columns)
        if not candidates:
            shapes = {
                key: column.shape
                for key, column in self._source.columns.items()
                if key not in self._layout.labels
            }
            listed = ", ".join(f"'{k}' {s}" for k, s in list(shapes.items())[:6])
            raise DataError(
                f"{self._path} holds {listed}, which no shipped {self._layout.name} geometry has; "
                "name the geometry it was made with."
            )
        return candidates[0]

    def _embedded_geometry(self) -> Geometry | None:
        metadata = self._source.metadata
        if not metadata:
            return None
        version = metadata.get("schema_version")
        if not isinstance(version, int) or version > SCHEMA_VERSION:
            raise DataError(
                f"{self._path} has the schema version {version}; expected at most "
                f"{SCHEMA_VERSION}: update CaloForge."
            )
        if not isinstance(metadata.get("geometry"), dict):
            raise DataError(f"{self._path} names a geometry but does not hold it; write it again.")
        try:
            geometry = embedded_geometry(metadata["geometry"], metadata.get("geometry_hash"))
        except CaloForgeError as error:
            raise DataError(f"The geometry in {self._path} cannot be used: {error}") from error
        problem = self._layout.problem(geometry)
        if problem:
            raise DataError(f"{self._path} and the geometry inside do not fit: {problem}.")
        return geometry

    def _find_provenance(self) -> dict[str, Any]:
        embedded = self._source.metadata.get("provenance", {})
        written = FORMATS[self._layout.name].attributes
        provenance = dict(embedded) if isinstance(embedded, dict) else {}
        if not self._ours:
            provenance = {k: v for k, v in self._source.notes.items() if k not in written}
        if self._layout.remark:
            provenance["note"] = self._layout.remark
        return provenance

    def _check_columns(self) -> int:
        layout, geometry = self._layout, self.geometry
        expected = {**layout.condition_tails(geometry), **layout.cells(geometry)}
        count: int | None = None
        for key, tail in expected.items():
            column = self._source.columns.get(key)
            if column is None:
                raise DataError(
                    f"{self._path} has no column '{key}'; expected it in the {layout.name} format "
                    f"of '{geometry.name}'."
                )
            if not layout.takes(key, column.dtype):
                raise DataError(
                    f"'{key}' in {self._path} has the type {column.dtype}; expected numbers: save "
                    "it as float32."
                )
            count = column.shape[0] if count is None else count
            if not same_tail(column.shape[1:], tail) or column.shape[0] != count:
                raise DataError(
                    f"'{key}' in {self._path} has the shape {column.shape}; expected "
                    f"{(count, *tail)} for '{geometry.name}': check the geometry, or write the "
                    "file again."
                )
            self._source.check(key)
        return int(count or 0)


def open_showers(path: str | Path, geometry: Geometry | None = None) -> ShowerFile:
    """Open a file of showers for reading.

    The container (HDF5, npz, ROOT, npy, Parquet) is found from its first bytes, CSV and TSV from
    the name, and the format from the columns.

    Parameters
    ----------
    path
        The file, or the name of a shipped sample.
    geometry
        Read-out of the showers; by default the one embedded in the file, or else the shipped one
        whose cells have the shapes of the file's columns.

    Raises
    ------
    DataError
        When the file is missing, damaged, of no known format, or does not fit the geometry.
    """
    path = resolve_data(path)
    source = _open_source(path)
    try:
        return ShowerFile(path, source, geometry)
    except BaseException:
        source.close()
        raise


def read_showers(
    path: str | Path, geometry: Geometry | None = None, rows: slice | None = None
) -> Showers:
    """Read showers into memory: all of them, or the rows of a slice with a step of 1."""
    with open_showers(path, geometry) as file:
        start, stop = row_range(rows, len(file))
        return file.read(start, stop)


def _open_source(path: Path) -> Source:
    if path.is_dir():
        raise DataError(f"{path} is a folder; expected a file of showers.")
    if path.exists() and not path.is_file():  # a pipe would be waited for without end
        raise DataError(f"{path} is a pipe or a device; expected a file of showers.")
    try:
        with path.open("rb") as stream:
            head = stream.read(8)
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}; check the name.") from error
    except OSError as error:
        raise DataError(f"Cannot read {path}: {error.strerror}.") from error
    if head[:4] == b"PK\x03\x04":
        from caloforge.data.npz import NpzSource

        return NpzSource(path)
    if head[:4] == b"root":
        from caloforge.data.root import RootSource

        return RootSource(path)
    if head == b"\x89HDF\r\n\x1a\n":
        from caloforge.data.hdf5 import Hdf5Source

        return Hdf5Source(path)
    kind = "parquet" if head[:4] == b"PAR1" else "npy" if head[:6] == b"\x93NUMPY" else ""
    if kind or path.suffix.lower() in (".csv", ".tsv"):
        from caloforge.data.tables import TableSource

        return TableSource(path, kind or "text")
    raise DataError(
        f"{path} is neither HDF5 nor npz nor ROOT nor a table (it starts with {head!r}); expected "
        "a file of showers: check that it was fetched completely."
    )


def check_memory(showers: int, cells: int, path: Path) -> None:
    """Refuse to hold more showers than the memory of the machine; compressed files may claim
    a thousand times what they store.

    Raises
    ------
    DataError
        When float32 energies of `showers` times `cells` take more than the physical memory.
    """
    needed = 4 * showers * cells
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise DataError(
            f"{showers} showers of {path} take {needed / 1e9:.3g} GB of memory; this machine has "
            f"{there / 1e9:.3g} GB: read them in pieces."
        )


def row_range(rows: slice | None, count: int) -> tuple[int, int]:
    """First and last row of a slice of `count` rows; raises DataError for steps other than 1."""
    if rows is None:
        return 0, count
    if rows.step not in (None, 1):
        raise DataError(f"Got rows with a step of {rows.step}; expected a step of 1.")
    start, stop, _ = rows.indices(count)
    return start, max(start, stop)
