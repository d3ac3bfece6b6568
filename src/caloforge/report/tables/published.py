"""The published submissions to the CaloChallenge beside the judged generators."""

from __future__ import annotations

from caloforge.judge.folder import Result
from caloforge.judge.published import published
from caloforge.judge.results import shown_value
from caloforge.metrics.base import Value
from caloforge.metrics.table import metric
from caloforge.report.blocks import Cell, Table
from caloforge.report.drawn import looks_of


def published_table(result: Result) -> Table | None:
    """One row a generator, the judged ones first, then the published ones; None for read-outs that
    the CaloChallenge does not have, and without any metric in common.
    """
    known = published(result.shown.frame.geometry.name)
    if known is None:
        return None
    keys = known.common(result.comparisons)
    if not keys:
        return None
    rows = [
        (
            Cell(f"{comparison.name} (yours)", color=look.color),
            *(_cell(key, comparison.metrics.get(key)) for key in keys),
        )
        for comparison, look in zip(result.comparisons, looks_of(result), strict=True)
    ]
    for row in known.rows:
        floor = " against itself (floor)" if row is known.rows[0] else ""
        values = [row.metrics.get(key) for key in keys]
        cells = [
            _cell(key, None if value is None else Value(*value, None, known.n))
            for key, value in zip(keys, values, strict=True)
        ]
        rows.append((Cell(f"{row.name}{floor}"), *cells))
    sizes = [v.n for c in result.comparisons for k, v in c.metrics.items() if k in keys]
    return Table(
        f"Published submissions to the CaloChallenge, {known.title}",
        ("generator", *(metric(key).name for key in keys)),
        tuple(rows),
        note=known.caution(max(sizes)),
    )


def _cell(key: str, value: Value | None) -> Cell:
    return Cell("–" if value is None else shown_value(value, metric(key).scale))
