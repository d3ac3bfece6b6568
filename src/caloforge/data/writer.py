"""Write and convert files of showers, whatever their format, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np

from caloforge.data.containers import Array, Sink
from caloforge.data.formats import get_format
from caloforge.data.guard import trust
from caloforge.data.layout import Format
from caloforge.data.reader import open_showers, row_range
from caloforge.data.samples import resolve_data
from caloforge.detector.geometry import Geometry
from caloforge.errors import DataError
from caloforge.executors import in_order
from caloforge.files import atomic_path, check_target
from caloforge.showers import SCHEMA_VERSION, Showers

if TYPE_CHECKING:
    from caloforge.data.hdf5_sink import Packed

Compression = Literal["fast", "small", "none"]
# Endings of a file that is written; all but the last two are HDF5.
ENDINGS = ("", ".hdf5", ".h5", ".hdf", ".npz", ".root")
BLOCK = 8192  # showers converted at a time, unless they fill too much memory


@dataclass(frozen=True)
class Part:
    """Showers as a file stores them: `count` rows of plain or of compressed columns."""

    geometry_hash: str
    geometry_name: str
    provenance: dict[str, Any]
    count: int
    plain: dict[str, Array]
    packed: dict[str, Packed]


@dataclass(frozen=True)
class Packer:
    """Makes parts of a file that another process writes; see `ShowerWriter.packer`.

    Parameters
    ----------
    format
        Key of `FORMATS`.
    compression
        How the chunks of an HDF5 file are compressed; None for other files, which compress while
        they are written.
    """

    format: str
    compression: Compression | None

    def __call__(self, showers: Showers) -> Part:
        """Encode showers and compress them."""
        geometry, count = showers.geometry, len(showers)
        columns = _encode(get_format(self.format), showers)
        origin = (geometry.hash, geometry.name, dict(showers.provenance), count)
        if self.compression is None:
            return Part(*origin, columns, {})
        from caloforge.data.hdf5_sink import Packed

        compression = self.compression
        packed = {key: Packed.pack(values, compression) for key, values in columns.items()}
        return Part(*origin, {}, packed)


class ShowerWriter:
    """A file of showers being written; made by `create_showers`.

    Attributes
    ----------
    packer
        Encodes and compresses showers for `append_part`. It can be sent to other processes, and
        takes the greater part of the work of writing there.
    """

    def __init__(
        self,
        path: Path,
        geometry: Geometry,
        provenance: dict[str, Any] | None,
        layout: Format,
        sink: Sink,
        packer: Packer,
    ) -> None:
        self.geometry = geometry
        self.provenance = provenance
        self.packer = packer
        self._path = path
        self._layout = layout
        self._sink = sink
        self._count = 0
        # A file without showers is valid.
        self._sink.append(_encode(layout, _no_showers(geometry)))

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
        self._check(showers.geometry.hash, showers.geometry.name)
        if self.provenance is None:
            self.provenance = dict(showers.provenance)
        self._sink.append(_encode(self._layout, showers))
        self._count += len(showers)

    def append_part(self, part: Part) -> None:
        """Write a part that `packer` made, at the end; raises as `append` does."""
        self._check(part.geometry_hash, part.geometry_name)
        if self.provenance is None:
            self.provenance = part.provenance
        if part.packed:
            from caloforge.data.hdf5_sink import Hdf5Sink

            cast(Hdf5Sink, self._sink).append_packed(part.packed)
        else:
            self._sink.append(part.plain)
        self._count += part.count

    def _check(self, geometry_hash: str, name: str) -> None:
        if geometry_hash != self.geometry.hash:
            raise DataError(
                f"Cannot add showers of '{name}' to {self._path}, which is for "
                f"'{self.geometry.name}'; write them to a file of their own."
            )

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
    threads: int | None = None,
) -> Iterator[ShowerWriter]:
    """Write a file of showers piece by piece: `with create_showers(...) as writer`.

    The file appears under its name when the block ends; after any exception (Ctrl-C too) nothing
    is left of it.

    Parameters
    ----------
    path
        Target; `.npz` gives an npz file, `.root` a ROOT file with a TTree `showers`; `.hdf5`,
        `.h5`, `.hdf` and no ending give HDF5.
    geometry
        Read-out of the showers.
    provenance
        Who made the showers, as strings and numbers; by default what the first showers that are
        appended say.
    format
        Key of `FORMATS`; by default the format in which the field keeps this geometry.
    compression
        "fast" (gzip 1), "small" (gzip 9) or "none".
    threads
        Number of threads that compress the chunks of an HDF5 file, by default one for each core.
        The file is the same for any number.

    Raises
    ------
    DataError
        When the format cannot hold the geometry, or the ending says another format.
    CaloForgeError
        When the disk is full or the folder cannot be written.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in ENDINGS:
        raise DataError(
            f"Got {path} for showers, whose ending {path.suffix} says another format; expected "
            f"one of {', '.join(ENDINGS[1:])}."
        )
    if compression not in ("fast", "small", "none"):
        raise DataError(f"Got the compression '{compression}'; expected fast, small or none.")
    default = "root" if suffix == ".root" else geometry.format
    layout = get_format(default if format is None else format)
    problem = layout.problem(geometry)
    if problem:
        raise DataError(
            f"The format '{layout.name}' cannot hold '{geometry.name}': {problem}; use "
            "format='caloforge'."
        )
    hdf5 = suffix not in (".npz", ".root")
    if layout.own_sink is not None and not hdf5:
        raise DataError(
            f"Got {path} for the format '{layout.name}', which is HDF5; expected a name that ends "
            "in .h5 or .hdf5."
        )
    with atomic_path(path) as temporary:
        if layout.own_sink is not None:
            sink, packing = layout.own_sink(temporary), None
        else:
            sink = _open_sink(temporary, suffix, compression, threads)
            packing = compression if hdf5 else None
        try:
            packer = Packer(layout.name, packing)
            writer = ShowerWriter(path, geometry, provenance, layout, sink, packer)
            yield writer
            writer.finish()
        finally:
            sink.abort()
    if hdf5:
        trust(path)


@dataclass(frozen=True)
class _Piece:
    """Rows start..stop-1 of a file, to be converted."""

    path: str
    geometry: Geometry | None
    start: int
    stop: int
    packer: Packer


def convert(
    source: str | Path | Sequence[str | Path],
    target: str | Path,
    *,
    geometry: Geometry | None = None,
    format: str | None = None,
    rows: slice | None = None,
    executor: Executor | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> int:
    """Copy showers into another file and format, in bounded memory. Returns how many.

    Parameters
    ----------
    source
        A file or a shipped sample, or several of one read-out, which are joined in their order.
    target
        See `create_showers`.
    geometry
        Read-out of the sources; by default what `open_showers` finds.
    format
        Key of `FORMATS` in which the target is written, see `create_showers`.
    rows
        Which showers of each source are taken: a slice with a step of 1, by default all.
    executor
        Its workers read, encode and compress pieces of the sources. An npz file can only be read
        from its beginning, which this process does.
    progress
        Function that is called with the number of showers done since its last call, and the number
        of all showers to do.

    Raises
    ------
    DataError
        For a source that cannot be read, sources of different read-outs, or none.
    """
    given = [source] if isinstance(source, (str, Path)) else list(source)
    if not given:
        raise DataError("Got no file to convert; expected at least one.")
    sources = [resolve_data(path) for path in given]
    check_target(target, sources)
    total, said = 0, []
    for path in sources:
        with open_showers(path, geometry) as file:
            start, stop = row_range(rows, len(file))
            total += stop - start
            said.append((Path(path).name, file.geometry, dict(file.provenance)))
    read_out = said[0][1]
    provenance = _joint_provenance([(name, own) for name, _, own in said])
    with create_showers(target, read_out, provenance=provenance, format=format) as writer:
        for path in sources:
            with open_showers(path, geometry) as file:
                start, stop = row_range(rows, len(file))
                # A power of two, as the chunks of the file written: each block begins one.
                step = 1 << (min(BLOCK, file.block_rows()).bit_length() - 1)
                pieces = (
                    _Piece(
                        str(Path(path).absolute()), geometry, k, min(k + step, stop), writer.packer
                    )
                    for k in range(start, stop, step)
                )
                if executor is not None and file.random_access:
                    for part in in_order(executor, _convert_piece, pieces):
                        writer.append_part(part)
                        progress(part.count, total)
                    continue
                for piece in pieces:
                    writer.append(file.read(piece.start, piece.stop))
                    progress(piece.stop - piece.start, total)
        return len(writer)


def _joint_provenance(said: Sequence[tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    """What all files, given by name and provenance, say alike; what they say differently stands
    under `sources`, for each.
    """
    first = said[0][1]
    alike = {k: v for k, v in first.items() if all(k in s and s[k] == v for _, s in said)}
    joint = {**alike, "converted_from": ", ".join(name for name, _ in said)}
    if any(own != alike for _, own in said):
        joint["sources"] = [
            {"file": name, **{k: v for k, v in own.items() if k not in alike}}
            for name, own in said
        ]
    return joint


def _convert_piece(piece: _Piece) -> Part:
    with open_showers(piece.path, piece.geometry) as file:
        return piece.packer(file.read(piece.start, piece.stop))


def _open_sink(path: Path, suffix: str, compression: Compression, threads: int | None) -> Sink:
    if suffix == ".npz":
        from caloforge.data.npz import NpzSink

        return NpzSink(path, compression)
    if suffix == ".root":
        from caloforge.data.root import RootSink

        return RootSink(path, compression)
    from caloforge.data.hdf5_sink import Hdf5Sink

    return Hdf5Sink(path, compression, threads)


def _encode(layout: Format, showers: Showers) -> dict[str, Array]:
    return {
        **layout.encode_conditions(showers.conditions, showers.geometry),
        **layout.encode_cells(showers.energies, showers.geometry),
    }


def _no_showers(geometry: Geometry) -> Showers:
    return Showers(
        np.zeros((0, geometry.n_cells), dtype=np.float32),
        np.zeros((0, len(geometry.conditions))),
        geometry,
    )
