"""All observables of showers in memory."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

from caloforge.errors import DataError
from caloforge.observables.table import families
from caloforge.showers import Showers

Array = NDArray[Any]


def compute(showers: Showers) -> dict[str, Array]:
    """All observables of `observables.table`: key -> (N,) float64, MeV and mm.

    Cells below the geometry's cut count as zero. Positions in layers whose window moves with a
    condition (`Layer.shift`) are those of the shower's own window. Without energy, shapes are 0.

    Raises
    ------
    DataError
        For an empty set of showers.
    """
    if len(showers) == 0:
        raise DataError("Got no showers to compute observables of; expected at least one.")
    values: dict[str, Array] = {}
    for family in families():
        values |= family.values(showers, values)
    return values
