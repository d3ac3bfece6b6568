"""The particle's straight line through the layers, computed from the roles of the conditions.

This is the only place that knows which conditions tell the impact and the direction. Observables,
models and figures ask it. It works on NumPy arrays and on torch tensors alike, and then returns
the same kind of array on the same device.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry

if TYPE_CHECKING:
    from torch import Tensor

    AnyArray = TypeVar("AnyArray", NDArray[Any], Tensor)
else:
    AnyArray = TypeVar("AnyArray")


@dataclass(frozen=True)
class ParticleLine:
    """The line x(z) = impact + slope z along the two axes of the cells.

    Parameters
    ----------
    axes
        Names of the two axes of the cells; empty for a read-out without a grid of cells, in which
        the line stays at 0.
    impact
        Columns of the conditions that tell the impact at z = 0 along both axes; None where the
        geometry does not know it, which then counts as 0 mm.
    momentum
        Columns of the momentum along both axes and along z, or None. The slope is p_axis / p_z.
    angles
        Columns of the polar angle theta and of the azimuth phi, or None. The slope is
        tan(theta) (cos phi, sin phi).
    slopes
        Columns of the slopes themselves, or None.
    """

    axes: tuple[str, ...] = ()
    impact: tuple[int | None, int | None] = (None, None)
    momentum: tuple[int, int, int] | None = None
    angles: tuple[int, int] | None = None
    slopes: tuple[int, int] | None = None

    @property
    def inclined(self) -> bool:
        """Whether the conditions tell a direction."""
        return any(columns is not None for columns in (self.momentum, self.angles, self.slopes))

    @property
    def moves(self) -> bool:
        """Whether the conditions tell an impact or a direction at all."""
        return self.inclined or self.impact != (None, None)

    def __call__(self, conditions: AnyArray) -> tuple[AnyArray, AnyArray]:
        """Impact in mm and slopes, each (N, 2), from conditions (N, C)."""
        return self.entry(conditions), self.slope(conditions)

    def entry(self, conditions: AnyArray) -> AnyArray:
        """Impact at z = 0 in mm, (N, 2); 0 where the conditions do not tell it."""
        xp = _functions_for(conditions)
        zero = xp.zeros_like(conditions[:, 0])
        columns = [zero if k is None else conditions[:, k] for k in self.impact]
        stacked: AnyArray = xp.stack(columns, 1)
        return stacked

    def slope(self, conditions: AnyArray) -> AnyArray:
        """Change of position for each mm of depth, (N, 2); 0 where the conditions do not tell it.

        A momentum must point into the calorimeter: see `forward`.
        """
        xp = _functions_for(conditions)
        if self.momentum is not None:
            first, second, along = (conditions[:, k] for k in self.momentum)
            columns = [first / along, second / along]
        elif self.angles is not None:
            theta, phi = (conditions[:, k] for k in self.angles)
            tangent = xp.tan(theta)
            columns = [tangent * xp.cos(phi), tangent * xp.sin(phi)]
        elif self.slopes is not None:
            columns = [conditions[:, k] for k in self.slopes]
        else:
            columns = [xp.zeros_like(conditions[:, 0])] * 2
        stacked: AnyArray = xp.stack(columns, 1)
        return stacked

    def at(self, conditions: AnyArray, depth: float) -> AnyArray:
        """Where the line is `depth` mm behind the front face, in mm, (N, 2)."""
        return self.entry(conditions) + depth * self.slope(conditions)

    def forward(self, conditions: NDArray[Any]) -> NDArray[np.bool_]:
        """Which particles fly into the calorimeter, (N,): those with p_z > 0 where there is a
        momentum, all others.
        """
        if self.momentum is None:
            return np.ones(len(conditions), dtype=np.bool_)
        into: NDArray[np.bool_] = conditions[:, self.momentum[2]] > 0
        return into


def particle_line(geometry: Geometry) -> ParticleLine:
    """The line of the particle in a read-out, along the axes of its first grid of cells.

    Momenta count before angles, and angles before slopes, where a geometry has several of them.
    """
    axes = next((layer.axes for layer in geometry.layers if layer.kind == "grid"), None)
    if axes is None:
        return ParticleLine()
    first, second = axes
    momentum = [geometry.find("momentum", axis) for axis in (first, second, "z")]
    angles = [geometry.find("polar-angle"), geometry.find("azimuth")]
    slopes = [geometry.find("slope", axis) for axis in axes]
    return ParticleLine(
        axes,
        (geometry.find("impact", first), geometry.find("impact", second)),
        _all_of(momentum),
        _all_of(angles),
        _all_of(slopes),
    )


def _all_of(columns: list[int | None]) -> Any:
    """The columns as a tuple, None where one of them is missing."""
    return None if None in columns else tuple(columns)


def _functions_for(array: Any) -> Any:
    """The module with the functions for an array: numpy, or torch for its tensors."""
    return np if isinstance(array, np.ndarray) else sys.modules["torch"]
