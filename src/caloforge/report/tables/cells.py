"""Entries of tables: numbers, and metrics beside their floors."""

from __future__ import annotations

from caloforge.judge.comparison import Comparison
from caloforge.judge.folder import Result
from caloforge.judge.merit import judge
from caloforge.judge.results import one_digit
from caloforge.metrics.base import Value
from caloforge.metrics.table import metric
from caloforge.report.blocks import Cell
from caloforge.report.floors import at_floor_size


def number(value: float | None) -> str:
    """Three significant digits; a dash for nothing."""
    if value is None or value != value:
        return "–"
    return f"{value:.2e}" if 0 < abs(value) < 1e-3 else f"{value:.3g}"


def count(number_of: int) -> str:
    """A whole number with narrow spaces between thousands."""
    return f"{number_of:,}".replace(",", "\u202f")


def generators(result: Result) -> tuple[str, ...]:
    """Names of the generators, the columns of most tables."""
    return tuple(comparison.name for comparison in result.comparisons)


def figure_cell(comparison: Comparison, key: str) -> Cell:
    """Value ± error with its floor, coloured by how far they are (both at the floor's size)."""
    value: Value | None = comparison.metrics.get(key)
    if value is None:
        return Cell("–")
    scale = metric(key).scale
    error = "" if value.error is None else f" ± {one_digit(scale * value.error)}"
    sized = comparison.details.at_floor_size.get(key, value)
    return _with_floor(
        comparison, f"{number(scale * value.value)}{error}", sized, value.floor, key
    )


def mean_cell(comparison: Comparison, family: str) -> Cell:
    """Mean of a family of metrics over all observables, with the mean of their floors."""
    keys = [k for k in comparison.metrics if k.startswith(f"{family}/")]
    if not keys:
        return Cell("–")
    floors = [f for k in keys if (f := comparison.metrics[k].floor) is not None]
    value = sum(comparison.metrics[k].value for k in keys) / len(keys)
    sized = sum(at_floor_size(comparison, k) for k in keys) / len(keys)
    floor = sum(floors) / len(floors) if len(floors) == len(keys) else None
    values = [comparison.details.at_floor_size.get(k, comparison.metrics[k]) for k in keys]
    errors = [e for v in values if (e := v.joint_error) is not None]
    # Observables of one sample go together: the error of their mean is the mean of their errors.
    error = sum(errors) / len(errors) if errors else None
    mean = Value(sized, error, floor, len(keys))
    return _with_floor(comparison, number(value), mean, floor, family)


def _with_floor(
    comparison: Comparison, text: str, sized: Value, floor: float | None, key: str
) -> Cell:
    """A cell with its floor below; `sized` is the metric at the size of the floor."""
    if floor is None:
        return Cell(text)
    level, words = judge(key, sized.value, sized.joint_error, floor)
    known = metric(key)
    scale = known.scale
    note = f"floor {number(scale * floor)}" + (f", {words}" if words else "")
    details = comparison.details
    if key in details.at_floor_size or (details.at_floor_size and known.family):
        showers = details.floor.n if details.floor else "fewer"
        note = f"at {showers} showers {number(scale * sized.value)}, {note}"
    return Cell(text, level, note)
