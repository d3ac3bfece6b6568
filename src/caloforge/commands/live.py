"""The bar of `caloforge train`, which also keeps the page of the run up to date."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from caloforge.progress import TrainingBar
from caloforge.report.training import write_training_page

LIVE = 60.0  # seconds between two pages of a running training


class LiveBar(TrainingBar):
    """A bar that also writes the page of the run again every minute.

    A page takes about a second; where it takes longer it is written less often, so that a training
    loses at most a twentieth of its time.
    """

    def __init__(self, out: Path) -> None:
        super().__init__()
        self._out, self._next = out, time.monotonic() + LIVE

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Show a line of the log, and write the page when it is time."""
        super().log(step, numbers)
        begin = time.monotonic()
        if begin < self._next:
            return
        # A page that cannot be drawn must not end a training of days: the next try comes.
        with suppress(Exception):
            write_training_page(self._out, live=True)
        end = time.monotonic()
        self._next = end + max(LIVE, 20 * (end - begin))
