"""Conditions of a shower: what the particle was, where it came in and which way it flew.

A condition has a name, which the user types and files carry, and a role, which says what the
number means. Code asks for roles, never for names, so that a detector may call its conditions
what its own community calls them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.checks import check_keys, check_value
from caloforge.errors import GeometryError

Scale = Literal["linear", "log", "angle", "category"]
Role = Literal[
    "energy",
    "impact",
    "momentum",
    "slope",
    "polar-angle",
    "azimuth",
    "particle",
    "alignment",
    "other",
]

UNITS = ("MeV", "mm", "rad", "")
SCALES: tuple[str, ...] = get_args(Scale)
ROLES: tuple[str, ...] = get_args(Role)
# The unit of a role, where there is only one that makes sense.
UNIT_OF = {
    "energy": "MeV",
    "impact": "mm",
    "momentum": "MeV",
    "slope": "",
    "polar-angle": "rad",
    "azimuth": "rad",
}
ALONG_AN_AXIS = ("impact", "momentum", "slope", "alignment")


@dataclass(frozen=True)
class Condition:
    """One column of the condition vector.

    Parameters
    ----------
    name
        What users and files call it.
    unit
        MeV, mm, rad, or nothing for a pure number.
    low, high
        The valid range, in the unit.
    scale
        "log" or "linear" for continuous quantities, "angle" for periodic ones (period 2 pi), and
        "category" for whole numbers from `low` to `high`.
    label
        The words that stand beside an axis of a figure.
    role
        What the number means. "energy": the incident energy. "impact": where along `axis` the
        particle enters at z = 0. "momentum": the component along `axis`, where z points into the
        calorimeter. "slope": the change of position along `axis` for each mm of depth.
        "polar-angle": the angle between the particle and z. "azimuth": the direction of the
        particle across z, counted from the first axis of the cells to the second. "particle": the
        number of the kind of particle. "alignment": how the read-out lies about the particle
        along `axis`. "other": anything else. Without a role it follows from the name, see
        `with_roles`.
    axis
        The axis of the roles "impact", "momentum", "slope" and "alignment", empty for others.
    """

    name: str
    unit: str
    low: float
    high: float
    scale: Scale = "linear"
    label: str = ""
    role: Role | Literal[""] = ""
    axis: str = ""

    def __post_init__(self) -> None:
        what = f"Condition '{self.name}'"
        check_value(self.unit, UNITS, f"{what} has the unit", "MeV, mm, rad or none")
        check_value(self.scale, SCALES, f"{what} has the scale", ", ".join(SCALES))
        if not self.high > self.low or (self.scale == "log" and self.low <= 0):
            raise GeometryError(
                f"{what} has the range [{self.low}, {self.high}]; expected low < "
                f"high{' and low > 0 for a log scale' if self.scale == 'log' else ''}."
            )
        if not self.role:
            return
        check_value(self.role, ROLES, f"{what} has the role", ", ".join(ROLES))
        if self.unit != UNIT_OF.get(self.role, self.unit):
            raise GeometryError(
                f"{what} has the role '{self.role}' and the unit '{self.unit}'; expected "
                f"'{UNIT_OF[self.role]}': correct one of them."
            )
        if bool(self.axis) != (self.role in ALONG_AN_AXIS):
            raise GeometryError(
                f"{what} has the role '{self.role}' and the axis '{self.axis}'; expected "
                f"{'the name of an axis' if not self.axis else 'no axis for this role'}."
            )

    def not_a_category(self, values: NDArray[Any]) -> NDArray[Any]:
        """Those of the values (N,) that are no whole number from `low` to `high`, (M,); none of a
        condition with another scale.
        """
        if self.scale != "category":
            return values[:0]
        return values[~np.isin(values, np.arange(self.low, self.high + 1))]

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Condition:
        """Build from the table of a geometry file. Raises GeometryError for a misspelt key."""
        check_keys(plain, cls.__dataclass_fields__, "condition")
        return cls(**plain)


def with_roles(conditions: Sequence[Condition], axes: Iterable[str]) -> tuple[Condition, ...]:
    """The conditions, with a role for each one that states none.

    The role follows from the name, in a read-out with the given axes of its cells:

    =========================================  ===========================================
    name                                       role
    =========================================  ===========================================
    ``energy``                                 energy
    ``AXIS``, ``AXIS0`` or ``impact_AXIS``     impact along the axis
    ``pAXIS``, ``pz``                          momentum along the axis, along z
    ``theta`` and ``phi`` together             polar angle and azimuth
    ``alignment_AXIS``                         alignment along the axis
    ``particle``, with the scale "category"    particle
    anything else                              other
    =========================================  ===========================================

    A name whose unit does not suit the role, or whose role another condition has already, has the
    role "other".
    """
    names = {c.name for c in conditions}
    by_name: dict[str, tuple[Role, str]] = {"energy": ("energy", "")}
    for axis in axes:
        by_name |= dict.fromkeys((axis, f"{axis}0", f"impact_{axis}"), ("impact", axis))
        by_name |= {f"p{axis}": ("momentum", axis)}
        by_name |= {f"alignment_{axis}": ("alignment", axis)}
    by_name |= {"pz": ("momentum", "z")}
    if {"theta", "phi"} <= names:
        by_name |= {"theta": ("polar-angle", ""), "phi": ("azimuth", "")}
    taken = {(c.role, c.axis) for c in conditions if c.role not in ("", "other")}
    complete = []
    for condition in conditions:
        role, axis = by_name.get(condition.name, ("other", ""))
        if condition.name == "particle" and condition.scale == "category":
            role, axis = "particle", ""
        wrong_unit = condition.unit != UNIT_OF.get(role, condition.unit)
        if wrong_unit or (role, axis) in taken:
            role, axis = "other", ""
        if not condition.role:
            condition = replace(condition, role=role, axis=axis)
        if condition.role != "other":
            taken.add((condition.role, condition.axis))
        complete.append(condition)
    return tuple(complete)
