"""The report: one HTML file that needs nothing else, from summaries and comparisons.

The page depends on its input alone: no date, no machine, no random number. Letters from file names
are escaped.
"""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np

from caloforge.errors import CaloForgeError
from caloforge.evaluation.compare import compare
from caloforge.files import atomic_path, write_text
from caloforge.report import averages, energy_figures, layer_figures, tables
from caloforge.report.blocks import Picture, Section
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
    progress: Callable[[str], None] | None = None,
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
        Rows for the table of times, with equal keys (for example name, batch size, milliseconds a
        shower).
    title, intro
        Heading and a paragraph below it; plain text.
    figures_as_pdf
        A folder that gets every figure as PDF too.
    extra_sections
        More sections, shown before the details; their figures belong to the caller.
    progress
        Called with the name of each figure when it is drawn.

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
        sections = _sections(samples, comparisons, timing, extra_sections)
        blocks = [_encode(section, figures_as_pdf, progress) for section in sections]
    html = (
        _environment()
        .get_template("report.html")
        .render(
            title=title or f"{samples.geometry.title}: generated showers against Geant4",
            intro=intro,
            geometry=samples.geometry,
            generators=list(zip(samples.looks, samples.generated, strict=True)),
            compared=tables.compared(samples),
            leaderboard=tables.leaderboard(samples, comparisons),
            floor_kind=_floor_text(comparisons[0]),
            warnings=[(c.name, w) for c in comparisons for w in c.details.get("warnings", [])],
            sections=blocks,
        )
    )
    write_text(path, html)
    return Path(path)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("caloforge", "report"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _floor_text(comparison: Comparison) -> str:
    """How the floor was made, from the details of a comparison."""
    made = comparison.details.get("floor")
    if not made:
        return "two samples of the reference simulation"
    return f"{made['kind']}, {made['n']} against {made['n_reference']} showers"


# --- content -------------------------------------------------------------------------------------
def _sections(
    samples: Samples,
    comparisons: Sequence[Comparison],
    timing: Sequence[Mapping[str, Any]] | None,
    extra: Sequence[Section],
) -> list[Section]:
    floor = _floor_comparison(samples)
    energies = averages.three_energies(samples)
    rows = [samples.slices.index(p) + 1 for p in energies] if len(samples.reference.points) else []
    e, layers = energy_figures, layer_figures
    found = [
        Section("Where they differ", pictures=_some(e.ranking(samples, comparisons))),
        Section(
            "Energy response",
            "The first thing a calorimeter is used for: how much of the incident energy is seen, "
            "and how sharply.",
            pictures=_some(
                e.response(samples),
                e.response_per_energy(samples, comparisons, floor),
                e.chi2_per_energy(samples, comparisons, floor),
                e.linearity(samples),
            ),
        ),
        Section(
            "Layers",
            "Where in depth the energy goes.",
            pictures=_some(
                layers.layer_energies(samples),
                averages.longitudinal_profile(samples),
                layers.against_energy(
                    samples,
                    "layer_energy",
                    r"mean of $E_\mathrm{layer}\,/\,E_\mathrm{inc}$",
                    "Mean share of the incident energy in each layer",
                ),
            ),
            more=_some(*(layers.layer_energies(samples, part) for part in energies)),
        ),
        Section(
            "Shower shapes",
            "What identifies particles: where a shower sits, how wide it is, how many cells it "
            "lights.",
            pictures=_some(*(layers.shapes(samples, family) for family in layers.SHAPES)),
            more=_some(
                layers.against_energy(
                    samples, "width_r", "mean width in r [mm]", "Mean width in r"
                ),
                layers.against_energy(samples, "sparsity", "mean sparsity", "Mean sparsity"),
            ),
        ),
        Section(
            "Voxels", "Energies of single cells.", pictures=_some(layers.cell_spectra(samples))
        ),
        Section(
            "Average showers",
            "The mean shower, and single ones.",
            pictures=_some(
                averages.average_discs(samples),
                averages.average_maps(samples),
                averages.examples(samples),
            ),
            more=_some(*(_average(samples, row) for row in rows)),
        ),
    ]
    if timing:
        found.append(Section("Timing", tables=(tables.timing_table(timing),)))
    found += extra
    found.append(
        Section(
            "Details",
            "Every figure with its statistical error and its floor.",
            tables=(
                *tables.metric_tables(samples, comparisons),
                tables.energy_table(samples, comparisons),
            ),
        )
    )
    return [s for s in found if s.tables or s.pictures or s.text]


def _average(samples: Samples, row: int) -> Picture:
    return averages.average_maps(samples, row) or averages.average_discs(samples, row)


def _some(*pictures: Picture | None) -> tuple[Picture, ...]:
    return tuple(p for p in pictures if p is not None)


def _floor_comparison(samples: Samples) -> Comparison | None:
    """The second reference sample judged like a generator; without one, half against half."""
    reference, floor = samples.reference, samples.floor
    if floor is None:
        reference, floor = _half(samples.reference, 0), _half(samples.reference, 1)
    if min(len(reference), len(floor)) < 4:
        return None
    return compare(reference, [floor])[0]


def _half(summary: Summary, start: int) -> Summary:
    """Every second shower in order of incident energy: both halves have the same mixture."""
    rows = np.argsort(summary.incident_energy, kind="stable")[start::2]
    return dataclasses.replace(
        summary,
        conditions=summary.conditions[rows],
        incident_energy=summary.incident_energy[rows],
        observables={key: values[rows] for key, values in summary.observables.items()},
    )


# --- encoding ------------------------------------------------------------------------------------
def _encode(
    section: Section, folder: Path | None, progress: Callable[[str], None] | None
) -> dict[str, Any]:
    """A section for the template, its figures as data addresses."""

    def image(picture: Picture) -> dict[str, str]:
        if folder is not None:
            with atomic_path(Path(folder) / f"{picture.name}.pdf") as temporary:
                temporary.write_bytes(to_bytes(picture.figure, "pdf"))
        data = base64.b64encode(to_bytes(picture.figure, picture.kind)).decode("ascii")
        if progress is not None:
            progress(picture.name)
        return {
            "name": picture.name,
            "caption": picture.caption,
            "alt": picture.alt,
            "source": f"data:{_MIME[picture.kind]};base64,{data}",
            "width": f"{picture.figure.get_figwidth() * 96:.0f}",
            "height": f"{picture.figure.get_figheight() * 96:.0f}",
        }

    return {
        "title": section.title,
        "anchor": "".join(c if c.isalnum() else "-" for c in section.title.lower()),
        "text": section.text,
        "tables": section.tables,
        "pictures": [image(p) for p in section.pictures],
        "more": [image(p) for p in section.more],
    }
