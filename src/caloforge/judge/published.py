"""The published submissions to the CaloChallenge, to stand beside one's own generator.

Source: C. Krause et al. 2024, arXiv:2410.21611, the public tables of its evaluation; the numbers
lie in `published.json` beside this module.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from caloforge.judge.comparison import Comparison

SOURCE = "C. Krause et al. 2024, arXiv:2410.21611"
DATA_SETS = {
    "ds1-photons": "data set 1, photons",
    "ds1-pions": "data set 1, charged pions",
    "ds2": "data set 2",
    "ds3": "data set 3",
}


@dataclass(frozen=True)
class Submission:
    """One published generator: key of a metric -> value and its standard deviation, None where
    none was published.
    """

    name: str
    metrics: dict[str, tuple[float, float | None]]


@dataclass(frozen=True)
class Published:
    """The submissions for one data set.

    Parameters
    ----------
    title
        The data set in words.
    n
        Number of generated showers that every submission was judged with, as many as there were
        reference showers.
    rows
        The submissions; the first is Geant4 against itself, which is the floor.
    """

    title: str
    n: int
    rows: tuple[Submission, ...]

    def common(self, comparisons: Sequence[Comparison]) -> list[str]:
        """Keys of the published metrics that any of the judged generators has too."""
        return [k for k in self.rows[0].metrics if any(k in c.metrics for c in comparisons)]

    def caution(self, n: int) -> str:
        """A sentence on how the published rows compare with `n` showers of one's own."""
        return (
            f"Published with {self.n:,} showers ({SOURCE}); yours: {n:,}. With fewer showers a "
            "classifier learns less and its AUC is lower for the same generator, and FPD, KPD, "
            "precision, recall, density and coverage change as well: "
            + (
                "these rows are of about the same size."
                if 0.8 <= n / self.n <= 1.25
                else "compare each row with its own floor, the first row, and not across sizes."
            )
        )


@cache
def _content() -> dict[str, Published]:
    file = resources.files("caloforge") / "judge" / "published.json"
    plain = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Published(
            DATA_SETS[name],
            entry["n"],
            tuple(
                Submission(row["name"], {k: (v, e) for k, (v, e) in row["metrics"].items()})
                for row in entry["rows"]
            ),
        )
        for name, entry in plain["data_sets"].items()
    }


def published(geometry: str) -> Published | None:
    """What is published for the read-out of this name; None where nothing is."""
    return _content().get(geometry)
