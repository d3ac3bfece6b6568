"""Files in, verdict out: summarise, compare with the reference, write results and report."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.data import resolve_data
from caloforge.errors import CaloForgeError, DataError
from caloforge.evaluation.compare import Comparison, How, Pair, compare, pair_figures
from caloforge.evaluation.results import markdown_table, write_results
from caloforge.evaluation.summary import Summary, summarise
from caloforge.files import check_folder, write_text
from caloforge.geometry import Geometry, load_geometry

if TYPE_CHECKING:
    from caloforge.cluster import Farm
    from caloforge.evaluation.effort import Effort

MOST_SEED = 2**31  # scikit-learn takes 32 bits, and repeats count on from the seed


def judge_files(
    reference: str | Path,
    generated: Sequence[str | Path] | Mapping[str, str | Path],
    out: str | Path,
    *,
    geometry: str | None = None,
    floor: str | Path | None = None,
    train: str | Path | None = None,
    effort: Effort | str | None = "fast",
    device: str = "auto",
    seed: int = 0,
    pdf: bool = False,
    extra: dict[str, Any] | None = None,
    page: dict[str, Any] | None = None,
    tell: Callable[[str], None] = lambda what: None,
    announce: Callable[[str], None] = lambda what: None,
    farm: Farm | None = None,
) -> list[Comparison]:
    """Judge files of showers against a reference file; returns one comparison for each.

    Writes results.json, results.md and report.html into `out`. Reading streams: memory does not
    grow with the number of voxels times showers, but for the showers that an effort keeps whole.

    Parameters
    ----------
    reference
        Geant4 showers: a file or the name of a shipped sample.
    generated
        Files to judge, named by their stems, or name -> file.
    geometry
        Name or file of the read-out, where the files do not tell.
    floor
        A second reference sample; without it the halves of the reference give the floor.
    train
        The showers the generators were trained on, for the check of memorising.
    effort
        "fast" or "full", or one of `caloforge.evaluation.effort`; None leaves out all figures but
        those of one observable at a time.
    device
        Of the classifiers: "auto" (a GPU where there is one), "cpu" or "cuda".
    seed
        Of the halves, subsamples and classifiers.
    pdf
        Also write every figure as PDF into `out`/figures.
    extra
        More keys for results.json; a table under the key `timing` is shown in the report too.
    page
        More arguments of `caloforge.report.page.write_report`: title, intro, extra_sections.
    tell, announce
        Called with what is being done, and with what should stay on the screen: the time that the
        full effort will take.
    farm
        Reads files and compares pairs of them side by side, with the same results as in one
        process that has the threads of one worker.

    Raises
    ------
    CaloForgeError
        For files that cannot be read or do not belong together, a seed that cannot be, and an
        `out` that is a file.
    """
    out, effort = Path(out), _chosen_effort(effort, device)
    check_folder(out)
    if not 0 <= seed < MOST_SEED:
        raise CaloForgeError(f"Got the seed {seed}; expected a whole number below {MOST_SEED}.")
    read_out = load_geometry(geometry) if geometry else None
    named = generated if isinstance(generated, Mapping) else unique_names(generated)
    farmed = _Farmed(_InTurn() if farm is None else farm, tell, read_out, effort)
    farmed.read(reference, named, floor, train)
    base, judged = farmed.result(farmed.reference), [farmed.result(p) for p in farmed.generated]
    second, training = farmed.result(farmed.floor), farmed.result(farmed.train)
    if effort is not None and effort.name == "full":
        from caloforge.evaluation.joint import estimate_minutes

        minutes = estimate_minutes(base, judged, second, effort, device)
        announce(f"The classifiers of the full metrics will take about {minutes:.0f} minutes.")
    tell("comparing")
    comparisons = compare(
        base,
        judged,
        second,
        seed,
        effort=effort,
        train=training,
        device=device,
        tell=tell,
        find=None if farm is None else partial(farmed.find, How(effort, seed, device)),
    )
    tell("drawing")
    extra = {"seed": seed, **(extra or {})}
    _write(out, comparisons, (base, judged, second), extra, pdf=pdf, page=page or {})
    return comparisons


def _write(
    out: Path,
    comparisons: list[Comparison],
    summaries: tuple[Summary, list[Summary], Summary | None],
    extra: dict[str, Any],
    *,
    pdf: bool,
    page: dict[str, Any],
) -> None:
    """The verdict as numbers, as a table and as a page; summaries: reference, judged, floor."""
    from caloforge.report.page import write_report

    reference, judged, floor = summaries
    write_results(out / "results.json", reference, comparisons, extra)
    write_text(out / "results.md", markdown_table(comparisons))
    write_report(
        out / "report.html",
        reference,
        judged,
        comparisons,
        floor=floor,
        timing=extra.get("timing"),
        figures_as_pdf=out / "figures" if pdf else None,
        **page,
    )


def _chosen_effort(effort: Effort | str | None, device: str) -> Effort | None:
    """The effort behind a name; an error about it or the device comes now, not after minutes."""
    from caloforge.evaluation.dense import find_device
    from caloforge.evaluation.effort import choose_effort

    if isinstance(effort, str):
        effort = choose_effort(effort)
    if effort is not None:
        find_device(device)
    return effort


class _Farmed:
    """Summaries that are being made by a farm, and pairs of them to be compared there."""

    def __init__(
        self,
        farm: Farm | _InTurn,
        tell: Callable[[str], None],
        geometry: Geometry | None,
        effort: Effort | None,
    ) -> None:
        self.farm, self.tell, self.geometry = farm, tell, geometry
        self.keep = (0, None) if effort is None else (effort.keep, effort.cell_bytes)

    def read(
        self,
        reference: str | Path,
        generated: Mapping[str, str | Path],
        floor: str | Path | None,
        train: str | Path | None,
    ) -> None:
        """Ask for a summary of every file; the others' follow the reference's."""
        self.reference = self._summary(Path(reference).stem, reference, None)
        self.generated = [self._summary(k, f, self.reference) for k, f in generated.items()]
        self.floor, self.train = (
            None if file is None else self._summary(Path(file).stem, file, self.reference)
            for file in (floor, train)
        )

    def _summary(self, name: str, source: str | Path, like: Any) -> Any:
        self.tell(f"reading {name}")
        path = Path(resolve_data(source)).absolute()
        return self.farm.submit(_summarise, path, name, self.geometry, like, *self.keep)

    def result(self, promise: Any) -> Any:
        """What was promised; None for nothing."""
        return None if promise is None else self.farm.result(promise)

    def find(self, how: How, pairs: Sequence[Pair]) -> Iterator[Any]:
        """Figures of the pairs, in their order, see `caloforge.evaluation.compare.compare`."""
        asked = []
        for pair in pairs:
            other = self.train if pair.kind == "memorising" else self.floor
            sample = self.generated[pair.sample]
            asked.append(self.farm.submit(pair_figures, pair, self.reference, sample, other, how))
        for done, promise in enumerate(asked):
            self.tell(f"comparing: {done} of {len(asked)} pairs done")
            yield self.farm.result(promise)


def _summarise(
    path: Path,
    name: str,
    geometry: Geometry | None,
    like: Summary | None,
    keep: int,
    keep_bytes: int | None,
) -> Summary:
    return summarise(path, name, geometry, like=like, keep=keep, keep_bytes=keep_bytes)


class _InTurn:
    """No farm: everything is done at once, with all threads."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    def result(self, promise: Any) -> Any:
        return promise


def unique_names(files: Sequence[str | Path]) -> dict[str, str | Path]:
    """Name -> file: the stem, with folders where stems repeat. DataError for one file twice."""
    if not files:
        raise DataError("Got no generated files; expected at least one to judge.")
    paths = [Path(f) for f in files]
    for depth in range(1, 1 + max(len(p.parts) for p in paths)):
        names = ["/".join([*p.parts[-depth:-1], p.stem]) for p in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, files, strict=True))
    raise DataError(f"The file {paths[0]} was given twice; expected every generated file once.")
