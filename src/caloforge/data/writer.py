"""Write and convert files of showers, whatever their format, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np

from caloforge.data.containers import Array, Sink
from caloforge.data.formats import Format, get_format
from caloforge.data.reader import open_showers, row_range
from caloforge.errors import DataError
from caloforge.files import atomic_path
from caloforge.geometry import Geometry
from caloforge.showers import SCHEMA_VERSION, Showers

Compression = Literal["fast", "small", "none"]


class ShowerWriter:
    """A file of showers being written; made by `create_showers`."""

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        provenance: dict[str, Any] | None,
        layout: Format,
        sink: Sink,
    ) -> None:
        self.geometry = geometry
        self.provenance = provenance
        self._path = path
        self._layout = layout
        self._sink = sink
        self._count = 0
        self._sink.append(self._encode(_no_showers(geometry)))  # a file without showers is valid

    def __len__(self) -> int:
        """Showers written so far."""
        return self._count

    def append(self, showers: Showers) -> None:
        """Write showers at the end.

        Raises
        ------
        DataError
            When they have another geometry.
        CaloForgeError
            When the disk is full.
        """
        if showers.geometry.hash != self.geometry.hash:
            raise DataError(
                f"Cannot add showers of '{showers.geometry.name}' to {self._path}, which is for "
                f"'{self.geometry.name}'; write them to a file of their own."
            )
        if self.provenance is None:
            self.provenance = dict(showers.provenance)
        self._sink.append(self._encode(showers))
        self._count += len(showers)

    def _encode(self, showers: Showers) -> dict[str, Array]:
        return {
            **self._layout.encode_conditions(showers.conditions, self.geometry),
            **self._layout.encode_cells(showers.energies, self.geometry),
        }

    def finish(self) -> None:
        """Write geometry and provenance and close; `create_showers` does this at the end."""
        metadata = {
            "schema_version": SCHEMA_VERSION,
            "format": self._layout.name,
            "geometry": self.geometry.to_dict(),
            "geometry_hash": self.geometry.hash,
            "provenance": self.provenance or {},
        }
        self._sink.close(metadata, self._layout.attributes)


@contextmanager
def create_showers(
    path: str | Path,
    geometry: Geometry,
    *,
    provenance: dict[str, Any] | None = None,
    format: str | None = None,
    compression: Compression = "fast",
) -> Iterator[ShowerWriter]:
    """Write a file of showers piece by piece: `with create_showers(...) as writer`.

    The file appears under its name when the block ends; after any exception (Ctrl-C too) nothing
    is left of it.

    Parameters
    ----------
    path
        Target; `.npz` gives an npz file, `.root` a ROOT file with a TTree `showers`, anything else
        HDF5.
    geometry
        Read-out of the showers.
    provenance
        Who made them: strings and numbers; by default that of the first showers appended.
    format
        Key of `FORMATS`; by default the field's own format for this geometry.
    compression
        "fast" (gzip 1), "small" (gzip 9) or "none".

    Raises
    ------
    DataError
        When the format cannot hold the geometry.
    CaloForgeError
        When the disk is full or the folder cannot be written.
    """
    path = Path(path)
    if compression not in ("fast", "small", "none"):
        raise DataError(f"Got the compression '{compression}'; expected fast, small or none.")
    default = "root" if path.suffix == ".root" else geometry.format
    layout = get_format(default if format is None else format)
    problem = layout.problem(geometry)
    if problem:
        raise DataError(
            f"The format '{layout.name}' cannot hold '{geometry.name}': {problem}; use "
            "format='caloforge'."
        )
    with atomic_path(path) as temporary:
        sink = _open_sink(temporary, path.suffix, compression)
        try:
            writer = ShowerWriter(path, geometry, provenance, layout, sink)
            yield writer
            writer.finish()
        finally:
            sink.abort()


def convert(
    source: str | Path,
    target: str | Path,
    *,
    geometry: Geometry | None = None,
    format: str | None = None,
    rows: slice | None = None,
) -> int:
    """Copy showers into another file and format, in bounded memory. Returns how many."""
    with open_showers(source, geometry) as file:
        start, stop = row_range(rows, len(file))
        provenance = {**file.provenance, "converted_from": Path(source).name}
        step = min(8192, file.block_rows())
        with create_showers(target, file.geometry, provenance=provenance, format=format) as writer:
            for first in range(start, stop, step):
                writer.append(file.read(first, min(first + step, stop)))
            return len(writer)


def _open_sink(path: Path, suffix: str, compression: Compression) -> Sink:
    if suffix == ".npz":
        from caloforge.data.npz import NpzSink

        return NpzSink(path, compression)
    if suffix == ".root":
        from caloforge.data.root import RootSink

        return RootSink(path, compression)
    from caloforge.data.hdf5 import Hdf5Sink

    return Hdf5Sink(path, compression)


def _no_showers(geometry: Geometry) -> Showers:
    return Showers(
        np.zeros((0, geometry.n_cells), dtype=np.float32),
        np.zeros((0, len(geometry.conditions))),
        geometry,
    )
