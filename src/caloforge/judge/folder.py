"""The folder of a result: what was found, as numbers, and what a page shows, read back whole.

`results.json` holds the metrics (see `caloforge.judge.results`), `shown.npz` beside it what a page
draws: histograms, means, average and a few single showers (see `caloforge.judge.shown`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from caloforge.errors import DataError
from caloforge.files import write_text
from caloforge.judge.comparison import Comparison
from caloforge.judge.results import markdown_table, read_comparisons, write_results
from caloforge.judge.shown.content import Shown, measure, side_by_side
from caloforge.judge.store import read_object, write_object
from caloforge.judge.summary import Summary

RESULTS, TABLE, SHOWN = "results.json", "results.md", "shown.npz"
FORM = "caloforge-shown-1"
AGAIN = "judge the showers again with this version of CaloForge"


@dataclass(frozen=True)
class Result:
    """Generated samples judged against a reference, and what a page shows of them.

    Parameters
    ----------
    comparisons
        The metrics of each generated sample.
    shown
        What is drawn, with the generated samples in the order of `comparisons`.
    timing
        Rows of a table of times, with equal keys.
    title, intro
        Heading of the page and a paragraph below it; None for the usual ones.
    notes
        Sentences about the result as a whole, shown at the top of the page.
    reference_label
        What pages call the reference.
    """

    comparisons: tuple[Comparison, ...]
    shown: Shown
    timing: tuple[Mapping[str, Any], ...] = ()
    title: str | None = None
    intro: str | None = None
    notes: tuple[str, ...] = ()
    reference_label: str = "Geant4"

    def __post_init__(self) -> None:
        judged = [c.name for c in self.comparisons]
        drawn = [p.name for p in self.shown.generated]
        if judged != drawn:
            raise DataError(
                f"The comparisons are of {judged}, the generated samples {drawn}; expected one "
                "comparison a sample, in the same order."
            )

    def of_kind(self, name: str) -> Result:
        """This result with what is shown of one kind of particle alone."""
        return replace(self, shown=self.shown.kinds[name])


@dataclass(frozen=True)
class _File:
    """The content of shown.npz."""

    shown: Shown
    title: str | None = None
    intro: str | None = None


def result_of(
    reference: Summary,
    generated: Sequence[Summary],
    comparisons: Sequence[Comparison],
    second: Summary | None = None,
    **more: Any,
) -> Result:
    """What was found and what a page shows of it; `more` are `timing`, `title`, `intro`."""
    notes = [c.details.notes.memorising for c in comparisons]
    shown = measure(reference, generated, second, notes)
    return Result(tuple(comparisons), shown, **more)


def write_folder(
    folder: str | Path, reference: Summary, result: Result, extra: Mapping[str, Any] | None = None
) -> None:
    """Write results.json, results.md and shown.npz, each whole or not at all.

    `extra` adds keys at the top of results.json; `timing` among them is read back.
    """
    folder = Path(folder)
    write_object(folder / SHOWN, _File(result.shown, result.title, result.intro), FORM)
    label = {"reference_label": result.reference_label}
    write_results(folder / RESULTS, reference, result.comparisons, {**label, **(extra or {})})
    write_text(folder / TABLE, markdown_table(result.comparisons))


def read_results(folder: str | Path) -> Result:
    """Read back the whole result that `judge_files` or `caloforge evaluate` wrote into a folder.

    Raises
    ------
    DataError
        When the folder holds no result, or one that is damaged or of another version.
    """
    folder = Path(folder)
    plain, comparisons = _results(folder / RESULTS)
    if not (folder / SHOWN).exists():
        raise DataError(f"{folder} holds no {SHOWN}, which a page is drawn from; {AGAIN}.")
    file = read_object(folder / SHOWN, _File, FORM)
    timing = tuple(plain.get("timing") or ())
    label = str(plain.get("reference_label") or "Geant4")
    return Result(comparisons, file.shown, timing, file.title, file.intro, reference_label=label)


def read_several(folders: Sequence[str | Path]) -> Result:
    """The results of one or several folders, their generators beside each other.

    Raises
    ------
    DataError
        For folders of different references or read-outs, and what `read_results` raises.
    """
    results = [read_results(folder) for folder in folders]
    if len(results) == 1:
        return results[0]
    names = [str(folder) for folder in folders]
    shown = side_by_side([r.shown for r in results], names)
    labels = _labels(results, folders)
    comparisons = [c for r in results for c in r.comparisons]
    floors = {c.details.floor.kind for c in comparisons if c.details.floor is not None}
    different = (
        "The floors of these results were made in different ways: read each metric beside its own."
    )
    return Result(
        tuple(replace(c, name=label) for c, label in zip(comparisons, labels, strict=True)),
        _renamed(shown, labels),
        tuple(row for r in results for row in r.timing),
        notes=(different,) if len(floors) > 1 else (),
        reference_label=results[0].reference_label,
    )


def _labels(results: Sequence[Result], folders: Sequence[str | Path]) -> list[str]:
    """Names of all generators; with their folders where two have the same."""
    names = [c.name for r in results for c in r.comparisons]
    if len(set(names)) == len(names):
        return names
    labels = [
        f"{Path(folder).name}: {c.name}"
        for r, folder in zip(results, folders, strict=True)
        for c in r.comparisons
    ]
    if len(set(labels)) < len(labels):
        raise DataError(
            f"Two of the folders {', '.join(map(str, folders))} have one name and a generator in "
            "common; expected different ones: rename a folder."
        )
    return labels


def _renamed(shown: Shown, labels: Sequence[str]) -> Shown:
    return replace(
        shown,
        generated=tuple(
            replace(p, name=label) for p, label in zip(shown.generated, labels, strict=True)
        ),
        kinds={name: _renamed(part, labels) for name, part in shown.kinds.items()},
    )


def _results(path: Path) -> tuple[dict[str, Any], tuple[Comparison, ...]]:
    """The content of results.json, and the comparisons in it."""
    try:
        plain: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(plain, dict):
            raise ValueError("it holds no keys")
        return plain, tuple(read_comparisons(plain)[1])
    except FileNotFoundError as error:
        raise DataError(
            f"There is no {RESULTS} in {path.parent}; expected a folder that `caloforge evaluate` "
            "wrote."
        ) from error
    except (OSError, ValueError) as error:
        raise DataError(f"{path} is not a result of `caloforge evaluate` ({error}).") from error
    except DataError as error:
        raise DataError(f"{path} is not a result that can be shown: {error}") from error
