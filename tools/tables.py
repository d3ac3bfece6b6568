"""The tables of the shipped generators in README.md and docs/leaderboard.md, from their results.

    python tools/tables.py

Run it after `tools/ship.py`; a test tells when that was forgotten.
"""

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHELF = ROOT / "src" / "caloforge" / "pretrained"
Results = dict[str, Any]
BEGIN, END = "<!-- tools/tables.py -->", "<!-- end -->"
# What the README shows of each generator; the rest is in docs/leaderboard.md.
COLUMNS = {
    "χ²/NDF of E_tot": "chi2_ndf_energy",
    "AUC low": "auc_low",
    "AUC high": "auc_high",
    "coverage": "coverage",
    "PRD-AUC physics": "prd_auc_physics",
}


def by_detector() -> list[tuple[str, Results]]:
    """Names and results of the shipped generators, those of a read-out together, the one that a
    classifier tells from Geant4 least first.
    """
    found = []
    for path in SHELF.glob("*/results.json"):
        results = json.loads(path.read_text(encoding="utf-8"))
        found.append((path.parent.name, results))

    def place(entry: tuple[str, Results]) -> tuple[str, float]:
        name, results = entry
        return results["reference"]["geometry"], metrics_of(name, results)["auc_low"]["value"]

    return sorted(found, key=place)


def metrics_of(name: str, results: Results) -> Results:
    """Key -> value, error, floor and n of a shipped generator."""
    return results["generators"][name]["metrics"]


def short_table() -> str:
    """The README's table: a few figures, each with its floor in brackets."""
    lines = ["| generator | detector | N | " + " | ".join(COLUMNS) + " |"]
    lines.append("|" + "---|" * (3 + len(COLUMNS)))
    for name, results in by_detector():
        metrics = metrics_of(name, results)
        cells = [f"`{name}`", results["reference"]["geometry"], str(results["reference"]["n"])]
        for key in COLUMNS.values():
            m = metrics[key]
            cells.append(f"{m['value']:.3g} ± {m['error']:.1g} ({m['floor']:.3g})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def long_tables() -> str:
    """The judge's tables of all shipped generators, from the pages beside their files."""
    texts = []
    names = [name for name, _ in by_detector()]
    pages = {n: (SHELF / n / "README.md").read_text(encoding="utf-8") for n in names}
    for number in range(2):
        rows = []
        for name, page in pages.items():
            found = re.findall(r"(\| generator \|.*\n\|[-|]+\|)\n(\|.*)\n\n(.*)", page)[number]
            heading, row, legend = found
            rows.append(row.replace(f"| {name} |", f"| `{name}` |", 1))
        texts.append("\n".join([heading, *rows, "", legend]))
    return "\n\n".join(texts)


def with_table(text: str, table: str) -> str:
    """`text` with `table` between the two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Write both files."""
    for path, table in pages().items():
        text = path.read_text(encoding="utf-8")
        path.write_text(with_table(text, table), encoding="utf-8")


def pages() -> dict[Path, str]:
    """File -> the table it holds."""
    return {ROOT / "README.md": short_table(), ROOT / "docs" / "leaderboard.md": long_tables()}


if __name__ == "__main__":
    main()
