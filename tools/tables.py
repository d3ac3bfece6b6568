"""Write the tables of shipped generators in README.md, docs/leaderboard.md and docs/flagship.md.

    python tools/tables.py

The README has the best generator of each detector, docs/leaderboard.md all of them. The tables are
made from the results beside the generators. The program also writes the table of
metrics in docs/results.md, from `caloforge.metrics.table`. Run it after `tools/ship.py`, and when
you have added a metric; a test fails when that was forgotten.
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from caloforge.metrics.base import Metric
from caloforge.metrics.table import metric, metrics

ROOT = Path(__file__).resolve().parents[1]
SHELF = ROOT / "src" / "caloforge" / "pretrained"
Results = dict[str, Any]
NOTHING = "–"
BEGIN, END = "<!-- tools/tables.py -->", "<!-- end -->"
# The columns of the README and of the first table of docs/leaderboard.md: keys of metrics.
README_COLUMNS = ("auc_boosted", "auc_low", "chi2_ndf_energy")
COLUMNS = (
    "chi2_ndf_energy",
    "auc_low",
    "auc_high",
    "auc_boosted",
    "coverage",
    "prd_auc_physics",
)

# The members of the flagship, by the beginnings of their names, and the columns of
# docs/flagship.md.
MEMBERS = ("copula-flow-", "one-step-", "copula-")
FLAGSHIP_COLUMNS = (
    "auc_boosted",
    "auc_low",
    "auc_low_normed",
    "auc_high",
    "fpd",
    "chi2_ndf_energy",
    "coverage",
)


def by_detector() -> list[tuple[str, Results]]:
    """Names and results of the shipped generators in the order of the tables.

    Generators of the same showers stand together, the one with the smallest boosted AUC first.
    Those whose results are older than the boosted trees follow, in the order of AUC low.
    """
    found = []
    for path in SHELF.glob("*/results.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        found.append((path.parent.name, results))

    def place(entry: tuple[str, Results]) -> tuple[str, bool, float]:
        name, results = entry
        metrics = metrics_of(name, results)
        judged = "auc_boosted" in metrics
        key = "auc_boosted" if judged else "auc_low"
        return showers_of(results), not judged, metrics[key]["value"]

    return sorted(found, key=place)


def showers_of(results: Results) -> str:
    """The showers that a generator is to reproduce, in words: detector and particle."""
    reference = results["reference"]
    name = str(reference.get("name", reference["geometry"])).replace("_", "-")
    return name.removesuffix("-test").replace("-", " ")


def metrics_of(name: str, results: Results) -> Results:
    """Key of a metric -> value, error, floor and n, for a shipped generator."""
    return results["generators"][name]["metrics"]


def readme_table() -> str:
    """The table of the README: the generator with the smallest boosted AUC of each detector and
    particle, with each metric's floor in brackets.
    """
    best: dict[str, tuple[str, Results]] = {}
    for name, results in by_detector():
        best.setdefault(showers_of(results), (name, results))
    return _table(list(best.values()), README_COLUMNS)


def short_table() -> str:
    """The first table of docs/leaderboard.md: a few metrics, each with its floor in brackets.

    For each detector and particle it has the members of the flagship and the best of the other
    generators. Among these the ones judged on at least half as many showers as any other are
    considered, and the first in the order of `by_detector` is taken.
    """
    found = by_detector()
    others = [entry for entry in found if not entry[0].startswith(MEMBERS)]
    most: dict[str, int] = {}
    for _, results in others:
        showers = showers_of(results)
        most[showers] = max(most.get(showers, 0), results["reference"]["n"])
    best: dict[str, tuple[str, Results]] = {}
    for name, results in others:
        showers = showers_of(results)
        if 2 * results["reference"]["n"] >= most[showers]:
            best.setdefault(showers, (name, results))
    names = {name for name, _ in best.values()}
    return _table([e for e in found if e[0].startswith(MEMBERS) or e[0] in names], COLUMNS)


def flagship_table() -> str:
    """The table of docs/flagship.md: the members of the flagship alone, with other metrics."""
    return _table([e for e in by_detector() if e[0].startswith(MEMBERS)], FLAGSHIP_COLUMNS)


def _table(found: list[tuple[str, Results]], wanted: Sequence[str]) -> str:
    """A Markdown table with one line for each generator.

    A metric that none of the results has is left out; where only some have it, the others show a
    dash.
    """
    columns = [
        metric(key)
        for key in wanted
        if any(key in metrics_of(name, results) for name, results in found)
    ]
    lines = [f"| generator | showers | N | {' | '.join(known.name for known in columns)} |"]
    lines.append("|" + "---|" * (3 + len(columns)))
    for name, results in found:
        metrics = metrics_of(name, results)
        cells = [f"`{name}`", showers_of(results), str(results["reference"]["n"])]
        for known in columns:
            m, scale = metrics.get(known.key), known.scale
            cells.append(
                f"{m['value'] * scale:.3g} ± {m['error'] * scale:.1g} ({m['floor'] * scale:.3g})"
                if m
                else NOTHING
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def long_tables() -> str:
    """The tables of all metrics of the shipped generators, from the README beside each.

    A README that was written before a metric was added lacks its column, and the table shows a
    dash there.
    """
    texts = []
    names = [name for name, _ in by_detector()]
    pages = {n: (SHELF / n / "README.md").read_text(encoding="utf-8") for n in names}
    for number in range(2):
        rows: list[dict[str, str]] = []
        legend = ""
        for page in pages.values():
            found = re.findall(r"(\| generator \|.*)\n\|[-|]+\|\n(\|.*)\n\n(.*)", page)[number]
            heading, row, legend = found
            rows.append(dict(zip(_cells(heading), _cells(row), strict=True)))
        # The row with the most columns sets the order of the columns.
        longest = sorted(rows, key=len, reverse=True)
        headings = list(dict.fromkeys(heading for row in longest for heading in row))
        lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
        for name, row in zip(pages, rows, strict=True):
            cells = [f"`{name}`", *(row.get(heading, NOTHING) for heading in headings[1:])]
            lines.append(f"| {' | '.join(cells)} |")
        texts.append("\n".join([*lines, "", legend]))
    return "\n\n".join(texts)


def metrics_table() -> str:
    """A Markdown table with one line for each metric that results.json can hold."""
    lines = ["| key | shown as | meaning | alike | nothing in common | source |"]
    lines.append("|" + "---|" * 6)
    for known in metrics():
        key = known.key
        if known.family:
            key += "NAME" if known.needs == "second reference" else "KEY"
        alike = known.alike or f"{known.ideal:g}"
        cells = [f"`{key}`", known.name, known.meaning, alike, _apart(known), known.source]
        lines.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(lines)


def _apart(known: Metric) -> str:
    """The value of samples that have nothing in common, in words."""
    if math.isfinite(known.worst):
        text = f"{known.worst:g}"
        return f"{text}: copies" if known.needs == "training" else text
    return "large" if known.way == "multiple" else ""


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def with_table(text: str, table: str) -> str:
    """`text` with `table` between the marks BEGIN and END."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Write all files."""
    for path, table in pages().items():
        text = path.read_text(encoding="utf-8")
        path.write_text(with_table(text, table), encoding="utf-8")


def pages() -> dict[Path, str]:
    """File -> the table that it holds."""
    docs = ROOT / "docs"
    return {
        ROOT / "README.md": readme_table(),
        docs / "leaderboard.md": f"{short_table()}\n\n{long_tables()}",
        docs / "flagship.md": flagship_table(),
        docs / "results.md": metrics_table(),
    }


if __name__ == "__main__":
    main()
