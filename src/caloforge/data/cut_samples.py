"""Cut the samples shipped with the package out of the full Geant4 files.

Run as `python -m caloforge.data.cut_samples FOLDER`: the same files give the same samples.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caloforge.data.reader import read_showers
from caloforge.data.samples import SAMPLES
from caloforge.data.writer import create_showers
from caloforge.errors import DataError
from caloforge.showers import energy_points, point_of

COMMAND = "python -m caloforge.data.cut_samples FOLDER"


@dataclass(frozen=True)
class Cut:
    """One sample: `count` showers of the file `source` are written to the file `target`."""

    source: str
    target: str
    count: int


# `caloforge demo` trains on the photon sample and judges by it, so that it gets most of the 12 MB.
CUTS = (
    Cut("ds1_photons_train.hdf5", "ds1-photons-train.hdf5", 6896),
    Cut("ds1_photons_test.hdf5", "ds1-photons-test.hdf5", 2737),
    Cut("ds1_pions_train.hdf5", "ds1-pions-train.hdf5", 400),
    Cut("ds1_pions_test.hdf5", "ds1-pions-test.hdf5", 200),
    Cut("calogan_eplus_train.hdf5", "calogan-eplus-train.hdf5", 400),
    Cut("calogan_eplus_test.hdf5", "calogan-eplus-test.hdf5", 200),
    Cut("lcd_train.h5", "lcd-train.hdf5", 60),
    Cut("lcd_test.h5", "lcd-test.hdf5", 40),
    Cut("lhcb_electrons_train.npz", "lhcb-train.npz", 400),
    Cut("lhcb_electrons_test.npz", "lhcb-test.npz", 200),
    Cut("atlas_cells_photons_train.hdf5", "atlas-cells-train.hdf5", 400),
    Cut("atlas_cells_photons_test.hdf5", "atlas-cells-test.hdf5", 200),
)


def spread(incident_energy: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Sorted row numbers of `count` showers spread evenly over the energies (N,) in MeV.

    In a scan every point gives as many as the others while it has any; a spectrum is thinned in
    order of energy.
    """
    total = len(incident_energy)
    if count >= total:
        return np.arange(total, dtype=np.int64)
    points = energy_points(incident_energy)
    if len(points) == 0:
        order = np.argsort(incident_energy, kind="stable")
        return np.sort(order[np.arange(count, dtype=np.int64) * total // count])
    turn = np.empty(total, dtype=np.int64)  # the number of each shower among those of its energy
    numbers = point_of(incident_energy, points)
    for k in range(len(points)):
        rows = np.flatnonzero(numbers == k)
        turn[rows] = np.arange(len(rows))
    return np.sort(np.lexsort((incident_energy, turn))[:count])


def cut_sample(folder: Path, target: Path, cut: Cut) -> None:
    """Write one sample. Raises DataError when the source is missing or too small."""
    showers = read_showers(folder / cut.source)
    if len(showers) < cut.count:
        raise DataError(
            f"{folder / cut.source} holds {len(showers)} showers; expected at least {cut.count} "
            "to cut."
        )
    rows = spread(showers.incident_energy, cut.count)
    part = showers[rows]
    provenance = {
        "producer": "Geant4 11.4.0",
        "range_cut_mm": 0.7,
        **showers.provenance,
        "cut_from": cut.source,
        "cut_showers": f"{len(part)} of {len(showers)}, spread evenly over the energies",
        "cut_with": COMMAND,
    }
    with create_showers(
        target / cut.target, part.geometry, provenance=provenance, compression="small"
    ) as writer:
        writer.append(part)


def main() -> None:
    """Cut all samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where the full files are")
    parser.add_argument("--target", type=Path, default=SAMPLES, help="where the samples go")
    options = parser.parse_args()
    for cut in CUTS:
        cut_sample(options.folder, options.target, cut)
        size = (options.target / cut.target).stat().st_size
        print(f"{cut.target:28s} {cut.count:5d} showers {size / 1e6:6.2f} MB")


if __name__ == "__main__":
    main()
