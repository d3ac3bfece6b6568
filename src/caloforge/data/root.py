"""ROOT container: a TTree `showers` with one branch for each column, and the metadata in a
TObjString `caloforge`. It needs uproot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.containers import (
    Array,
    Column,
    check_size,
    dump_metadata,
    parse_metadata,
    reading,
    writing,
)
from caloforge.errors import CaloForgeError, DataError

TREE = "showers"
_METADATA = "caloforge"
_MORE = 10


def _uproot() -> Any:
    try:
        import uproot
    except ImportError as error:
        raise CaloForgeError(
            "ROOT files need the package uproot, which is not installed: pip install "
            "'caloforge[root]'."
        ) from error
    return uproot


class RootSource:
    """Read columns of the TTree `showers`."""

    def __init__(self, path: Path) -> None:
        uproot = _uproot()
        self._path = path
        self.notes: Mapping[str, Any] = {}
        self.metadata: Mapping[str, Any] = {}
        with reading(path):
            self._file = uproot.open(path)
        try:
            with reading(path):
                names = self._file.keys(cycle=False)
                if TREE not in names:
                    there = ", ".join(names[:6])[:200] or "nothing"
                    raise DataError(f"{path} holds {there}; expected a TTree '{TREE}'.")
                self._tree = self._file[TREE]
                self.columns: Mapping[str, Column] = self._find_columns()
                text = str(self._file[_METADATA]) if _METADATA in names else ""
            if text:
                self.metadata = parse_metadata(text, path)
            self.block_rows = 1
            self.random_access = True
        except BaseException:
            self.close()
            raise

    def _find_columns(self) -> dict[str, Column]:
        columns = {}
        for name, branch in self._tree.items():
            dtype = getattr(branch.interpretation, "to_dtype", None)
            # A plain number or an array of fixed size has a type; anything else is no column.
            if dtype is not None:
                shape = (int(branch.num_entries), *(int(n) for n in dtype.shape))
                columns[name] = Column(shape, np.dtype(dtype.base))
        return columns

    def check(self, key: str) -> None:
        """Raise DataError when the branch claims more than the file holds."""
        column = self.columns[key]
        with reading(self._path):
            branch = self._tree[key]
            claimed = max(
                math.prod(column.shape) * column.dtype.itemsize, int(branch.uncompressed_bytes)
            )
            stored = int(branch.compressed_bytes)
            if stored > self._path.stat().st_size or min(column.shape, default=0) < 0:
                raise DataError(
                    f"'{key}' in {self._path} claims {stored} bytes, more than the file has: it "
                    "is truncated; fetch or write it again."
                )
        # ROOT also knows LZMA and Zstandard, which shrink long runs of zeros more than deflate.
        check_size(key, claimed, _MORE * stored, self._path)

    def read(self, key: str, start: int, stop: int) -> Array:
        """Rows start to stop."""
        if stop <= start:
            column = self.columns[key]
            return np.zeros((0, *column.shape[1:]), dtype=column.dtype)
        with reading(self._path):
            branch = self._tree[key]
            rows = np.asarray(branch.array(entry_start=start, entry_stop=stop, library="np"))
        if rows.shape != (stop - start, *self.columns[key].shape[1:]):
            raise DataError(
                f"'{key}' in {self._path} gives {len(rows)} of the rows {start} to {stop}; "
                "expected all: the file is damaged, fetch or write it again."
            )
        return rows

    def close(self) -> None:
        """Close the file."""
        with suppress(Exception):
            self._file.close()


class RootSink:
    """Write columns to the TTree `showers`."""

    def __init__(self, path: Path, compression: str) -> None:
        uproot = _uproot()
        self._path = path
        levels = {"fast": 1, "small": 9}
        chosen = uproot.ZLIB(levels[compression]) if compression in levels else None
        with writing(path):
            self._file = uproot.recreate(path, compression=chosen)
        self._tree: Any = None

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write rows at the end of every branch."""
        with writing(self._path):
            if self._tree is None:
                types = {k: np.dtype((v.dtype, v.shape[1:])) for k, v in columns.items()}
                self._tree = self._file.mktree(TREE, types)
            if len(next(iter(columns.values()))):
                self._tree.extend(dict(columns))

    def close(self, metadata: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Write the metadata and close."""
        text = dump_metadata({**metadata, "attributes": dict(attributes)})
        with writing(self._path):
            self._file[_METADATA] = text
            self._file.close()

    def abort(self) -> None:
        """Close whatever is open."""
        with suppress(Exception):
            self._file.close()
