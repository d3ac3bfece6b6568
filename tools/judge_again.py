"""Judge shipped generators again with today's metrics and floors.

    python tools/judge_again.py --data FOLDER [FOLDER ...] [--older-than FILE] [NAME ...]

For each generator in src/caloforge/pretrained, the program finds the files that its README names,
generates showers, judges them and writes README.md and results.json anew, as `tools/ship.py` does.
The folders hold the Geant4 showers; a reference is the file with the right name and the right
number of showers. Where conditions are continuous and the generator was judged with the conditions
of the reference itself, those of another file take their place: the test file of another folder,
else the training file. Without names, all generators are judged.
"""

import argparse
import json
import re
from pathlib import Path

from ship import SHELF, ship

from caloforge.data import open_showers

PLACES = re.compile(r"independent run\s+\(`([^`]*)`\), with the floor from `([^`]*)`")
NOTE = re.compile(r"```\n\n(.*?)(?:The weights are stored in 16 bits\. )?The generator was", re.S)


def main() -> None:
    """Judge the generators that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--data", type=Path, nargs="+", required=True, metavar="FOLDER")
    parser.add_argument("--older-than", type=Path, help="skip what was judged after this file")
    given = parser.parse_args()
    names = given.names or sorted(path.parent.name for path in SHELF.glob("*/results.json"))
    for name in names:
        results = SHELF / name / "results.json"
        if given.older_than and results.stat().st_mtime > given.older_than.stat().st_mtime:
            continue
        judge_again(name, given.data)


def judge_again(name: str, folders: list[Path]) -> None:
    """Judge one generator with the files that its README names, and write its folder anew."""
    folder = SHELF / name
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    page = (folder / "README.md").read_text(encoding="utf-8")
    places, note = PLACES.search(page), NOTE.search(page)
    if places is None or note is None:
        raise SystemExit(f"{folder / 'README.md'} does not say what {name} was judged on.")
    test, train = places.groups()
    home = _home(folders, test, results["reference"]["n"])
    ship(
        folder,
        name,
        results["command"],
        reference=str(home / test),
        floor=str(home / train),
        train=str(home / train),
        like=_like(folders, home, test, train),
        note=" ".join(note[1].split()),
    )


def _home(folders: list[Path], test: str, showers: int) -> Path:
    """The folder with the reference of so many showers."""
    for folder in folders:
        if (folder / test).exists():
            with open_showers(folder / test) as source:
                if len(source) == showers:
                    return folder
    raise SystemExit(f"No {test} with {showers} showers in {', '.join(map(str, folders))}.")


def _like(folders: list[Path], home: Path, test: str, train: str) -> str | None:
    """Another file with conditions of the same kind; None where energies are discrete alone."""
    with open_showers(home / test) as source:
        showers = source.read()
    if len({tuple(row) for row in showers.conditions}) < len(showers) / 10:
        return None
    others = [folder for folder in folders if folder != home and (folder / test).exists()]
    return str(others[0] / test if others else home / train)


if __name__ == "__main__":
    main()
