"""The programs of tools/ that make, ship and judge the flagship."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from caloforge.config import load_recipe, parse_recipe
from caloforge.data import create_showers, read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.errors import TrainingError
from caloforge.judge.comparison import Comparison
from caloforge.metrics.base import Value
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model
from caloforge.showers import Showers
from caloforge.training.loop import Outcome
from caloforge.training.train import train, with_settings

ROOT = Path(__file__).resolve().parents[1]


def tool(name: str) -> dict[str, Any]:
    """Names that a program of tools/ defines."""
    return runpy.run_path(str(ROOT / "tools" / f"{name}.py"))


@pytest.fixture(scope="module")
def showers() -> Showers:
    return read_showers(sample_path("ds1-photons-train"))[:400]


@pytest.fixture(scope="module")
def one_step(tmp_path_factory: pytest.TempPathFactory, showers: Showers) -> Path:
    """A finished training of the whole family, in ten steps."""
    run = tmp_path_factory.mktemp("tools") / "run"
    recipe = load_recipe("smoke-copula", ["training.steps=10", "training.selection.keep=newest"])
    train(recipe, showers, run, device="cpu")
    return run


def showers_of(path: Path) -> torch.Tensor:
    """What a model file makes of fixed conditions and noise, (N, V)."""
    model = load_model(path).model
    rng = torch.Generator().manual_seed(7)
    noise = torch.randn(16, model.noise_size, generator=rng)
    condition = torch.full((16, 1), 8192.0)
    with torch.no_grad():
        return model.sample(condition, noise)


def test_family_takes_three_generators_out_of_one_training(
    one_step: Path, showers: Showers, tmp_path: Path
) -> None:
    paths = tool("family")["write_family"](one_step, tmp_path)
    assert [path.parent.name for path in paths] == ["copula", "copula-flow", "one-step"]
    closed, flow, one = (load_model(path) for path in paths)
    assert [f.model.hyper.remainder for f in (closed, flow, one)] == [
        "none",
        "flow",
        "one-step",
    ]
    whole = load_model(one_step / "model.safetensors")
    torch.testing.assert_close(
        showers_of(paths[2]), showers_of(one_step / "model.safetensors"), rtol=0, atol=0
    )
    made = [showers_of(path) for path in paths]
    assert not torch.equal(made[0], made[1])
    for file in (closed, flow, one):
        assert file.about["trained_on"] == whole.about["trained_on"]
        assert file.about["condition_range"] == whole.about["condition_range"]
    assert closed.about["recipe"]["name"] == "copula-smoke-copula"
    assert flow.about["chosen"] == {"step": 7}  # the one pass has the last three tenths
    assert flow.about["part_of"] == {"recipe": "smoke-copula", "steps": 10}


def test_a_member_is_what_its_recipe_would_have_trained(
    one_step: Path, showers: Showers, tmp_path: Path
) -> None:
    """The recipe inside the model file of a member makes the same showers when it is trained."""
    for path in tool("family")["write_family"](one_step, tmp_path)[:2]:
        again = tmp_path / "again" / path.parent.name
        train(parse_recipe(load_model(path).about["recipe"]), showers, again, device="cpu")
        torch.testing.assert_close(showers_of(again / "model.safetensors"), showers_of(path))


def test_family_refuses_other_trainings(showers: Showers, tmp_path: Path) -> None:
    recipe = with_settings(load_recipe("smoke-flow-matching"), steps=2)
    train(recipe, showers, tmp_path / "run", device="cpu")
    with pytest.raises(TrainingError, match="expected one of a one-step recipe"):
        tool("family")["write_family"](tmp_path / "run", tmp_path)


def test_minutes_are_summed_over_the_lines_of_a_log(tmp_path: Path) -> None:
    """Ten steps at 1 a second and ten at 0.5 a second are 30 seconds."""
    minutes = tool("family")["training_minutes"]
    assert minutes(tmp_path) is None
    lines = ['{"step": 10, "steps_per_second": 1.0}', '{"step": 20, "steps_per_second": 0.5}']
    (tmp_path / "log.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert minutes(tmp_path) == 0.5
    assert minutes(tmp_path, 10) == pytest.approx(1 / 6, abs=0.01)
    assert minutes(tmp_path, 15) is None


def test_a_shipped_page_says_which_step_the_training_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A training that was stopped early, whose recipe asked for 12 000 steps."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    words = tool("ship")["training_in_words"]

    def said(keep: str, step: int, steps: int) -> str:
        training = {"steps": steps, "selection": {"keep": keep}}
        return words(
            {
                "trained_on": {"showers": 900, "held_out": 100},
                "recipe": {"training": training},
                "chosen": {"step": step},
            }
        )

    assert said("newest", 150, 12000).endswith("It was trained for 150 steps.")
    assert said("newest", 1, 1).endswith("It was fitted in one step.")
    assert "step 150 of 12000 is kept" in said("lowest-loss", 150, 12000)


@pytest.mark.slow
def test_shipping_writes_generator_results_and_page(
    one_step: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The closed form, with the conditions of another file than the reference."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool("family")["write_family"](one_step, tmp_path)
    names = tool("ship")
    monkeypatch.setitem(names["ship"].__globals__, "SHELF", tmp_path / "shelf")
    (tmp_path / "shelf").mkdir()
    files = sample_files(tmp_path)
    names["ship"](
        tmp_path / "copula",
        "small",
        "caloforge train smoke-copula",
        reference=str(files["reference"]),
        floor=str(files["floor"]),
        like=str(files["like"]),
    )
    folder = tmp_path / "shelf" / "small"
    shipped = load_model(folder / "model.safetensors")
    assert shipped.about["part_of"]["recipe"] == "smoke-copula"
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["like"] == "like.hdf5"
    (found,) = results["generators"].values()
    # As many showers as the reference has, although there are more conditions.
    assert found["metrics"]["auc_boosted"]["n"] == results["reference"]["n"] == 200
    page = (folder / "README.md").read_text(encoding="utf-8")
    assert "of another run (`like.hdf5`), so that none is the twin" in page
    assert "It was taken out of a training of `smoke-copula` (10 steps)" in page
    assert "16 bits" not in page  # tables and matrices are kept as they are


def sample_files(folder: Path) -> dict[str, Path]:
    """Small files of photon showers: a reference, a floor, and others for their conditions."""
    showers = read_showers(sample_path("ds1-photons-test"))
    showers = showers[showers.incident_energy < 3e5]  # as those that `one_step` was trained on
    rows = {"reference": slice(0, 200), "floor": slice(200, 400), "like": slice(400, 700)}
    for name, part in rows.items():
        with create_showers(folder / f"{name}.hdf5", showers.geometry) as writer:
            writer.append(showers[part])
    return {name: folder / f"{name}.hdf5" for name in rows}


def compared(name: str, boosted: float) -> Comparison:
    """A generator that was judged by two figures."""
    metrics = {
        "auc_boosted": Value(boosted, 0.01, 0.51, 200),
        "chi2_ndf_energy": Value(1.0, 0.1, 0.9, 200),
    }
    return Comparison(name, metrics)


def test_the_flagship_table_has_the_best_generator_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    names = tool("leaderboard")
    what = names["Board"]("a-train", "a-test", "a-test", tmp_path, True)
    judged = [compared("worse", 0.9), compared("better", 0.6)]
    times = [
        {"generator": name, "batch": batch, "ms per shower": 2.0 / batch, "± ms": 0.1}
        for name in ("worse", "better")
        for batch in (1, 100)
    ]
    text = names["section"]("a", what, judged, times, {"better": 2.5})
    heading, _, first, second = (line for line in text.splitlines() if line.startswith("|"))
    assert heading == (
        "| generator | N | AUC boosted | χ²/NDF of E_tot | ms at 1 | ms at 100 | minutes |"
    )
    assert first.startswith("| `better` | 200 | 0.6 ± 0.01 (0.51) | 1 ± 0.1 (0.9) | 2 ± 0.1 |")
    assert first.endswith("| 2.5 |") and second.endswith("| – |")
    assert "with its conditions" in text


def test_the_flagship_table_leaves_out_generators_of_another_particle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The CaloGAN read-out has shipped generators of positrons and of photons."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    both = {name: load_model(resolve_model(name)) for name in ("calogan-eplus", "calogan-gamma")}
    assert set(tool("leaderboard")["of_particle"](both, "calogan-eplus")) == {"calogan-eplus"}


def test_a_part_of_the_showers_has_the_spectrum_of_all(showers: Showers) -> None:
    """A quarter of the showers has a quarter of those of each incident energy, to one or two."""
    part = tool("learning_curve")["a_part"](showers, 4, 0)
    assert len(part) == len(showers) // 4
    for energy in np.unique(showers.incident_energy):
        expected = (showers.incident_energy == energy).sum() / 4
        assert abs((part.incident_energy == energy).sum() - expected) < 2


def test_an_ablation_judges_the_showers_that_the_training_held_out(showers: Showers) -> None:
    recipe = load_recipe("smoke-copula", ["model.remainder=none", "training.steps=1"])
    value, error, _ = tool("ablations")["ablation"](recipe, showers, 1)
    assert 0.3 < value <= 1.0 and error > 0.02  # an AUC of forty showers


def test_an_ablation_of_the_cells_alone_has_the_layer_energies_of_geant4(
    showers: Showers, tmp_path: Path
) -> None:
    recipe = load_recipe("smoke-copula", ["model.remainder=none", "training.steps=1"])
    train(recipe, showers, tmp_path / "run")
    file = load_model(tmp_path / "run" / "model.safetensors")
    tool("ablations")["hold_layers"](file, showers)
    made = tool("ablations")["generated"](file, showers, 1)
    sums = [
        np.add.reduceat(s.energies, [part.start for part in s.geometry.slices], axis=1)
        for s in (made, showers)
    ]
    assert not np.array_equal(made.energies, showers.energies)
    np.testing.assert_allclose(*sums, rtol=2e-3, atol=0.05)


def test_the_queues_of_published_trainings_can_be_read(monkeypatch) -> None:
    """Every recipe of both queues loads with its settings and is for the read-out it names."""
    monkeypatch.syspath_prepend(ROOT / "tools")
    for queue in tool("published")["QUEUES"].values():
        for job in queue:
            recipe = load_recipe(job.recipe, job.settings)
            showers = sample_path(f"{job.sample}-train")
            assert recipe.geometry in (None, read_showers(showers).geometry.name), job


def test_variants_are_trained_once_and_judged_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = []
    for name, rows in (("train", slice(0, 150)), ("test", slice(150, 270))):
        files.append(str(tmp_path / f"{name}.hdf5"))
        part = read_showers(sample_path("ds1-photons-train"))[rows]
        with create_showers(files[-1], part.geometry) as writer:
            writer.append(part)
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    variants = tool("variants")
    variant = "smoke-flow-matching model.hidden=8"
    words = [*files, variant, "--steps", "2", "--seeds", "2"]
    words += ["--out", str(tmp_path / "out"), "--metrics", "precision", "separation/"]
    monkeypatch.setattr("sys.argv", ["variants.py", *words])
    variants["main"]()
    said = capsys.readouterr()
    assert said.err.count("seed") == 2
    figures = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    ((name, seeds),) = figures.items()
    assert name == f"{variant} --steps 2" and [*seeds] == ["0", "1"]
    first = [seed["precision"][0] for seed in seeds.values()]
    row = next(line for line in said.out.splitlines() if line.startswith("| precision"))
    assert f"{np.mean(first):.3g} ± {abs(first[0] - first[1]) / 2:.2g}" in row
    variants["main"]()  # everything is there already
    again = capsys.readouterr()
    assert again.out == said.out and "seed" not in again.err


def test_a_variant_that_was_interrupted_is_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    variants = tool("variants")
    stopped = Outcome(step=1, best_step=1, best_score=1.0, interrupted=True)
    monkeypatch.setitem(variants["trained"].__globals__, "train", lambda *_, **__: stopped)
    sample = str(sample_path("ds1-photons-train"))
    words = [sample, sample, "smoke-flow-matching", "--steps", "2", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["variants.py", *words])
    with pytest.raises(SystemExit, match="Stopped at step 1"):
        variants["main"]()
    assert not (tmp_path / "results.json").exists()


def test_a_response_twice_as_wide_is_found(
    showers: Showers, capsys: pytest.CaptureFixture[str]
) -> None:
    energy = showers.incident_energy
    one = showers[np.flatnonzero(energy == np.unique(energy)[2])]
    response = one.energies.sum(axis=1) / one.incident_energy
    wanted = response.mean() + 2 * (response - response.mean())
    scaled = one.energies * (wanted / response)[:, None].astype(np.float32)
    wide = Showers(scaled, one.conditions, one.geometry)
    tool("claims")["central"]({"Geant4": one, "wide": wide})
    (line,) = capsys.readouterr().out.splitlines()
    assert "wide: 2.00 ±" in line and f"N {len(one)} and {len(one)}" in line


def test_a_tenth_of_the_energy_moves_a_shower_by_a_tenth_of_its_length(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Three showers of one energy, each of one voxel: 0.6, 0.8 and 1 of the incident energy."""
    geometry = load_geometry("ds1-photons")
    energies = np.zeros((3, geometry.n_cells), np.float32)
    energies[:, 7] = [0.6 * 1024, 0.8 * 1024, 1024]
    one = Showers(energies, np.full((3, 1), 1024.0), geometry)
    tool("claims")["distance"]({"toy": one})
    first, *_ = capsys.readouterr().out.splitlines()
    assert first == "toy, 1.02 GeV, 3 showers: moved by 0.0800, nearest 0.2000"


def test_showers_with_almost_no_energy_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    geometry = load_geometry("ds1-pions")
    energies = np.zeros((4, geometry.n_cells), np.float32)
    energies[:, 7] = [20, 30, 200, 250]  # one below a tenth of 256 MeV
    pions = Showers(energies, np.full((4, 1), 256.0), geometry)
    tool("claims")["spike"]({"toy": pions})
    assert capsys.readouterr().out == "toy, 256 MeV: 0.250 ± 0.217\n"


def test_the_share_of_the_strips_is_that_of_the_second_layer(
    capsys: pytest.CaptureFixture[str],
) -> None:
    geometry = load_geometry("atlas-cells")

    def photons(share: float) -> Showers:
        energies = np.zeros((4, geometry.n_cells), np.float32)
        energies[:, geometry.slices[1].start] = 1000 * share
        energies[:, geometry.slices[2].start] = 1000 * (1 - share)
        conditions = np.zeros((4, len(geometry.conditions)))
        conditions[:, geometry.column("energy")] = [1024.0, 1024.0, 2048.0, 2048.0]
        return Showers(energies, conditions, geometry)

    tool("claims")["strips"]({"a": photons(0.5), "b": photons(0.25)})
    assert (
        capsys.readouterr().out == "a: 0.500, 0.500; off by 0.000\nb: 0.250, 0.250; off by 0.250\n"
    )


def test_the_chi2_of_a_range_sees_its_energies_alone(capsys: pytest.CaptureFixture[str]) -> None:
    geometry, rng = load_geometry("ds1-photons"), np.random.default_rng(0)
    energy = np.repeat([1024.0, 4096.0, 16384.0], 200)

    def photons(high: float) -> Showers:
        """With a tenth of spread, and at 16 GeV with `high` of the energy."""
        response = rng.normal(np.where(energy > 5000.0, high, 0.9), 0.09)
        energies = np.zeros((len(energy), geometry.n_cells), np.float32)
        energies[:, 0] = energy * response
        return Showers(energies, energy[:, None], geometry)

    tool("claims")["ranges"]({"Geant4": photons(0.9), "low": photons(0.7)})
    found = re.findall(r"low, (.*): ([\d.]+) ±", capsys.readouterr().out)
    every, below, above = (float(value) for _, value in found)
    assert [label for label, _ in found] == ["all energies", "up to 4.1 GeV", "from 4.1 GeV"]
    assert below < 1.6 < every < above
    assert above > 3


def test_the_summary_of_the_claims_is_counted_from_its_lines() -> None:
    names = tool("claims")
    text = names["PAGE"].read_text(encoding="utf-8")
    assert names["counted"](text) == text, "run python tools/claims.py count"
    once_less = text.replace(" | holds here | ", " | not decided | ", 1)
    assert names["counted"](once_less) != once_less


def test_a_shower_moves_with_its_impact_in_the_calogan() -> None:
    """Moved back by one strip, the shower at the next strip is more like the first one."""
    names = tool("claims_of_networks")
    moved, still = names["shift"]("calogan-eplus", "calogan-eplus-test", number=40)
    assert 0.85 < moved <= 1.0 and moved > still + 0.1
    image = torch.rand(3, 2, 5)
    assert names["correlation"](image, 2 * image + 1) == pytest.approx(1)
