"""Errors a user can cause: one sentence with what was got, what was expected, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class CaloForgeError(Exception):
    """Base of all errors answered with one sentence and no traceback on the command line.

    Names out of files may hold anything: line ends become spaces, other characters that cannot be
    printed become question marks.
    """

    def __str__(self) -> str:
        text = super().__str__()
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() else " " if c.isspace() else "?" for c in text)


class GeometryError(CaloForgeError):
    """A geometry file or a read-out that makes no sense."""


class DataError(CaloForgeError):
    """A file of showers that cannot be read, or showers that cannot be real."""


class RecipeError(CaloForgeError):
    """A training recipe with a wrong key or value."""


class ModelError(CaloForgeError):
    """A model file or a model setting that cannot be used."""


class ConditionError(CaloForgeError):
    """A condition (energy, impact point, ...) that is missing or out of range."""


class TrainingError(CaloForgeError):
    """A training that cannot go on."""


class SimulationError(CaloForgeError):
    """Showers that cannot be simulated: no stack, no Geant4, an unknown particle."""


class ExportError(CaloForgeError):
    """A generator that cannot be written for other software, or a damaged one that was."""


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or its kind when it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def did_you_mean(got: str, valid: Iterable[str]) -> str:
    """Sentence naming the nearest valid name, and all of them when nothing is near."""
    names = list(valid)
    near = difflib.get_close_matches(got, names, n=1, cutoff=0.5)
    # "logarithmic" for "log": a longer or shorter form of the same word counts as near, too.
    near += [name for name in names if name and got.startswith(name)]
    near += [name for name in names if len(got) > 1 and name.startswith(got)]
    return f"did you mean '{near[0]}'?" if near else f"valid are: {', '.join(sorted(names))}."
