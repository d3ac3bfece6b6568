"""Read the HDF5 container: columns are root-level datasets, metadata are root attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloforge.data.containers import (
    METADATA_KEYS,
    MOST_BLOCK,
    MOST_METADATA,
    Array,
    Column,
    check_size,
    parse_metadata,
    plain_note,
    reading,
)
from caloforge.data.guard import examine
from caloforge.errors import DataError

# Bytes of decompressed chunks that are kept: a chunk that is read in two halves is then
# decompressed once.
_CACHE = 32 << 20
_MOST_MEMBERS = 1000


class Hdf5Source:
    """Read columns of an HDF5 file row by row.

    Only plain datasets in the root group count. Links that lead out of the file (external links,
    external raw data, virtual datasets) and soft links are refused: a file from elsewhere must not
    make the program read another one.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        examine(path)
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
                attributes = {str(k): self._attribute(k) for k in self._file.attrs}
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
                    "file itself: copy the data (h5repack, h5copy) first."
                )
            if self._file.get(key, getclass=True) is h5py.Dataset:
                datasets[key] = self._file[key]
        return {key: d for key, d in datasets.items() if d.shape}

    def _attribute(self, key: str) -> Any:
        """An attribute of the file, unless it is larger than any that this package writes."""
        size = self._file.attrs.get_id(key).get_storage_size()
        if size > MOST_METADATA:
            raise DataError(
                f"The attribute '{key}' of {self._path} has {size} bytes; expected at most "
                f"{MOST_METADATA}."
            )
        return self._file.attrs[key]

    def _parse(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        if "geometry_hash" not in attributes:
            return {}
        metadata = {
            key: plain_or_text(attributes[key]) for key in METADATA_KEYS if key in attributes
        }
        for key in ("geometry", "provenance"):
            if key in metadata:
                metadata[key] = parse_metadata(str(metadata[key]), self._path)
        return metadata

    def check(self, key: str) -> None:
        """Raise DataError when the dataset lies elsewhere or claims more than it stores."""
        dataset = self._datasets[key]
        with reading(self._path):
            if dataset.is_virtual or dataset.external:
                raise DataError(
                    f"'{key}' in {self._path} keeps its data in another file; expected data in "
                    "the file itself: copy the data (h5repack) first."
                )
            stored = dataset.id.get_storage_size()
            claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
            block = math.prod(dataset.chunks or (0,)) * dataset.dtype.itemsize
            if stored > self._path.stat().st_size:
                raise DataError(
                    f"'{key}' in {self._path} claims {stored} bytes, more than the file has: it "
                    "is truncated; fetch or write it again."
                )
            if dataset.chunks and stored > 0:
                pairs = zip(dataset.shape, dataset.chunks, strict=True)
                expected = math.prod(-(-size // step) for size, step in pairs)
                written = dataset.id.get_num_chunks()
                if written < expected:
                    raise DataError(
                        f"'{key}' in {self._path} has {written} of its {expected} blocks; the "
                        "others were never written and would be read as zeros: write it again."
                    )
        check_size(key, claimed, stored, self._path)
        if block > MOST_BLOCK:
            raise DataError(
                f"'{key}' in {self._path} is stored in chunks of {block:.3g} bytes; expected at "
                f"most {MOST_BLOCK}: rewrite it with smaller chunks (h5repack)."
            )

    def read(self, key: str, start: int, stop: int) -> Array:
        """Rows start to stop."""
        with reading(self._path):
            return np.asarray(self._datasets[key][start:stop])

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def plain_or_text(value: Any) -> Any:
    """An attribute that this package wrote: text in full, numbers as Python numbers."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, str) else plain_note(value)
