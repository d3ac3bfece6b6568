"""Checks whether showers can be real: energies in a wrong unit give a response that no calorimeter
has, and conditions in a wrong unit lie far outside their range.
"""

from __future__ import annotations

import math

import numpy as np

from caloforge.errors import DataError
from caloforge.showers import Showers

# Deposited over incident energy of real calorimeters: 0.018 for bare silicon layers, about 1 when
# calibrated. The window is narrow enough that a factor of 1000 (GeV or keV for MeV) always leaves
# it.
RESPONSE = (2e-3, 3.0)
FAR = 100  # times its range: a condition beyond that is one in another unit
_FEW = 20  # with fewer showers the mean response fluctuates too much to tell the unit


def check_units(showers: Showers, where: str) -> None:
    """Refuse showers whose energies cannot be in MeV; `where` is the file, for the message.

    Raises
    ------
    DataError
        When the mean response or the incident energies are off by factors that only a wrong unit
        explains.
    """
    incident, deposited = showers.incident_energy, float(showers.energies.sum(dtype=np.float64))
    if len(showers) == 0 or deposited == 0:
        return
    response = deposited / float(incident.sum())
    many = len(showers) >= _FEW
    if response > (RESPONSE[1] if many else 10 * RESPONSE[1]):
        raise DataError(
            f"The showers in {where} deposit {response:.3g} times their incident energy; expected "
            f"{RESPONSE[0]:g} to {RESPONSE[1]:g}: the cells look like keV or the incident "
            "energies like GeV; convert the file to the units of its format."
        )
    if many and response < RESPONSE[0]:
        raise DataError(
            f"The showers in {where} deposit {response:.3g} of their incident energy; expected "
            f"{RESPONSE[0]:g} to {RESPONSE[1]:g}: the cells look like GeV; convert the file to "
            "the units of its format."
        )
    column = showers.geometry.find("energy")
    if column is None:
        return
    known = showers.geometry.conditions[column]
    if math.isinf(known.high):
        return
    low, high = float(incident.min()), float(incident.max())
    if low < known.low / 100 or high > known.high * 100:
        unit = "GeV or TeV" if low < known.low / 100 else "keV"
        raise DataError(
            f"The incident energies in {where} are {low:g} to {high:g} MeV; expected about "
            f"{known.low:g} to {known.high:g}: they look like {unit}; convert the file to the "
            "units of its format."
        )


def check_conditions(showers: Showers, where: str) -> None:
    """Refuse conditions that the read-out cannot mean; `where` is the file, for the message.

    Raises
    ------
    DataError
        For angles beyond a full turn, other values far beyond the range of their condition, and
        kinds of particles that the read-out does not have. Energies are left to `check_units`.
    """
    for known, values in zip(showers.geometry.conditions, showers.conditions.T, strict=True):
        if len(values) == 0 or not math.isfinite(known.low) or not math.isfinite(known.high):
            continue
        low, high = float(values.min()), float(values.max())
        if len(known.not_a_category(values)):
            raise DataError(
                f"The condition {known.name} in {where} is {low:g} to {high:g}; expected whole "
                f"numbers from {known.low:g} to {known.high:g}."
            )
        most = FAR * max(abs(known.low), abs(known.high))
        if known.unit == "rad":
            most = min(most, 2 * math.pi + 0.01)
        elif known.role == "energy":
            continue
        if max(abs(low), abs(high)) > most:
            unit = "degrees" if known.unit == "rad" else "another unit"
            raise DataError(
                f"The condition {known.name} in {where} is {low:g} to {high:g} {known.unit}; "
                f"expected about {known.low:g} to {known.high:g}: it looks like {unit}; convert "
                "the file to the units of its format."
            )
