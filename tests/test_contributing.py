"""The examples of CONTRIBUTING.md work as they stand there."""

import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloforge.config import load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.detector.shipped import geometry_names, load_geometry
from caloforge.models import MODELS
from caloforge.showers import Showers
from caloforge.training.train import build, train

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^( *)```(python|toml)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
EXAMPLES = {
    code.splitlines()[0].removeprefix("# "): code
    for code in (textwrap.dedent(match[3]) for match in FENCE.finditer(TEXT))
}


def run(title: str) -> dict[str, Any]:
    """Names that an example defines."""
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(EXAMPLES[title], title, "exec"), names)
    return names


def test_every_example_is_run_here() -> None:
    assert set(EXAMPLES) == {
        "src/caloforge/models/energyscore.py",
        "src/caloforge/recipes/smoke-energy-score.toml",
        "src/caloforge/detectors/two-layers.toml",
        "use the geometry",
        "an observable of one's own: the depth of the shower",
        "src/caloforge/metrics/median.py",
        "the line in METRICS",  # both are run in test_metrics_table.py
        "src/caloforge/report/figures/cumulative.py",
        "the line in FIGURES",  # both are run in test_report_folder.py
    }


def test_add_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = run("src/caloforge/models/energyscore.py")["EnergyScore"]
    monkeypatch.setitem(MODELS, "energy-score", model)
    path = tmp_path / "smoke-energy-score.toml"
    path.write_text(EXAMPLES["src/caloforge/recipes/smoke-energy-score.toml"], encoding="utf-8")
    recipe = load_recipe(path)
    showers = read_showers(sample_path("ds1-photons-train"), rows=slice(0, 2000))
    assert train(recipe, showers, tmp_path / "run", device="cpu").step == recipe.training.steps
    fresh = build(recipe, showers)
    condition = torch.from_numpy(showers.conditions[:8]).float()
    energies = fresh.sample(condition, torch.randn(8, fresh.noise_size))
    assert energies.shape == (8, 368) and bool((energies >= 0).all())


def test_add_a_geometry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = EXAMPLES["src/caloforge/detectors/two-layers.toml"]
    Path("two-layers.toml").write_text(text, encoding="utf-8")
    assert "two-layers" not in geometry_names()
    run("use the geometry")


def test_add_an_observable(capsys: pytest.CaptureFixture[str]) -> None:
    names = run("an observable of one's own: the depth of the shower")
    label, value = capsys.readouterr().out.rsplit(" ", 1)
    assert label == "depth of the shower" and 0 < float(value) < 0.05
    geometry = load_geometry("ds1-photons")
    energies = np.zeros((2, geometry.n_cells))
    energies[0, geometry.slices[2]] = 5.0  # all in layer 2
    showers = Showers(energies, np.full((2, 1), 1000.0), geometry)
    assert names["shower_depth"](showers).tolist() == [2.0, 0.0]
