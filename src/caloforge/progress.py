"""Progress bars and tables of the command line, readable at 80 columns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType

from rich.console import RenderableType
from rich.markup import escape as plain
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from caloforge.judge.comparison import Comparison
from caloforge.judge.merit import judge, level_counts, mean_ranks, worst
from caloforge.judge.published import published
from caloforge.judge.results import (
    LEGEND,
    NOTHING,
    RANK,
    cell_levels,
    joint_legend,
    joint_row,
    leaderboard_row,
    rank_legend,
)
from caloforge.metrics.table import metric


class _WithNumbers(Progress):
    """Bars with the field `numbers` of the newest on a line below, which never wraps."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """The bars, and the line of numbers."""
        yield self.make_tasks_table(self.tasks)
        numbers = self.tasks[-1].fields.get("numbers", "") if self.tasks else ""
        if numbers:
            yield Text(f"  {numbers}", no_wrap=True, overflow="ellipsis")


def time_columns() -> tuple[ProgressColumn, ...]:
    """The time since the beginning, and the time left, which ends at 0."""
    return TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()


class TrainingBar:
    """A training's bar: steps and time left; below it losses, steps per second, last score."""

    def __init__(self) -> None:
        self._bar = _WithNumbers(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            *time_columns(),
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


# How a level of `caloforge.judge.merit` is coloured: what is at its floor stays plain.
STYLES: dict[str, str] = {"": "", "good": "", "near": "", "off": "yellow", "far": "bold red"}


def leaderboard(comparisons: Sequence[Comparison]) -> Table:
    """The metrics of several generators side by side, each with its floor in brackets; what is
    off its floor is yellow, what is far off red.
    """
    joint = [joint_row(comparison) for comparison in comparisons]
    legend = LEGEND if not any(joint) else f"{LEGEND}\n{joint_legend(comparisons)}"
    ranks = mean_ranks(comparisons)
    if ranks is not None:
        legend += f" {rank_legend(comparisons)}"
    table = Table("metric", *(plain(c.name) for c in comparisons), caption=plain(legend))
    levels = [cell_levels(comparison) for comparison in comparisons]
    for rows in ([leaderboard_row(comparison) for comparison in comparisons], joint):
        for heading in dict.fromkeys(heading for row in rows for heading in row):
            cells = (
                Text(row.get(heading, NOTHING), style=STYLES[level.get(heading, "")])
                for row, level in zip(rows, levels, strict=True)
            )
            table.add_row(heading, *cells)
        table.add_section()
    if ranks is not None:
        table.add_row(RANK, *(f"{rank:.1f}" for rank in ranks))
    return table


def published_rows(geometry: str, comparisons: Sequence[Comparison]) -> Table | None:
    """The published submissions for a read-out with a word on N; None where there are none."""
    known = published(geometry)
    keys = known.common(comparisons) if known else []
    if known is None or not keys:
        return None
    title = f"Published submissions to the CaloChallenge, {known.title}"
    size = max(c.metrics[k].n for c in comparisons for k in keys if k in c.metrics)
    names = [metric(key).name for key in keys]
    table = Table("submission", *names, title=title, caption=plain(known.caution(size)))
    for row in known.rows:
        cells = [row.metrics.get(key) for key in keys]
        scaled = zip(keys, cells, strict=True)
        table.add_row(
            row.name,
            *(NOTHING if c is None else f"{metric(k).scale * c[0]:.3g}" for k, c in scaled),
        )
    return table


def verdict(comparison: Comparison) -> str:
    """What to say of a generator: which share of its metrics is off the floor, and the worst; and
    that no classifier is among them where that is so, since classifiers see most.
    """
    sentence = _verdict(comparison)
    if any(key.startswith("auc_") for key in comparison.metrics):
        return sentence
    return f"{sentence} No classifier is among these metrics."


def _verdict(comparison: Comparison) -> str:
    counts = level_counts(comparison)
    judged = sum(counts.values())
    if not judged:
        return f"{comparison.name}: nothing has a floor, so nothing can be said of its quality."
    off = counts["off"] + counts["far"]
    if not off:
        return (
            f"{comparison.name}: all {judged} metrics are at their floor or up to three times it; "
            "samples of this size hardly tell it from the reference."
        )
    sentence = (
        f"{comparison.name}: {off} of {judged} metrics are off their floor, {counts['far']} of "
        "them far"
    )
    found = worst(comparison)
    if found is None:
        return f"{sentence}."
    key, _ = found
    known, figure = metric(key), comparison.sized[key]
    # A name is quoted: in the middle of a sentence "Separation power" would be in small letters.
    name = f"“{known.name}”"
    if known.family:
        member, _, layer = key.partition("/")[2].partition("/")
        name += f" of {member.replace('_', ' ')}" + (f" in layer {layer}" if layer else "")
    _, words = judge(key, figure.value, figure.joint_error, figure.floor)
    value, floor = known.scale * figure.value, known.scale * (figure.floor or 0.0)
    return f"{sentence}; the worst is {name}, {value:.3g} with a floor of {floor:.3g}: {words}."


@contextmanager
def counter(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar that is advanced by the number it is called with."""
    columns = (TextColumn("{task.description}"), BarColumn(bar_width=30), MofNCompleteColumn())
    with Progress(*columns, *time_columns()) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done: bar.update(task, advance=done)
