"""The tables of the shipped generators in README.md, docs/leaderboard.md and docs/flagship.md.

    python tools/tables.py

They are made from the results beside the generators. Run it after `tools/ship.py`; a test tells
when that was forgotten.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHELF = ROOT / "src" / "caloforge" / "pretrained"
Results = dict[str, Any]
NOTHING = "–"
BEGIN, END = "<!-- tools/tables.py -->", "<!-- end -->"
# What the README shows of each generator; the rest is in docs/leaderboard.md.
COLUMNS = {
    "χ²/NDF of E_tot": "chi2_ndf_energy",
    "AUC low": "auc_low",
    "AUC high": "auc_high",
    "AUC boosted": "auc_boosted",
    "coverage": "coverage",
    "PRD-AUC physics": "prd_auc_physics",
}

# What docs/flagship.md shows of the members of the flagship.
MEMBERS = ("copula-flow-", "one-step-", "copula-")
FLAGSHIP_COLUMNS = {
    "AUC boosted": "auc_boosted",
    "AUC low": "auc_low",
    "AUC low-normed": "auc_low_normed",
    "AUC high": "auc_high",
    "FPD · 10³": "fpd",
    "χ²/NDF of E_tot": "chi2_ndf_energy",
    "coverage": "coverage",
}


def by_detector() -> list[tuple[str, Results]]:
    """Names and results of the shipped generators, those of a read-out together, the one that a
    classifier tells from Geant4 least first: by boosted trees, and behind these by networks where
    results are older than the trees.
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
        return results["reference"]["geometry"], not judged, metrics[key]["value"]

    return sorted(found, key=place)


def metrics_of(name: str, results: Results) -> Results:
    """Key -> value, error, floor and n of a shipped generator."""
    return results["generators"][name]["metrics"]


def short_table() -> str:
    """The README's table: of each detector the members of the flagship, and of all others, judged
    on as many showers as any of them, the one that a classifier tells from Geant4 least; a few
    figures, each with its floor in brackets.
    """
    found = by_detector()
    others = [entry for entry in found if not entry[0].startswith(MEMBERS)]
    best: dict[str, tuple[str, Results]] = {}
    for entry in others:
        reference = entry[1]["reference"]
        known = best.setdefault(reference["geometry"], entry)
        if reference["n"] > known[1]["reference"]["n"]:
            best[reference["geometry"]] = entry
    names = {name for name, _ in best.values()}
    return _table([e for e in found if e[0].startswith(MEMBERS) or e[0] in names], COLUMNS)


def flagship_table() -> str:
    """The same for the members of the flagship alone, with other figures."""
    return _table([e for e in by_detector() if e[0].startswith(MEMBERS)], FLAGSHIP_COLUMNS)


def _table(found: list[tuple[str, Results]], wanted: dict[str, str]) -> str:
    """One line a generator. A figure that none of the results has is left out; it shows a dash
    where only some have it.
    """
    columns = {
        heading: key
        for heading, key in wanted.items()
        if any(key in metrics_of(name, results) for name, results in found)
    }
    lines = ["| generator | detector | N | " + " | ".join(columns) + " |"]
    lines.append("|" + "---|" * (3 + len(columns)))
    for name, results in found:
        metrics = metrics_of(name, results)
        cells = [f"`{name}`", results["reference"]["geometry"], str(results["reference"]["n"])]
        for heading, key in columns.items():
            m, scale = metrics.get(key), 1e3 if heading.endswith("10³") else 1
            cells.append(
                f"{m['value'] * scale:.3g} ± {m['error'] * scale:.1g} ({m['floor'] * scale:.3g})"
                if m
                else NOTHING
            )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def long_tables() -> str:
    """The judge's tables of all shipped generators, from the pages beside their files.

    Pages that were written before a figure was added lack its column and show a dash there.
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
        # The longest heading has the order of the others.
        longest = sorted(rows, key=len, reverse=True)
        headings = list(dict.fromkeys(heading for row in longest for heading in row))
        lines = [f"| {' | '.join(headings)} |", "|" + "---|" * len(headings)]
        for name, row in zip(pages, rows, strict=True):
            cells = [f"`{name}`", *(row.get(heading, NOTHING) for heading in headings[1:])]
            lines.append(f"| {' | '.join(cells)} |")
        texts.append("\n".join([*lines, "", legend]))
    return "\n\n".join(texts)


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split(" | ")]


def with_table(text: str, table: str) -> str:
    """`text` with `table` between the two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Write all files."""
    for path, table in pages().items():
        text = path.read_text(encoding="utf-8")
        path.write_text(with_table(text, table), encoding="utf-8")


def pages() -> dict[Path, str]:
    """File -> the table it holds."""
    docs = ROOT / "docs"
    return {
        ROOT / "README.md": short_table(),
        docs / "leaderboard.md": long_tables(),
        docs / "flagship.md": flagship_table(),
    }


if __name__ == "__main__":
    main()
