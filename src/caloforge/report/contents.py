"""What a report on generators holds, section by section: headings, texts, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from caloforge.judge.folder import Result
from caloforge.report import figures, tables
from caloforge.report.blocks import Picture, Section, Table

# Title of a section -> the line below it, in the order of the page. Sections of kinds of particles
# come before `BEFORE_KINDS`, those that a caller adds before the last one.
SECTIONS = {
    "Where they differ": "",
    "All features together": "What no histogram of one observable can see: whether a trained "
    "classifier, or distances between clouds of showers, tell generator and Geant4 apart.",
    "Published submissions": "What the field has published for this data set, beside yours.",
    "Per incident energy": "Every observable at every energy, beside what Geant4 scatters there.",
    "Energy response": "How much of the incident energy is seen, and how sharply.",
    "Layers": "Where in depth the energy goes.",
    "Correlations": "How the layers go together.",
    "Shower shapes": "Where a shower sits, how wide it is and how many cells it lights.",
    "Attributes": "How well requested impact, angles and energy are realised.",
    "Voxels": "Energies of single cells.",
    "Average showers": "The mean shower, and single ones.",
    "Memorising": "Whether showers were copied from the training set.",
    "Timing": "",
    "Details": "Every metric with its statistical error and its floor.",
}
BEFORE_KINDS = "Memorising"


def report_sections(result: Result, extra: Sequence[Section] = ()) -> list[Section]:
    """All sections below the summary, in order; `extra` ones come before the details.

    A section that a line of `FIGURES` or `TABLES` names and `SECTIONS` does not comes after those
    that are known. Sections without anything to show are left out.
    """
    *known, last = SECTIONS
    named = [line.section for line in figures.FIGURES] + [line.section for line in tables.TABLES]
    others = [title for title in dict.fromkeys(named) if title not in SECTIONS]
    sections: list[Section] = []
    for title in (*known, *others):
        if title == BEFORE_KINDS:
            sections += kind_sections(result)
        sections.append(section(result, title))
    sections += [*extra, section(result, last)]
    return [s for s in sections if s.tables or s.pictures or s.more]


def section(result: Result, title: str) -> Section:
    """One section with all its tables and pictures."""
    lines = [line for line in figures.FIGURES if line.section == title]
    return Section(
        title,
        SECTIONS.get(title, ""),
        tables=_tables(result, title),
        pictures=_drawn(result, [line.draw for line in lines if not line.more]),
        more=_drawn(result, [line.draw for line in lines if line.more]),
    )


def kind_sections(result: Result) -> list[Section]:
    """A section for each kind of particle of which every sample has showers."""
    return [
        Section(
            f"{name} alone",
            f"Showers of the particle {name} only.",
            pictures=tuple(
                replace(picture, name=f"{picture.name}-{name}")
                for picture in _drawn(result.of_kind(name), figures.OF_KIND)
            ),
        )
        for name in result.shown.kinds
    ]


def _tables(result: Result, title: str) -> tuple[Table, ...]:
    shown: list[Table] = []
    for line in tables.TABLES:
        if line.section == title:
            made = line.make(result)
            shown += [] if made is None else [made] if isinstance(made, Table) else made
    return tuple(shown)


def _drawn(result: Result, draws: Sequence[figures.Draw]) -> tuple[Picture, ...]:
    pictures: list[Picture] = []
    for draw in draws:
        made = draw(result)
        several = [made] if made is None or isinstance(made, Picture) else made
        pictures += [picture for picture in several if picture is not None]
    return tuple(pictures)
