"""The report: one HTML file that needs nothing else, drawn from a result alone.

The page depends on its input alone: no date, no machine, no random number. Letters from file names
are escaped.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text
from PIL import Image

from caloforge.files import atomic_path, write_text
from caloforge.judge.comparison import Comparison
from caloforge.judge.folder import Result
from caloforge.report.blocks import Picture, Section, Table
from caloforge.report.contents import report_sections
from caloforge.report.drawn import drawn, looks_of
from caloforge.report.interactive import inline_svg, tag, values
from caloforge.report.style import Look, style, to_bytes
from caloforge.report.tables import summary

REFERENCE = "Geant4"  # what pages call the reference where nobody names it otherwise
MOST_SVG = 700_000  # bytes of a figure that answers the pointer; larger ones become pixels
MOST_PAGE = 1_900_000  # bytes of all figures, from which on the rest become coarser pixels
COARSE = 105  # of them, an inch
COLOURS = 256  # of a figure in pixels


@dataclass
class _Drawing:
    """How the figures of one page are written.

    Parameters
    ----------
    samples
        The samples that can be hidden, in the order of their boxes on the page.
    reference
        The name of the reference.
    folder
        A folder that gets every figure as PDF too.
    kept
        Names of samples, in which the name of the reference stays as it is.
    """

    samples: Sequence[Look] = ()
    reference: str = REFERENCE
    folder: Path | None = None
    kept: Sequence[str] = ()
    numbers: Iterator[int] = field(default_factory=count)
    size: int = 0  # bytes so far

    def named(self, text: str) -> str:
        """A text with the name of the reference; names of samples in it stay."""
        if REFERENCE not in text or text in self.kept:
            return text
        others = sorted((n for n in self.kept if n != REFERENCE), key=len, reverse=True)
        either = "|".join([*map(_wrapped, others), REFERENCE])
        return re.sub(
            either, lambda found: self.reference if found[0] == REFERENCE else found[0], text
        )

    def words(self, text: str) -> str:
        """A text about samples as a page shows it: labels are escaped for figures alone."""
        return self.named(text).replace(r"\$", "$")

    def shown(self) -> list[Look]:
        """The samples with their labels as the page shows them."""
        return [replace(look, label=self.words(look.label)) for look in self.samples]


def _wrapped(name: str) -> str:
    """A regular expression for a name, also where a figure wraps it."""
    return r"\n?".join(r"\s" if letter.isspace() else re.escape(letter) for letter in name)


def write_report(
    path: str | Path,
    result: Result,
    *,
    figures_as_pdf: Path | None = None,
    extra_sections: Sequence[Section] = (),
) -> Path:
    """Write the page of a result as one self-contained HTML file and return its path.

    Parameters
    ----------
    path
        The file to write.
    result
        What was found and what is shown of it: `caloforge.judge.folder.read_results` reads one
        from a folder.
    figures_as_pdf
        A folder that gets every figure as PDF too.
    extra_sections
        More sections, shown before the details.

    Raises
    ------
    CaloForgeError
        For a place that cannot be written.
    """
    geometry = result.shown.frame.geometry
    samples = [look for look, _ in drawn(result)]
    own = {portrait.name for portrait in result.shown.samples}
    own |= {look.label for look in looks_of(result)}
    kept = sorted(name for name in own if REFERENCE in name)
    drawing = _Drawing(samples, result.reference_label, figures_as_pdf, kept)
    usual = f"{geometry.title}: generated showers against {result.reference_label}"
    with style():
        return _write(
            path,
            result.title or usual,
            report_sections(result, extra_sections),
            drawing,
            {"intro": result.intro, "summary": _summary(result, drawing)},
        )


def write_page(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    *,
    intro: str | None = None,
    verbatim: str = "",
    figures_as_pdf: Path | None = None,
    refresh: int | None = None,
) -> Path:
    """Write sections of one's own as a page of the same form and return its path.

    `intro` is a paragraph below the title, `verbatim` text shown as it is at the end (a recipe),
    `refresh` the seconds after which a browser loads the page again.

    Raises
    ------
    CaloForgeError
        For a place that cannot be written.
    """
    with style():
        extra = {"intro": intro, "verbatim": verbatim, "refresh": refresh}
        return _write(path, title, sections, _Drawing(folder=figures_as_pdf), extra)


def _write(
    path: str | Path,
    title: str,
    sections: Sequence[Section],
    drawing: _Drawing,
    more: dict[str, Any],
) -> Path:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("caloforge", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    blocks = [_encode(section, drawing) for section in sections]
    script = (resources.files("caloforge") / "report" / "report.js").read_text(encoding="utf-8")
    filled = {
        "summary": None,
        "verbatim": "",
        "refresh": None,
        "title": title,
        "sections": blocks,
        # The first sample is the reference, which stays.
        "samples": [(k, look.label, look.color) for k, look in enumerate(drawing.shown())][1:],
        "reference": drawing.reference,
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    } | more
    write_text(path, environment.get_template("report.html").render(filled))
    return Path(path)


def _summary(result: Result, drawing: _Drawing) -> dict[str, Any]:
    """What the top of the report shows."""
    comparisons = result.comparisons
    named = drawing.named
    warnings = [("Several folders", note) for note in result.notes]
    warnings += [(c.name, w) for c in comparisons for w in c.details.warnings]
    leaderboard = summary.leaderboard(result)
    return {
        "geometry": result.shown.frame.geometry,
        "compared": summary.compared(result),
        "leaderboard": _named_table(leaderboard, drawing),
        "floor_kind": named(_floor_text(comparisons[0])),
        "warnings": [(name, named(warning)) for name, warning in warnings],
        "notes": list(_reading_notes(comparisons)),
    }


def _floor_text(comparison: Comparison) -> str:
    """How the floor was made, from the details of a comparison."""
    floor = comparison.details.floor
    if floor is None:
        return "two samples of the reference simulation"
    return f"{floor.kind}, {floor.n} against {floor.n_reference} showers"


def _reading_notes(comparisons: Sequence[Comparison]) -> Iterator[str]:
    """What has to be known to read metrics that these comparisons have."""
    keys = {key for c in comparisons for key in c.metrics}
    if any(c.metrics[k].value < 0 for c in comparisons for k in c.metrics if k[:4] == "jsd_"):
        yield (
            "A Jensen–Shannon divergence below 0 is not an error: it is estimated from the "
            "calibrated scores of a network, and for samples that the network cannot tell apart "
            "the estimate scatters about 0, to both sides."
        )
    if "kpd" in keys and any(
        c.metrics["kpd"].value < 0 for c in comparisons if "kpd" in c.metrics
    ):
        yield (
            "A kernel physics distance below 0 is not an error: its estimate is unbiased, so that "
            "it scatters about 0, to both sides, for samples that are alike."
        )
    reduced = sorted({key for c in comparisons for key in c.details.notes.reduced})
    if reduced:
        yield (
            f"Reduced: {', '.join(key.upper() for key in reduced)} were computed with fewer "
            "showers than the published procedure takes, because the samples are smaller. Their "
            "values depend on that number; compare them with the floor beside them, which has the "
            "same number, and not with published ones."
        )


def _named_table(table: Table, drawing: _Drawing) -> Table:
    """A table with the name of the reference; provenance and other cells stay as they are."""
    if drawing.reference == REFERENCE:
        return table
    named = drawing.named
    rows = tuple(
        (replace(first, text=named(first.text)), *rest) if first.text != REFERENCE.upper() else row
        for row in table.rows
        for first, *rest in [row]
    )
    columns = tuple(named(name) for name in table.columns)
    return replace(
        table, title=named(table.title), note=named(table.note), columns=columns, rows=rows
    )


def _encode(section: Section, drawing: _Drawing) -> dict[str, Any]:
    """A section for the template, its figures inside the page."""
    return {
        "title": drawing.named(section.title),
        "anchor": "".join(c if c.isalnum() else "-" for c in section.title.lower()),
        "text": drawing.named(section.text),
        "tables": [_named_table(table, drawing) for table in section.tables],
        "pictures": [_image(p, drawing) for p in section.pictures],
        "more": [_image(p, drawing) for p in section.more],
    }


def _image(picture: Picture, drawing: _Drawing) -> dict[str, Any]:
    """A figure as SVG with the values of its curves, or as pixels where it shows images."""
    figure = picture.figure
    if drawing.reference != REFERENCE:
        for text in figure.findobj(Text):
            text.set_text(drawing.named(text.get_text()))
        for artist in figure.findobj(lambda a: REFERENCE in str(a.get_label())):
            artist.set_label(drawing.named(str(artist.get_label())))
    if drawing.folder is not None:
        with atomic_path(drawing.folder / f"{picture.name}.pdf") as temporary:
            temporary.write_bytes(to_bytes(figure, "pdf"))
    alt = drawing.words(picture.alt)
    shown = {
        "name": picture.name,
        "caption": drawing.words(picture.caption),
        "alt": alt,
        "width": f"{figure.get_figwidth() * 96:.0f}",
        "height": f"{figure.get_figheight() * 96:.0f}",
        "svg": "",
        "data": "",
        "source": "",
    }
    room = drawing.size <= MOST_PAGE
    if room and (picture.kind == "svg" or not _has_images(figure)):
        tag(figure, drawing.samples)
        svg = to_bytes(figure, "svg")
        if len(svg) <= MOST_SVG:
            shown["svg"] = Markup(inline_svg(svg, alt, next(drawing.numbers)))
            shown["data"] = Markup(values(figure, drawing.shown()))
            drawing.size += len(shown["svg"]) + len(shown["data"])
            return shown
    dpi = None if room else COARSE
    data = base64.b64encode(_few_colours(to_bytes(figure, "png", dpi))).decode("ascii")
    drawing.size += len(data)
    return shown | {"source": f"data:image/png;base64,{data}"}


def _few_colours(png: bytes) -> bytes:
    """The picture in 256 colours of its own: a third of the bytes; figures have few colours."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def _has_images(figure: Figure) -> bool:
    """Whether a figure shows images of cells, which are pixels."""
    shown = (part for axes in figure.axes for part in (*axes.images, *axes.collections))
    return any(isinstance(part, QuadMesh | AxesImage) for part in shown)
