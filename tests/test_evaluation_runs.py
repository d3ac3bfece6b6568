"""Means over several runs of one recipe, and energies that a training was not shown."""

from dataclasses import replace

import numpy as np
import pytest
from test_evaluation_compare import toy

from caloforge.judge.compare import compare
from caloforge.judge.comparison import Comparison
from caloforge.judge.folder import result_of
from caloforge.judge.results import markdown_table, to_json
from caloforge.judge.runs import recipe_runs
from caloforge.judge.summary import Summary, summarise
from caloforge.report import figures
from caloforge.report.page import write_report


def summary(name: str, seed: int, scale: float, recipe: str = "gan", trained: str = "") -> Summary:
    summary = summarise(toy(seed=seed, scale=scale), name, like=summarise(toy()))
    return replace(summary, provenance={"recipe": recipe, "training_seed": trained or str(seed)})


@pytest.fixture(scope="module")
def samples() -> tuple[Summary, list[Summary]]:
    runs = [summary("a", 1, 1.0), summary("b", 2, 1.04), summary("c", 3, 0.9, recipe="other")]
    return summarise(toy(), "reference"), runs


@pytest.fixture(scope="module")
def judged(samples: tuple[Summary, list[Summary]]) -> list[Comparison]:
    return compare(*samples)


def test_means_over_runs_are_means(judged: list[Comparison]) -> None:
    (runs,) = recipe_runs(judged)
    assert (runs.recipe, runs.names) == ("gan", ("a", "b"))
    sized = [c.details.at_floor_size["chi2_ndf_energy"].value for c in judged[:2]]
    found = runs.metrics["chi2_ndf_energy"]
    assert found.mean == pytest.approx(np.mean(sized))
    assert found.spread == pytest.approx(np.std(sized, ddof=1))
    assert found.runs == 2
    response = runs.per_energy[2048.0]["response"]
    assert response.mean == pytest.approx(1.02, abs=0.05)
    assert response.floor == pytest.approx(1.0, abs=0.05)


def test_runs_need_different_seeds(judged: list[Comparison]) -> None:
    """Two samples of one training say nothing about another training."""
    twice = [judged[0], replace(judged[1], details=judged[0].details)]
    assert recipe_runs(twice) == []
    assert recipe_runs(judged[1:]) == []


def test_runs_stand_in_results_and_table(judged: list[Comparison], samples) -> None:
    plain = to_json(samples[0], judged)
    assert plain["runs"]["gan"]["names"] == ["a", "b"]
    assert "| gan | 2 |" in markdown_table(judged)
    assert "runs" not in to_json(samples[0], judged[1:])


def test_report_marks_what_a_training_was_not_shown(samples, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES[:8])
    reference, runs = samples
    blind = replace(runs[0], provenance={**runs[0].provenance, "left_out": "2048"})
    generated = [blind, runs[1]]
    result = result_of(reference, generated, compare(reference, generated))
    page = write_report(tmp_path / "r.html", result)
    text = page.read_text(encoding="utf-8")
    assert "a was trained without 2.05 GeV" in text
    assert "Mean over the runs of a recipe" in text
