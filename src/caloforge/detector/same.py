"""Whether two read-outs are one."""

from __future__ import annotations

from caloforge.detector.geometry import Geometry
from caloforge.errors import CaloForgeError


def check_same_read_out(
    first: Geometry,
    second: Geometry,
    owners: tuple[str, str],
    advice: str,
    error: type[CaloForgeError] = CaloForgeError,
) -> None:
    """Raise `error` unless two geometries describe the same read-out.

    Parameters
    ----------
    first, second
        The read-outs, compared by their hash.
    owners
        What has each of them, to stand before its name: "The showers are of", "the model makes".
    advice
        What to do.
    """
    if first.hash != second.hash:
        raise error(
            f"{owners[0]} '{first.name}', {owners[1]} '{second.name}'; expected the same "
            f"read-out: {advice}."
        )
