"""The page of a search, from its search.json: history, settings against objective, importances,
Pareto front, curves of the trials, and a table of all of them.

The plots of Optuna itself (`optuna.visualization.matplotlib`) are not used: they draw from a
study, which the page does not need; they change matplotlib's settings for the whole process; and
they show neither the last scores of trials that were stopped early nor logarithmic objectives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from caloforge.errors import DataError
from caloforge.report.blocks import Cell, Picture, Section, Table
from caloforge.report.page import write_page
from caloforge.report.panels import WIDTH, Grid, columns, plain_panels
from caloforge.report.style import COLORS, INK, plain, style
from caloforge.report.ticks import log_scale

FORMAT = "caloforge-search-1"  # what `caloforge search` writes
PRUNED = "#b3b8bd"
SINGLE = Grid(columns=1, height=2.8, left=0.8, legend=0.1)  # the layout of a single panel


def write_search_page(out: str | Path) -> Path:
    """Write `out`/index.html from `out`/search.json and return its path.

    Raises
    ------
    DataError
        When there is no search.json, or one that is not a search's.
    """
    out = Path(out)
    search = _read(out / "search.json")
    recipe = out / "best" / "recipe.toml"
    best = search["best"]
    if len(search["objectives"]) > 1 and best:
        recipe = out / "best" / f"{best[0]:03d}" / "recipe.toml"
    text = recipe.read_text(encoding="utf-8") if best and recipe.exists() else ""
    states = [t["state"] for t in search["trials"]]
    counts = ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)) or "none yet"
    intro = (
        f"Trials: {counts}. Each trains {search['steps']} steps on {search['data']}. All are "
        "judged on the same held-out showers of the training file; the test file was not looked "
        "at."
    )
    with style():
        sections = search_sections(search)
    return write_page(
        out / "index.html",
        f"Search of {search['recipe']}",
        sections,
        intro=intro,
        verbatim=text,
    )


def search_sections(search: dict[str, Any]) -> list[Section]:
    """Sections of the page from the content of search.json; drawn inside `style()`."""
    done = [t for t in search["trials"] if t["state"] == "complete"]
    sections = [Section("Best", tables=(_best_table(search),))] if done else []
    if done:
        pictures = [_history(search, k) for k in range(len(search["objectives"]))]
        if any(t["early"] for t in search["trials"]):
            pictures.append(_curves(search))
        sections.append(Section("Trials", pictures=tuple(pictures)))
        if len(search["objectives"]) > 1:
            pairs = combinations(range(len(search["objectives"])), 2)
            fronts = tuple(_front(search, a, b) for a, b in pairs)
            sections.append(Section("Pareto front", pictures=fronts))
        slices = tuple(_slices(search, k) for k in range(len(search["objectives"])))
        sections.append(Section("Settings", pictures=(*_importances(search), *slices)))
    sections.append(Section("All trials", tables=(_all_table(search),)))
    return sections


def _read(path: Path) -> dict[str, Any]:
    try:
        search = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(search, dict) or search.get("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} is not the result of a search ({error}); expected the folder that `caloforge "
            "search` wrote."
        ) from error
    return search


# --- tables ----------------------------------------------------------------------------------
def _best_table(search: dict[str, Any]) -> Table:
    """Settings and objectives of the best trials beside the recipe's own settings."""
    trials = {t["number"]: t for t in search["trials"]}
    best = [trials[n] for n in search["best"]]
    rows = [
        (Cell(o["label"]), Cell("—"), *(Cell(f"{t['values'][k]:.4g}") for t in best))
        for k, o in enumerate(search["objectives"])
    ]
    rows += [
        (Cell(key), Cell(_text(d["recipe"])), *(Cell(_text(t["params"].get(key))) for t in best))
        for key, d in search["space"].items()
    ]
    several = len(search["objectives"]) > 1
    return Table(
        "Pareto front" if several else "Best trial",
        ("", "recipe", *(f"trial {t['number']}" for t in best)),
        tuple(rows),
        note="No other trial is better in one objective without being worse in another."
        if several
        else "",
    )


def _all_table(search: dict[str, Any]) -> Table:
    names = [o["name"] for o in search["objectives"]]
    headings = ("trial", "state", *names, *search["space"], "minutes", "machine", "note")
    rows = []
    for t in search["trials"]:
        values = t["values"] or [None] * len(names)
        minutes = "—" if t["seconds"] is None else f"{t['seconds'] / 60:.2g}"
        again = f"begun {t['retries'] + 1} times. " if t["retries"] else ""
        rows.append(
            (
                Cell(str(t["number"])),
                Cell(t["state"]),
                *(Cell("—" if v is None else f"{v:.4g}") for v in values),
                *(Cell(_text(t["params"].get(key))) for key in search["space"]),
                Cell(minutes),
                Cell(t["host"]),
                Cell(again + t["sentence"]),
            )
        )
    return Table(f"All {len(rows)} trials", headings, tuple(rows), collapsed=True)


def _text(value: Any) -> str:
    if value is None:
        return "—"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


# --- pictures --------------------------------------------------------------------------------
def _values(search: dict[str, Any], index: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers and values of the complete trials."""
    done = [t for t in search["trials"] if t["state"] == "complete"]
    return np.array([t["number"] for t in done]), np.array([t["values"][index] for t in done])


def _history(search: dict[str, Any], index: int) -> Picture:
    objective = search["objectives"][index]
    numbers, values = _values(search, index)
    best = np.minimum if objective["direction"] == "minimize" else np.maximum
    figure, (ax,) = plain_panels(1, SINGLE)
    ax.plot(numbers, values, "o", markersize=4, color=COLORS[0], label="trial")
    ax.step(numbers, best.accumulate(values), where="post", color=COLORS[1], label="best so far")
    pruned = [t for t in search["trials"] if t["state"] == "pruned" and t["early"]]
    if pruned and index == 0:
        last = [list(t["early"].values())[-1] for t in pruned]
        where = [t["number"] for t in pruned]
        ax.plot(where, last, "x", color=PRUNED, label="stopped early, last score")
    _scale(ax, values)
    ax.set_xlabel("trial")
    ax.set_ylabel(objective["label"])
    ax.legend()
    way = "lower" if objective["direction"] == "minimize" else "higher"
    return Picture(
        f"history-{objective['name']}",
        f"{objective['label']} of each trial, {way} is better. Look for a line that has become "
        "flat: then more trials of this space promise little.",
        f"{objective['label']} against trial number.",
        figure,
        "svg",
    )


def _curves(search: dict[str, Any]) -> Picture:
    figure, (ax,) = plain_panels(1, SINGLE)
    best = search["best"][:1]
    shown: list[float] = []
    for t in search["trials"]:
        if not t["early"]:
            continue
        steps, values = [int(s) for s in t["early"]], list(t["early"].values())
        shown += values
        chosen = t["number"] in best
        color = COLORS[1] if chosen else COLORS[0] if t["state"] == "complete" else PRUNED
        label = f"best: trial {t['number']}" if chosen else None
        ax.plot(
            steps,
            values,
            color=color,
            linewidth=1.8 if chosen else 0.8,
            marker=".",
            markersize=3,
            label=label,
            zorder=3 if chosen else 2,
        )
    _scale(ax, np.array(shown))
    ax.set_xlabel("training iteration")
    ax.set_ylabel(f"best {search['objectives'][0]['label']} so far")
    if best:
        ax.legend()
    return Picture(
        "curves",
        "Best score so far of each trial against training iteration, on the showers it chooses "
        "its generator with; grey ones were stopped early or failed. Look for curves that cross "
        "late: then trials are stopped too soon, or are too short.",
        "Best score so far against training iteration, one line a trial.",
        figure,
        "svg",
    )


def _front(search: dict[str, Any], first: int, second: int) -> Picture:
    one, two = search["objectives"][first], search["objectives"][second]
    (numbers, x), (_, y) = _values(search, first), _values(search, second)
    on = np.isin(numbers, search["best"])
    figure, (ax,) = plain_panels(1, replace(SINGLE, height=3.6))
    ax.plot(x[~on], y[~on], "o", color=PRUNED, markersize=4, label="other trials")
    ax.plot(x[on], y[on], "o", color=COLORS[1], markersize=6, label="Pareto front")
    for number, a, b in zip(numbers[on], x[on], y[on], strict=True):
        ax.annotate(str(number), (a, b), xytext=(4, 4), textcoords="offset points", color=INK)
    if x.min() > 0 and x.max() > 10 * x.min():
        log_scale(ax.xaxis)
    _scale(ax, y)
    ax.set_xlabel(one["label"])
    ax.set_ylabel(two["label"])
    ax.legend()
    return Picture(
        f"front-{one['name']}-{two['name']}",
        f"{two['label']} against {one['label']}. With more than two objectives a trial may be on "
        "the front by one that is not shown.",
        "Two objectives of each trial against each other.",
        figure,
        "svg",
    )


def _slices(search: dict[str, Any], index: int) -> Picture:
    objective, keys = search["objectives"][index], list(search["space"])
    done = [t for t in search["trials"] if t["state"] == "complete"]
    numbers, values = _values(search, index)
    grid = Grid(columns=columns(len(keys), 3), height=2.0, left=0.7, legend=0.45)
    figure, axes = plain_panels(len(keys), grid)
    for ax, key in zip(axes, keys, strict=True):
        x = _positions(ax, search["space"][key], [t["params"].get(key) for t in done])
        marks = ax.scatter(x, values, c=numbers, cmap="viridis", s=16)
        ax.set_xlabel(key)
        _scale(ax, values)
        ax.sharey(axes[0])
    for ax in axes[:: grid.columns]:
        ax.set_ylabel(plain(objective["label"]))
    # The trials' colours, in the margin above the panels.
    height = figure.get_figheight()
    place = figure.add_axes((0.7 / WIDTH, 1 - 0.2 / height, 2.4 / WIDTH, 0.1 / height))
    bar = figure.colorbar(marks, cax=place, orientation="horizontal")
    bar.set_label("trial", labelpad=1)
    bar.locator = MaxNLocator(4, integer=True)
    bar.minorticks_off()
    bar.update_ticks()
    return Picture(
        f"settings-{objective['name']}",
        f"{objective['label']} against each setting, one point a complete trial; late trials are "
        "bright. Look for late points at the end of a range: then widen it.",
        f"{objective['label']} against each setting searched.",
        figure,
        "svg",
    )


def _positions(ax: Axes, dimension: dict[str, Any], values: Sequence[Any]) -> np.ndarray:
    """Where values lie on the axis: numbers as they are, choices side by side."""
    if "choices" not in dimension:
        if dimension.get("log"):
            log_scale(ax.xaxis)
        elif isinstance(dimension["low"], int):
            ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        return np.array([np.nan if v is None else float(v) for v in values])
    choices = dimension["choices"]
    ax.set_xticks(range(len(choices)), [plain(str(c)) for c in choices])
    ax.set_xlim(-0.5, len(choices) - 0.5)
    return np.array([choices.index(v) if v in choices else np.nan for v in values], dtype=float)


def _importances(search: dict[str, Any]) -> list[Picture]:
    given = {k: v for k, v in search["importances"].items() if v}
    if not given:
        return []
    keys = list(search["space"])
    height = 0.8 / len(given)
    left = 0.3 + 0.07 * max(map(len, keys))
    figure, (ax,) = plain_panels(1, replace(SINGLE, height=0.3 + 0.32 * len(keys), left=left))
    for k, (name, shares) in enumerate(given.items()):
        place = np.arange(len(keys)) + (k - (len(given) - 1) / 2) * height
        color = COLORS[k % len(COLORS)]
        ax.barh(place, [shares.get(key, 0.0) for key in keys], height, color=color, label=name)
    ax.set_yticks(range(len(keys)), keys)
    ax.invert_yaxis()
    ax.set_xlabel("share of the spread of the objective")
    ax.legend()
    return [
        Picture(
            "importances",
            "How much of the difference between good trials and the others each setting explains "
            "on its own (PED-ANOVA, arXiv:2304.10255). With fewer than some dozens of trials this "
            "is a hint, no more.",
            "Share of each setting.",
            figure,
            "svg",
        )
    ]


def _scale(ax: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where values span more than a factor of ten."""
    if len(values) and values.min() > 0 and values.max() > 10 * values.min():
        log_scale(ax.yaxis)
