"""The tables of a page: one line each, in the order of the page.

A table is a pure function of a `Result` that gives a `Table`, several at once, or None where the
result has nothing for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from caloforge.judge.folder import Result
from caloforge.report.blocks import Table
from caloforge.report.tables import attributes, details, energies, giveaways, joint
from caloforge.report.tables.published import published_table


class Line(NamedTuple):
    """The section that shows a table, and the function that makes it."""

    section: str
    make: Callable[[Result], Table | Sequence[Table] | None]


TABLES = [
    Line("All features together", joint.joint_table),
    Line("All features together", giveaways.giveaway_table),
    Line("All features together", giveaways.size_table),
    Line("All features together", joint.runs_table),
    Line("Published submissions", published_table),
    Line("Per incident energy", energies.energy_table),
    Line("Attributes", attributes.attributes_table),
    Line("Timing", details.timing_table),
    Line("Details", details.metric_tables),
]
