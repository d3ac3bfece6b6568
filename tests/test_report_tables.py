"""Reading of figures: which way is worse, levels against the floor, ranks, tables of them."""

from __future__ import annotations

import io
import json
import math
import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from caloforge.judge.comparison import Comparison, Details
from caloforge.judge.merit import distance, judge, mean_ranks, ranked_names
from caloforge.judge.results import joint_row, markdown_table
from caloforge.metrics.base import Value
from caloforge.metrics.notes import Notes
from caloforge.metrics.table import metrics
from caloforge.progress import leaderboard

GOOD = {
    "chi2_ndf_energy": 1.0,
    "separation/response": 0.01,
    "separation_with_flow/response": 0.01,
    "auc_low": 0.52,
    "auc_high": 0.51,
    "auc_boosted": 0.53,
    "fpd": 0.3e-3,
    "precision": 0.70,
    "recall": 0.69,
    "density": 0.99,
    "coverage": 0.96,
    "prd_auc_raw": 0.95,
    "prd_auc_physics": 0.93,
    "prd_auc": 0.93,
    "copies": 0.01,
    "memorising": 0.5,
}
FLOORS = GOOD | {"auc_low": 0.5, "auc_high": 0.5, "auc_boosted": 0.5, "fpd": 0.1e-3}
BAD = {
    "chi2_ndf_energy": 9.0,
    "separation/response": 0.3,
    "separation_with_flow/response": 0.3,
    "auc_low": 0.93,
    "auc_high": 0.95,
    "auc_boosted": 0.97,
    "fpd": 0.05,
    "precision": 0.1,
    "recall": 0.05,
    "density": 0.2,
    "coverage": 0.1,
    "prd_auc_raw": 0.5,
    "prd_auc_physics": 0.2,
    "prd_auc": 0.2,
    "copies": 0.3,
    "memorising": 0.99,
}


def comparison(name: str, figures: dict[str, float], n: int = 1000) -> Comparison:
    values = {k: Value(v, 0.01 * abs(v), FLOORS[k], n) for k, v in figures.items()}
    return Comparison(name, values, details=Details(notes=Notes(effort="fast", reduced=("fpd",))))


@pytest.mark.parametrize("key", [k for k in BAD if "/" not in k])
def test_bad_figures_are_bad_whichever_way_they_run(key: str) -> None:
    level, words = judge(key, BAD[key], 0.01 * BAD[key], FLOORS[key])
    assert level in ("off", "far"), words
    assert judge(key, FLOORS[key], 0.01, FLOORS[key])[0] == "good"
    assert distance(key, BAD[key], FLOORS[key]) > distance(key, FLOORS[key], FLOORS[key])


def test_what_is_better_than_its_floor_is_good() -> None:
    """Larger is better for precision and its like, smaller for the others."""
    for key, value in (("recall", 0.9), ("prd_auc", 0.99), ("auc_high", 0.5), ("kpd", -0.001)):
        assert judge(key, value, 1e-9, 0.6 if value > 0.6 else 0.55 if value > 0 else 0.001) == (
            "good",
            "at its floor",
        )
    # Density has no better side: showers in the middle of all others are dense.
    assert judge("density", 3.0, 0.01, 1.0) == ("far", "200 % off")
    # Farther from the training showers than Geant4 is no copying.
    assert judge("memorising", 0.1, 0.01, 0.5)[0] == "good"


def test_levels_count_the_floor_or_the_way_to_the_worst_value() -> None:
    levels = [judge("fpd", v, None, 1.0)[0] for v in (0.5, 2.0, 9.0, 50.0)]
    assert levels == ["good", "near", "off", "far"]
    # From a floor of 0.6 to 0.76 is 40 % of the way to 1.
    assert judge("auc_low", 0.76, 0.01, 0.6) == ("off", "40 % of the way to 1")
    assert judge("precision", 0.3, 0.01, 0.6)[1] == "50 % of the way to 0"
    assert judge("auc_low", 1.0, 0.01, 0.6) == ("far", "100 % of the way to 1")
    # Within its error of the floor is good, whatever the ratio.
    assert judge("auc_low", 0.56, 0.04, 0.5) == ("good", "at its floor")
    assert judge("fpd", 2e-3, 1e-3, 0.0) == ("good", "at its floor")
    assert judge("fpd", 8e-3, 1e-3, 0.0) == ("off", "8.0 × error")
    assert judge("fpd", 0.4, 5e-3, 4e-3) == ("far", "100 × floor")
    assert judge("auc_low", 0.9, 0.01, None) == ("", "")
    assert judge("auc_low", 0.9, 0.01, math.nan) == ("", "")


def test_ranks_are_means_over_several_figures() -> None:
    good, bad = comparison("good", GOOD), comparison("bad", BAD)
    assert mean_ranks([good, bad]) == [1.0, 2.0]
    assert mean_ranks([bad, good]) == [2.0, 1.0]
    assert mean_ranks([good, good]) == [1.5, 1.5]
    assert mean_ranks([good]) is None
    # One figure turned round moves the mean by one over their number.
    ranked = sum(metric.rank for metric in metrics())
    mixed = comparison("mixed", BAD | {"auc_low": 0.501})
    assert mean_ranks([good, mixed]) == pytest.approx([1 + 1 / ranked, 2 - 1 / ranked])
    # What one generator lacks is not ranked: results written before a figure was added are read.
    old = comparison("old", {k: v for k, v in GOOD.items() if k != "auc_boosted"})
    assert "AUC boosted" in ranked_names([good, bad])
    assert "AUC boosted" not in ranked_names([old, bad]) and mean_ranks([old, bad]) == [1.0, 2.0]
    lacking = comparison("lacking", {k: v for k, v in BAD.items() if k != "fpd"})
    assert "FPD ×10³" not in ranked_names([good, lacking])
    assert "FPD ×10³" in ranked_names([good, bad])


def test_markdown_has_the_joint_figures_in_a_second_table() -> None:
    first, second = markdown_table([comparison("a", GOOD), comparison("b|c", BAD)]).split("\n\n| ")
    assert first.startswith("| generator | N | χ²/NDF of E_tot |")
    assert "mean rank" not in first.splitlines()[0]
    lines = second.splitlines()
    columns = [c.strip() for c in lines[0].rstrip("|").split("|")]
    assert columns[:6] == ["generator", "N", "metrics", "AUC low", "AUC high", "AUC boosted"]
    assert columns[-1] == "mean rank" and "FPD ×10³" in columns
    cells = dict(zip(columns, (c.strip() for c in lines[2].strip("|").split("|")), strict=True))
    assert cells["FPD ×10³"] == "0.3 ± 0.003 (0.1)"
    assert cells["AUC low"] == "0.52 ± 0.005 (0.5)"
    assert cells["metrics"] == "fast" and cells["mean rank"] == "1.0" and cells["N"] == "1000"
    assert "b\\|c" in lines[3]
    assert "fewer showers than published: FPD" in second


def test_joint_figures_are_shown_at_the_size_of_their_floor() -> None:
    whole = comparison("a", GOOD)
    sized = replace(whole.details, at_floor_size={"auc_low": Value(0.55, 0.01, 0.5, 500)})
    row = joint_row(replace(whole, details=sized))
    assert row["AUC low"].startswith("0.55 ±") and row["N"] == "500–1000"
    assert joint_row(Comparison("h", {"chi2_ndf_energy": Value(1, 0.1, 1, 9)})) == {}


def test_terminal_table_holds_every_figure() -> None:
    from rich.console import Console

    console = Console(width=140, record=True, file=io.StringIO())
    console.print(leaderboard([comparison("a", GOOD), comparison("[b]", BAD)]))
    text = console.export_text()
    for word in ("χ²/NDF", "AUC low", "PRD-AUC raw", "memorising", "mean rank", "[b]", "0.93"):
        assert word in text


def test_tables_of_the_shelf_take_results_from_before_a_figure_was_added(tmp_path: Path) -> None:
    """One shipped generator was judged before the boosted AUC was there."""
    root = Path(__file__).resolve().parents[1]
    tools = runpy.run_path(str(root / "tools" / "tables.py"))
    tools["by_detector"].__globals__["SHELF"] = tmp_path
    old = {k: v for k, v in GOOD.items() if k != "auc_boosted"}
    for name, values in (("copula-old", old), ("one-step-new", BAD)):
        made = comparison(name, values)
        figures = {
            k: {"value": v.value, "error": v.error, "floor": v.floor, "n": v.n}
            for k, v in made.metrics.items()
        }
        (tmp_path / name).mkdir()
        results = {
            "reference": {"geometry": "ds1", "n": 9},
            "generators": {name: {"metrics": figures}},
        }
        (tmp_path / name / "results.json").write_text(json.dumps(results), encoding="utf-8")
        page = f"# {name}\n\n{markdown_table([made])}"
        (tmp_path / name / "README.md").write_text(page, encoding="utf-8")
    for table in (tools["short_table"](), tools["long_tables"]().split("\n\n| ")[1]):
        rows = [line.strip().strip("|").split("|") for line in table.splitlines()]
        # What the trees have judged stands first.
        heading, _, second, first = ([cell.strip() for cell in row] for row in rows[:4])
        column = heading.index("AUC boosted")
        assert len(heading) == len(first) == len(second)
        assert first[0] == "`copula-old`" and first[column] == "–"
        assert second[column].startswith("0.97 ± ")
        assert second[heading.index("AUC high")].startswith("0.95 ± ")
