"""The report: one HTML file that needs nothing else, from summaries and comparisons.

The page depends on its input alone: no date, no machine, no random number. Letters from file names
are escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from caloforge.errors import CaloForgeError
from caloforge.files import atomic_path, write_text
from caloforge.report import tables
from caloforge.report.blocks import Picture, Section
from caloforge.report.contents import report_sections
from caloforge.report.samples import Samples, names
from caloforge.report.style import style, to_bytes

if TYPE_CHECKING:
    from caloforge.evaluation.compare import Comparison
    from caloforge.evaluation.summary import Summary

_MIME = {"svg": "image/svg+xml", "png": "image/png"}


def write_report(
    path: str | Path,
    reference: Summary,
    generated: Sequence[Summary],
    comparisons: Sequence[Comparison],
    *,
    floor: Summary | None = None,
    timing: Sequence[Mapping[str, Any]] | None = None,
    title: str | None = None,
    intro: str | None = None,
    figures_as_pdf: Path | None = None,
    extra_sections: Sequence[Section] = (),
) -> Path:
    """Write the report as one self-contained HTML file and return its path.

    Parameters
    ----------
    path
        The file to write.
    reference, generated, floor
        Summaries of the reference showers, of each generator, and of a second reference sample.
    comparisons
        What `caloforge.evaluation.compare.compare` made of them, one a generator, in the same
        order.
    timing
        Rows for the table of times, with equal keys (for example name, batch, ms_per_shower).
    title, intro
        Heading and a paragraph below it; plain text.
    figures_as_pdf
        A folder that gets every figure as PDF too.
    extra_sections
        More sections, shown before the details.

    Raises
    ------
    CaloForgeError
        For no generated sample, samples without showers or of different read-outs, comparisons
        that do not belong to the samples, and a place that cannot be written.
    """
    samples = Samples(reference, tuple(generated), floor)
    if [c.name for c in comparisons] != [s.name for s in generated]:
        raise CaloForgeError(
            f"The comparisons are of {names([c.name for c in comparisons]) or 'nothing'}, the "
            f"generated samples {names([s.name for s in generated])}; expected one comparison a "
            "sample, in the same order."
        )
    with style():
        sections = report_sections(samples, comparisons, timing, extra_sections)
        return _write(
            path,
            title or f"{samples.geometry.title}: generated showers against Geant4",
            sections,
            figures_as_pdf,
            {"intro": intro, "summary": _summary(samples, comparisons)},
        )


def write_page(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    *,
    intro: str | None = None,
    verbatim: str = "",
    figures_as_pdf: Path | None = None,
) -> Path:
    """Write sections of one's own as a page of the same form and return its path.

    `intro` is a paragraph below the title, `verbatim` text shown as it is at the end (a recipe).

    Raises
    ------
    CaloForgeError
        For a place that cannot be written.
    """
    with style():
        extra = {"intro": intro, "verbatim": verbatim}
        return _write(path, title, sections, figures_as_pdf, extra)


def _write(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    folder: Path | None,
    more: dict[str, Any],
) -> Path:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("caloforge", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    blocks = [_encode(section, folder) for section in sections]
    filled = {"summary": None, "verbatim": "", "title": title, "sections": blocks} | more
    write_text(path, environment.get_template("report.html").render(filled))
    return Path(path)


def _summary(samples: Samples, comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """What the top of the report shows."""
    return {
        "geometry": samples.geometry,
        "compared": tables.compared(samples),
        "leaderboard": tables.leaderboard(samples, comparisons),
        "floor_kind": _floor_text(comparisons[0]),
        "warnings": [(c.name, w) for c in comparisons for w in c.details.get("warnings", [])],
    }


def _floor_text(comparison: Comparison) -> str:
    """How the floor was made, from the details of a comparison."""
    made = comparison.details.get("floor")
    if not made:
        return "two samples of the reference simulation"
    return f"{made['kind']}, {made['n']} against {made['n_reference']} showers"


def _encode(section: Section, folder: Path | None) -> dict[str, Any]:
    """A section for the template, its figures as data addresses."""
    return {
        "title": section.title,
        "anchor": "".join(c if c.isalnum() else "-" for c in section.title.lower()),
        "text": section.text,
        "tables": section.tables,
        "pictures": [_image(p, folder) for p in section.pictures],
        "more": [_image(p, folder) for p in section.more],
    }


def _image(picture: Picture, folder: Path | None) -> dict[str, str]:
    if folder is not None:
        with atomic_path(Path(folder) / f"{picture.name}.pdf") as temporary:
            temporary.write_bytes(to_bytes(picture.figure, "pdf"))
    data = base64.b64encode(to_bytes(picture.figure, picture.kind)).decode("ascii")
    return {
        "name": picture.name,
        "caption": picture.caption,
        "alt": picture.alt,
        "source": f"data:{_MIME[picture.kind]};base64,{data}",
        "width": f"{picture.figure.get_figwidth() * 96:.0f}",
        "height": f"{picture.figure.get_figheight() * 96:.0f}",
    }
