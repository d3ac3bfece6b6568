"""The command line: exit codes, one sentence for whatever is wrong, reproducible files."""

import json
import os
import re
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import learners, training_sample

from caloforge import __version__
from caloforge.cli import main
from caloforge.config import load_recipe, recipe_names
from caloforge.data import create_showers, read_showers, sample_names, sample_path
from caloforge.models import MODELS
from caloforge.models.file import load_model
from caloforge.report import figures
from caloforge.training.loop import Run


@dataclass
class Result:
    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def caloforge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs the entry point of the console script in this process."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # main() changes it
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["caloforge", *map(str, words)])
        code: object = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        assert isinstance(code, int)
        return Result(code, captured.out, captured.err)

    return run


def refused(result: Result, *named: str) -> None:
    """One sentence on stderr, exit code 2, and no traceback."""
    assert result.code == 2, result.out + result.err
    lines = result.err.strip().splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("caloforge: ")
    for name in named:
        assert name in lines[0]


@pytest.fixture
def model(smoke) -> Path:
    return smoke("caloshowergan") / "model.safetensors"


# --- lists -----------------------------------------------------------------------------------
def test_a_generator_has_a_page(caloforge: Command, model: Path, tmp_path: Path) -> None:
    page = tmp_path / "card.html"
    shown = caloforge("models", model, "--page", page)
    assert shown.code == 0, shown.err
    text = page.read_text(encoding="utf-8")
    generator = load_model(model).model.generator
    assert f"{sum(p.numel() for p in generator.parameters()):,}" in text
    assert "Traversals" in text and "incident energy" in text
    refused(caloforge("models", "nothing", "--page", page), "nothing")
    refused(caloforge("models", "--page", page), "--page alone")
    shown = caloforge("models", model)
    assert "smoke-caloshowergan" in shown.out and "368 cells" in shown.out
    low, high = load_model(model).condition_range["energy"]
    assert f"{low:.7g} to {high:.7g}" in shown.out and "MeV" in shown.out


def test_the_version_is_told(caloforge: Command) -> None:
    assert caloforge("--version").out == f"CaloForge {__version__}\n"


def test_a_wrong_command_line_names_the_help(caloforge: Command) -> None:
    refused(caloforge("generate"), "'model'; see caloforge generate --help")
    refused(caloforge("nothing"), "see caloforge --help")
    shown = caloforge("data")
    assert "convert" in shown.out + shown.err
    assert "caloforge: " not in shown.err


def test_a_place_that_cannot_be_written_gets_a_sentence(
    caloforge: Command, tmp_path: Path
) -> None:
    file, folder = tmp_path / "file.txt", tmp_path / "folder"
    file.write_text("text", encoding="utf-8")
    folder.mkdir()
    ask = ("generate", "caloshowergan-photon", "--energy", 65536, "-n", 2, "--out")
    refused(caloforge(*ask, folder), "is a folder")
    refused(caloforge(*ask, file / "x.hdf5"), "is a file", "expected a folder")
    judge = ("evaluate", "ds1-photons-test", "ds1-photons-train", "--out")
    refused(caloforge(*judge, file), "is a file", "expected a folder")
    learn = ("train", "smoke-flow-matching", "--data", "ds1-photons-train", "--steps", 1, "--out")
    refused(caloforge(*learn, file), "is a file", "expected a folder")
    refused(caloforge("recipes", file), "does not end in .toml")
    refused(caloforge("models", folder), "holds no model.safetensors")
    assert file.read_text(encoding="utf-8") == "text"
    assert sorted(tmp_path.rglob("*")) == [file, folder]


def test_numbers_that_cannot_be_get_a_sentence(caloforge: Command, tmp_path: Path) -> None:
    ask = ("generate", "caloshowergan-photon", "--energy", 65536, "--out", tmp_path / "x.hdf5")
    for number in (10**13, 10**30):
        refused(caloforge(*ask, "-n", number), f"{number} showers need at least", "GB left")
    refused(caloforge("bench", "caloshowergan-photon", "--repeats", 0), "--repeats 0")
    judge = ("evaluate", "ds1-photons-test", "ds1-photons-train", "--out", tmp_path / "judged")
    for seed in (-1, 2**31):
        refused(caloforge(*judge, "--seed", seed), f"the seed {seed}")
    assert list(tmp_path.iterdir()) == []


def test_models_and_recipes_are_listed(caloforge: Command) -> None:
    shown = caloforge("models")
    assert shown.code == 0
    assert all(name in shown.out for name in MODELS)
    shown = caloforge("recipes", "--all")
    assert shown.code == 0
    assert all(name in shown.out for name in recipe_names())
    assert "smoke-" not in caloforge("recipes").out


def test_a_printed_recipe_can_be_used_as_it_is(caloforge: Command, tmp_path: Path) -> None:
    shown = caloforge("recipes", "caloshowergan-pion")
    assert shown.code == 0
    path = tmp_path / "mine.toml"
    path.write_text(shown.out, encoding="utf-8")
    assert load_recipe(path) == load_recipe("caloshowergan-pion")
    refused(caloforge("recipes", "caloshowergan-poin"), "did you mean 'caloshowergan-pion'")


def test_data_is_listed_and_described(caloforge: Command) -> None:
    shown = caloforge("data", "list")
    assert shown.code == 0
    assert all(name in shown.out for name in sample_names())
    shown = caloforge("data", "info", "ds1-photons-train")
    assert shown.code == 0
    assert "ds1-photons" in shown.out
    assert "6896" in shown.out
    refused(caloforge("data", "info", "ds1-foton-train"), "did you mean 'ds1-photons-train'")


def test_data_is_converted(caloforge: Command, tmp_path: Path) -> None:
    target = tmp_path / "copy.npz"
    shown = caloforge("data", "convert", "ds1-photons-test", target)
    assert shown.code == 0
    original = read_showers(sample_path("ds1-photons-test"))
    copy = read_showers(target)
    assert f"{len(original)} showers written" in shown.out
    assert np.array_equal(copy.energies, original.energies)
    assert np.array_equal(copy.conditions, original.conditions)
    refused(caloforge("data", "convert", "ds1-photons-test", target, "--format", "csv"))
    refused(caloforge("data", "convert", "nothing.hdf5", tmp_path / "x.hdf5"), "nothing.hdf5")


# --- train -----------------------------------------------------------------------------------
# Every model is trained in test_contract.py; the commands need one of each kind.
KINDS = ("caloshowergan", "copula", "flow-matching", "rnn")


@pytest.mark.parametrize(
    "name",
    [n if n in KINDS else pytest.param(n, marks=pytest.mark.slow) for n in sorted(MODELS)],
)
def test_train_then_generate(caloforge: Command, tmp_path: Path, name: str) -> None:
    out = tmp_path / "run"
    data = training_sample(load_recipe(f"smoke-{name}").geometry)
    words = ("train", f"smoke-{name}", "--data", data, "--out", out, "--device", "cpu")
    steps = 4 if name in learners() else 1
    shown = caloforge(*words, "--steps", steps, "--seed", 3, "--set", "training.log_every=2")
    assert shown.code == 0, shown.err
    assert "model.safetensors" in shown.out.replace("\n", "")
    assert (out / "index.html").stat().st_size > 10_000
    recipe = load_recipe(out / "recipe.toml")
    assert (recipe.training.steps, recipe.training.seed) == (steps, 3)
    assert recipe.training.log_every == 2
    assert load_model(out / "model.safetensors").about["seed"] == 3
    refused(caloforge(*words), "already holds a training; give --resume")
    made = tmp_path / "made.hdf5"
    shown = caloforge("generate", out, "--out", made, "--like", data, "-n", 9)
    assert shown.code == 0, shown.err
    assert len(read_showers(made)) == 9


def test_train_begins_from_a_generator_and_freezes_parts(
    caloforge: Command, smoke, tmp_path: Path
) -> None:
    words = ("train", "smoke-dnncalogan", "--data", "atlas-cells-train", "--device", "cpu")
    begun = (*words, "--init", smoke("dnncalogan"), "--steps", 2, "--out", tmp_path)
    shown = caloforge(*begun, "--freeze", "generator.0", "--freeze", "generator.2")
    assert shown.code == 0, shown.err
    assert load_recipe(tmp_path / "recipe.toml").training.freeze == ("generator.0", "generator.2")
    before, after = (
        load_model(path / "model.safetensors").model.generator_state()
        for path in (smoke("dnncalogan"), tmp_path)
    )
    for key, value in after.items():
        frozen = key.startswith(("generator.0.", "generator.2.", "transform."))
        assert torch.equal(value, before[key]) == frozen, key
    refused(caloforge(*begun, "--seeds", 2), "Got --seeds with --init")
    refused(caloforge(*words, "--out", tmp_path / "a", "--init", "atlas-gann"), "atlas-gann")
    refused(caloforge(*words, "--out", tmp_path / "b", "--freeze", "generator"), "--init MODEL")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["caloshowergan-poton"], "did you mean 'caloshowergan-photon'"),
        (["nothing.toml"], "nothing.toml"),
        (["smoke-caloshowergan", "--set", "training.stepz=3"], "did you mean 'steps'"),
        (["smoke-caloshowergan", "--set", "model.latnt=3"], "did you mean 'latent'"),
        (["smoke-caloshowergan", "--set", "transform.lowcut=3"], "low"),
        (["smoke-caloshowergan", "--set", "training.batch_size=big"], "training.batch_size"),
        (["smoke-caloshowergan", "--set", "model.critic_steps=0"], "critic_steps"),
        (["smoke-caloshowergan", "--set", "model.generator=[1,'a']"], "generator"),
        (["smoke-caloshowergan", "--set", "nonsense"], "expected key=value"),
        (["smoke-caloshowergan", "--set", "geometry=ds9"], "ds9"),
        (["smoke-caloshowergan", "--set", "model.critic_optimiser.name=adan"], "'adam'"),
        (["smoke-caloshowergan", "--steps", "0"], "training.steps"),
        (["smoke-caloshowergan", "--steps", "many"], "--steps"),
        (["smoke-caloshowergan", "--seed", "-1"], "training.seed"),
        (["smoke-caloshowergan", "--device", "gpu"], "Unknown device 'gpu'"),
        (["caloshowergan-pion"], "ds1-photons"),
        (["smoke-caloshowergan", "--colour", "red"], "--colour"),
    ],
)
def test_train_refuses(caloforge: Command, tmp_path: Path, words: list[str], named: str) -> None:
    out = tmp_path / "run"
    refused(caloforge("train", *words, "--data", "ds1-photons-train", "--out", out), named)
    assert not out.exists()


def test_train_refuses_files_that_are_none(caloforge: Command, tmp_path: Path) -> None:
    words = ("train", "smoke-caloshowergan", "--out", tmp_path / "run", "--data")
    refused(caloforge(*words, "nothing.hdf5"), "There is no file nothing.hdf5")
    refused(caloforge(*words, "ds1-photons-tran"), "did you mean 'ds1-photons-train'")
    refused(caloforge(*words, tmp_path), str(tmp_path))
    (tmp_path / "text.hdf5").write_text("no showers")
    refused(caloforge(*words, tmp_path / "text.hdf5"), "text.hdf5")
    refused(caloforge(*words[:-1]), "--data")
    below = ("train", "smoke-caloshowergan", "--data", "ds1-photons-train", "--out")
    refused(caloforge(*below, tmp_path / "text.hdf5" / "run"), "text.hdf5")
    refused(caloforge(*below, tmp_path / "text.hdf5"), "text.hdf5")


# --- generate --------------------------------------------------------------------------------
def test_generate_is_reproducible(caloforge: Command, model: Path, tmp_path: Path) -> None:
    words = ("generate", model, "-n", 20, "--energy", 65536, "--out")
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        shown = caloforge(*words, tmp_path / f"{name}.hdf5", "--seed", seed)
        assert shown.code == 0, shown.err
        assert "20 showers in" in shown.out
    a, b, c = (read_showers(tmp_path / f"{name}.hdf5") for name in "abc")
    assert np.array_equal(a.energies, b.energies)
    assert not np.array_equal(a.energies, c.energies)
    assert set(a.incident_energy.tolist()) == {65536.0}


def test_generate_like_a_file(caloforge: Command, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.hdf5"
    assert caloforge("generate", model, "--like", "ds1-photons-test", "--out", out).code == 0
    like = read_showers(sample_path("ds1-photons-test"))
    assert np.array_equal(read_showers(out).conditions, like.conditions)
    by_name = ("generate", model, "--condition", "energy=4096", "-n", 3, "--out", out, "--force")
    assert caloforge(*by_name).code == 0
    assert read_showers(out).incident_energy.tolist() == [4096.0] * 3


def test_generate_any_mix_of_conditions(caloforge: Command, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.hdf5"
    command = ("generate", model, "--out", out, "--force")
    assert caloforge(*command, "--energy", "1000,4096", "-n", 5).code == 0
    assert read_showers(out).incident_energy.tolist() == [1000.0, 4096.0] * 2 + [1000.0]
    assert caloforge(*command, "--energy", "log-uniform:1000:9000", "-n", 50).code == 0
    energy = read_showers(out).incident_energy
    assert len(set(energy)) == 50
    assert 1000 <= energy.min() < energy.max() <= 9000
    (tmp_path / "p.csv").write_text("energy\n512\n2048.5\n")
    assert caloforge(*command, "--particles", tmp_path / "p.csv", "--engine", "torch").code == 0
    assert read_showers(out).incident_energy.tolist() == [512.0, 2048.5]
    assert read_showers(out).provenance["engine"] == "torch"


def test_bench_times_an_engine_beside_geant4(caloforge: Command, model: Path) -> None:
    shown = caloforge("bench", model, "--engine", "torch", "--repeats", 1)
    assert shown.code == 0, shown.err
    sizes = re.findall(r"torch\W+1\W+(\d+)\W+\d+\.\d\d", shown.out)
    assert sizes == ["1", "100", "10000"]
    assert "Geant4 took 0.8 s for a photon of 65.536 GeV" in shown.out
    refused(caloforge("bench", model, "--engine", "none"), "Unknown engine 'none'")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--energy", "65536", "-n", "0"], "Got -n 0"),
        (["--energy", "65536", "-n", "-7"], "Got -n -7"),
        (["--energy", "65536", "-n", "ten"], "-n"),
        (["--energy", "65536", "--batch", "0"], "--batch 0"),
        (["--energy", "65536", "--seed", "-1"], "seed -1"),
        (["--energy", "1"], "outside the trained range"),
        (["--energy", "nan"], "NaN"),
        (["--energy", "hot"], "energy=hot"),
        (["--energy", "256,1"], "outside the trained range"),
        (["--energy", "uniform:1:65536"], "outside the trained range"),
        (["--energy", "unifrom:1:65536"], "did you mean 'uniform'"),
        (["--energy", "uniform:65536:1"], "LOW < HIGH"),
        (["--energy", "uniform:65536"], "uniform:LOW:HIGH"),
        (["--energy", "65536", "--condition", "energy=65536"], "given twice"),
        (["--energy", "65536", "--engine", "tourch"], "did you mean 'torch'"),
        (["--particles", "none.csv"], "none.csv"),
        (["--particles", "none.csv", "--like", "ds1-photons-test"], "one or the other"),
        (["--energy", "65536", "--like", "ds1-photons-test"], "one or the other"),
        (["--condition", "energi=5"], "did you mean 'energy'"),
        (["--condition", "energy"], "name=value"),
        (["--condition", "energy=hot"], "energy=hot"),
        (["--like", "ds1-pions-test"], "ds1-pions"),
        (["--like", "nothing.hdf5"], "nothing.hdf5"),
        (["--like", "/"], "/"),
    ],
)
def test_generate_refuses(
    caloforge: Command, model: Path, tmp_path: Path, words: list[str], named: str
) -> None:
    refused(caloforge("generate", model, *words, "--out", tmp_path / "x.hdf5"), named)
    assert list(tmp_path.iterdir()) == []


def test_generate_refuses_other_places(caloforge: Command, model: Path, tmp_path: Path) -> None:
    words = ("generate", model, "-n", 3, "--energy", 65536, "--out")
    (tmp_path / "file").write_text("")
    refused(caloforge(*words, tmp_path / "file" / "x.hdf5"), "file")
    (tmp_path / "folder.hdf5").mkdir()
    refused(caloforge(*words, tmp_path / "folder.hdf5"), "folder.hdf5")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.hdf5"]
    assert list((tmp_path / "folder.hdf5").iterdir()) == []


def test_generate_refuses_what_is_no_model(caloforge: Command, tmp_path: Path) -> None:
    words = ("--energy", 65536, "--out", tmp_path / "x.hdf5")
    refused(caloforge("generate", "nothing.safetensors", *words), "nothing.safetensors")
    refused(caloforge("generate", "nothing", *words), "nothing")
    refused(caloforge("generate", tmp_path, *words), str(tmp_path))
    refused(caloforge("generate", sample_path("ds1-photons-test"), *words), "not a readable model")


@pytest.mark.filterwarnings("default")
def test_extrapolation_is_allowed_with_a_note(
    caloforge: Command, model: Path, tmp_path: Path
) -> None:
    words = (
        "generate",
        model,
        "-n",
        2,
        "--out",
        tmp_path / "x.hdf5",
        "--force",
        "--extrapolate",
        "--energy",
    )
    shown = caloforge(*words, 100)
    assert shown.code == 0
    assert shown.err.startswith("caloforge: note: conditions outside the trained range")
    refused_ = caloforge(*words, -5)
    assert refused_.code == 2
    assert "expected more than 0" in refused_.err


def test_export_replaces_none_of_its_files_unasked(
    caloforge: Command, smoke, tmp_path: Path
) -> None:
    """An export may write other files than --out."""
    out = tmp_path / "vae.json"
    (tmp_path / "vae_transform.json").write_text("mine")
    words = ("export", "atlas-vae", "--to", "lwtnn", "--out", out)
    refused(caloforge(*words), "vae_transform.json exists", "--force")
    shown = caloforge(*words, "--force")
    assert shown.code == 0, shown.err
    assert (tmp_path / "vae_transform.json").read_text() != "mine"
    for target, of, other in (
        ("par04", "caloshowergan", "model.mac"),
        ("lwtnn", "caloshowergan-split", "model_4096_4194304.json"),
    ):
        (tmp_path / other).write_text("mine")
        name = tmp_path / f"model{'.onnx' if target == 'par04' else '.json'}"
        shown = caloforge("export", smoke(of), "--to", target, "--out", name)
        refused(shown, f"{other} exists", "--force")


# --- evaluate --------------------------------------------------------------------------------
KEYS = (
    "auc_low auc_low_normed auc_high jsd_low jsd_high fpd kpd precision recall density coverage "
    "chi2_ndf_energy prd_auc_raw prd_auc_physics"
)


def test_evaluate_refuses_fewer_showers_than_a_classifier_needs(
    caloforge: Command, tmp_path: Path
) -> None:
    words = ("evaluate", "ds1-photons-test", "ds1-photons-train", "--out", tmp_path / "judged")
    refused(caloforge(*words, "--most", 19), "--most 19", "at least 20 showers")


def test_evaluate_writes_every_figure(
    caloforge: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Geant4 against Geant4; what is judged is also given as the training showers."""
    # The whole page is drawn by the command of the README, in test_readme.py.
    monkeypatch.setattr(figures, "FIGURES", figures.FIGURES[:6])
    monkeypatch.setattr("caloforge.metrics.prd.STARTS", 2)
    out = tmp_path / "judged"
    words = ("evaluate", "ds1-photons-test", "ds1-photons-train", "--train", "ds1-photons-train")
    shown = caloforge(*words, "--out", out, "--repeats", 1, "--most", 300)
    assert shown.code == 0, shown.err
    assert "AUC low-normed" in shown.out and "report.html" in shown.out
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {"schema", "reference", "generators"} <= set(results)
    (found,) = results["generators"].values()
    metrics = found["metrics"]
    families = ("separation", "separation_with_flow", "wasserstein")
    for key in (*KEYS.split(), *(f"{family}/response" for family in families)):
        assert set(metrics[key]) - {"floor_error"} == {"value", "error", "floor", "n"}, key
        assert metrics[key]["value"] is not None and metrics[key]["floor"] is not None, key
    assert metrics["memorising"]["value"] > 0.95
    assert found["details"]["classifier"]["low"]["repeats"] == 1
    assert (out / "report.html").stat().st_size > 50_000
    assert "FPD" in (out / "results.md").read_text(encoding="utf-8")


def test_evaluate_refuses_what_it_cannot_judge(caloforge: Command, tmp_path: Path) -> None:
    words = ("evaluate", "ds1-photons-test", "ds1-photons-train", "--out", tmp_path / "x")
    refused(caloforge(*words, "--metrics", "fats"), "fats", "did you mean 'fast'")
    refused(caloforge(*words, "--inputs", "low,hihg"), "hihg", "did you mean 'high'")
    refused(caloforge(*words, "--repeats", 0), "expected at least 1")
    refused(caloforge(*words, "--train", "lhcb-train"), "same read-out")
    refused(caloforge(*words, "--floor", "nothing.hdf5"), "nothing.hdf5")
    refused(caloforge(*words, "--device", "gpu"), "gpu")
    assert not (tmp_path / "x").exists()


def test_info_prints_energies_with_all_their_digits(caloforge: Command, tmp_path: Path) -> None:
    """1048576 MeV, not 1.04858e+06: so it is typed elsewhere."""
    showers = read_showers(sample_path("ds1-photons-test"))
    chosen = showers[showers.incident_energy >= 524288.0]
    with create_showers(tmp_path / "few.hdf5", chosen.geometry) as writer:
        writer.append(chosen)
    shown = caloforge("data", "info", tmp_path / "few.hdf5")
    assert shown.code == 0, shown.err
    assert "1048576: " in shown.out and "e+06" not in shown.out


# --- the entry point -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (KeyboardInterrupt(), 130, "Interrupted."),
        (MemoryError(), 2, "Out of memory"),
        (OSError(28, "No space left on device", "/x"), 2, "No space left on device: /x."),
    ],
)
def test_errors_of_the_system_are_sentences(
    caloforge: Command,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    says: str,
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("caloforge.data.describe", fail)
    result = caloforge("data", "info", "ds1-photons-test")
    assert result.code == code
    assert says in result.err
    assert "Traceback" not in result.err


def test_a_bug_keeps_its_traceback(caloforge: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("caloforge.data.describe", fail)
    with pytest.raises(ZeroDivisionError):
        caloforge("data", "info", "ds1-photons-test")


def test_help_and_unknown_commands(caloforge: Command) -> None:
    shown = caloforge("--help")
    assert shown.code == 0
    for command in ("train", "generate", "evaluate", "models", "recipes", "data", "demo"):
        assert command in shown.out
        assert caloforge(command, "--help").code == 0
    refused(caloforge("trian"), "trian")


def test_the_installed_command(model: Path, tmp_path: Path) -> None:
    """Once for real, in a process of its own: result, exit code, and where the words go."""
    command = [sys.executable, "-m", "caloforge.cli"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = tmp_path / "x.hdf5"
    words = ["generate", str(model), "-n", "5", "--energy", "65536", "--out", str(out)]
    good = subprocess.run([*command, *words], capture_output=True, text=True, env=env)
    assert good.returncode == 0, good.stderr
    assert good.stderr == ""
    assert "5 showers in" in good.stdout
    assert len(read_showers(out)) == 5
    bad = subprocess.run(
        [*command, "generate", "nothing.safetensors", "--energy", "5", "--out", str(out)],
        capture_output=True,
        text=True,
        env=env,
    )
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr.startswith("caloforge: There is no model file nothing.safetensors")
    assert len(bad.stderr.splitlines()) == 1
    assert json.loads(json.dumps(read_showers(out).provenance))["seed"] == 0


@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_first_range_of_a_split_model(
    how: signal.Signals,
    code: int,
    caloforge: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its own exit code; nothing is called trained that is not; --resume finishes both ranges."""
    out = tmp_path / "run"
    words = ("train", "smoke-caloshowergan-split", "--data", "ds1-photons-train", "--out", out)
    advance = Run.advance

    def press(self: Run) -> Any:
        if self.step == 4:
            os.kill(os.getpid(), how)
        return advance(self)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", press)
        shown = caloforge(*words, "--device", "cpu")
    assert shown.code == code
    assert "stopped at step 5" in shown.out
    assert "range*" in shown.out
    assert not (out / "model.safetensors").exists()
    load_model(out / "range0" / "model.safetensors")
    shown = caloforge(*words, "--device", "cpu", "--resume")
    assert shown.code == 0, shown.err
    assert "done: step 40" in shown.out
    assert load_model(out / "model.safetensors").about["model"] == "caloshowergan-split"


def test_the_package_itself_is_the_command_line() -> None:
    command = [sys.executable, "-m", "caloforge", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"CaloForge {__version__}\n"
