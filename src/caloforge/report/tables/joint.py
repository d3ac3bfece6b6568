"""Tables of the metrics of all features or cells together, and of several runs of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from caloforge.judge.comparison import Comparison
from caloforge.judge.folder import Result
from caloforge.judge.results import RUNS_LEGEND, runs_row
from caloforge.judge.runs import recipe_runs
from caloforge.metrics.table import metric, metrics
from caloforge.report.blocks import Cell, Table
from caloforge.report.tables.cells import count, figure_cell, generators


def joint_table(result: Result) -> Table | None:
    """All metrics of all features or cells together: a row a metric, a column a generator."""
    comparisons = result.comparisons
    shown = [
        known
        for known in metrics()
        if known.needs in ("effort", "training")
        and any(known.key in c.metrics for c in comparisons)
    ]
    if not shown:
        return None
    reduced = {key for c in comparisons for key in c.details.notes.reduced}
    rows = tuple(
        (
            Cell(known.name + (" (reduced)" if known.key in reduced else "")),
            Cell(known.meaning.replace("`", "")),
            *(_joint_cell(comparison, known.key) for comparison in comparisons),
        )
        for known in shown
    )
    return Table(
        "All features together",
        ("metric", "what it says", *generators(result)),
        rows,
        note=_effort_note(comparisons),
    )


def _joint_cell(comparison: Comparison, key: str) -> Cell:
    cell = figure_cell(comparison, key)
    value = comparison.metrics.get(key)
    n = "" if value is None else f"N\u00a0=\u00a0{count(value.n)}"
    return replace(cell, note="; ".join(part for part in (cell.note, n) if part))


def _effort_note(comparisons: Sequence[Comparison]) -> str:
    """With which effort and by which classifiers the metrics were computed."""
    efforts = list(dict.fromkeys(c.details.notes.effort for c in comparisons))
    text = ""
    if any(efforts):
        text = f"Metrics: {', '.join(e for e in efforts if e)}. "
    trained = [
        f"{metric(f'auc_{name}').name.removeprefix('AUC ')}: {training.n_train} showers of each "
        f"sample to train on, {training.n_held_out} held out, {training.repeats} repeat"
        f"{'s' if training.repeats != 1 else ''} ({training.protocol.name})"
        for name, training in comparisons[0].details.notes.classifier.items()
    ]
    if trained:
        text += f"Classifiers of {comparisons[0].name}: {'; '.join(trained)}. "
    if any(c.details.notes.boosted for c in comparisons):
        text += "AUC boosted: every shower judged once, in four folds. "
    if any(c.details.notes.reduced for c in comparisons):
        text += "Reduced: made with fewer showers than the published rule asks for. "
    return text + "An AUC grows with the training sample: read it beside its floor only."


def runs_table(result: Result) -> Table | None:
    """Means over the runs of each recipe that made several of the generators."""
    runs = recipe_runs(result.comparisons)
    rows = [runs_row(r) for r in runs]
    headings = list(dict.fromkeys(heading for row in rows for heading in row))
    if not runs:
        return None
    return Table(
        "Means over the runs of a recipe",
        ("metric", *(r.recipe for r in runs)),
        tuple((Cell(h), *(Cell(row.get(h, "–")) for row in rows)) for h in headings),
        note=RUNS_LEGEND,
    )
