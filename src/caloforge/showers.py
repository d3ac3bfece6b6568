"""Showers: deposited energies in MeV, the conditions they were made under, the read-out, and where
they came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from caloforge.detector.geometry import Geometry
from caloforge.detector.same import check_same_read_out
from caloforge.errors import CaloForgeError, DataError

if TYPE_CHECKING:
    import pandas as pd

SCHEMA_VERSION = 1


@dataclass(frozen=True, repr=False)
class Showers:
    """N showers in one geometry.

    Parameters
    ----------
    energies
        (N, V) float32, MeV per cell, finite and >= 0, in the cell order of the geometry.
    conditions
        (N, C) float64, physical units (MeV, mm, rad), columns in the order of
        `geometry.conditions`.
    geometry
        The read-out.
    provenance
        Who made them: producer, particle, seed, schema version; strings and numbers only.

    Raises
    ------
    DataError
        For shapes that do not fit the geometry, NaN, infinite or negative energies, or an incident
        energy <= 0.
    """

    energies: NDArray[np.float32]
    conditions: NDArray[np.float64]
    geometry: Geometry
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        energies = np.ascontiguousarray(self.energies, dtype=np.float32)
        conditions = np.ascontiguousarray(self.conditions, dtype=np.float64)
        object.__setattr__(self, "energies", energies)
        object.__setattr__(self, "conditions", conditions)
        geometry = self.geometry
        if energies.ndim != 2 or energies.shape[1] != geometry.n_cells:
            raise DataError(
                f"Showers have the shape {energies.shape}; expected (N, {geometry.n_cells}) for "
                f"'{geometry.name}': check that the geometry is the one of the file."
            )
        if conditions.shape != (len(energies), len(geometry.conditions)):
            raise DataError(
                f"Conditions have the shape {conditions.shape}; expected ({len(energies)}, "
                f"{len(geometry.conditions)}): one row for each shower with "
                f"{', '.join(geometry.condition_names)}."
            )
        # Two passes without a mask array: min and max are NaN when anything is.
        low, high = (float(energies.min()), float(energies.max())) if energies.size else (0.0, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int(np.argmin(np.isfinite(energies).all(axis=1)))
            raise DataError(
                f"Shower {bad} holds a NaN or infinite cell energy; expected finite MeV: remove "
                "or repair it."
            )
        if low < 0:
            bad = int(np.argmax(energies.min(axis=1) < 0))
            raise DataError(
                f"Shower {bad} holds a cell of {low:g} MeV; expected energies >= 0: set noise "
                "below 0 to 0."
            )
        if not np.isfinite(conditions).all():
            bad = int(np.argmin(np.isfinite(conditions).all(axis=1)))
            raise DataError(
                f"Shower {bad} has a NaN or infinite condition; expected finite numbers in MeV, "
                "mm and rad."
            )
        if len(energies) and float(self.incident_energy.min()) <= 0:
            raise DataError(
                "A shower has an incident energy <= 0; expected a positive energy in MeV."
            )

    @classmethod
    def from_arrays(
        cls,
        energies: ArrayLike,
        conditions: Mapping[str, ArrayLike] | ArrayLike,
        geometry: Geometry | str | Path,
        provenance: Mapping[str, Any] | None = None,
    ) -> Showers:
        """Showers from arrays of your own.

        Parameters
        ----------
        energies
            Cells in MeV, (N, V) or any shape with N first and V numbers for each shower, in the
            order of the geometry.
        conditions
            An array (N,) for each condition by name, or (N, C) in the order of the geometry; MeV,
            mm and rad. For a geometry with one condition (N,) will do.
        geometry
            The read-out, or its name, or its file.
        provenance
            Who made them, as strings and numbers.

        Raises
        ------
        DataError
            For shapes that do not fit, conditions that are missing or unknown, and energies that
            are not finite and at least 0.
        """
        from caloforge.detector.shipped import load_geometry

        read_out = geometry if isinstance(geometry, Geometry) else load_geometry(geometry)
        cells = np.asarray(energies, dtype=np.float32)
        if cells.ndim > 2:
            cells = cells.reshape(len(cells), -1)
        if isinstance(conditions, Mapping):
            names = read_out.condition_names
            for name in (*conditions, *names):
                if name not in names or name not in conditions:
                    raise DataError(
                        f"The conditions given are {', '.join(conditions) or 'none'}; expected "
                        f"{', '.join(names)} for '{read_out.name}'."
                    )
            columns = [np.ravel(np.asarray(conditions[n], dtype=np.float64)) for n in names]
            if len({len(column) for column in columns}) > 1:
                raise DataError(
                    f"The conditions have {', '.join(str(len(c)) for c in columns)} values; "
                    "expected one for each shower."
                )
            table = np.stack(columns, axis=1)
        else:
            table = np.asarray(conditions, dtype=np.float64)
            table = table[:, None] if table.ndim == 1 else table
        return cls(cells, table, read_out, dict(provenance or {}))

    def __len__(self) -> int:
        return len(self.energies)

    def __repr__(self) -> str:
        incident = self.incident_energy
        energies = f", {incident.min():g} to {incident.max():g} MeV" if len(self) else ""
        made_by = self.provenance.get("producer", "unknown")
        cells = f"{self.geometry.n_cells} cells of '{self.geometry.name}'"
        return f"Showers({len(self)} in {cells}{energies}, producer: {made_by})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{escape(c.name)}</th><td>{values.min():.6g} to {values.max():.6g} "
            f"{escape(c.unit)}</td></tr>"
            for c, values in zip(self.geometry.conditions, self.conditions.T, strict=True)
            if len(self)
        )
        rows += "".join(
            f"<tr><th>{escape(key)}</th><td>{escape(str(value))}</td></tr>"
            for key, value in self.provenance.items()
        )
        geometry = self.geometry
        return (
            f"<table><caption>{len(self)} showers of '{escape(geometry.name)}': "
            f"{geometry.n_cells} cells in {geometry.n_layers} layers</caption><tbody>{rows}"
            "</tbody></table>"
        )

    def __getitem__(self, index: int | slice | NDArray[Any] | Sequence[int]) -> Showers:
        """The chosen showers: one by its number, or several by a slice, mask or integer array.

        Raises IndexError for numbers that are not there.
        """
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"there is no shower {index} among {len(self)}")
            index = slice(int(index) % len(self), int(index) % len(self) + 1)
        elif not isinstance(index, slice):
            index = np.asarray(index)
        return replace(self, energies=self.energies[index], conditions=self.conditions[index])

    def to_dataframe(self, *, cells: bool = False) -> pd.DataFrame:
        """A table with one row a shower: its conditions, `deposited` (MeV), `response` (deposited
        over incident energy) and the energy of each layer in MeV (`layer_ID`).

        Parameters
        ----------
        cells
            Whether the energy of each cell is added too, as `cell_0` to `cell_V-1`.

        Raises
        ------
        CaloForgeError
            Where pandas is not installed.
        """
        pandas = import_pandas()
        deposited = self.energies.sum(axis=1, dtype=np.float64)
        columns = {name: self.condition(name) for name in self.geometry.condition_names}
        columns |= {"deposited": deposited, "response": deposited / self.incident_energy}
        for layer, part in zip(self.geometry.layers, self.geometry.slices, strict=True):
            columns[f"layer_{layer.id}"] = self.energies[:, part].sum(axis=1, dtype=np.float64)
        if cells:
            columns |= {f"cell_{k}": column for k, column in enumerate(self.energies.T)}
        return pandas.DataFrame(columns)

    @property
    def incident_energy(self) -> NDArray[np.float64]:
        """Incident energy in MeV, (N,)."""
        return self.geometry.incident_energy(self.conditions)

    def condition(self, name: str) -> NDArray[np.float64]:
        """One condition column by name, (N,)."""
        return self.conditions[:, self.geometry.column(name)]

    def layer(self, index: int) -> NDArray[np.float32]:
        """Cells of layer `index` (position, not id) as (N, slow, fast)."""
        return self.energies[:, self.geometry.slices[index]].reshape(
            len(self), *self.geometry.layers[index].shape
        )

    def after_cut(self, cut: float | None = None) -> Showers:
        """Cells below `cut` MeV (default: the geometry's) set to zero, as every metric of the
        field does first.
        """
        value = self.geometry.cut if cut is None else cut
        return replace(self, energies=zero_below(self.energies, value)) if value > 0 else self

    @staticmethod
    def concatenate(parts: Sequence[Showers]) -> Showers:
        """Join showers of one geometry; raises DataError for none or for different read-outs."""
        if not parts:
            raise DataError("Got no showers to join; expected at least one set.")
        first = parts[0]
        for part in parts[1:]:
            check_same_read_out(
                first.geometry,
                part.geometry,
                ("The first showers to join have the read-out", "others have"),
                "join others",
                DataError,
            )
        return replace(
            first,
            energies=np.concatenate([p.energies for p in parts]),
            conditions=np.concatenate([p.conditions for p in parts]),
        )


def import_pandas() -> Any:
    """The module pandas. Raises CaloForgeError where it is not installed."""
    try:
        import pandas
    except ImportError as error:
        raise CaloForgeError(
            "A table needs pandas, which is not installed; get it with `pip install "
            "'caloforge[notebook]'`."
        ) from error
    return pandas


def zero_below(energies: NDArray[Any], cut: float) -> NDArray[Any]:
    """Cell energies of any shape with those below `cut` at 0, in the unit and type they have; the
    array itself where there is no cut.
    """
    return np.where(energies < cut, energies.dtype.type(0), energies) if cut > 0 else energies


MOST_POINTS = 40  # incident energies a scan may have
# Energies pass through float32 files and logarithmic labels: equal means equal to this.
SAME_ENERGY = 1e-5


def energy_points(incident_energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distinct incident energies in MeV of a scan, an empty array for a spectrum.

    A scan has at most MOST_POINTS of them, each with two showers or more on average. Energies
    that differ by rounding alone are one point, the smallest of them.
    """
    distinct = np.unique(incident_energy)
    most = min(MOST_POINTS, len(incident_energy) // 2)
    points: list[float] = []
    k = 0
    while k < len(distinct):
        if len(points) == most:
            return distinct[:0]
        points.append(float(distinct[k]))
        k = int(np.searchsorted(distinct, distinct[k] * (1 + SAME_ENERGY), side="right"))
    return np.array(points, dtype=np.float64)


def point_of(
    incident_energy: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Number of the point (K,) that each incident energy (N,) in MeV is, (N,); -1 for none."""
    number = np.searchsorted(points * (1 - SAME_ENERGY), incident_energy, side="right") - 1
    values = np.append(points, np.nan)[number]  # the last, NaN, below the first point
    return np.where(np.abs(incident_energy - values) <= SAME_ENERGY * values, number, -1)
