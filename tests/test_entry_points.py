"""Another package adds a model, an observable and a metric, and is named when it is broken."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from caloforge import entry_points
from caloforge.config import dump_recipe, load_recipe
from caloforge.data import create_showers, read_showers, sample_path
from caloforge.errors import CaloForgeError, ModelError
from caloforge.models import MODELS, make_model, model_names
from caloforge.observables.table import FAMILIES, Family

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "calo-further"
version = "1.0"

[tool.setuptools]
py-modules = ["calo_further", "calo_further_metric"]

[project.entry-points."caloforge.models"]
flow-further = "calo_further:FlowFurther"

[project.entry-points."caloforge.observables"]
hottest = "calo_further:HOTTEST"

[project.entry-points."caloforge.metrics"]
mean_ratio = "calo_further_metric:MEAN_RATIO"
"""

MODULE = '''
"""A flow with another name, and the energy of the hottest cell."""

from caloforge.models.flowmatching import FlowMatching
from caloforge.observables.table import Family, Observable


class FlowFurther(FlowMatching):
    """The same network as its parent."""


def rows(geometry):
    axis = (50, 1.0, 1e6)
    return [Observable("hottest", "hottest cell", "MeV", None, axis, True, None, "this test")]


def values(showers, before):
    return {"hottest": showers.energies.max(axis=1).astype("float64")}


HOTTEST = Family("hottest cell", rows, values)
'''

METRIC = '''
"""The ratio of mean energies."""

from caloforge.metrics.base import Measured, Measurements, Metric


def mean_ratio(case):
    means = [float(sample.values("total_energy").mean()) for sample in case.samples]
    return Measurements({"mean_ratio": Measured(means[1] / means[0], None, len(case.generated))})


MEAN_RATIO = Metric(
    "mean_ratio",
    "mean ratio",
    "Mean total energy of the generated showers over that of the reference.",
    mean_ratio,
    way="both sides",
    ideal=1.0,
    needs="observables",
    column=True,
)
'''


# A few figures and starts of the clusterings: all of them are made elsewhere.
COMMANDS = """
import json, sys
from caloforge.cli import app
from caloforge.metrics import prd
from caloforge.report import figures
figures.FIGURES, prd.STARTS = figures.FIGURES[:2], 2
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
"""


@pytest.fixture(scope="module")
def run_with_package(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Run commands where the package is installed; gives what they print."""
    source, target = (tmp_path_factory.mktemp(name) for name in ("source", "installed"))
    (source / "pyproject.toml").write_text(PYPROJECT, encoding="utf-8")
    (source / "calo_further.py").write_text(MODULE, encoding="utf-8")
    (source / "calo_further_metric.py").write_text(METRIC, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    command = [*pip, "--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    paths = [str(target), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}

    def run(*commands: list[str]) -> str:
        command = [sys.executable, "-c", COMMANDS, json.dumps(commands)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_a_package_adds_one_of_each(run_with_package: Callable[..., str], tmp_path: Path) -> None:
    recipe, run, made = tmp_path / "further.toml", tmp_path / "run", tmp_path / "made.hdf5"
    text = dump_recipe(load_recipe("smoke-flow-matching"))
    named = text.replace('name = "flow-matching"', 'name = "flow-further"')
    assert named != text
    recipe.write_text(named, encoding="utf-8")
    reference, sample = tmp_path / "reference.hdf5", "ds1-photons-train"
    showers = read_showers(sample_path("ds1-photons-test"))
    showers = showers[showers.incident_energy == 1024.0][:200]
    with create_showers(reference, showers.geometry) as writer:
        writer.append(showers)
    train = ["train", str(recipe), "--data", sample, "--out", str(run), "--steps", "2"]
    model = str(run / "model.safetensors")
    quick = ["--device", "cpu", "--inputs", "high", "--repeats", "1", "--most", "60"]
    said = run_with_package(
        ["models"],
        [*train, "--device", "cpu", "--set", "training.selection.every=2"],
        ["generate", model, "--like", str(reference), "--out", str(made)],
        ["evaluate", str(reference), str(made), "--out", str(tmp_path), *quick],
    )
    assert "flow-further" in said
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    (generator,) = results["generators"].values()
    assert "separation/hottest" in generator["metrics"]
    assert generator["metrics"]["mean_ratio"]["value"] > 0
    assert "mean ratio" in (tmp_path / "report.html").read_text(encoding="utf-8")


# --- broken packages -------------------------------------------------------------------------
def entry(name: str, value: str, group: str = "caloforge.models") -> EntryPoint:
    return EntryPoint(name, value, group)


@pytest.mark.parametrize(
    ("entries", "sentence"),
    [
        ([entry("lagan", "here:Model")], "package here adds 'lagan'.*CaloForge has already"),
        ([entry("x", "one:A"), entry("x", "two:A")], "package two adds 'x'.*that one has already"),
        ([entry("x", "no_such_package:A")], "Cannot load 'x' of the package no_such_package"),
        ([entry("x", "json:dumps")], "of the type function; expected a subclass"),
    ],
)
def test_a_broken_package_is_named(
    entries: list[EntryPoint], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entry_points, "_entries", lambda group: tuple(entries))
    with pytest.raises(CaloForgeError, match=sentence):
        make_model("x", None)


def test_an_unknown_model_is_looked_for_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = (entry("my-model", "here:Model"),)
    monkeypatch.setattr(entry_points, "_entries", lambda group: entries)
    assert model_names() == [*MODELS, "my-model"]
    with pytest.raises(ModelError, match="did you mean 'my-model'"):
        make_model("my-modle", None)


def test_observables_of_another_kind_or_name_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_families() -> list[Family]:
        known = [family.name for family in FAMILIES]
        return entry_points.load_all("caloforge.observables", Family, lambda f: f.name, known)

    one = entry("x", "json:dumps", "caloforge.observables")
    monkeypatch.setattr(entry_points, "_entries", lambda group: (one,))
    with pytest.raises(CaloForgeError, match="of the type function; expected a Family"):
        load_families()
    again = entry("x", "caloforge.observables.depth:FAMILY", "caloforge.observables")
    monkeypatch.setattr(entry_points, "_entries", lambda group: (again,))
    with pytest.raises(CaloForgeError, match="which exists already"):
        load_families()
