"""All metrics of all generators, and times."""

from __future__ import annotations

from typing import Any

from caloforge.judge.folder import Result
from caloforge.metrics.table import metric
from caloforge.report.blocks import Cell, Table
from caloforge.report.drawn import observable_label
from caloforge.report.tables.cells import figure_cell, generators, number


def metric_tables(result: Result) -> tuple[Table, ...]:
    """All metrics of all generators: one collapsed table a family, those without one first."""
    comparisons = result.comparisons
    keys = list(dict.fromkeys(k for c in comparisons for k in c.metrics))
    families = list(dict.fromkeys(k.partition("/")[0] if "/" in k else "" for k in keys))
    tables = []
    for family in sorted(families, key=lambda f: f != ""):
        members = [k for k in keys if (k.partition("/")[0] if "/" in k else "") == family]
        rows = tuple(
            (
                Cell(_row_name(result, k)),
                *(figure_cell(c, k) for c in comparisons),
            )
            for k in members
        )
        title = metric(family).name if family else "Metrics over all showers"
        tables.append(
            Table(
                title,
                ("metric" if not family else "observable", *generators(result)),
                rows,
                collapsed=True,
            )
        )
    return tuple(tables)


def _row_name(result: Result, key: str) -> str:
    if "/" not in key:
        return metric(key).name
    return observable_label(result, key.partition("/")[2])


def timing_table(result: Result) -> Table | None:
    """The rows of times as they come: names as columns, numbers with three digits."""
    rows = result.timing
    if not rows:
        return None
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return Table(
        "Time",
        tuple(c.replace("_", " ") for c in columns),
        tuple(tuple(Cell(_plain(row.get(c))) for c in columns) for row in rows),
    )


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return number(value)
    return str(value)
