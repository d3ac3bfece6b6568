"""Numbers on logarithmic axes: at least two of them, however short the axis is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axis import Axis, XAxis
from matplotlib.ticker import Formatter, LogLocator, MaxNLocator, NullFormatter
from numpy.typing import NDArray

Array = NDArray[Any]

MOST = 6  # numbers on an axis
FEWEST = 3  # powers of ten, below which there are numbers between them
PLAIN = (1e-3, 1e4)  # numbers between these are written out


class Numbers(LogLocator):
    """Ticks at powers of ten; at 1, 2 and 5 of them, or at round numbers, on shorter axes."""

    def tick_values(self, vmin: float, vmax: float) -> list[float]:
        """The places of the ticks, all between the ends."""
        low, high = sorted((vmin, vmax))
        if not (low > 0 and np.isfinite(high)):
            return []
        powers = np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1)

        def inside(ticks: Array) -> list[float]:
            within = (ticks >= low * (1 - 1e-9)) & (ticks <= high * (1 + 1e-9))
            return [float(tick) for tick in ticks[within]]

        tens = inside(10.0**powers)
        if len(tens) >= FEWEST:
            return tens[:: -(-len(tens) // MOST)]
        between = inside(np.outer(10.0**powers, [1.0, 2.0, 5.0]).ravel())
        if 1 < len(between) <= MOST:
            return between
        if len(tens) > 1:
            return tens
        return inside(np.asarray(MaxNLocator(3).tick_values(low, high)))


class Written(Formatter):
    """Numbers as they are, or all of an axis as powers of ten where one is very small or large."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The text of one number."""
        return f"{x:g}"

    def format_ticks(self, values: Sequence[float]) -> list[str]:
        """The text of each tick."""
        if all(PLAIN[0] * 0.999 <= value <= PLAIN[1] * 1.001 for value in values):
            return [self(value) for value in values]
        return [_power(value) for value in values]


def _power(value: float) -> str:
    digits, _, power = f"{value:.3e}".partition("e")
    factor = "" if float(digits) == 1 else rf"{float(digits):g}\cdot"
    return rf"$\mathdefault{{{factor}10^{{{int(power)}}}}}$"


def log_scale(axis: Axis) -> None:
    """A logarithmic axis with numbers."""
    (axis.axes.set_xscale if isinstance(axis, XAxis) else axis.axes.set_yscale)("log")
    axis.set_major_locator(Numbers())
    axis.set_major_formatter(Written())
    axis.set_minor_formatter(NullFormatter())
