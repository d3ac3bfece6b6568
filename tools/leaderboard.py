"""All generators of a system in one leaderboard, judged on Geant4 showers no training has seen.

    python tools/leaderboard.py S2 [RUN ...] [--data FOLDER] [--out FOLDER]

Takes every shipped generator of the system's read-outs and the trainings given as RUN folders (or
model files), generates under the conditions of the test showers, and judges all of them together:
OUT/READ-OUT/report.html, results.json and results.md. Without --data the shipped samples are used.
"""

import argparse
from pathlib import Path

from rich.console import Console

from caloforge.generate import Conditions, generate_file
from caloforge.judge import judge_files
from caloforge.models.file import ModelFile, load_model
from caloforge.pretrained import pretrained_names, resolve_model
from caloforge.progress import leaderboard

# The shipped samples of a system, NAME-train and NAME-test, and the stems of the whole files.
SYSTEMS = {
    "S1": {"calogan-eplus": "calogan_eplus"},
    "S2": {"atlas-cells": "atlas_cells_photons"},
    "S3": {"lcd": "lcd"},
    "S4": {"ds1-photons": "ds1_photons", "ds1-pions": "ds1_pions"},
    "S5": {"lhcb": "lhcb_electrons"},
}


def main() -> None:
    """Judge the generators of the system that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=SYSTEMS)
    parser.add_argument("runs", nargs="*", type=Path, help="trainings beside the shipped ones")
    parser.add_argument("--data", type=Path, help="folder with the whole files of showers")
    parser.add_argument("--out", type=Path, default=Path("leaderboard"))
    parser.add_argument("--metrics", default="fast", choices=("fast", "full"))
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    known = {name: resolve_model(name) for name in pretrained_names()}
    known |= {run.stem if run.suffix else run.name: resolve_model(run) for run in given.runs}
    generators = {name: load_model(path) for name, path in known.items()}
    for sample, stem in SYSTEMS[given.system].items():
        train, test = (showers(given.data, sample, stem, kind) for kind in ("train", "test"))
        board(generators, train, test, given.out / given.system / sample, given)


def showers(folder: Path | None, sample: str, stem: str, kind: str) -> str:
    """The file of showers in `folder`, or the name of the shipped sample."""
    if folder is None:
        return f"{sample}-{kind}"
    found = sorted(folder.glob(f"{stem}_{kind}.*"))
    if not found:
        raise SystemExit(f"There is no file {stem}_{kind}.* in {folder}; give another --data.")
    return str(found[0])


def board(
    generators: dict[str, ModelFile],
    train: str,
    test: str,
    out: Path,
    given: argparse.Namespace,
) -> None:
    """Generate and judge with all generators of the read-out of `test`."""
    from caloforge.data import open_showers, resolve_data

    screen = Console()
    with open_showers(resolve_data(test)) as source:
        read_out = source.geometry.hash
    made = {}
    with screen.status("") as status:
        for name, file in generators.items():
            if file.model.geometry.hash != read_out:
                continue
            status.update(f"generating with {name}")
            conditions = Conditions.like(resolve_data(test), file.model.geometry)
            made[name] = out / "showers" / f"{name}.hdf5"
            made[name].parent.mkdir(parents=True, exist_ok=True)
            generate_file(file, conditions, made[name], seed=given.seed)
        if not made:
            screen.print(f"No generator is shipped for {test} yet; give trainings as RUN.")
            return
        judged = judge_files(
            test,
            made,
            out,
            floor=train,
            train=train,
            effort=given.metrics,
            seed=given.seed,
            tell=status.update,
            announce=screen.print,
        )
    screen.print(leaderboard(judged))
    screen.print(f"report: {out / 'report.html'}")


if __name__ == "__main__":
    main()
