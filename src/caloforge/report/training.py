"""The page of a training run: losses, gradients and scores against iteration, from its files."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from caloforge.errors import DataError
from caloforge.judge.shown.energies import energy_text
from caloforge.report.blocks import Cell, Picture, Section, Table
from caloforge.report.curves import draw_chi2_history
from caloforge.report.page import write_page
from caloforge.report.panels import Grid, plain_panels
from caloforge.report.style import Look, looks, style
from caloforge.report.tables.cells import number
from caloforge.report.ticks import log_scale

HELD_OUT = (
    "Chosen on a held-out tenth of the training showers; the judged showers were never seen."
)
GRADIENT, STAGNATION = "gradient/", "stagnation"  # keys in a line of the log
COUNTING = {"step", "steps_per_second", STAGNATION}  # keys that are no result
PRD = {"prd_auc_raw": "PRD-AUC of cells", "prd_auc_physics": "PRD-AUC of observables"}
REFRESH = 60  # seconds between two looks of a browser at the page of a running training
FEW = 10  # points; so few are marked, as a line through them may be too short to see
CURVES = Grid(columns=2, height=2.7, left=0.7, legend=0.1)  # the layout of most figures here


def training_section(run: str | Path, *, live: bool = False) -> Section:
    """Curves of a run folder: chi2/NDF, PRD-AUC, losses and norms of gradients against iteration,
    for each energy range; a table of what was logged once alone, as by a fit. Of a training that
    runs (`live`) what there is so far, maybe nothing.

    Raises
    ------
    DataError
        When the folder holds no selection.json, or one that is not a run's.
    """
    run = Path(run)
    ranges = sorted(run.glob("range*"))
    folders = [run] if (run / "selection.json").exists() or (live and not ranges) else ranges
    pictures, tables, sentences = [], [], [HELD_OUT]
    with style():
        for place, folder in enumerate(folders):
            begun = (folder / "selection.json").exists() or not live
            history, log = history_of(folder) if begun else [], _log(folder)
            suffix = f"-range{place}" if len(folders) > 1 else ""
            if len(history) <= 1 and len(log) <= 1:
                tables += _once_tables(history, log, suffix)
                continue
            if any(entry["chi2_ndf"] is not None for entry in history):
                pictures.append(chi2_picture(history, suffix))
            if any("prd_auc_raw" in entry for entry in history):
                pictures.append(prd_picture(history, suffix))
            if log:
                pictures.append(_loss_picture(log, suffix))
            if any(key.startswith(GRADIENT) for entry in log for key in entry):
                pictures.append(_gradient_picture(log, suffix))
            stagnant = [int(entry["step"]) for entry in log if STAGNATION in entry]
            if stagnant:
                sentences.append(
                    f"{_range_of(suffix)}The gradients of all players have vanished: nothing was "
                    f"learnt any more at {len(stagnant)} logged iterations from {stagnant[0]} on."
                )
    if not pictures and not tables and not live:
        raise DataError(f"{run} holds no selection.json; expected the folder of a training.")
    return Section(
        "Training curves" if pictures else "What was found",
        " ".join(sentences),
        tables=tuple(tables),
        pictures=tuple(pictures),
    )


def write_training_page(
    run: str | Path, extra_sections: Sequence[Section] = (), *, live: bool = False
) -> Path:
    """Write `run`/index.html with the curves and the recipe of a run; returns its path.

    `extra_sections` are shown after the curves. The page of a training that still runs (`live`)
    says so, and a browser loads it again every minute.
    """
    run = Path(run)
    recipe = run / "recipe.toml"
    text = recipe.read_text(encoding="utf-8") if recipe.exists() else ""
    name = tomllib.loads(text).get("name", run.name)
    title = f"Training of {name}"
    sections = [training_section(run, live=live), *extra_sections]
    intro = "This training runs; the page is written again about every minute." if live else None
    return write_page(
        run / "index.html",
        title,
        sections,
        intro=intro,
        verbatim=text,
        refresh=REFRESH if live else None,
    )


def _range_of(suffix: str) -> str:
    """Beginning of a caption that tells the ranges of a split model apart."""
    return f"Energy range {suffix.removeprefix('-range')}. " if suffix else ""


def history_of(folder: Path) -> list[dict[str, Any]]:
    """What was found at every choice of a run. Raises DataError when the file is not what a run
    writes.
    """
    path = folder / "selection.json"
    try:
        history = json.loads(path.read_text(encoding="utf-8"))
        if not all({"step", "chi2_ndf", "kept", "per_energy"} <= set(entry) for entry in history):
            raise ValueError("an entry lacks its step, chi2_ndf, kept or per_energy")
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path} is not the history of a training ({error}).") from error
    return history


def _log(folder: Path) -> list[dict[str, float]]:
    path = folder / "log.jsonl"
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]


def _once_tables(
    history: Sequence[dict[str, Any]], log: Sequence[dict[str, float]], suffix: str
) -> list[Table]:
    """What a fit, or a training of one log entry, found: a point makes no curve."""
    of = _range_of(suffix)
    tables = []
    for entry in history:
        scores = {"χ²/NDF of the total energy, all energies": entry["chi2_ndf"]}
        scores |= {
            f"at {energy_text(float(e))}": value for e, value in entry["per_energy"].items()
        }
        scores |= {name: entry.get(key) for key, name in PRD.items()}
        tables.append(_two_columns(f"{of}Held-out showers", "held-out showers", scores))
    for line in log:
        found = {k.replace("/", ": "): v for k, v in line.items() if k not in COUNTING}
        tables.append(_two_columns(f"{of}The fit", "fit", found))
    return [table for table in tables if table.rows]


def _two_columns(title: str, heading: str, numbers: Mapping[str, float | None]) -> Table:
    rows = [(Cell(k), Cell(number(v))) for k, v in numbers.items() if v is not None]
    return Table(title, (heading, ""), tuple(rows))


def chi2_picture(history: Sequence[dict[str, Any]], suffix: str = "") -> Picture:
    """chi2/NDF of the held-out showers against the step: all energies together, and each alone."""
    steps = np.array([entry["step"] for entry in history])
    chi2 = np.array([float("nan") if e["chi2_ndf"] is None else e["chi2_ndf"] for e in history])
    figure, (left, right) = plain_panels(2, CURVES)
    kept = [entry["step"] for entry in history if entry["kept"]][-1]
    draw_chi2_history(left, steps, chi2, chosen=kept)
    left.legend()
    energies = sorted({float(e) for entry in history for e in entry["per_energy"]})
    shown = energies[:: max(1, len(energies) // 5)]
    for energy, look in zip(shown, looks([energy_text(e) for e in shown]), strict=True):
        values = [entry["per_energy"].get(f"{energy:g}", np.nan) for entry in history]
        marker = look.marker if len(steps) < FEW else ""
        right.plot(
            steps,
            values,
            color=look.color,
            linestyle=look.line,
            marker=marker,
            markersize=3,
            label=look.label,
        )
    right.set_xlabel("training iteration")
    right.legend(ncols=2)
    right.sharey(left)
    lowest = int(np.nanargmin(chi2))
    return Picture(
        f"chi2-history{suffix}",
        f"{_range_of(suffix)}χ²/NDF of the total energy on the held-out showers against "
        f"training iteration, over all "
        f"energies (left) and at some of them (right): lowest {chi2[lowest]:.3g} at iteration "
        f"{steps[lowest]}, kept iteration {kept}. About 1 is as good as Geant4; look "
        "for a curve that still falls, or one that has begun to rise.",
        "Chi-square per degree of freedom against training iteration.",
        figure,
        "svg",
    )


def _loss_picture(log: Sequence[dict[str, float]], suffix: str) -> Picture:
    steps = [entry["step"] for entry in log]
    keys = {k for entry in log for k in entry} - COUNTING
    names = sorted(name for name in keys if not name.startswith(GRADIENT))
    figure, axes = plain_panels(len(names), Grid(columns=3, height=1.8, left=0.66, legend=0.1))
    for ax, name in zip(axes, names, strict=True):
        values = [entry.get(name, np.nan) for entry in log]
        ax.plot(steps, values, linewidth=0.9, marker="." if len(steps) < FEW else "")
        ax.set_title(name.replace("/", ": "), fontsize=9)
        ax.set_xlabel("training iteration")
    rate = float(np.median([entry["steps_per_second"] for entry in log]))
    played = any(part in name for name in names for part in ("critic", "discriminator"))
    return Picture(
        f"losses{suffix}",
        f"{_range_of(suffix)}Losses against training iteration, one point every "
        f"{int(steps[0])} iterations; median "
        f"speed {rate:.3g} iterations per second."
        + (" The losses of a GAN tell of balance, not of quality." if played else ""),
        "Losses against training iteration.",
        figure,
        "svg",
    )


def _gradient_picture(log: Sequence[dict[str, float]], suffix: str) -> Picture:
    steps = [entry["step"] for entry in log]
    names = sorted({k for entry in log for k in entry if k.startswith(GRADIENT)})
    figure, (left, right) = plain_panels(2, CURVES)
    for name, look in zip(names, looks([n.removeprefix(GRADIENT) for n in names]), strict=True):
        values = np.array([entry.get(name, np.nan) for entry in log])
        _curve(left, steps, np.where(values > 0, values, np.nan), look)
    log_scale(left.yaxis)
    left.set_ylabel("norm of the gradient")
    left.set_xlabel("training iteration")
    left.legend()
    rates = np.array([entry["steps_per_second"] for entry in log])
    _curve(right, steps, rates, Look("", "#0072B2"))
    right.set_ylim(bottom=0)
    right.set_ylabel("iterations per second")
    right.set_xlabel("training iteration")
    return Picture(
        f"gradients{suffix}",
        f"{_range_of(suffix)}Norm of each player's gradient before clipping (left) and speed "
        "(right) against training iteration. Look for norms that fall together by orders of "
        "magnitude: then nothing is learnt any more.",
        "Norms of gradients and speed against training iteration.",
        figure,
        "svg",
    )


def prd_picture(history: Sequence[dict[str, Any]], suffix: str = "") -> Picture:
    """PRD-AUC of cells and of observables of the choices of a run against its steps."""
    steps = [entry["step"] for entry in history]
    figure, (ax,) = plain_panels(1, replace(CURVES, columns=1))
    kinds = [name.removeprefix("PRD-AUC of ") for name in PRD.values()]
    for key, look in zip(PRD, looks(kinds), strict=True):
        _curve(ax, steps, np.array([entry.get(key, np.nan) for entry in history]), look)
    kept = [entry["step"] for entry in history if entry["kept"]][-1]
    ax.axvline(kept, color="0.5", linestyle=":", label=f"kept: iteration {kept}")
    ax.set_ylabel("PRD-AUC")
    ax.set_xlabel("training iteration")
    ax.legend()
    return Picture(
        f"prd-history{suffix}",
        f"{_range_of(suffix)}PRD-AUC of cells and of observables on the held-out showers against "
        "training iteration; 1 is best. The smaller of the two chooses where the recipe says so.",
        "Area under the precision-recall curve of distributions against training iteration.",
        figure,
        "svg",
    )


def _curve(ax: Axes, steps: Sequence[float], values: np.ndarray, look: Look) -> None:
    ax.plot(
        steps,
        values,
        color=look.color,
        linestyle=look.line,
        marker="." if len(steps) < FEW else "",
        linewidth=0.9,
        label=look.label,
    )
