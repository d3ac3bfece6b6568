"""Models, observables and metrics of other packages, which join without a change of CaloForge.

A package names what it adds in its `pyproject.toml`:

    [project.entry-points."caloforge.models"]
    my-model = "my_package.model:MyModel"

    [project.entry-points."caloforge.observables"]
    my-observables = "my_package.observables:FAMILY"

    [project.entry-points."caloforge.metrics"]
    my-metric = "my_package.metric:METRIC"

A model is a `ShowerModel`, observables are a `caloforge.observables.table.Family`, a metric is a
`caloforge.metrics.base.Metric`. They are looked for when they are first needed.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from caloforge.errors import CaloForgeError

T = TypeVar("T")


@cache
def _entries(group: str) -> tuple[EntryPoint, ...]:
    return tuple(sorted(entry_points(group=group), key=lambda entry: entry.name))


def further(group: str, known: Collection[str]) -> dict[str, EntryPoint]:
    """What other packages add to a group, by name; nothing is loaded yet.

    Parameters
    ----------
    group
        Such as "caloforge.models".
    known
        Names that CaloForge has itself.

    Raises
    ------
    CaloForgeError
        For a name that CaloForge has itself or that two packages use.
    """
    entries: dict[str, EntryPoint] = {}
    for entry in _entries(group):
        if entry.name in known or entry.name in entries:
            other = package_of(entries[entry.name]) if entry.name in entries else "CaloForge"
            raise CaloForgeError(
                f"The package {package_of(entry)} adds '{entry.name}' to {group}, a name that "
                f"{other} has already; expected another name: change it there, or uninstall the "
                "package."
            )
        entries[entry.name] = entry
    return entries


def load(entry: EntryPoint, fits: Callable[[Any], bool], expected: str) -> Any:
    """The object behind an entry.

    Parameters
    ----------
    entry
        One of `further`.
    fits
        Whether an object is what the group is made of.
    expected
        What that is, in words for the error.

    Raises
    ------
    CaloForgeError
        When the object cannot be imported or is something else. The sentence names its package.
    """
    what = f"'{entry.name}' of the package {package_of(entry)} ({entry.value})"
    try:
        content = entry.load()
    except Exception as error:  # whatever the other package raises while it is imported
        raise CaloForgeError(
            f"Cannot load {what}: {type(error).__name__}: {error}; repair or uninstall the "
            "package."
        ) from error
    if not fits(content):
        raise CaloForgeError(
            f"{what} is of the type {type(content).__name__}; expected {expected}: repair or "
            "uninstall the package."
        )
    return content


def load_all(
    group: str, kind: type[T], name_of: Callable[[T], str], known: Collection[str]
) -> list[T]:
    """All objects that other packages add to a group, each an instance of `kind`.

    Raises CaloForgeError as `further` and `load` do, and for an object whose own name, which
    `name_of` gives, CaloForge or another package has already.
    """
    taken, contents = set(known), []
    for entry in further(group, known).values():
        content = load(entry, lambda thing: isinstance(thing, kind), f"a {kind.__name__}")
        name = name_of(content)
        if name in taken:
            raise CaloForgeError(
                f"The package {package_of(entry)} adds '{name}' to {group}, which exists already; "
                "expected another name: change it there, or uninstall the package."
            )
        taken.add(name)
        contents.append(content)
    return contents


def package_of(entry: EntryPoint) -> str:
    """Name of the package that an entry belongs to."""
    return entry.dist.name if entry.dist is not None else entry.module
