"""Showers as clouds of points: the files of the library `showerdata` of the group in Hamburg.

`showers` holds for each shower its points in a row of numbers of its own length: x and y in mm,
the number of the layer, the energy in GeV, and in some files the time. Incident energies are in
GeV. The library is not needed: the files are HDF5. Source: showerdata 0.7, PyPI.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from caloforge import units
from caloforge.data.containers import Array, Column, dump_metadata, writing
from caloforge.data.layout import Format, Labels, Tail
from caloforge.detector.geometry import Geometry
from caloforge.errors import DataError

VERSION = "0.7.0"  # of the library whose files are written
DIRECTION = ("direction_x", "direction_y", "direction_z")
_POINTS = h5py.vlen_dtype(np.dtype("float32"))


class Points(Format):
    """Points, which are summed in the cells of a read-out of rectangular layers.

    The condition `energy` is the incident energy. Conditions with the names `direction_x`,
    `direction_y` and `direction_z` are the unit vector of the particle; without them a file that
    is written says (0, 0, 1).
    """

    def takes(self, key: str, dtype: np.dtype[Any]) -> bool:
        """Points are rows of numbers, each of its own length."""
        if key != "showers":
            return super().takes(key, dtype)
        inside = h5py.check_vlen_dtype(dtype)
        return inside is not None and np.dtype(inside).kind == "f"

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """One row of points a shower, and their number."""
        return {"showers": (), "num_points": ()}

    def conditions(self, geometry: Geometry) -> dict[str, Labels]:
        """The incident energy, and the direction where the read-out has it."""
        columns: dict[str, Labels] = {"energies": (("energy", units.GEV),)}
        if set(DIRECTION) <= set(geometry.condition_names):
            columns["directions"] = tuple((name, 1.0) for name in DIRECTION)
        return columns

    def candidates(self, columns: Mapping[str, Column]) -> list[Geometry]:
        """None: points do not say in which cells they are to be summed."""
        return []

    def problem(self, geometry: Geometry) -> str:
        """Only layers with axes x and y can be stored."""
        if any(layer.kind != "grid" or layer.axes != ("x", "y") for layer in geometry.layers):
            return "it holds points in x and y"
        return super().problem(geometry)

    def decode_cells(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Points (n rows) -> (n, V) MeV. Raises DataError for a layer that is not there."""
        result = np.zeros((len(columns["showers"]), geometry.n_cells), dtype=np.float32)
        for row, (numbers, count) in enumerate(
            zip(columns["showers"], columns["num_points"].ravel().tolist(), strict=True)
        ):
            if count == 0 and len(numbers) == 0:
                continue
            if count <= 0 or len(numbers) % count or len(numbers) // count not in (4, 5):
                raise DataError(
                    f"A shower has {len(numbers)} numbers for {count} points; expected x, y, "
                    "layer, energy and maybe time of each."
                )
            _add(result[row], np.asarray(numbers).reshape(count, -1), geometry)
        return result

    def encode_cells(self, energies: Array, geometry: Geometry) -> dict[str, Array]:
        """A point in the middle of every cell that has energy."""
        middles = _middles(geometry)
        rows = np.empty(len(energies), dtype=object)
        counts = np.zeros(len(energies), dtype=np.int32)
        for k, cells in enumerate(energies):
            filled = np.flatnonzero(cells)
            points = np.column_stack([middles[filled], cells[filled] / units.GEV])
            rows[k], counts[k] = points.astype(np.float32).ravel(), len(filled)
        return {"showers": rows, "num_points": counts}

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """Energies (n, 1) in GeV, directions (n, 3), and the PDG code of the read-out."""
        result = super().encode_conditions(conditions, geometry)
        along = np.tile(np.array([0.0, 0.0, 1.0]), (len(conditions), 1))
        result.setdefault("directions", along)
        result["pdg"] = np.full(len(conditions), geometry.pid or 0, dtype=np.int32)
        return result


def _add(cells: Array, points: Array, geometry: Geometry) -> None:
    """Add points (n, 4 or 5) to the cells (V,) of one shower, in MeV."""
    layers = np.rint(points[:, 2]).astype(np.int64)
    if len(layers) and not 0 <= layers.min() <= layers.max() < geometry.n_layers:
        raise DataError(
            f"A point lies in layer {layers.max()}; '{geometry.name}' has the layers 0 to "
            f"{geometry.n_layers - 1}: give the geometry that the showers were made with."
        )
    for k in np.unique(layers).tolist():
        layer, chosen = geometry.layers[k], points[layers == k]
        x, y = (np.searchsorted(e, chosen[:, i], "right") - 1 for i, e in enumerate(layer.edges))
        inside = (x >= 0) & (x < layer.shape[0]) & (y >= 0) & (y < layer.shape[1])
        number = geometry.slices[k].start + x[inside] * layer.shape[1] + y[inside]
        np.add.at(cells, number, chosen[inside, 3] * units.GEV)


def _middles(geometry: Geometry) -> Array:
    """x, y (mm) and layer number of the middle of every cell, (V, 3)."""
    parts = []
    for k, layer in enumerate(geometry.layers):
        x, y = ((np.asarray(e)[1:] + np.asarray(e)[:-1]) / 2 for e in layer.edges)
        grid = np.meshgrid(x, y, indexing="ij")
        parts.append(np.column_stack([grid[0].ravel(), grid[1].ravel(), np.full(layer.size, k)]))
    return np.concatenate(parts)


class PointsSink:
    """Writes the columns of `Points` into an HDF5 file, as the library does: rows of points have
    their own lengths, which nothing else keeps, and are not compressed.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._most = path, 0
        with writing(path):
            self._file = h5py.File(path, "w")

    def append(self, columns: Mapping[str, Array]) -> None:
        """Write rows; the first call makes the datasets."""
        with writing(self._path):
            for key, values in columns.items():
                if key not in self._file:
                    kind = _POINTS if key == "showers" else values.dtype
                    tail = values.shape[1:]
                    self._file.create_dataset(
                        key, (0, *tail), kind, maxshape=(None, *tail), chunks=(1024, *tail)
                    )
                dataset, start = self._file[key], len(self._file[key])
                dataset.resize(start + len(values), axis=0)
                if key != "showers":
                    dataset[start:] = values
                    continue
                for k, row in enumerate(values):  # h5py takes a slice of equal rows for a table
                    dataset[start + k] = row
            self._most = max(self._most, int(columns["num_points"].max(initial=0)))

    def close(self, metadata: Mapping[str, Any], attributes: Mapping[str, str]) -> None:
        """Add what the library expects, and what this package knows about the showers."""
        with writing(self._path):
            count = len(self._file["showers"])
            self._file["shower_ids"] = np.arange(count, dtype=np.int32)
            self._file["shape"] = np.array([count, self._most, 4], dtype=np.int32)
            self._file.attrs["showerdata_version"] = VERSION
            for key, value in attributes.items():
                self._file.attrs[key] = value
            for key, value in metadata.items():
                plain = isinstance(value, (str, int, float))
                self._file.attrs[key] = value if plain else dump_metadata(value)
            self._file.close()

    def abort(self) -> None:
        """Let go of the file without finishing it."""
        self._file.close()
