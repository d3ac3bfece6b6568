"""Judge all generators of a system together, on Geant4 showers that no training has seen.

    python tools/leaderboard.py S2 [RUN ...] [--data FOLDER] [--like FOLDER] [--out FOLDER]

The program takes every shipped generator of the system's read-outs and the trainings given as RUN
folders (or model files). It generates showers with the conditions of the test showers, judges all
of them together, and writes report.html, results.json and results.md into OUT/SYSTEM/READ-OUT.
Without --data it uses the shipped samples.

The system `flagship` stands for all detectors. On each detector the three members of the flagship
are judged beside every other shipped generator, with the same conditions and as many showers.
OUT/flagship/leaderboard.md has one table for each detector, with the most important metrics, the
time per shower and the length of the training. Members that are not shipped yet are left out.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from family import MEMBERS
from rich.console import Console
from ship import conditions_like

from caloforge.data import open_showers, resolve_data, sample_path
from caloforge.evaluate import judge_files
from caloforge.files import write_text
from caloforge.generate import Conditions, generate_file, make_engine, stream
from caloforge.generate.timing import time_generator
from caloforge.judge.comparison import Comparison
from caloforge.judge.results import shown_value
from caloforge.metrics.base import Metric
from caloforge.metrics.table import metric
from caloforge.models.file import ModelFile, load_model
from caloforge.pretrained import pretrained_names, resolve_model
from caloforge.progress import leaderboard

# System -> {NAME: STEM}: the shipped samples are NAME-train and NAME-test, the whole files
# STEM_train and STEM_test.
SYSTEMS = {
    "S1": {"calogan-eplus": "calogan_eplus"},
    "S2": {"atlas-cells": "atlas_cells_photons"},
    "S3": {"lcd": "lcd"},
    "S4": {"ds1-photons": "ds1_photons", "ds1-pions": "ds1_pions"},
    "S5": {"lhcb": "lhcb_electrons"},
}
FLAGSHIP = "flagship"
# Detector, as in the names of the flagship's recipes -> the shipped samples.
DETECTORS = {
    "photons": "ds1-photons",
    "pions": "ds1-pions",
    "atlas": "atlas-cells",
    "calogan": "calogan-eplus",
    "lcd": "lcd",
    "lhcb": "lhcb",
}
# Keys of the metrics in the flagship's table.
COLUMNS = (
    "auc_boosted",
    "auc_low",
    "auc_high",
    "chi2_ndf_energy",
    "coverage",
    "prd_auc_physics",
    "memorising",
)
BATCHES = (1, 10_000)
MOST_CELLS = 1 << 26  # cells of a timed batch, so that large read-outs are timed in less memory
REPEATS = 3
NOTHING = "–"
LEGEND = (
    "The floors in brackets are the metrics of two independent Geant4 samples with the same "
    "number of showers. Smaller is better for AUC and χ²/NDF, and an AUC of 0.5 means that a "
    "classifier cannot tell the showers from Geant4's; larger is better for coverage and "
    "PRD-AUC. Memorising is the probability that a generated shower is closer to the training "
    "showers than a held-out Geant4 shower is (0.5 is expected, 1 means copies); it is meaningful "
    "only for generators that were trained on the same file as the floor. Times are milliseconds "
    "per shower on {threads} CPU threads, in batches of as many showers as the heading says. "
    "Minutes are the length of the training, where its log has it."
)


@dataclass(frozen=True)
class Board:
    """The files and options of one leaderboard.

    Parameters
    ----------
    train, test
        Files or names of shipped samples; the first gives the floor, the second is the reference.
    like
        File whose conditions are generated; it may be the reference itself.
    out
        Folder of the report.
    timed
        Whether the generators are timed.
    """

    train: str
    test: str
    like: str
    out: Path
    timed: bool


def main() -> None:
    """Judge the generators of the system that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("system", choices=[*SYSTEMS, FLAGSHIP])
    parser.add_argument(
        "runs", nargs="*", type=Path, help="trainings to judge beside the shipped ones"
    )
    parser.add_argument("--data", type=Path, help="folder with the whole files of showers")
    parser.add_argument(
        "--like",
        type=Path,
        help="folder with files of other conditions, which avoids twins (see ship.py)",
    )
    parser.add_argument("--out", type=Path, default=Path("leaderboard"))
    parser.add_argument("--metrics", default="fast", choices=("fast", "full"))
    parser.add_argument(
        "--detector", choices=DETECTORS, help="judge the flagship on this detector only"
    )
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    known = {name: resolve_model(name) for name in pretrained_names()}
    known |= {run_name(run): resolve_model(run) for run in given.runs}
    generators = {name: load_model(path) for name, path in known.items()}
    if given.system == FLAGSHIP:
        flagship(generators, given)
        return
    for sample, stem in SYSTEMS[given.system].items():
        board(generators, _board(sample, stem, given), given)


def run_name(run: Path) -> str:
    """The name of a training: that of its folder, or of its recipe if tools/family.py wrote it."""
    name = run.stem if run.suffix else run.name
    if name in MEMBERS:
        return str(load_model(resolve_model(run)).about["recipe"]["name"])
    return name


def _board(sample: str, stem: str, given: argparse.Namespace) -> Board:
    train, test = (showers(given.data, sample, stem, kind) for kind in ("train", "test"))
    like = test if given.like is None else showers(given.like, sample, stem, "test")
    out = given.out / given.system / sample
    return Board(train, test, like, out, given.system == FLAGSHIP)


def showers(folder: Path | None, sample: str, stem: str, kind: str) -> str:
    """The file of showers in `folder`, or the name of the shipped sample."""
    if folder is None:
        return f"{sample}-{kind}"
    found = sorted(folder.glob(f"{stem}_{kind}.*"))
    if not found:
        raise SystemExit(f"There is no file {stem}_{kind}.* in {folder}; give another --data.")
    return str(found[0])


def board(
    generators: Mapping[str, ModelFile], what: Board, given: argparse.Namespace
) -> tuple[list[Comparison], list[dict[str, Any]]]:
    """Generate and judge with all generators of the read-out; returns comparisons and times."""
    screen = Console()
    with open_showers(resolve_data(what.test)) as source:
        read_out = source.geometry.hash
    mine = {name: f for name, f in generators.items() if f.model.geometry.hash == read_out}
    made: dict[str, Path] = {}
    times: list[dict[str, Any]] = []
    with screen.status("") as status:
        for name, file in mine.items():
            status.update(f"generating with {name}")
            conditions = conditions_like(what.like, what.test, file.model.geometry, given.seed)
            made[name] = what.out / "showers" / f"{name}.hdf5"
            made[name].parent.mkdir(parents=True, exist_ok=True)
            # Conditions of an independent run may lie a little beyond those of the training.
            generate_file(file, conditions, made[name], seed=given.seed, extrapolate=True)
            if what.timed:
                status.update(f"timing {name}")
                times += [{"generator": name, **row} for row in timed(file, conditions)]
        if not made:
            screen.print(f"No generator is shipped for {what.test} yet; give trainings as RUN.")
            return [], []
        judged = judge_files(
            what.test,
            made,
            what.out,
            floor=what.train,
            train=what.train,
            metrics=given.metrics,
            seed=given.seed,
            extra={"like": Path(what.like).name, **({"timing": times} if times else {})},
            tell=status.update,
            announce=screen.print,
        )
    screen.print(leaderboard(judged))
    screen.print(f"report: {what.out / 'report.html'}")
    return judged, times


def timed(file: ModelFile, conditions: Conditions) -> list[dict[str, Any]]:
    """One row of times for each batch size: a single shower, and many."""
    most = min(BATCHES[-1], max(1, MOST_CELLS // file.model.geometry.n_cells))
    rows = []
    for batch in (BATCHES[0], most):
        engine = make_engine(file, "auto", batch, batch)

        def make(count: int, engine: Any = engine) -> None:
            for _ in stream(file, conditions, count, batch=count, engine=engine):
                pass

        (row,) = time_generator(make, torch.get_num_threads(), (batch,), REPEATS)
        rows.append(
            {
                "batch": batch,
                "ms per shower": row.ms_per_shower,
                "± ms": row.error,
                "CPU threads": row.threads,
            }
        )
    return rows


# --- the flagship ----------------------------------------------------------------------------
def flagship(generators: Mapping[str, ModelFile], given: argparse.Namespace) -> None:
    """Write one leaderboard for each detector, and one page with the main metrics of all."""
    screen = Console()
    stems = {sample: stem for system in SYSTEMS.values() for sample, stem in system.items()}
    texts = []
    for detector, sample in DETECTORS.items():
        if given.detector not in (None, detector):
            continue
        for member in MEMBERS:
            if f"{member}-{detector}" not in generators:
                screen.print(f"{member}-{detector} is not shipped yet: it is left out.")
        try:
            what = _board(sample, stems[sample], given)
        except SystemExit as missing:
            screen.print(f"{detector} is left out. {missing}")
            continue
        judged, times = board(of_particle(generators, sample), what, given)
        if judged:
            texts.append(section(sample, what, judged, times, minutes_of(generators)))
            page = "\n".join([*texts, LEGEND.format(threads=torch.get_num_threads()), ""])
            write_text(given.out / FLAGSHIP / "leaderboard.md", page)
    screen.print(f"page: {given.out / FLAGSHIP / 'leaderboard.md'}")


def of_particle(generators: Mapping[str, ModelFile], sample: str) -> dict[str, ModelFile]:
    """The generators without those that were trained on another particle than the sample's."""
    with open_showers(sample_path(f"{sample}-test")) as source:
        wanted = source.read(0, 1).provenance.get("particle")

    def other(file: ModelFile) -> bool:
        particle = file.about.get("trained_on", {}).get("particle")
        return None not in (wanted, particle) and particle != wanted

    return {name: file for name, file in generators.items() if not other(file)}


def minutes_of(generators: Mapping[str, ModelFile]) -> dict[str, float]:
    """Minutes of training of each generator whose file or results have them."""
    found = {}
    for name, file in generators.items():
        minutes = file.about.get("training_minutes")
        if minutes is None and name in pretrained_names():
            results = resolve_model(name).with_name("results.json")
            minutes = json.loads(results.read_text(encoding="utf-8")).get("training_minutes")
        if minutes is not None:
            found[name] = float(minutes)
    return found


def section(
    sample: str,
    what: Board,
    judged: Sequence[Comparison],
    times: Sequence[Mapping[str, Any]],
    minutes: Mapping[str, float],
) -> str:
    """The Markdown table of a detector; the smallest boosted AUC comes first."""
    shown = [metric(key) for key in COLUMNS if any(key in c.metrics for c in judged)]
    headings = [known.name for known in shown]
    batches = sorted({int(row["batch"]) for row in times})
    columns = ["generator", "N", *headings, *(f"ms at {b}" for b in batches), "minutes"]
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    for comparison in sorted(judged, key=_boosted):
        own = {int(r["batch"]): r for r in times if r["generator"] == comparison.name}
        long = minutes.get(comparison.name)
        cells = [
            f"`{comparison.name}`",
            str(comparison.metrics["chi2_ndf_energy"].n),
            *(_cell(comparison, known) for known in shown),
            *(f"{own[b]['ms per shower']:.3g} ± {own[b]['± ms']:.1g}" for b in batches),
            NOTHING if long is None else f"{long:.3g}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    whose = "its conditions"
    if what.like != what.test:
        whose = f"the conditions of another run (`{Path(what.like).name}`)"
    basis = f"Judged on `{Path(what.test).name}`, with {whose}; floor: `{Path(what.train).name}`."
    return "\n".join([f"## {sample}", "", basis, "", *lines, ""])


def _boosted(comparison: Comparison) -> float:
    found = comparison.metrics.get("auc_boosted")
    return float("inf") if found is None else found.value


def _cell(comparison: Comparison, known: Metric) -> str:
    value = comparison.metrics.get(known.key)
    return NOTHING if value is None else shown_value(value, known.scale)


if __name__ == "__main__":
    main()
