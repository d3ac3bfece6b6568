"""Showers: deposited energies in MeV, the conditions they were made under, the read-out, and where
they came from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.geometry import Geometry

SCHEMA_VERSION = 1


@dataclass(frozen=True)
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
                f"Showers have the shape {energies.shape}; expected (N, {geometry.n_cells}) "
                f"for '{geometry.name}': "
                "check that the geometry is the one of the file."
            )
        if conditions.shape != (len(energies), len(geometry.conditions)):
            raise DataError(
                f"Conditions have the shape {conditions.shape}; expected ({len(energies)}, "
                f"{len(geometry.conditions)}): "
                f"one row a shower with {', '.join(geometry.condition_names)}."
            )
        # Two passes without a mask array: min and max are NaN when anything is.
        low, high = (float(energies.min()), float(energies.max())) if energies.size else (0.0, 0.0)
        if not (np.isfinite(low) and np.isfinite(high)):
            bad = int(np.argmin(np.isfinite(energies).all(axis=1)))
            raise DataError(
                f"Shower {bad} holds a NaN or infinite cell energy; expected finite MeV: "
                f"remove or repair it."
            )
        if low < 0:
            bad = int(np.argmax(energies.min(axis=1) < 0))
            raise DataError(
                f"Shower {bad} holds a cell of {low:g} MeV; expected energies >= 0: set noise "
                f"below 0 to 0."
            )
        if not np.isfinite(conditions).all():
            bad = int(np.argmin(np.isfinite(conditions).all(axis=1)))
            raise DataError(
                f"Shower {bad} has a NaN or infinite condition; expected finite numbers in "
                f"MeV, mm and rad."
            )
        if len(energies) and float(self.incident_energy.min()) <= 0:
            raise DataError(
                "A shower has an incident energy <= 0; expected a positive energy in MeV."
            )

    def __len__(self) -> int:
        return len(self.energies)

    def __getitem__(self, index: slice | NDArray[Any]) -> Showers:
        """The chosen showers (slice, mask or integer array)."""
        return replace(self, energies=self.energies[index], conditions=self.conditions[index])

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
        if value <= 0:
            return self
        return replace(
            self, energies=np.where(self.energies < value, np.float32(0), self.energies)
        )

    @staticmethod
    def concatenate(parts: Sequence[Showers]) -> Showers:
        """Join showers of one geometry; raises DataError for none or for different read-outs."""
        if not parts:
            raise DataError("Got no showers to join; expected at least one set.")
        first = parts[0]
        for part in parts[1:]:
            if part.geometry.hash != first.geometry.hash:
                raise DataError(
                    f"Cannot join showers of '{first.geometry.name}' and "
                    f"'{part.geometry.name}'; expected one read-out."
                )
        return replace(
            first,
            energies=np.concatenate([p.energies for p in parts]),
            conditions=np.concatenate([p.conditions for p in parts]),
        )


MOST_POINTS = 40  # incident energies a scan may have


def energy_points(incident_energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distinct incident energies in MeV of a scan, an empty array for a spectrum.

    A scan has at most MOST_POINTS of them, each with two showers or more on average.
    """
    points = np.unique(incident_energy)
    most = min(MOST_POINTS, len(incident_energy) // 2)
    return points if len(points) <= most else points[:0]
