"""Train the published systems within the time given, and ship them.

    python tools/published.py --data FOLDER --minutes 25 [RECIPE ...] [--out FOLDER] [--no-ship]

There are two queues. On a GPU the recipes have their published size; on a CPU they are those that
two cores can train, with a core-hour or more each. The time that is left is shared in proportion
to these hours, and every recipe continues where it stopped the last time: give the same command
again until all are done. The trained generators are then written into
src/caloforge/pretrained/RECIPE with their results (`tools/ship.py`). FOLDER holds the Geant4
showers of `tools/leaderboard.py --data`.
"""

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

from leaderboard import SYSTEMS, showers
from rich.console import Console
from ship import ship

from caloforge.config import load_recipe
from caloforge.data import read_showers, resolve_data
from caloforge.devices import find_device
from caloforge.progress import TrainingBar
from caloforge.training.train import train, with_settings


@dataclass(frozen=True)
class Job:
    """A training of the queue.

    Parameters
    ----------
    recipe
        Name of the recipe, under which the generator is shipped.
    sample
        The read-out: a name in `leaderboard.SYSTEMS`.
    hours
        Share of the time, in core-hours.
    settings
        Overrides of the recipe, as `caloforge train --set` takes them.
    """

    recipe: str
    sample: str
    hours: float = 1.0
    settings: tuple[str, ...] = ()


# Data set 1 prefers no direction: rotated and mirrored copies are new showers.
COPIES = ("training.compile=true", 'training.augment=["rotate-alpha","reflect-alpha"]')
# The published batch of 1024 learns more slowly than one of 128, but steadily, and gets further
# (docs/systems/caloshowergan.md, "A small batch" and "Pions").
PHOTONS = (*COPIES, "training.selection.every=250")
PIONS = (*COPIES, "training.selection.every=100")

# The energy term makes the response too narrow.
NO_ENERGY_TERM = (
    "training.steps=60000",
    "training.compile=true",
    "training.selection.every=1000",
    "model.energy_weight=0",
    "model.compare_energies=true",
)

QUEUES = {
    "cuda": (
        Job("calogan-eplus-published", "calogan-eplus"),
        Job("atlas-gan-published", "atlas-cells"),
        Job("lcd-rnn-published", "lcd"),
        Job("lcd-mlp-document", "lcd"),
        Job("lagan-document", "lcd"),
        Job("caloshowergan-photon", "ds1-photons"),
        Job("caloshowergan-pion", "ds1-pions"),
        Job("lhcb-sagan-published", "lhcb"),
        Job("lhcb-wgan-published", "lhcb"),
    ),
    "cpu": (
        Job("caloshowergan-pion-norm", "ds1-pions", 3.0, PIONS),
        Job("caloshowergan-photon", "ds1-photons", 3.0, PHOTONS),
        Job("caloshowergan-photon-2", "ds1-photons", 1.5, PHOTONS),
        Job("caloshowergan-photon-3", "ds1-photons", 1.5, PHOTONS),
        Job("caloshowergan-photon-wide", "ds1-photons", 1.5, PHOTONS),
        Job("two-critics-photon", "ds1-photons"),
        Job("two-critics-pion", "ds1-pions"),
        Job("atlas-gan-two-critics", "atlas-cells", 2.0),
        Job("atlas-gan-large", "atlas-cells"),
        Job("lcd-rnn-gru", "lcd"),
        Job("lcd-rnn-conv", "lcd"),
        Job("lcd-mlp-shaped-noise", "lcd"),
        Job("lagan-document", "lcd"),
        Job("lhcb-sagan-cells-only", "lhcb", 1.5),
        Job("lhcb-sagan-cells-no-norm", "lhcb", 1.5),
        Job("lhcb-sagan-critic-norm", "lhcb", 1.5),
        Job("lhcb-sagan-no-norm", "lhcb", 1.5),
        Job("lhcb-wgan", "lhcb", 1.5),
        Job("calogan-eplus", "calogan-eplus", 2.0, NO_ENERGY_TERM),
    ),
}


class UntilTime(TrainingBar):
    """A progress bar that stops the training, as Ctrl-C would, when its time is up."""

    def __init__(self, end: float) -> None:
        super().__init__()
        self.end = end

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Show a line of the log, and look at the clock."""
        super().log(step, numbers)
        if time.monotonic() > self.end:
            raise KeyboardInterrupt


def main() -> None:
    """Train and ship the recipes that the command line names, or all of the queue."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--data", type=Path, help="folder with the whole files of showers")
    parser.add_argument("--minutes", type=float, default=25.0)
    parser.add_argument("--out", type=Path, default=Path("runs/published"))
    parser.add_argument("--device", default="auto", choices=("auto", "cuda", "cpu"))
    parser.add_argument(
        "--steps", type=int, help="fewer steps than the recipes have, to try it out"
    )
    parser.add_argument("--no-ship", action="store_true", help="train, but do not ship")
    given = parser.parse_args()
    device = find_device(given.device).type
    queue = {job.recipe: job for job in QUEUES[device]}
    for name in given.recipes:
        if name not in queue:
            parser.error(f"unknown recipe {name}; expected some of {', '.join(queue)}")
    wanted = [queue[name] for name in given.recipes or queue]
    end, screen = time.monotonic() + 60 * given.minutes, Console()
    for number, job in enumerate(wanted):
        now = time.monotonic()
        share = job.hours / sum(j.hours for j in wanted[number:])
        files = {kind: _file(given.data, job.sample, kind) for kind in ("train", "test")}
        run = given.out / job.recipe
        outcome = None
        if now < end:
            with UntilTime(now + share * (end - now)) as bar:
                outcome = train(
                    with_settings(load_recipe(job.recipe, job.settings), steps=given.steps),
                    read_showers(resolve_data(files["train"])),
                    run,
                    device=device,
                    resume=True,
                    observer=bar,
                    data=Path(files["train"]).name,
                )
            screen.print(f"{job.recipe}: step {outcome.step}, kept {outcome.best_step}")
        if (run / "model.safetensors").exists() and not given.no_ship:
            stopped = outcome is None or outcome.interrupted
            ship(
                run,
                job.recipe,
                f"python tools/published.py {job.recipe} --data FOLDER",
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
