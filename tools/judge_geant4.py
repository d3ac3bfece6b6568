"""Judge Geant4 showers as if a generator had made them: everything must be at its floor.

    python tools/judge_geant4.py FOLDER [--out FOLDER] [DETECTOR ...]

FOLDER holds files of showers named STEM_test and STEM_train. Training showers, drawn to the
conditions of the test file and as many as it has, play the generator; the others are the floor.
The program prints one row for each detector, overall and over the energies: how many metrics there
are, how many of them lie beyond their floor by more than three joint errors, and which of those
the judge calls off or far.
"""

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from caloforge.data import create_showers, read_showers
from caloforge.evaluate import judge_files
from caloforge.judge.comparison import Value
from caloforge.judge.floor import floor_pair, matching_size
from caloforge.judge.merit import judge
from caloforge.judge.summary import summarise
from caloforge.showers import Showers

SIGMAS = 3.0
HEADER = (
    "| detector | N | metrics overall | beyond 3σ | off or far | metrics at energies | beyond 3σ "
    "| off or far |\n|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Judge the detectors that the command line names, or all in the folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("detectors", nargs="*", metavar="DETECTOR", help="stems of the files")
    parser.add_argument("--out", type=Path, help="keep the result folders here")
    given = parser.parse_args()
    stems = given.detectors or sorted(p.stem[:-5] for p in given.folder.glob("*_test.*"))
    print(HEADER)
    for stem in stems:
        with tempfile.TemporaryDirectory() as scratch:
            row(given.folder, stem, (given.out or Path(scratch)) / stem, Path(scratch))


def row(folder: Path, stem: str, out: Path, scratch: Path) -> None:
    """Judge one detector and print its row."""
    (test,) = folder.glob(f"{stem}_test.*")
    (train,) = folder.glob(f"{stem}_train.*")
    reference, showers = read_showers(test), read_showers(train)
    base = summarise(reference, "reference")
    other = summarise(showers, "training", like=base)
    wanted = matching_size(base, other, min(len(reference), len(showers) // 2))
    chosen = floor_pair(base, other, wanted, seed=1)[1].rows
    generated = write(showers[chosen], scratch / "geant4.hdf5")
    others = np.setdiff1d(np.arange(len(showers)), chosen)
    floor = write(showers[others], scratch / "floor.hdf5")
    (found,) = judge_files(test, [generated], out, floor=floor)
    overall = list(found.sized.items())
    at_energies = [
        (f"{key} at {energy:g} MeV", value)
        for energy, point in found.per_energy.items()
        for key, value in point.metrics.items()
    ]
    cells = [stem, str(wanted), *counts(overall), *counts(at_energies)]
    print(f"| {' | '.join(cells)} |", flush=True)


def write(showers: Showers, path: Path) -> Path:
    """The showers in a file of their own."""
    with create_showers(path, showers.geometry) as writer:
        writer.append(showers)
    return path


def counts(metrics: Iterable[tuple[str, Value]]) -> tuple[str, str, str]:
    """How many metrics have a floor, how many lie beyond it, and which are off or far."""
    known = [(key, value) for key, value in metrics if value.floor is not None]
    beyond = [
        (key, value)
        for key, value in known
        if value.joint_error and abs(value.value - value.floor) > SIGMAS * value.joint_error
    ]
    bad = [
        key.split(" at ")[0]
        for key, value in beyond
        if judge(key.split(" at ")[0], value.value, value.joint_error, value.floor)[0]
        in ("off", "far")
    ]
    return str(len(known)), str(len(beyond)), f"{len(bad)} {', '.join(sorted(set(bad)))}".strip()


if __name__ == "__main__":
    main()
