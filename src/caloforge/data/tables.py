"""Tables with named columns as files of showers: CSV, TSV, Parquet, and structured .npy arrays.

A table has a row for each shower. Columns called `cell_0`, `cell_1`, ... (or `voxel_0`, or the
number alone) are the cells in the order of the geometry, in MeV; every other column has the name
of a condition and its unit. Columns that are no condition are left alone.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.containers import Array, Column, reading
from caloforge.errors import DataError

_CELL = re.compile(r"(?:cell|voxel)?[_ ]?(\d+)", re.IGNORECASE)
TEXT = {".csv": ",", ".tsv": "\t"}


class TableSource:
    """A table, held in memory as the columns `cells` (N, V) and one for each other name."""

    def __init__(self, path: Path, kind: str) -> None:
        with reading(path):
            named = {"text": _read_text, "parquet": _read_parquet, "npy": _read_npy}[kind](path)
        numbers = {key: match for key in named if (match := _CELL.fullmatch(key))}
        cells = sorted(numbers, key=lambda key: int(numbers[key].group(1)))
        found = [int(numbers[key].group(1)) for key in cells]
        if not cells or found != list(range(found[0], found[0] + len(found))) or found[0] > 1:
            raise DataError(
                f"The table {path} has the columns {', '.join(list(named)[:6])}, ...; expected "
                "cell_0, cell_1, ... without a gap, and a column for each condition."
            )
        with reading(path):
            self._columns = {"cells": np.stack([named[key] for key in cells], axis=1)}
        self._columns |= {key: values for key, values in named.items() if key not in numbers}
        self.columns: Mapping[str, Column] = {
            key: Column(values.shape, values.dtype) for key, values in self._columns.items()
        }
        self.metadata: Mapping[str, Any] = {}
        self.notes: Mapping[str, Any] = {}
        self.block_rows = 1
        self.random_access = True

    def check(self, key: str) -> None:
        """Nothing can be wrong: the columns are in memory."""

    def read(self, key: str, start: int, stop: int) -> Array:
        """Rows start to stop of a column."""
        return self._columns[key][start:stop]

    def close(self) -> None:
        """Forget the table."""
        self._columns = {}


def _read_text(path: Path) -> dict[str, Array]:
    delimiter = TEXT.get(path.suffix.lower(), ",")
    with path.open(encoding="utf-8-sig", newline="") as file:
        names = [
            name.strip().lstrip("#").strip()
            for name in next(csv.reader([file.readline()], delimiter=delimiter))
        ]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise DataError(f"The table {path} has the column '{twice}' twice; expected it once.")
        begin = file.tell()
        if not file.read(1):
            raise DataError(f"The table {path} has names and no rows; expected one a shower.")
        file.seek(begin)
        rows = np.loadtxt(file, delimiter=delimiter, ndmin=2)
    if rows.shape[1] != len(names):
        raise DataError(
            f"The table {path} has {len(names)} names above {rows.shape[1]} columns; expected a "
            "name for each column in the first line."
        )
    return dict(zip(names, rows.T, strict=True))


def _read_npy(path: Path) -> dict[str, Array]:
    array = np.load(path, allow_pickle=False, mmap_mode="r")
    if array.dtype.names is None:
        raise DataError(
            f"{path} holds an array {array.shape} without names, so nothing tells the conditions; "
            "expected a structured array with named columns, or an .npz with `cells` (N, V) and "
            "an array for each condition."
        )
    named: dict[str, Array] = {}
    for key in array.dtype.names:
        values = np.asarray(array[key])
        if values.ndim == 2 and key in ("cells", "showers", "energies"):
            named |= {f"cell_{k}": column for k, column in enumerate(values.T)}
        else:
            named[key] = values
    return named


def _read_parquet(path: Path) -> dict[str, Array]:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise DataError(
            f"{path} is a Parquet file, which needs pyarrow; install it with `pip install "
            "'caloforge[tables]'`."
        ) from error
    table = parquet.read_table(path)
    return {name: np.asarray(table[name].to_numpy()) for name in table.column_names}
