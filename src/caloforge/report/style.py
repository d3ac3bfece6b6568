"""Colours, fonts and files of the figures: one look per sample, reproducible bytes."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import matplotlib.style
from matplotlib.figure import Figure

# Okabe & Ito's palette: told apart by colour-blind readers; line styles tell apart what is printed
# in black and white.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
LINES: tuple[Any, ...] = ("-", (0, (5, 1.2)), (0, (5, 1.2, 1, 1.2)), (0, (1.5, 1)))
MARKERS = ("o", "s", "^", "D", "v", "P")
INK = "#26292c"
GEANT4_FILL = "#d5d7da"
GEANT4_EDGE = "#7d8288"
FLOOR = "#33373b"
BAND = "#c3c8ce"
DPI = 170  # of pictures and of the meshes inside vector files

_RC: dict[str, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "mathtext.fontset": "dejavusans",
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#44484c",
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 4.0,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-5, 6),
    "axes.formatter.use_mathtext": True,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.5,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "svg.fonttype": "path",
    "svg.hashsalt": "caloforge",
    "pdf.fonttype": 42,
}


@dataclass(frozen=True)
class Look:
    """How one sample is drawn in every figure: its label, colour, line style and marker."""

    label: str
    color: str
    line: Any = "-"
    marker: str = "o"


REFERENCE_LOOK = Look("Geant4 (reference)", GEANT4_EDGE)
FLOOR_LOOK = Look("Geant4 (second sample)", FLOOR, (0, (1.2, 1.2)), "x")


def looks(names: Sequence[str]) -> list[Look]:
    """One look per generator, in order; colours repeat after six, line styles after four."""
    return [
        Look(
            plain(name),
            COLORS[i % len(COLORS)],
            LINES[i % len(LINES)],
            MARKERS[i % len(MARKERS)],
        )
        for i, name in enumerate(names)
    ]


LONGEST = 36  # letters of a name in a legend


def plain(text: str) -> str:
    """`text` as a label: at most 36 letters, no mathematics, "?" for what the font lacks."""
    known = _letters()
    shown = "".join(c if ord(c) in known and c.isprintable() else "?" for c in text)
    if len(shown) > LONGEST:
        shown = f"{shown[: LONGEST // 2 - 1]}…{shown[-(LONGEST // 2) :]}"
    # Matplotlib leaves labels that start with an underscore out of legends.
    return (f" {shown}" if shown.startswith("_") else shown).replace("$", r"\$")


@cache
def _letters() -> frozenset[int]:
    from matplotlib.font_manager import findfont, get_font

    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


@contextmanager
def style() -> Iterator[None]:
    """Matplotlib settings of the report for the time of the context, whatever the caller's are."""
    with matplotlib.style.context(["default", _RC]):
        yield


def to_bytes(figure: Figure, kind: Literal["svg", "png", "pdf"], dpi: int | None = None) -> bytes:
    """The figure as a file of that kind, its pixels `dpi` an inch (default: `DPI`); the same
    figure always gives the same bytes.
    """
    buffer = io.BytesIO()
    silent: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None},
        "png": {"Software": None},
    }
    figure.savefig(buffer, format=kind, metadata=silent[kind], dpi=DPI if dpi is None else dpi)
    return buffer.getvalue()
