"""Train the published systems at published size on a GPU, within the time given, and ship them.

    python tools/published.py --data FOLDER --minutes 25 [RECIPE ...] [--out FOLDER] [--no-ship]

Every recipe gets an equal share of the time that is left and goes on where it stopped the last
time: give the same command again until all are done. What was trained is then written into
src/caloforge/pretrained/RECIPE with its results (`tools/ship.py`). FOLDER holds the Geant4 showers
of `tools/leaderboard.py --data`. Without a GPU it says so; --device cpu tries it out nevertheless.
"""

import argparse
import time
from pathlib import Path

import torch
from leaderboard import SYSTEMS, showers
from rich.console import Console
from ship import ship

from caloforge.config import load_recipe
from caloforge.data import read_showers, resolve_data
from caloforge.progress import TrainingBar
from caloforge.training import train, with_settings

# The trainings of the five documents, at their size, and the read-out each is for.
RECIPES = {
    "calogan-eplus-published": "calogan-eplus",
    "atlas-gan-published": "atlas-cells",
    "lcd-rnn-published": "lcd",
    "lcd-mlp-document": "lcd",
    "lagan-document": "lcd",
    "caloshowergan-photon": "ds1-photons",
    "caloshowergan-pion": "ds1-pions",
    "lhcb-sagan-published": "lhcb",
    "lhcb-wgan-published": "lhcb",
}


class UntilTime(TrainingBar):
    """Shows the training, and stops it as Ctrl-C would when its time is up."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """A line of the log: where there is time to look at the clock."""
        super().log(step, numbers)
        if time.monotonic() > self.end:
            raise KeyboardInterrupt


def main() -> None:
    """Train and ship the recipes that the command line names, or all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--data", type=Path, help="folder with the whole files of showers")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--steps", type=int, help="fewer than the recipes say, to try it out")
    parser.add_argument("--no-ship", action="store_true", help="train only")
    given = parser.parse_args()
    if given.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here: published sizes take days on CPUs.")
    for name in given.recipes:
        if name not in RECIPES:
            parser.error(f"unknown recipe {name}; expected some of {', '.join(RECIPES)}")
    wanted = given.recipes or list(RECIPES)
    end, screen = time.monotonic() + 60 * given.minutes, Console()
    for number, name in enumerate(wanted):
        now = time.monotonic()
        share = now + (end - now) / (len(wanted) - number)
        files = {kind: _file(given.data, RECIPES[name], kind) for kind in ("train", "test")}
        run = given.out / name
        outcome = None
        if now < end:
            with UntilTime(share) as bar:
                outcome = train(
                    with_settings(load_recipe(name), steps=given.steps, log_every=10),
                    read_showers(resolve_data(files["train"])),
                    run,
                    device=given.device,
                    resume=True,
                    observer=bar,
                    data=Path(files["train"]).name,
                )
            screen.print(f"{name}: step {outcome.step}, kept {outcome.best_step}")
        if (run / "model.safetensors").exists() and not given.no_ship:
            stopped = outcome is None or outcome.interrupted
            ship(
                run,
                name,
                f"python tools/published.py {name} --data FOLDER",
                reference=files["test"],
                floor=files["train"],
                train=files["train"],
                note=f"Stopped at step {outcome.step}." if outcome and stopped else "",
            )


def _file(folder: Path | None, sample: str, kind: str) -> str:
    stem = next(files[sample] for files in SYSTEMS.values() if sample in files)
    return showers(folder, sample, stem, kind)


if __name__ == "__main__":
    main()
