"""Geant4 showers beside which the explorer shows the generator's, as one small binary file.

The file holds, in little-endian order: the numbers of showers N, of cells V, of conditions C and
of cells with energy K, as 32-bit integers; the conditions (N, C) as 32-bit floats; where the cells
of each shower begin and end in what follows, (N + 1,) as 32-bit integers; the energies of the
cells in MeV, (K,) as 32-bit floats; their places in the shower, (K,), as 16-bit integers for up
to 65 536 cells and as 32-bit integers for more.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.data import open_showers, read_showers, sample_names, sample_path
from caloforge.data.reader import ShowerFile
from caloforge.errors import DataError
from caloforge.models.file import ModelFile
from caloforge.showers import Showers, energy_points, point_of

# Most showers that a page gets: the file of data-set-1 photons is then 0.8 MB.
MOST_SHOWERS = 600


@dataclass(frozen=True)
class Reference:
    """Geant4 showers.

    Parameters
    ----------
    name
        Name of the file in the page, without what all of them share.
    source
        Words for the page: who made the showers.
    showers
        At most `MOST_SHOWERS` of them.
    """

    name: str
    source: str
    showers: Showers


def reference_of(file: ModelFile, given: str | Path | None = None) -> Reference | None:
    """Geant4 showers of the read-out and the particle of a model; None where there are none.

    Parameters
    ----------
    file
        The model.
    given
        A file of showers, which then stands for the shipped samples.

    Raises
    ------
    DataError
        When the given file cannot be read or holds no showers.
    """
    geometry = file.model.geometry
    if given is not None:
        with open_showers(given) as source:
            if source.geometry.hash != geometry.hash:
                return None
            if not len(source):
                raise DataError(f"{given} holds no showers; expected at least one.")
            showers = _some_of(source)
        producer = str(showers.provenance.get("producer", "unknown producer"))
        return Reference(geometry.name, f"{producer}, {Path(given).name}", showers)
    names = [name for name in sample_names() if _suits(name, file)]
    if not names:
        return None
    parts = [read_showers(sample_path(name)) for name in names]
    producer = str(parts[0].provenance.get("producer", "Geant4"))
    shared = names[0].rpartition("-")[0]
    source_words = f"{producer}, shipped samples {' and '.join(names)}"
    showers = Showers.concatenate(parts)
    return Reference(shared, source_words, showers[_spread(showers.incident_energy)])


def _some_of(source: ShowerFile) -> Showers:
    """At most `MOST_SHOWERS` of a file, which may be larger than the memory."""
    chosen = _spread(source.geometry.incident_energy(source.conditions()))
    size, parts = source.block_rows(), []
    for start in range(0, len(source), size):
        stop = min(start + size, len(source))
        wanted = chosen[(chosen >= start) & (chosen < stop)]
        if len(wanted):
            parts.append(source.read(start, stop)[wanted - start])
    return Showers.concatenate(parts)


def _suits(sample: str, file: ModelFile) -> bool:
    """Whether a shipped sample has the read-out of a model, and its particle as far as both tell.

    A read-out for several particles tells them apart by a condition, or else the model's file
    names the particle, or at least the file of showers with which the model was trained.
    """
    geometry, trained_on = file.model.geometry, file.about.get("trained_on", {})
    with open_showers(sample_path(sample)) as source:
        if source.geometry.hash != geometry.hash:
            return False
        particle = str(source.provenance.get("particle", ""))
    if len(geometry.particles) < 2 or geometry.find("particle") is not None or not particle:
        return True
    stated = str(trained_on.get("particle", ""))
    words = Path(str(trained_on.get("file", ""))).stem.replace("-", "_").split("_")
    return particle == stated if stated else particle in words


def _spread(incident: NDArray[np.float64]) -> NDArray[np.int64]:
    """Numbers of at most `MOST_SHOWERS` showers, spread evenly over their incident energies."""
    points = energy_points(incident)
    if len(points):
        each = MOST_SHOWERS // len(points)
        numbers = point_of(incident, points)
        chosen = np.concatenate([np.flatnonzero(numbers == k)[:each] for k in range(len(points))])
    else:
        order = np.argsort(incident, kind="stable")
        count = min(len(order), MOST_SHOWERS)
        chosen = order[np.linspace(0, len(order) - 1, count).round().astype(np.int64)]
    return np.sort(chosen)


def packed(showers: Showers) -> bytes:
    """The showers as the page reads them; see the module's description."""
    rows, cells = np.nonzero(showers.energies)
    begins = np.zeros(len(showers) + 1, "<u4")
    begins[1:] = np.cumsum(np.count_nonzero(showers.energies, axis=1))
    place = "<u2" if showers.geometry.n_cells <= 1 << 16 else "<u4"
    numbers = (len(showers), showers.geometry.n_cells, showers.conditions.shape[1], len(cells))
    parts: list[NDArray[Any]] = [
        np.array(numbers, "<u4"),
        showers.conditions.astype("<f4"),
        begins,
        showers.energies[rows, cells].astype("<f4"),
        cells.astype(place),
    ]
    return b"".join(part.tobytes() for part in parts)
