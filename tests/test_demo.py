"""The demo from end to end, with a training cut short."""

import json

import pytest

from caloforge.demo import BESIDE, FITTED_NOW, TRAINED_NOW, run_demo
from caloforge.errors import CaloForgeError


def test_demo_replaces_no_file_of_somebody_else(tmp_path):
    page = tmp_path / "report.html"
    page.write_text("mine", encoding="utf-8")
    with pytest.raises(CaloForgeError, match=r"would be replaced by the demo; .* another --out"):
        run_demo(tmp_path, steps=30)
    assert page.read_text(encoding="utf-8") == "mine"
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.slow
def test_demo_writes_a_report_of_three_generators(tmp_path):
    page = run_demo(tmp_path, steps=30)
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert set(results["generators"]) == {FITTED_NOW, TRAINED_NOW, BESIDE}
    assert {row["batch"] for row in results["timing"]} == {1, 100, 1000}
    text = page.read_text(encoding="utf-8")
    assert (tmp_path / "closed-form" / "model.safetensors").exists()
    assert "Timing" in text and "chi2-history" in text
