"""`caloforge watch`: a training seen from outside, from the files that it writes."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caloforge.commands import console
from caloforge.errors import CaloForgeError

if TYPE_CHECKING:
    from rich.console import RenderableType


@dataclass(frozen=True)
class Progress:
    """What the files of one training say.

    Parameters
    ----------
    name
        Name of the recipe, with the energy range of a model that is split.
    steps
        Number of steps of the recipe.
    last
        The newest line of the log: `step`, losses, gradients and `steps_per_second`.
    choices
        The scores of the generator so far, oldest first.
    """

    name: str
    steps: int
    last: dict[str, float]
    choices: list[dict[str, Any]]

    @property
    def step(self) -> int:
        """The newest step that any file names."""
        chosen = self.choices[-1]["step"] if self.choices else 0
        return max(int(self.last.get("step", 0)), int(chosen))


def watch(
    run: Annotated[Path, typer.Argument(help="Folder of a training: the --out of `train`.")],
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
) -> None:
    """Follow a training that another terminal or a cluster runs: step, losses, scores, time left.
    It ends with the training, or with Ctrl-C, which does not stop the training.
    """
    from rich.live import Live

    if not every > 0:
        raise CaloForgeError(f"Got --every {every:g}; expected a number of seconds above 0.")
    progress = read_progress(run)
    if once:
        console().print(_shown(progress))
        return
    with Live(_shown(progress), console=console(), refresh_per_second=4) as live:
        while any(part.step < part.steps for part in progress):
            time.sleep(every)
            progress = read_progress(run)
            live.update(_shown(progress))


def read_progress(run: Path) -> list[Progress]:
    """The state of a training, or of each energy range of a split model.

    Raises CaloForgeError for a folder that is no training's.
    """
    from caloforge.config import load_recipe

    path = run / "recipe.toml"
    if not path.exists():
        raise CaloForgeError(
            f"{run} holds no recipe.toml; expected the folder of a training: the --out of "
            "`caloforge train`."
        )
    recipe = load_recipe(path)
    ranges = sorted(run.glob("range*"))
    return [
        Progress(
            recipe.name if not ranges else f"{recipe.name} {folder.name}",
            recipe.training.steps,
            _last_line(folder / "log.jsonl"),
            _choices(folder / "selection.json"),
        )
        for folder in ranges or [run]
    ]


def _last_line(path: Path) -> dict[str, float]:
    """The newest whole line of a log; the training may be writing the next one."""
    if not path.exists():
        return {}
    for line in reversed(path.read_text(encoding="utf-8", errors="replace").splitlines()[-3:]):
        try:
            numbers = json.loads(line)
        except ValueError:
            continue
        if isinstance(numbers, dict):
            return numbers
    return {}


def _choices(path: Path) -> list[dict[str, Any]]:
    from caloforge.report.training import history_of

    return history_of(path.parent) if path.exists() else []


def _shown(progress: list[Progress]) -> RenderableType:
    from rich.table import Table

    table = Table("training", "step", "time left", "losses", "last score", "kept")
    for part in progress:
        rate = part.last.get("steps_per_second", 0.0)
        left = (part.steps - part.step) / rate if rate else None
        losses = "  ".join(
            f"{key.removeprefix('loss/')} {value:.3g}"
            for key, value in part.last.items()
            if key.startswith("loss/")
        )
        score = part.choices[-1]["chi2_ndf"] if part.choices else None
        kept = [choice["step"] for choice in part.choices if choice["kept"]]
        table.add_row(
            part.name,
            f"{part.step:,} of {part.steps:,}",
            "unknown" if left is None else _clock(left),
            losses or "none yet",
            "none yet" if score is None else f"χ²/NDF {score:.3g}",
            f"step {kept[-1]:,}" if kept else "none yet",
        )
    return table


def _clock(seconds: float) -> str:
    """A time as hours:minutes:seconds."""
    whole = max(0, round(seconds))
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
