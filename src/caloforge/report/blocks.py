"""What a report page is made of: pictures, tables and sections; anyone may add some."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from matplotlib.figure import Figure

from caloforge.judge.merit import Level


@dataclass(frozen=True)
class Picture:
    """One figure of the page.

    Parameters
    ----------
    name
        File name without suffix, and anchor on the page: letters, digits, dots and dashes.
    caption
        One to three sentences: what is shown and what to look for. Plain text.
    alt
        What a reader who cannot see it needs to know. Plain text.
    figure
        The figure, drawn inside `caloforge.report.style.style()`.
    kind
        "svg" for few lines, "png" for many panels and images.
    """

    name: str
    caption: str
    alt: str
    figure: Figure
    kind: Literal["svg", "png"] = "png"


@dataclass(frozen=True)
class Cell:
    """One entry of a table: `level` is its distance from the floor, `note` small print."""

    text: str
    level: Level = ""
    note: str = ""
    color: str = ""


@dataclass(frozen=True)
class Table:
    """A table of plain text; the first column names the row.

    `collapsed` shows its title only. The first table of a section that is not collapsed goes
    without: the section's title is its own.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""
    collapsed: bool = False


@dataclass(frozen=True)
class Section:
    """A headed part: text, pictures, tables; `more` pictures are shown behind a click."""

    title: str
    text: str = ""
    tables: tuple[Table, ...] = ()
    pictures: tuple[Picture, ...] = ()
    more: tuple[Picture, ...] = ()
