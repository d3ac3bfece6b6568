"""Files in, the folder of a result out: summarise, compare with the reference, write."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from caloforge.data import resolve_data
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.devices import find_device
from caloforge.errors import CaloForgeError, DataError
from caloforge.executors import SerialExecutor, submit
from caloforge.files import check_folder
from caloforge.judge.compare import compare
from caloforge.judge.folder import Result, result_of, write_folder
from caloforge.judge.pairs import How, Pair, measure_pair
from caloforge.judge.summary import Summary, summarise

if TYPE_CHECKING:
    from caloforge.metrics.effort import Effort

MOST_SEED = 2**31  # scikit-learn takes 32 bits, and repeats count on from the seed


@dataclass(frozen=True)
class Files:
    """What is judged: files or names of shipped samples.

    Parameters
    ----------
    reference
        The reference showers.
    generated
        Name of a generator -> its showers.
    floor
        A second reference sample; without it the halves of the reference give the floor.
    train
        The showers the generators were trained on, for the check of memorising.
    """

    reference: str | Path
    generated: Mapping[str, str | Path]
    floor: str | Path | None = None
    train: str | Path | None = None


class Judging(TypedDict, total=False):
    """How showers are judged, by any function that takes these settings by name.

    Parameters
    ----------
    geometry
        Name or file of the read-out, where the files do not tell.
    metrics
        "fast" (the default), "full", or one of `caloforge.metrics.effort`; None leaves out all
        metrics but those of one observable at a time.
    device
        Where classifiers are trained: "auto" (the default: a GPU where there is one), "cpu" or
        "cuda".
    seed
        Start of every random choice: halves, subsamples and classifiers; by default 0.
    extra
        More keys for results.json; a table under the key `timing` is shown in the report too.
    tell, announce
        They are called with what is being done, and with what should stay on the screen: the time
        that the full effort will take.
    executor
        Its workers read files and compare pairs of them side by side, with the same results as in
        one process that has the threads of one worker; by default there is none.
    """

    geometry: str | None
    metrics: Effort | str | None
    device: str
    seed: int
    extra: Mapping[str, Any]
    tell: Callable[[str], None]
    announce: Callable[[str], None]
    executor: Executor | None


def judge_to_folder(
    files: Files,
    out: str | Path,
    words: Mapping[str, Any] | None = None,
    **settings: Unpack[Judging],
) -> Result:
    """Judge files of showers and write the folder of the result, without a page.

    Parameters
    ----------
    files
        What is judged.
    out
        The folder that gets results.json, results.md and shown.npz.
    words
        Title and intro of the page.
    settings
        See `Judging`.

    Raises
    ------
    CaloForgeError
        For files that cannot be read or do not belong together, a seed that cannot be, and an
        `out` that is a file.
    """
    out, device, seed = Path(out), settings.get("device", "auto"), settings.get("seed", 0)
    tell, executor = settings.get("tell", _quiet), settings.get("executor")
    effort = _chosen_effort(settings.get("metrics", "fast"), device)
    check_folder(out)
    if not 0 <= seed < MOST_SEED:
        raise CaloForgeError(f"Got the seed {seed}; expected a whole number below {MOST_SEED}.")
    if files.floor is not None and resolve_data(files.floor).samefile(
        resolve_data(files.reference)
    ):
        raise DataError(
            f"The floor and the reference are the same file {files.floor}; expected a second "
            "sample of the reference: leave --floor out to use the halves of the reference."
        )
    geometry = settings.get("geometry")
    read_out = load_geometry(geometry) if geometry else None
    work = _SideBySide(executor or SerialExecutor(), tell, read_out, effort)
    work.read(files.reference, files.generated, files.floor, files.train)
    base, judged = work.result(work.reference), [work.result(p) for p in work.generated]
    second, training = work.result(work.floor), work.result(work.train)
    if effort is not None and effort.name == "full":
        from caloforge.judge.estimate import estimate_minutes

        minutes = estimate_minutes(base, judged, second, effort, device)
        settings.get("announce", _quiet)(
            f"The classifiers of the full metrics will take about {minutes:.0f} minutes."
        )
    tell("comparing")
    how = How(effort, seed, device)
    comparisons = compare(
        base,
        judged,
        second,
        how,
        train=training,
        tell=tell,
        measure=None if executor is None else partial(work.measure, how),
    )
    tell("measuring what is shown")
    extra = {"seed": seed, **settings.get("extra", {})}
    timing = tuple(extra.get("timing") or ())
    result = result_of(base, judged, comparisons, second, timing=timing, **(words or {}))
    write_folder(out, base, result, extra)
    return result


def _quiet(what: str) -> None:
    """Say nothing of what is being done."""


def _chosen_effort(effort: Effort | str | None, device: str) -> Effort | None:
    """The effort behind a name; an error about it or the device comes now, not after minutes."""
    from caloforge.metrics.effort import choose_effort

    if isinstance(effort, str):
        effort = choose_effort(effort)
    if effort is not None:
        find_device(device)
    return effort


class _SideBySide:
    """Summaries that an executor makes, and pairs of them that it compares."""

    def __init__(
        self,
        executor: Executor,
        tell: Callable[[str], None],
        geometry: Geometry | None,
        effort: Effort | None,
    ) -> None:
        self.executor, self.tell, self.geometry = executor, tell, geometry
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
        return submit(self.executor, _summarise, path, name, self.geometry, like, *self.keep)

    def result(self, promise: Any) -> Any:
        """The summary behind a promise; None where there is none."""
        return None if promise is None else promise.result()

    def measure(self, how: How, pairs: Sequence[Pair]) -> Iterator[Any]:
        """Metrics of the pairs, in their order, see `caloforge.judge.compare.compare`."""
        asked = []
        for pair in pairs:
            other = self.train if pair.kind == "memorising" else self.floor
            sample = self.generated[pair.sample]
            asked.append(
                submit(self.executor, measure_pair, pair, self.reference, sample, other, how)
            )
        for done, promise in enumerate(asked):
            self.tell(f"comparing: {done} of {len(asked)} pairs done")
            yield promise.result()


def _summarise(
    path: Path,
    name: str,
    geometry: Geometry | None,
    like: Summary | None,
    keep: int,
    keep_bytes: int | None,
) -> Summary:
    return summarise(path, name, geometry, like=like, keep=keep, keep_bytes=keep_bytes)


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
