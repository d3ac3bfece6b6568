"""A file of showers seen from outside: named columns of equal length, in whatever container.

A container (HDF5, npz, ROOT) only knows columns; a format (`caloforge.data.formats`) only knows
arrays. Neither knows the other, so every format works in every container.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import CaloForgeError, DataError

Array = NDArray[Any]

# Deflate cannot shrink data by more than a factor of 1032: a column that claims more than this was
# never written.
MOST_COMPRESSION = 1100
# Blocks a reader has to decompress as a whole may not be larger than this, in bytes.
MOST_BLOCK = 1 << 29
# Embedded metadata beyond this many characters was not written by this package.
MOST_METADATA = 1 << 24

METADATA_KEYS = ("schema_version", "format", "geometry", "geometry_hash", "provenance")


@dataclass(frozen=True)
class Column:
    """Shape (N, ...) and type of one column."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]


class Source(Protocol):
    """A file open for reading."""

    columns: Mapping[str, Column]
    metadata: Mapping[str, Any]  # what CaloForge embedded (METADATA_KEYS), otherwise empty
    notes: Mapping[str, Any]  # other attributes of the file: strings and numbers
    block_rows: int  # rows the file is compressed in; reading multiples of it is fastest
    random_access: bool  # False where reading any rows means reading all before them

    def check(self, key: str) -> None:
        """Raise DataError when the column is not plain data of the size it claims."""

    def read(self, key: str, start: int, stop: int) -> Array:
        """Rows start to stop of a column."""

    def close(self) -> None:
        """Close the file."""


class Sink(Protocol):
    """A file open for writing."""

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write rows; the first call fixes names, shapes and types and may hold no rows."""

    def close(self, metadata: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Finish the file: everything is on disk when this returns."""

    def abort(self) -> None:
        """Let go of the file without finishing it; never raises."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever a file library says about a broken file into one DataError sentence."""
    try:
        yield
    except CaloForgeError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"There is no file {path}; check the name.") from error
    # The libraries raise a dozen unrelated types for damaged files (OSError, KeyError, zlib.error,
    # struct.error, ...); only their calls are wrapped here, so that no error of this package hides
    # behind it.
    except Exception as error:
        reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
        raise DataError(
            f"Cannot read {path}: {reason or type(error).__name__}; the file is damaged, "
            "truncated or not a file of showers: fetch or write it again."
        ) from error


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failed write (disk full, no permission) into one sentence."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        detail = getattr(error, "strerror", None) or str(error)
        full = "No space left" in str(error) or "errno = 28" in str(error)
        raise CaloForgeError(
            f"Cannot write {path}: {'the disk is full' if full else detail}. Nothing of it was "
            "left; free some space or choose another place."
        ) from error


def check_size(key: str, claimed: int, stored: int, path: Path) -> None:
    """Refuse a column that claims `claimed` bytes when only `stored` of them are in the file."""
    if claimed > MOST_COMPRESSION * stored + (1 << 20):
        raise DataError(
            f"'{key}' in {path} claims {claimed:.3g} bytes but stores {stored}; expected real "
            "data: the file was never finished, or is not what it says."
        )


def dump_metadata(metadata: Mapping[str, Any]) -> str:
    """Metadata as JSON text; raises DataError for provenance that is not strings and numbers."""
    try:
        return json.dumps(metadata, default=_plain, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The provenance cannot be stored: {error}; expected strings and finite numbers."
        ) from error


def parse_metadata(text: str | bytes, path: Path) -> dict[str, Any]:
    """Metadata from JSON text; raises DataError for text that this package did not write."""
    if len(text) > MOST_METADATA:
        raise DataError(
            f"The metadata of {path} has {len(text)} characters; expected at most {MOST_METADATA}."
        )
    with reading(path):
        content = json.loads(text)
    if not isinstance(content, dict):
        raise DataError(f"The metadata of {path} is not a JSON object; write the file again.")
    return content


def plain_note(value: Any) -> str | int | float | None:
    """An attribute as a string or a number, None for anything longer or more complicated."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.size == 1):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if isinstance(value, str):
        return value[:1000]
    return value if isinstance(value, (int, float)) else None


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Path):
        return value.name
    raise TypeError(f"{type(value).__name__} is not a string or a number")
