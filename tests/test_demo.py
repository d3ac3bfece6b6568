"""The demo from end to end, with a training cut short."""

import json

import pytest

from caloforge.demo import BESIDE, FITTED_NOW, TRAINED_NOW, run_demo


@pytest.mark.slow
def test_demo_writes_a_report_of_three_generators(tmp_path):
    page = run_demo(tmp_path, steps=30)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert set(results["generators"]) == {FITTED_NOW, TRAINED_NOW, BESIDE}
    assert {row["batch"] for row in results["timing"]} == {1, 100, 1000}
    text = page.read_text(encoding="utf-8")
    assert (tmp_path / "closed-form" / "model.safetensors").exists()
    assert "Timing" in text and "chi2-history" in text
