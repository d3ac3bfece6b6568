"""Judging in memory, for a notebook: `compare` two samples, look at numbers and histograms."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caloforge.errors import CaloForgeError, DataError, did_you_mean
from caloforge.judge.comparison import Comparison
from caloforge.judge.folder import Result, read_results
from caloforge.showers import Showers

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from caloforge.metrics.effort import Effort

Sample = Showers | str | Path


class Compared:
    """What `compare` found: numbers, histograms, and the page with everything.

    Parameters
    ----------
    result
        What was found and what is drawn of it.

    Attributes
    ----------
    comparisons
        One `Comparison` for each generated sample, in their order.
    """

    def __init__(self, result: Result) -> None:
        self.result = result
        self.comparisons: tuple[Comparison, ...] = result.comparisons

    @classmethod
    def read(cls, folder: str | Path) -> Compared:
        """What `judge_files` or `caloforge evaluate` wrote into a folder.

        Raises DataError for a folder without a result.
        """
        return cls(read_results(folder))

    def __getitem__(self, name: str) -> Comparison:
        """The comparison of one generated sample by its name."""
        for comparison in self.comparisons:
            if comparison.name == name:
                return comparison
        names = [comparison.name for comparison in self.comparisons]
        raise CaloForgeError(f"There is no sample '{name}': {did_you_mean(name, names)}")

    @property
    def metrics(self) -> dict[str, Any]:
        """Key -> value of the first generated sample."""
        return dict(self.comparisons[0].metrics)

    def to_dataframe(self) -> pd.DataFrame:
        """All metrics as a table with the columns sample, metric, value, error, floor and n.

        Raises CaloForgeError where pandas is not installed.
        """
        from caloforge.showers import import_pandas

        return import_pandas().DataFrame(
            [
                {
                    "sample": comparison.name,
                    "metric": key,
                    "value": figure.value,
                    "error": figure.error,
                    "floor": figure.floor,
                    "n": figure.n,
                }
                for comparison in self.comparisons
                for key, figure in comparison.metrics.items()
            ]
        )

    def plot(self, key: str) -> Figure:
        """The histograms of one observable, with the ratio to the reference below.

        Parameters
        ----------
        key
            Key of an observable, such as `response`, or of a metric of it, such as
            `separation/response`. `observables` lists them.

        Raises
        ------
        CaloForgeError
            For a key that nothing is drawn of, naming the nearest one.
        """
        from matplotlib.figure import Figure

        from caloforge.report.distributions import draw_comparison
        from caloforge.report.drawn import histograms, observable_label
        from caloforge.report.style import style

        name = key if key in self.observables else key.partition("/")[2]
        if name not in self.observables:
            raise CaloForgeError(
                f"There is no histogram of '{key}': {did_you_mean(name or key, self.observables)}"
            )
        with style():
            data = histograms(self.result, name)
            if data is None:
                raise CaloForgeError(f"The reference has no shower in the histogram of '{name}'.")
            figure = Figure(figsize=(5.2, 3.8), layout="constrained")
            top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
            label = observable_label(self.result, name)
            draw_comparison((top, bottom), data, label=label, headroom=1.35)
            top.set_ylabel("fraction of showers")
            bottom.set_ylabel("ratio")
            top.legend(fontsize=7)
        return figure

    @property
    def observables(self) -> list[str]:
        """Keys that `plot` takes."""
        return list(self.result.shown.frame.bins)

    def page(self, path: str | Path) -> Path:
        """Write the page with all tables and figures to `path`, one HTML file."""
        from caloforge.report.page import write_report

        return write_report(path, self.result)

    def __repr__(self) -> str:
        from caloforge.progress import verdict

        return "\n".join(verdict(comparison) for comparison in self.comparisons)

    def _repr_html_(self) -> str:
        from caloforge.judge.comparison import html_table

        return "".join(html_table(comparison) for comparison in self.comparisons)


def compare(
    reference: Sample,
    generated: Sample | Mapping[str, Sample],
    *,
    floor: Sample | None = None,
    train: Sample | None = None,
    metrics: Effort | str | None = "fast",
    device: str = "auto",
    seed: int = 0,
) -> Compared:
    """Judge generated showers against reference showers, in memory: no file is written.

    Parameters
    ----------
    reference
        The reference: `Showers`, a file, or the name of a shipped sample.
    generated
        One sample to judge, or a name for each of several.
    floor
        A second reference sample; without it the halves of the reference give the floor.
    train
        The showers the generators were trained on, for the check of memorising.
    metrics
        "fast" or "full", or None for the metrics of one observable at a time alone.
    device
        Where classifiers are trained: "auto", "cpu" or "cuda".
    seed
        Start of every random choice.

    Raises
    ------
    CaloForgeError
        For samples that cannot be read or do not belong together.

    Example
    -------
    >>> found = compare("ds1-photons-test", "ds1-photons-train", metrics=None)
    >>> found["ds1-photons-train"].metrics["separation/response"].value < 0.1
    True
    """
    from caloforge.judge.compare import compare as compare_summaries
    from caloforge.judge.folder import result_of
    from caloforge.judge.pairs import How
    from caloforge.metrics.effort import EFFORTS, Effort, choose_effort

    if not isinstance(metrics, Effort | str | None):
        raise DataError(
            f"Got metrics = {metrics!r}; expected {', '.join(map(repr, EFFORTS))}, or None for "
            "the metrics of one observable at a time: single metrics cannot be chosen here."
        )
    effort = choose_effort(metrics) if isinstance(metrics, str) else metrics
    keep = (0, None) if effort is None else (effort.keep, effort.cell_bytes)
    base = _summary(reference, "reference", None, keep)
    named = generated if isinstance(generated, Mapping) else {_name(generated): generated}
    judged = [_summary(sample, name, base, keep) for name, sample in named.items()]
    second = None if floor is None else _summary(floor, "second reference", base, keep)
    trained = None if train is None else _summary(train, "training", base, keep)
    comparisons = compare_summaries(base, judged, second, How(effort, seed, device), train=trained)
    return Compared(result_of(base, judged, comparisons, second))


def _name(sample: Sample) -> str:
    return "generated" if isinstance(sample, Showers) else Path(sample).stem


def _summary(sample: Sample, name: str, like: Any, keep: tuple[int, int | None]) -> Any:
    from caloforge.data import resolve_data
    from caloforge.judge.summary import summarise

    source = sample if isinstance(sample, Showers) else resolve_data(sample)
    return summarise(source, name, like=like, keep=keep[0], keep_bytes=keep[1])
