"""Reading and writing showers in HDF5 against bare h5py, and against a copy in memory.

The showers are those of the shipped photon sample over again, so that they compress as real ones.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
from common import arguments, begin, best, copy_speed, ratio, side_by_side, table
from generators import repeated

from caloforge.data import create_showers, read_showers, sample_path
from caloforge.showers import Showers

FILTERS = {"none": {}, "fast": {"compression": "gzip", "compression_opts": 1}}


def write_plain(path: Path, showers: Showers, rows: int, compression: str) -> None:
    """The same data sets, chunks and filter by h5py alone."""
    columns = {"incident_energies": showers.conditions, "showers": showers.energies}
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file.create_dataset(
                key, data=values, chunks=(rows, values.shape[1]), **FILTERS[compression]
            )


def write_ours(path: Path, showers: Showers, compression: str) -> None:
    with create_showers(path, showers.geometry, compression=compression) as writer:
        writer.append(showers)


def read_plain(path: Path) -> None:
    with h5py.File(path) as file:
        for key in file:
            file[key][:]


def tasks(folder: Path, showers: Showers, compression: str) -> dict[str, Callable[[], object]]:
    """What is timed; the files that are read are written here first."""
    ours, plain = folder / "ours.hdf5", folder / "plain.hdf5"
    write_ours(ours, showers, compression)
    with h5py.File(ours) as file:
        rows = file["showers"].chunks[0]
    return {
        "write": lambda: write_ours(ours, showers, compression),
        "plain write": lambda: write_plain(plain, showers, rows, compression),
        "read": lambda: read_showers(ours),
        "plain read": lambda: read_plain(ours),
    }


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "").parse_args()
    count = 10_000 if options.quick else 50_000
    begin(options, "HDF5 in and out, CaloChallenge format")
    showers = repeated(read_showers(sample_path("ds1-photons-train")), count)
    size, rows = showers.energies.nbytes, []
    for compression, label in (("fast", "gzip 1"), ("none", "no filter")):
        with TemporaryDirectory() as name:
            timed = tasks(Path(name), showers, compression)
            times = side_by_side(timed, seconds=0.2, rounds=3 if options.quick else 5)
        for task in ("write", "read"):
            ours, plain = times[task], times[f"plain {task}"]
            rows.append(
                [
                    f"{task}, {label}",
                    f"{count / best(ours):,.0f}",
                    f"{size / best(ours) / 1e6:,.0f}",
                    f"{size / best(plain) / 1e6:,.0f}",
                    f"{ratio(ours, plain):.2f}",
                ]
            )
    table(["task", "showers/s", "CaloForge MB/s", "h5py MB/s", "time ratio"], rows)
    speed = copy_speed(options) / 2  # a copy reads and writes; a file is read or written
    print(f"  {count:,} showers, {size / 1e6:.0f} MB of energies; MB/s before compression")
    print(
        f"  floor: a copy in memory moves {speed / 1e6:,.0f} MB/s; reading is also checking ",
        end="",
    )
    print("(finite, >= 0, units)")


if __name__ == "__main__":
    main()
