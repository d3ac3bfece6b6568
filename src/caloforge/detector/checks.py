"""Checks of what stands in a geometry file: misspelt keys and values are errors with a hint."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from caloforge.errors import GeometryError, did_you_mean

# Far beyond any calorimeter: the limits of what a geometry file may ask for.
MOST_BINS = 100_000
MOST_LAYERS = 10_000


def check_keys(plain: Any, valid: Iterable[str], what: str) -> None:
    """Raise GeometryError for something that is no table, or for a key that a table of this kind
    does not have; the message names the nearest valid key.
    """
    if not isinstance(plain, dict):
        raise GeometryError(f"Got {str(plain)[:60]} for a {what}; expected a table of keys.")
    valid = list(valid)
    for key in plain:
        if key not in valid:
            raise GeometryError(f"Unknown {what} key '{key}': {did_you_mean(str(key), valid)}")


def check_name(name: str, what: str) -> None:
    """Raise GeometryError for a name that could not be typed as `NAME=VALUE` or be part of the
    name of a file.
    """
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise GeometryError(
            f"Got '{name[:60]}' for the name of a {what}; expected letters, digits, _, -, + and "
            "dots, with a letter or digit first."
        )


def check_value(value: Any, valid: Iterable[str], what: str, expected: str) -> None:
    """Raise GeometryError for a word that is not valid; the message names the nearest valid one.

    Parameters
    ----------
    value, valid
        The word in the file, and the words that may stand there.
    what
        The beginning of the message: "Layer 3 has the kind".
    expected
        The valid words as the message lists them.
    """
    valid = list(valid)
    if value in valid:
        return
    near = did_you_mean(str(value), [word for word in valid if word])
    hint = f": {near}" if near.startswith("did you mean") else "."
    raise GeometryError(f"{what} '{str(value)[:60]}'; expected {expected}{hint}")


def whole_number(value: Any, what: str, most: int) -> int:
    """A whole number from 1 to `most`. A file from elsewhere must not make the program allocate
    as much memory as it likes.
    """
    if isinstance(value, bool) or value != int(value) or not 1 <= value <= most:
        raise GeometryError(f"Got {value} {what}; expected a whole number from 1 to {most}.")
    return int(value)


def increasing(value: Any, what: str) -> tuple[float, float]:
    """Two numbers, the first below the second."""
    low, high = (float(v) for v in value)
    if not low < high:
        raise GeometryError(f"Got [{low}, {high}] for {what}; expected two increasing numbers.")
    return low, high
