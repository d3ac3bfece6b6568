"""What a format is: which columns a file has, and how they become cells in MeV and conditions.

The formats themselves are in `caloforge.data.formats` and `caloforge.data.points`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.containers import Array, Column, Sink
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import geometry_names, load_geometry

Tail = tuple[int, ...]
# Condition columns of a key: (condition name, factor to MeV, mm or rad). A single one is stored as
# (N, 1).
Labels = tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Format:
    """One layout of columns.

    Parameters
    ----------
    name
        Key of the format in FORMATS.
    needs
        Columns that a file must have. Among the formats whose columns are all there, the one that
        needs most is taken.
    labels
        Columns in which the conditions are kept: for each, the names of the conditions with the
        factor that turns them into the package's units.
    optional
        Condition columns that older files lack; those conditions are then 0.
    attributes
        Notes that are written into every file, for other programs that read it.
    fixed
        Columns that hold the PDG code of the particle, for other programs that expect them.
    remark
        What had to be assumed about a file; it is recorded in the provenance.
    own_sink
        What writes files of this format, where no container that all formats share can hold its
        columns; such files are HDF5.
    """

    name: str
    needs: tuple[str, ...]
    labels: Mapping[str, Labels] = field(default_factory=dict)
    optional: tuple[str, ...] = ()
    attributes: Mapping[str, str] = field(default_factory=dict)
    fixed: tuple[str, ...] = ()
    remark: str = ""
    own_sink: Callable[[Path], Sink] | None = None

    def adapt(self, columns: Mapping[str, Column], notes: Mapping[str, Any]) -> Format:
        """The variant of this format that the file follows."""
        missing = tuple(k for k in self.optional if k not in columns)
        if not missing:
            return self
        return replace(
            self,
            labels={k: v for k, v in self.labels.items() if k not in missing},
            remark=f"the file has no {', '.join(missing)}: these conditions are 0",
        )

    def cells(self, geometry: Geometry) -> dict[str, Tail]:
        """Cell columns in order with their shape after N."""
        return {"showers": (geometry.n_cells,)}

    def takes(self, key: str, dtype: np.dtype[Any]) -> bool:
        """Whether a column may have a type: numbers, unless a format says otherwise."""
        return dtype.kind in "fiu"

    def conditions(self, geometry: Geometry) -> dict[str, Labels]:
        """Condition columns in order."""
        return dict(self.labels)

    def condition_tails(self, geometry: Geometry) -> dict[str, Tail]:
        """Condition columns with their shape after N."""
        return {key: (len(labels),) for key, labels in self.conditions(geometry).items()}

    def candidates(self, columns: Mapping[str, Column]) -> list[Geometry]:
        """Shipped geometries this file could have, judged by its shapes."""
        shipped = [g for g in map(load_geometry, geometry_names()) if g.format == self.name]
        return [g for g in shipped if self._fits(g, columns)]

    def _fits(self, geometry: Geometry, columns: Mapping[str, Column]) -> bool:
        cells = self.cells(geometry)
        return all(k in columns and same_tail(columns[k].shape[1:], t) for k, t in cells.items())

    def problem(self, geometry: Geometry) -> str:
        """Why a geometry cannot be stored in this format, empty when it can."""
        names = {name for labels in self.conditions(geometry).values() for name, _ in labels}
        if names != set(geometry.condition_names):
            return f"it holds the conditions {', '.join(sorted(names))}"
        return ""

    def decode_cells(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Cell columns -> (n, V) MeV."""
        parts = [flat(columns[k]) for k in self.cells(geometry)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def encode_cells(self, energies: Array, geometry: Geometry) -> dict[str, Array]:
        """(n, V) MeV -> cell columns."""
        cells = self.cells(geometry)
        ends = np.cumsum([math.prod(tail) for tail in cells.values()]).tolist()
        pieces = np.split(energies, ends[:-1], axis=1)
        return {k: p.reshape(len(p), *t) for (k, t), p in zip(cells.items(), pieces, strict=True)}

    def decode_conditions(self, columns: Mapping[str, Array], geometry: Geometry) -> Array:
        """Condition columns -> (n, C) MeV, mm, rad."""
        keys = self.conditions(geometry)
        count = len(columns[next(iter(keys))]) if keys else 0
        result = np.zeros((count, len(geometry.conditions)))
        for key, labels in keys.items():
            values = flat(np.asarray(columns[key], dtype=np.float64))
            for position, (name, factor) in enumerate(labels):
                result[:, geometry.column(name)] = values[:, position] * factor
        return result

    def encode_conditions(self, conditions: Array, geometry: Geometry) -> dict[str, Array]:
        """(n, C) -> condition columns, float64 so that nothing is lost."""
        result = {}
        for key, labels in self.conditions(geometry).items():
            values = [conditions[:, geometry.column(name)] / factor for name, factor in labels]
            result[key] = np.stack(values, axis=1)
        for key in self.fixed:
            result[key] = np.full(len(conditions), geometry.pid or 0, dtype=np.int32)
        return result


def same_tail(got: Tail, expected: Tail) -> bool:
    """Equal but for axes of length 1: (N,), (N, 1) and (N, 1, 1) hold one number a shower."""
    return [n for n in got if n != 1] == [n for n in expected if n != 1]


def flat(values: Array) -> Array:
    """(n, ...) -> (n, rest), for n = 0 too."""
    return values.reshape(len(values), math.prod(values.shape[1:]))
