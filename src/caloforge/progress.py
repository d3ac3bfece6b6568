"""Progress bars of the command line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.markup import escape as plain
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from caloforge.evaluation.compare import Comparison
from caloforge.evaluation.merit import mean_ranks
from caloforge.evaluation.results import (
    LEGEND,
    NOTHING,
    RANK,
    joint_legend,
    joint_row,
    leaderboard_row,
    rank_legend,
)


class TrainingBar:
    """A training's bar: steps, losses, steps per second, time left, the last score."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[numbers]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(elapsed_when_finished=True),
        )
        self._task: TaskID | None = None
        self._numbers, self._score = "", ""

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def start(self, what: str, step: int, steps: int) -> None:
        """A new bar for a training, or for one energy range of it."""
        self._task = self._bar.add_task(what, total=steps, completed=step, numbers="")

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Losses and speed."""
        losses = " ".join(
            f"{k.removeprefix('loss/')} {v:.3g}"
            for k, v in numbers.items()
            if k.startswith("loss/")
        )
        self._numbers = f"{losses} {numbers['steps_per_second']:.2f} it/s"
        self._show(step)

    def choice(self, step: int, score: str, best: bool) -> None:
        """A score."""
        self._score = f"{score}{' (kept)' if best else ''}"
        self._show(step)

    def _show(self, step: int) -> None:
        if self._task is not None:
            self._bar.update(
                self._task, completed=step, numbers=f"{self._numbers} {self._score}".strip()
            )


def leaderboard(comparisons: Sequence[Comparison]) -> Table:
    """The figures of several generators side by side, each with its floor in brackets."""
    joint = [joint_row(comparison) for comparison in comparisons]
    legend = LEGEND if not any(joint) else f"{LEGEND}\n{joint_legend(comparisons)}"
    ranks = mean_ranks(comparisons)
    if ranks is not None:
        legend += f" {rank_legend(comparisons)}"
    table = Table("figure", *(plain(c.name) for c in comparisons), caption=plain(legend))
    for rows in ([leaderboard_row(comparison) for comparison in comparisons], joint):
        for heading in dict.fromkeys(heading for row in rows for heading in row):
            table.add_row(heading, *(row.get(heading, NOTHING) for row in rows))
        table.add_section()
    if ranks is not None:
        table.add_row(RANK, *(f"{rank:.1f}" for rank in ranks))
    return table


@contextmanager
def counter(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is advanced by the number it is called with."""
    with Progress() as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, advance=done)
