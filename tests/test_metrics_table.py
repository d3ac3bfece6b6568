"""The table of metrics: every key has its line, and one more line is all that a metric takes."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from test_contributing import EXAMPLES, run
from test_evaluation_compare import toy

from caloforge.judge.compare import compare
from caloforge.judge.comparison import Comparison
from caloforge.judge.merit import judge, mean_ranks, ranked_names
from caloforge.judge.pairs import How
from caloforge.judge.results import joint_row, markdown_table, read_comparisons, to_json
from caloforge.judge.summary import Summary, summarise
from caloforge.metrics import table
from caloforge.metrics.base import Metric
from caloforge.metrics.effort import FAST
from caloforge.metrics.table import METRICS, metric, metrics

ROOT = Path(__file__).resolve().parents[1]


def test_every_key_has_one_line() -> None:
    keys = [known.key for known in METRICS]
    assert len(set(keys)) == len(keys)
    for path in (ROOT / "tests" / "frozen").glob("*.json"):
        generators = json.loads(path.read_text(encoding="utf-8"))["generators"].values()
        for generator in generators:
            tables = [
                generator["metrics"],
                *(p["metrics"] for p in generator["per_energy"].values()),
            ]
            for key in {key for one in tables for key in one}:
                assert len([known for known in METRICS if known.covers(key)]) == 1, key


def test_a_line_says_what_there_is_to_know() -> None:
    for known in METRICS:
        assert known.meaning.endswith("."), known.key
        assert known.name and callable(known.compute)
        assert known.distance(known.ideal, known.ideal) <= known.distance(known.worst, known.ideal)


def test_an_unknown_key_is_read_as_a_multiple_of_its_floor() -> None:
    """Results that were written with a metric of another package are shown without it."""
    assert metric("their_distance").name == "their distance"
    assert judge("their_distance", 9.0, 0.1, 1.0) == ("off", "9.0 × floor")
    assert metric("separation/response") is metric("separation")


# --- one more metric: that of CONTRIBUTING.md ----------------------------------------------------
MEDIAN = SimpleNamespace(**run("src/caloforge/metrics/median.py"))
TOY: Metric = eval(EXAMPLES["the line in METRICS"], {"Metric": Metric, "median": MEDIAN})
KEY = "median_response"


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> tuple[Summary, list[Summary], list[Comparison]]:
    """Two generators, judged by a short table with one metric more."""
    chosen = [known for known in METRICS if known.needs == "observables"]
    monkeypatch.setattr(table, "METRICS", [*chosen, TOY])
    reference = summarise(toy(), "reference")
    samples = [
        summarise(toy(seed=1), "good", like=reference),
        summarise(toy(seed=2, scale=1.1), "bad", like=reference),
    ]
    return reference, samples, compare(reference, samples, how=How(effort=FAST, device="cpu"))


def test_one_line_more_is_a_metric_everywhere(
    judged: tuple[Summary, list[Summary], list[Comparison]],
) -> None:
    from caloforge.judge.folder import result_of
    from caloforge.report.tables.joint import joint_table
    from caloforge.report.tables.summary import leaderboard

    reference, samples, comparisons = judged
    good, bad = comparisons
    assert bad.metrics[KEY].value == pytest.approx(0.1, abs=0.02)
    assert good.metrics[KEY].floor is not None
    # results.json, and read back from it
    plain = to_json(reference, comparisons)
    figure = plain["generators"]["bad"]["metrics"][KEY]
    assert figure["value"] == bad.metrics[KEY].value and figure["floor"] is not None
    assert plain["generators"]["bad"]["per_energy"]["2048"]["metrics"][KEY]["n"] == 150
    assert read_comparisons(plain)[1] == comparisons
    # Markdown and ranks
    assert float(joint_row(bad)[TOY.name].split(" ")[0]) == pytest.approx(100.0, abs=20.0)
    assert f"| {TOY.name} |" in markdown_table(comparisons)
    first, second = mean_ranks(comparisons) or (0.0, 0.0)
    assert TOY.name in ranked_names(comparisons) and 1.0 <= first < second <= 2.0
    # the page
    result = result_of(reference, samples, comparisons)
    joint = joint_table(result)
    assert joint is not None
    (row,) = joint.rows
    assert [cell.text for cell in row[:2]] == [TOY.name, TOY.meaning]
    assert row[3].level == "far"
    assert TOY.name in [row[0].text for row in leaderboard(result).rows]
    # the documentation
    tools = runpy.run_path(str(ROOT / "tools" / "tables.py"))
    assert f"| `{KEY}` | {TOY.name} | {TOY.meaning} | 0 | large |" in tools["metrics_table"]()
    assert metrics()[-1] is TOY
