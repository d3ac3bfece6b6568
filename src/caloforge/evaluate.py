"""Files in, verdict out: judge showers, write the folder of the result, draw its page.

The rooms below know nothing of each other: `caloforge.judge` writes what was found, and
`caloforge.report` draws from what was written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack

from caloforge.errors import CaloForgeError
from caloforge.files import check_folder
from caloforge.judge.comparison import Comparison
from caloforge.judge.files import Files, Judging, judge_to_folder, unique_names
from caloforge.judge.folder import RESULTS, SHOWN, TABLE, read_several

PAGE, FIGURES = "report.html", "figures"


def judge_files(
    reference: str | Path,
    generated: Sequence[str | Path] | Mapping[str, str | Path],
    out: str | Path,
    *,
    floor: str | Path | None = None,
    train: str | Path | None = None,
    pdf: bool = False,
    page: dict[str, Any] | None = None,
    **settings: Unpack[Judging],
) -> list[Comparison]:
    """Judge files of showers against a reference file; returns one comparison for each.

    Writes the folder of the result into `out` (results.json, results.md, shown.npz; see
    `caloforge.judge.folder`) and its page, report.html. Reading streams: memory does not grow with
    the number of voxels times showers, but for the showers that `metrics` keeps whole.

    Parameters
    ----------
    reference
        Geant4 showers: a file or the name of a shipped sample.
    generated
        Files to judge, named by their stems, or name -> file.
    out
        The folder that gets everything.
    floor
        A second reference sample; without it the halves of the reference give the floor.
    train
        The showers the generators were trained on, for the check of memorising.
    pdf
        Whether every figure is also written as PDF into `out`/figures.
    page
        Words and sections of the page: `title`, `intro`, `reference_label` (what the page calls
        the reference, "Geant4" by default) and `extra_sections`. The words are part of the result;
        sections are drawn now and not again by `caloforge report`.
    settings
        How showers are judged: geometry, metrics, device, seed, extra, tell, announce and
        executor; see `caloforge.judge.files.Judging`.

    Raises
    ------
    CaloForgeError
        For files that cannot be read or do not belong together, a seed that cannot be, and an
        `out` that is a file.
    """
    from caloforge.report.page import write_report

    out = Path(out)
    words = dict(page or {})
    sections = words.pop("extra_sections", ())
    named = generated if isinstance(generated, Mapping) else unique_names(generated)
    judge_to_folder(Files(reference, named, floor, train), out, words, **settings)
    if "tell" in settings:
        settings["tell"]("drawing")
    # What is drawn is what was written: `caloforge report` gives the same page again.
    result = read_several([out])
    write_report(
        out / PAGE,
        result,
        figures_as_pdf=out / FIGURES if pdf else None,
        extra_sections=sections,
    )
    return list(result.comparisons)


def result_files(out: Path, *, pdf: bool = False) -> list[Path]:
    """Files in `out` that `judge_files` would replace, of whatever origin."""
    names = (RESULTS, TABLE, SHOWN, PAGE)
    pictures = sorted((out / FIGURES).glob("*.pdf")) if pdf else []
    return [path for path in (*(out / name for name in names), *pictures) if path.exists()]


def draw_results(
    folders: Sequence[str | Path], out: str | Path | None = None, *, pdf: bool = False
) -> Path:
    """Draw the page of a result folder again, or one page of several; returns its path.

    Parameters
    ----------
    folders
        What `judge_files` wrote. The generators of several stand beside each other; they must have
        been judged against one reference.
    out
        The folder that gets report.html; default: the folder of the result itself.
    pdf
        Whether every figure is also written as PDF into `out`/figures.

    Raises
    ------
    CaloForgeError
        For folders that hold no results or do not belong together, and for several folders
        without `out`.
    """
    from caloforge.report.page import write_report

    if not folders:
        raise CaloForgeError("Got no folder; expected at least one that `evaluate` wrote.")
    if out is None and len(folders) > 1:
        raise CaloForgeError(
            f"Got {len(folders)} folders and no place for their page; give one with --out."
        )
    place = Path(folders[0] if out is None else out)
    check_folder(place)
    result = read_several(folders)
    return write_report(place / PAGE, result, figures_as_pdf=place / FIGURES if pdf else None)
