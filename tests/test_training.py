"""The loop: exact resume, crashes, Ctrl-C, held-out showers, options, and its errors."""

import dataclasses
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import learners, sample_showers, update
from safetensors.torch import load_file
from torch import nn

from caloforge.config import Recipe, Selection, load_recipe
from caloforge.data import holdout_split
from caloforge.detector.symmetries import symmetry_group
from caloforge.errors import CaloForgeError, ModelError, TrainingError
from caloforge.models import MODELS
from caloforge.models.base import Batch, Phase
from caloforge.models.file import load_model
from caloforge.models.hyper import OptimiserSettings
from caloforge.noise import BLOCK, normals
from caloforge.showers import Showers
from caloforge.training import selection
from caloforge.training.average import Average
from caloforge.training.checkpoint import latest_checkpoint, save_checkpoint
from caloforge.training.dataset import TrainingSet
from caloforge.training.loop import Run
from caloforge.training.optimisers import Player
from caloforge.training.selection import HeldOut, Score
from caloforge.training.train import Silent, build, train

CPU = torch.device("cpu")
every_model = pytest.mark.parametrize("name", sorted(MODELS))
every_learner = pytest.mark.parametrize("name", learners())


def recipe_of(name: str, *overrides: str) -> Recipe:
    return load_recipe(f"smoke-{name}", overrides)


def final_state(folder: Path) -> dict[str, torch.Tensor]:
    """Everything in the newest checkpoints of a training (of each range, if there are several)."""
    state = {}
    for path in sorted(folder.rglob("checkpoints")):
        newest = sorted(path.glob("step-*.safetensors"))[-1]
        where = str(path.relative_to(folder))
        state |= {f"{where}/{newest.name}/{k}": v for k, v in load_file(newest).items()}
    return state


def assert_same(first: Path, second: Path) -> None:
    """Bit for bit: weights, optimisers, averages, generator of random numbers; log, choice and
    chosen generator.
    """
    a, b = final_state(first), final_state(second)
    assert a.keys() == b.keys()
    assert a
    for key in a:
        assert torch.equal(a[key], b[key]), key
    for path in sorted(first.rglob("log.jsonl")):
        other = second / path.relative_to(first)
        assert losses(path) == losses(other)
    for path in sorted(first.rglob("selection.json")):
        other = second / path.relative_to(first)
        assert path.read_text(encoding="utf-8") == other.read_text(encoding="utf-8")
    for path in sorted(first.rglob("model.safetensors")):
        one, two = (load_model(p) for p in (path, second / path.relative_to(first)))
        assert one.about["chosen"] == two.about["chosen"]
        for key, value in one.model.generator_state().items():
            assert torch.equal(value, two.model.generator_state()[key]), key


def losses(path: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k != "steps_per_second"} for row in rows]


class StopAt(Silent):
    """Presses Ctrl-C at a logged step; `loud` raises instead of sending the signal."""

    def __init__(self, step: int, part: int = 0, loud: bool = False) -> None:
        self.step, self.part, self.loud = step, part, loud
        self.started = -1

    def start(self, what: str, step: int, steps: int) -> None:
        self.started += 1

    def log(self, step: int, numbers: dict[str, float]) -> None:
        if (self.started, step) == (self.part, self.step):
            if self.loud:
                raise KeyboardInterrupt
            os.kill(os.getpid(), signal.SIGINT)


# --- exact resume ----------------------------------------------------------------------------
# At step 5 there is no checkpoint yet. What happens then does not depend on the model: one that is
# fitted and one that is not are enough for the quick tests.
FITTED_OR_NOT = ("copula", "caloshowergan")
INTERRUPTED = [
    pytest.param(name, at, marks=pytest.mark.slow if at == 5 and name not in FITTED_OR_NOT else ())
    for name in learners()
    for at in (5, 15)
]


@pytest.mark.parametrize(("name", "at"), INTERRUPTED)
def test_interrupted_and_resumed_equals_uninterrupted(
    name: str, at: int, smoke, tmp_path: Path
) -> None:
    recipe = recipe_of(name)
    showers = sample_showers(recipe.geometry)
    last = len(build(recipe, showers).energy_ranges()) - 1
    first = train(recipe, showers, tmp_path, device="cpu", observer=StopAt(at, last))
    assert first.interrupted
    assert first.step == last * recipe.training.steps + at
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    load_model(sorted(tmp_path.rglob("model.safetensors"))[-1])  # usable at once
    second = train(recipe, showers, tmp_path, device="cpu", resume=True)
    assert not second.interrupted
    assert second.step == (last + 1) * recipe.training.steps
    assert_same(smoke(name), tmp_path)


def test_an_observer_can_stop_a_training(photons: Showers, tmp_path: Path, smoke) -> None:
    recipe = recipe_of("caloshowergan")
    outcome = train(recipe, photons, tmp_path, device="cpu", observer=StopAt(10, loud=True))
    assert (outcome.step, outcome.interrupted) == (10, True)
    train(recipe, photons, tmp_path, device="cpu", resume=True)
    assert_same(smoke("caloshowergan"), tmp_path)


OPTIONS = {
    "ema": ["training.ema=0.9"],
    "clip": ["training.gradient_clip=0.1"],
    "cyclic": ["model.generator_optimiser={'schedule':'cyclic'}"],
    "lookahead": ["model.critic_optimiser={'lookahead':True}"],
    "radam": ["model.generator_optimiser={'name':'radam'}"],
    "adamw": ["model.critic_optimiser={'name':'adamw','weight_decay':0.1}"],
    "rmsprop": ["model.critic_optimiser={'name':'rmsprop','lr':5e-5}"],
    "bf16": ["training.precision=bf16-mixed"],
    "augment": ["training.augment=('rotate-alpha','reflect-alpha')"],
    "cooldown": ["training.cooldown=15"],
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains_and_resumes_exactly(
    option: str, photons: Showers, tmp_path: Path, smoke
) -> None:
    shorter = ["training.steps=14", "training.selection.every=100", "training.log_every=7"]
    recipe = recipe_of("caloshowergan", *shorter, *OPTIONS[option])
    few = photons[::4]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(recipe, few, whole, device="cpu")
    train(recipe, few, cut, device="cpu", observer=StopAt(7))
    train(recipe, few, cut, device="cpu", resume=True)
    assert_same(whole, cut)
    train(recipe_of("caloshowergan", *shorter), few, tmp_path / "plain", device="cpu")
    a, b = final_state(whole), final_state(tmp_path / "plain")
    shared = [k for k in a if k in b and ("/model." in k or "/average." in k)]
    if option == "ema":  # averages beside the same weights
        assert all(torch.equal(a[k], b[k]) for k in shared)
        assert [k for k in a if "/average." in k]
    else:
        assert not all(torch.equal(a[k], b[k]) for k in shared)


def test_resuming_a_finished_training_changes_nothing(smoke, photons: Showers) -> None:
    folder = smoke("caloshowergan")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    outcome = train(recipe_of("caloshowergan"), photons, folder, device="cpu", resume=True)
    assert outcome.step == 20
    after = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert before.keys() == after.keys()
    model = folder / "model.safetensors"
    assert before[model] == after[model]
    assert_same(folder, folder)


def test_the_global_generator_is_not_touched(photons: Showers, tmp_path: Path) -> None:
    recipe = recipe_of("flow-matching", "training.steps=2")
    before = torch.get_rng_state()
    train(recipe, photons[:500], tmp_path / "a", device="cpu")
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)  # nor does it matter
    train(recipe, photons[:500], tmp_path / "b", device="cpu")
    assert_same(tmp_path / "a", tmp_path / "b")
    other = recipe_of("flow-matching", "training.steps=2", "training.seed=1")
    train(other, photons[:500], tmp_path / "c", device="cpu")
    a, c = final_state(tmp_path / "a"), final_state(tmp_path / "c")
    assert not all(torch.equal(a[k], c[k]) for k in a if "/model." in k)


# --- crashes ---------------------------------------------------------------------------------
@contextmanager
def training_process(out: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """A training in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "caloforge.cli", "train", "smoke-caloshowergan"),
            *("--data", "ds1-photons-train", "--out", str(out), "--device", "cpu", *options),
            *("--set", "training.steps=400", "--set", "training.checkpoint_every=40"),
            *("--set", "training.selection.every=60", "--set", "training.log_every=7"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def last_logged(out: Path) -> int:
    path = out / "log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def wait_for(out: Path, step: int, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 300
    while last_logged(out) < step:
        assert process.poll() is None, process.stderr.read() if process.stderr else ""
        assert time.monotonic() < until, "the training does not advance"
        time.sleep(0.01)


def long_recipe() -> Recipe:
    return recipe_of(
        "caloshowergan",
        "training.steps=400",
        "training.checkpoint_every=40",
        "training.selection.every=60",
        "training.log_every=7",
    )


def one_thread(action: Callable[[], Any]) -> Any:
    """As the subprocesses do: sums depend on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return action()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("kills", [3, pytest.param(20, marks=pytest.mark.slow)])
def test_a_killed_training_resumes_to_the_same_end(
    kills: int, tmp_path: Path, photons: Showers
) -> None:
    """kill -9 at any step loses the interval since the last checkpoint, or, while that is still
    being written, since the one before; and no line of the log.
    """
    whole = tmp_path / "whole"
    one_thread(lambda: train(long_recipe(), photons, whole, device="cpu"))
    out = tmp_path / "killed"
    rng = np.random.default_rng(kills)
    for part in range(kills):  # somewhere in each of equal parts of the first 350 steps
        step = int(350 * (part + rng.random()) / kills)
        with training_process(out, *(["--resume"] if part else [])) as process:
            wait_for(out, step, process)
            time.sleep(0.05 * rng.random())
            process.kill()
        logged = last_logged(out)
        found = latest_checkpoint(out / "checkpoints")
        kept = found[1]["step"] if found else 0
        assert kept >= 40 * (logged // 40 - 1)
        if (out / "model.safetensors").exists():
            load_model(out / "model.safetensors")
    one_thread(lambda: train(long_recipe(), photons, out, device="cpu", resume=True))
    assert_same(whole, out)
    steps = [row["step"] for row in losses(out / "log.jsonl")]
    assert steps == [*range(7, 400, 7), 400]
    chosen = json.loads((out / "selection.json").read_text(encoding="utf-8"))
    assert [row["step"] for row in chosen] == [60, 120, 180, 240, 300, 360, 400]
    assert (out / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.slow), signal.SIGTERM]
)
def test_asked_to_stop_it_saves_what_it_has(how: int, tmp_path: Path) -> None:
    """Ctrl-C, and what batch systems send."""
    with training_process(tmp_path) as process:
        wait_for(tmp_path, 21, process)
        process.send_signal(how)
        out, err = process.communicate(timeout=300)
    assert process.returncode == 128 + how, err
    assert "Traceback" not in err
    step = latest_checkpoint(tmp_path / "checkpoints")[1]["step"]
    assert 21 <= step < 400
    assert f"stopped at step {step}" in out
    assert "--resume" in " ".join(out.split())
    assert load_model(tmp_path / "model.safetensors").about["chosen"]["step"] <= step


# --- things that go wrong --------------------------------------------------------------------
@pytest.mark.parametrize("log_every", [1, 5, 100])
def test_a_broken_training_keeps_the_last_good_state(
    photons: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_every: int
) -> None:
    """NaN stops the training before anything broken is written, wherever it is noticed first."""
    recipe = recipe_of(
        "caloshowergan",
        f"training.log_every={log_every}",
        "training.checkpoint_every=2",
        "training.selection.every=3",
    )
    advance = Run.advance

    def wrong(self: Run) -> dict[str, torch.Tensor]:
        numbers = advance(self)
        if self.step == 5:
            with torch.no_grad():
                next(iter(self.model.generator.parameters())).fill_(float("nan"))
        return numbers

    monkeypatch.setattr(Run, "advance", wrong)
    with pytest.raises(TrainingError, match="became") as error:
        train(recipe, photons, tmp_path, device="cpu")
    assert "the last good state is kept" in str(error.value)
    tensors, about = latest_checkpoint(tmp_path / "checkpoints")
    assert about["step"] == 4
    assert all(torch.isfinite(v).all() for v in tensors.values() if v.is_floating_point())
    assert load_model(tmp_path / "model.safetensors").about["chosen"]["step"] == 3


def test_a_loss_that_is_nan_is_named(photons: Showers, tmp_path: Path, monkeypatch) -> None:
    def bad(self: Any, batch: Batch, rng: torch.Generator) -> Any:
        return self.critic(torch.zeros(1, 369)).sum() * float("nan"), {}

    monkeypatch.setattr("caloforge.models.caloshowergan.CaloShowerGAN.critic_loss", bad)
    with pytest.raises(TrainingError, match="loss/critic became nan at step 5"):
        train(recipe_of("caloshowergan"), photons, tmp_path, device="cpu")


def test_a_full_disk_stops_with_a_sentence_and_resumes(
    photons: Showers, tmp_path: Path, smoke
) -> None:
    class FillDisk(Silent):
        def log(self, step: int, numbers: dict[str, float]) -> None:
            if step == 15:
                resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(CaloForgeError, match="Cannot write"):
            train(recipe_of("caloshowergan"), photons, tmp_path, device="cpu", observer=FillDisk())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")]
    assert latest_checkpoint(tmp_path / "checkpoints")[1]["step"] == 10
    load_model(tmp_path / "model.safetensors")
    train(recipe_of("caloshowergan"), photons, tmp_path, device="cpu", resume=True)
    assert_same(smoke("caloshowergan"), tmp_path)


def test_a_full_disk_below_the_log(photons: Showers, tmp_path: Path, monkeypatch) -> None:
    opened = Path.open

    def refuse(self: Path, *args: Any, **more: Any) -> Any:
        if self.name == "log.jsonl":
            raise OSError(28, "No space left on device")
        return opened(self, *args, **more)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(TrainingError, match=r"log\.jsonl: No space left on device"):
        train(recipe_of("caloshowergan"), photons, tmp_path, device="cpu")


def test_damaged_checkpoints(photons: Showers, tmp_path: Path, smoke) -> None:
    recipe = recipe_of("caloshowergan")
    train(recipe, photons, tmp_path, device="cpu")
    older, newer = sorted((tmp_path / "checkpoints").glob("*"))
    newer.write_bytes(newer.read_bytes()[:1000])  # the older one is taken
    assert train(recipe, photons, tmp_path, device="cpu", resume=True).step == 20
    assert_same(smoke("caloshowergan"), tmp_path)
    for path in (older, newer):
        path.write_bytes(b"nothing")
    with pytest.raises(TrainingError, match="None of the checkpoints"):
        train(recipe, photons, tmp_path, device="cpu", resume=True)


def test_a_folder_with_another_training(photons: Showers, smoke) -> None:
    folder = smoke("caloshowergan")
    with pytest.raises(TrainingError, match="already holds a training; give --resume"):
        train(recipe_of("caloshowergan"), photons, folder, device="cpu")
    for other, named in (
        (recipe_of("caloshowergan", "training.seed=5"), r"another training\.seed"),
        (recipe_of("caloshowergan", "training.batch_size=32"), r"another training\.batch_size"),
        (recipe_of("caloshowergan", "model.latent=9"), r"another model\.latent"),
        (recipe_of("caloshowergan", "data.average=2"), r"another data\.average"),
        (recipe_of("flow-matching"), "another name"),
    ):
        before = (folder / "recipe.toml").read_text(encoding="utf-8")
        with pytest.raises(TrainingError, match=named):
            train(other, photons, folder, device="cpu", resume=True)
        assert (folder / "recipe.toml").read_text(encoding="utf-8") == before


def test_a_training_beyond_the_steps_asked_for_is_not_called_done(
    photons: Showers, tmp_path: Path
) -> None:
    train(recipe_of("caloshowergan", "training.steps=4"), photons, tmp_path, device="cpu")
    before = (tmp_path / "recipe.toml").read_text(encoding="utf-8")
    fewer = recipe_of("caloshowergan", "training.steps=3")
    with pytest.raises(TrainingError, match="is at step 4 already"):
        train(fewer, photons, tmp_path, device="cpu", resume=True)
    assert (tmp_path / "recipe.toml").read_text(encoding="utf-8") == before


def test_a_setting_that_is_no_longer_given_is_named(photons: Showers, tmp_path: Path) -> None:
    first = recipe_of("caloshowergan", "training.steps=1", "model.output_gain=0.5")
    train(first, photons, tmp_path, device="cpu")
    with pytest.raises(TrainingError, match=r"another model\.output_gain"):
        train(recipe_of("caloshowergan"), photons, tmp_path, device="cpu", resume=True)


def test_wrong_devices_geometries_and_optimisers(photons: Showers, tmp_path: Path) -> None:
    recipe = recipe_of("caloshowergan")
    with pytest.raises(CaloForgeError, match="Unknown device 'gpu'"):
        train(recipe, photons, tmp_path, device="gpu")
    if not torch.cuda.is_available():
        with pytest.raises(CaloForgeError, match="no CUDA device"):
            train(recipe, photons, tmp_path, device="cuda")
    with pytest.raises(TrainingError, match="showers are of 'ds1-pions'"):
        train(recipe, sample_showers("ds1-pions"), tmp_path, device="cpu")
    wrong = recipe_of("caloshowergan", "model.critic_optimiser={'name':'adan'}")
    with pytest.raises(ModelError, match="did you mean 'adam'"):
        train(wrong, photons, tmp_path, device="cpu")
    with pytest.raises(CaloForgeError, match="no symmetry 'rotate-alfa'"):
        turned = recipe_of("caloshowergan", "training.augment=('rotate-alfa',)")
        train(turned, photons, tmp_path, device="cpu")
    (tmp_path / "file").write_text("")
    with pytest.raises(CaloForgeError, match="expected a folder there"):
        train(recipe, photons, tmp_path / "file" / "run", device="cpu")


# --- held-out showers and the choice ---------------------------------------------------------
def test_held_out_showers_are_never_trained_on(
    photons: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Showers] = {}
    make_set, make_score = TrainingSet.__init__, HeldOut.__init__

    def spy_set(self: TrainingSet, showers: Showers, **more: Any) -> None:
        seen["training"] = showers
        make_set(self, showers, **more)

    def spy_score(self: HeldOut, showers: Showers, *more: Any) -> None:
        seen["held out"] = showers
        make_score(self, showers, *more)

    opened: list[str] = []
    monkeypatch.setattr(TrainingSet, "__init__", spy_set)
    monkeypatch.setattr(HeldOut, "__init__", spy_score)
    monkeypatch.setattr("h5py.File", lambda path, *a, **k: opened.append(str(path)))
    numbered = dataclasses.replace(photons, energies=photons.energies.copy())
    numbered.energies[:, 0] = np.arange(len(photons))  # makes every shower recognisable
    train(recipe_of("caloshowergan", "training.steps=1"), numbered, tmp_path, device="cpu")
    kept, held = (set(seen[k].energies[:, 0].tolist()) for k in ("training", "held out"))
    assert not kept & held
    assert len(kept) + len(held) == len(photons)
    assert len(held) == round(0.1 * len(photons))
    for point in np.unique(photons.incident_energy):  # stratified in energy
        count = int((photons.incident_energy == point).sum())
        mine = int((seen["held out"].incident_energy == point).sum())
        assert abs(mine - 0.1 * count) <= 1
    assert opened == []  # training reads no file: least of all a test file


def test_the_split_depends_on_the_seed_alone(photons: Showers) -> None:
    energy = photons.incident_energy
    assert np.array_equal(holdout_split(energy, 0.1, 4)[1], holdout_split(energy, 0.1, 4)[1])
    assert not np.array_equal(holdout_split(energy, 0.1, 4)[1], holdout_split(energy, 0.1, 5)[1])


@pytest.mark.parametrize(("keep", "step", "best"), [("lowest-chi2", 2, 4.0), ("newest", 5, 5.0)])
def test_the_recipe_says_which_generator_is_kept(
    photons: Showers, tmp_path: Path, monkeypatch, keep: str, step: int, best: float
) -> None:
    values = iter([9.0, 4.0, 6.0, 4.5, 5.0])
    made: list[dict[str, torch.Tensor]] = []

    def score(self: HeldOut, model: Any, device: torch.device) -> Any:
        made.append({k: v.clone() for k, v in model.generator_state().items()})
        return Score(next(values), {256.0: 1.0})

    monkeypatch.setattr(HeldOut, "__call__", score)
    recipe = recipe_of(
        "caloshowergan",
        "training.steps=5",
        "training.selection.every=1",
        f"training.selection.keep={keep}",
    )
    outcome = train(recipe, photons, tmp_path, device="cpu")
    assert (outcome.best_step, outcome.best_score) == (step, best)
    chosen = load_model(tmp_path / "model.safetensors")
    assert chosen.about["chosen"] == {"step": step, "chi2_ndf": best}
    for key, value in chosen.model.generator_state().items():
        assert torch.equal(value, made[step - 1][key])
    history = json.loads((tmp_path / "selection.json").read_text(encoding="utf-8"))
    assert [row["chi2_ndf"] for row in history] == [9.0, 4.0, 6.0, 4.5, 5.0]


def test_the_score_prefers_the_better_generator(photons: Showers, smoke) -> None:
    """A model that returns real showers scores near 1, one with 2 % more energy worse."""
    model = load_model(smoke("caloshowergan") / "model.safetensors").model
    kept, held = holdout_split(photons.incident_energy, 0.3, 0)
    score = HeldOut(photons[held], Selection(repeats=1, minimum=20), 0)
    pool = photons[kept]
    rng = np.random.default_rng(0)
    rows = [
        rng.choice(np.flatnonzero(pool.incident_energy == e))
        for e in score.condition[:, 0].numpy()
    ]

    def scored(factor: float) -> float:
        stock = iter(torch.from_numpy(factor * pool.energies[rows]).split(4096))
        model.sample = lambda condition, noise: next(stock)  # type: ignore[method-assign]
        return score(model, CPU).chi2_ndf

    real, slightly, badly = scored(1.0), scored(1.02), scored(1.5)
    del model.sample
    assert 0.7 < real < 1.5
    assert real < slightly < badly


def test_a_score_holds_the_noise_of_a_chunk_alone(
    photons: Showers, smoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The noise is the same as if it were made at once."""
    model = load_model(smoke("caloshowergan")).model
    score = HeldOut(photons[:300], Selection(repeats=3), 7)
    monkeypatch.setattr(selection, "CHUNK", 2 * BLOCK)
    drawn, seen, sample = [], [], model.sample

    def draw(seed: int, start: int, stop: int, size: int) -> np.ndarray:
        drawn.append(stop - start)
        return normals(seed, start, stop, size)

    def watched(condition: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        seen.append(noise)
        return sample(condition, noise)

    monkeypatch.setattr(selection, "normals", draw)
    monkeypatch.setattr(model, "sample", watched)
    score(model, CPU)
    assert drawn == [512, 388]
    assert np.array_equal(torch.cat(seen).numpy(), normals(7, 0, 900, model.noise_size))


def test_the_prd_score_prefers_the_better_generator(photons: Showers, smoke) -> None:
    """Real showers score near 1, always the same shower less, in cells and in observables."""
    model = load_model(smoke("caloshowergan") / "model.safetensors").model
    rows = np.flatnonzero(photons.incident_energy == 16384.0)
    score = HeldOut(photons[rows[:200]], Selection(keep="highest-prd-auc", repeats=1), 0)
    real = photons.energies[rows[200:400]]

    def scored(energies: np.ndarray) -> Score:
        model.sample = lambda condition, noise: torch.from_numpy(energies)  # type: ignore
        return score(model, CPU)

    good, bad = scored(real), scored(real.mean(axis=0, keepdims=True).repeat(200, axis=0))
    del model.sample
    assert min(good.prd_auc_raw, good.prd_auc_physics) > 0.8
    assert max(bad.prd_auc_raw, bad.prd_auc_physics) < 0.5
    assert good.value("highest-prd-auc") < bad.value("highest-prd-auc")
    assert {"prd_auc_raw", "prd_auc_physics"} < good.numbers().keys()


def test_the_wasserstein_score_prefers_the_right_width_with_few_showers(
    photons: Showers, smoke
) -> None:
    """Moved by d sigma the distance is d; ten times too wide is worse than too narrow by half,
    which chi-square sees the other way round with 60 showers.
    """
    model = load_model(smoke("caloshowergan") / "model.safetensors").model
    rows = np.flatnonzero(photons.incident_energy == 16384.0)[:60]
    score = HeldOut(photons[rows], Selection(keep="lowest-wasserstein", repeats=2), 0)
    real = torch.from_numpy(photons.energies[rows]).repeat(2, 1).double()
    total = real.sum(dim=1, keepdim=True)
    pull = (total - total.mean()) / total.std(correction=0)

    def scored(width: float, shift: float) -> Score:
        wanted = total.mean() + (width * pull + shift) * total.std(correction=0)
        made = (real / total * wanted.clamp(min=0)).float()
        model.sample = lambda condition, noise: made  # type: ignore
        return score(model, CPU)

    same, moved, narrow, wide = (
        scored(width, shift) for width, shift in ((1, 0), (1, 0.7), (0.5, 0), (10, 0))
    )
    del model.sample
    assert same.wasserstein == pytest.approx(0.0, abs=1e-3)
    assert moved.value("lowest-wasserstein") == pytest.approx(0.7, rel=1e-2)
    assert same.wasserstein < narrow.wasserstein < moved.wasserstein < wide.wasserstein
    assert "wasserstein" in same.numbers()


def test_too_few_showers_to_choose_keep_the_newest(photons: Showers, tmp_path: Path) -> None:
    for count in (4, 30):
        out = tmp_path / str(count)
        outcome = train(
            recipe_of("caloshowergan", "training.batch_size=8"), photons[:count], out, device="cpu"
        )
        assert outcome.best_step == 20
        assert load_model(out / "model.safetensors").about["chosen"]["step"] == 20
    score = HeldOut(photons[:0], Selection(), 0)
    assert np.isnan(score(load_model(tmp_path / "30" / "model.safetensors").model, CPU).chi2_ndf)


# --- options do what they say ----------------------------------------------------------------
def phase_of(parameter: nn.Parameter, **settings: Any) -> Phase:
    return Phase("p", [parameter], lambda *_: None, 1, OptimiserSettings(**settings))


def test_gradients_are_clipped_to_the_norm() -> None:
    for clip, expected in ((0.0, 5.0), (1.0, 1.0), (10.0, 5.0)):
        parameter = nn.Parameter(torch.zeros(2))
        player = Player(phase_of(parameter), clip)
        update(player, parameter @ torch.tensor([3.0, 4.0]))
        assert float(parameter.grad.norm()) == pytest.approx(expected, rel=1e-5)


def test_the_cyclic_rate_rises_and_falls() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    player = Player(phase_of(parameter, lr=1.0, schedule="cyclic"), 0.0)
    rates = []
    for _ in range(2001):
        update(player, parameter.sum())
        rates.append(player.optimiser.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.1)
    assert rates[1000] == pytest.approx(1.0)
    assert rates[500] == pytest.approx(0.55)
    assert rates[2000] == pytest.approx(0.1)


def test_the_inverse_rate_is_halved_after_1000_updates() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    player = Player(phase_of(parameter, lr=0.6, schedule="inverse"), 0.0)
    rates = []
    for _ in range(2001):
        update(player, parameter.sum())
        rates.append(player.optimiser.param_groups[0]["lr"])
    assert [rates[k] for k in (0, 1000, 2000)] == pytest.approx([0.6, 0.3, 0.2])


def test_the_cooldown_brings_every_rate_down_to_zero_and_may_begin_on_resuming(
    photons: Showers, tmp_path: Path, monkeypatch
) -> None:
    rates: list[float] = []
    take = Player.take

    def watched(player: Player, gradients: Sequence[torch.Tensor], pace: float) -> None:
        take(player, gradients, pace)
        if player.phase.name == "generator":
            rates.append(player.optimiser.param_groups[0]["lr"])

    monkeypatch.setattr(Player, "take", watched)
    train(recipe_of("caloshowergan", "training.steps=3"), photons, tmp_path, device="cpu")
    cooled = recipe_of("caloshowergan", "training.steps=8", "training.cooldown=4")
    train(cooled, photons, tmp_path, device="cpu", resume=True)
    paces = [rate / rates[0] for rate in rates]
    assert paces == pytest.approx([1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_lookahead_goes_half_way_every_fifth_update() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    player = Player(phase_of(parameter, name="rmsprop", lr=1.0, lookahead=True), 0.0)
    plain = nn.Parameter(torch.zeros(1))
    other = Player(phase_of(plain, name="rmsprop", lr=1.0), 0.0)
    for _ in range(5):
        update(player, parameter.sum())
        update(other, plain.sum())
    assert float(parameter.detach()) == pytest.approx(0.5 * float(plain.detach()))


def test_a_player_moves_its_own_parameters_only(photons: Showers) -> None:
    model = build(recipe_of("caloshowergan"), photons)
    batch = Batch(torch.from_numpy(photons.energies[:64]), torch.full((64, 1), 65536.0))
    for phase in model.phases():
        before = {k: v.clone() for k, v in model.named_parameters()}
        loss, _ = phase.loss(batch, torch.Generator().manual_seed(0))
        update(Player(phase, 0.0), loss)
        moved = {k for k, v in model.named_parameters() if not torch.equal(v, before[k])}
        assert moved
        assert all(key.startswith(phase.name) for key in moved)


def test_the_average_follows_its_formula(photons: Showers, tmp_path: Path) -> None:
    """Decay min(ema, (1 + n) / (10 + n)) at step n, over every entry of the generator."""
    seen: list[dict[str, torch.Tensor]] = []
    advance = Run.advance

    def spy(self: Run) -> dict[str, torch.Tensor]:
        if not seen:
            seen.append({k: v.clone() for k, v in self.model.generator_state().items()})
        numbers = advance(self)
        seen.append({k: v.clone() for k, v in self.model.generator_state().items()})
        return numbers

    recipe = recipe_of("flow-matching", "training.ema=0.3", "training.steps=6")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "advance", spy)
        train(recipe, photons, tmp_path, device="cpu")
    average = latest_checkpoint(tmp_path / "checkpoints")[0]
    model = load_model(tmp_path / "model.safetensors").model
    for key in ("mixture.enter.weight", "mixture.mix.1.bias", "log_variance"):
        expected = seen[0][key].double()
        for n in range(1, 7):
            decay = min(0.3, (1 + n) / (10 + n))
            expected = decay * expected + (1 - decay) * seen[n][key].double()
        torch.testing.assert_close(average[f"average.{key}"].double(), expected, rtol=1e-5, atol=0)
        assert torch.equal(model.generator_state()[key], average[f"average.{key}"])
        assert not torch.equal(seen[-1][key], average[f"average.{key}"])


def test_averaged_weights_get_batch_statistics_of_their_own(photons: Showers) -> None:
    """Those of the showers that they make, while the model keeps its own and its modes."""
    ordered = photons[np.argsort(photons.incident_energy, kind="stable")]
    conditions = torch.from_numpy(ordered.conditions).float()
    model = build(recipe_of("caloshowergan", "model.critic_batch_norm=true"), photons).train()
    model.critic[0].eval()  # as a frozen part is
    with torch.no_grad():
        model.generator[0].weight[:, -1] *= 20  # so that showers differ with their energy
        for norm in (m for m in model.critic if isinstance(m, nn.BatchNorm1d)):
            norm.running_mean.fill_(3.0)
    average = Average(model, 0.9, conditions)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    with average.in_place(), torch.no_grad():
        assert [module.training for module in model.modules()] == modes
        label = model.label(conditions)
        x = torch.cat([0.5 + 0.5 * torch.randn(len(label), model.latent), label], dim=1)
        norms = 0
        for layer in model.generator.eval():
            if isinstance(layer, nn.BatchNorm1d):
                norms, spread = norms + 1, x.std(dim=0)
                assert ((layer.running_mean - x.mean(dim=0)) / spread).abs().max() < 0.2
                assert (layer.running_var.sqrt() / spread - 1).abs().max() < 0.1
                assert layer.momentum == pytest.approx(0.01)
            x = layer(x)
        assert norms == 2  # a hidden layer and the output
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_averaging_may_begin_and_end_on_resuming(photons: Showers, tmp_path: Path) -> None:
    def resumed(steps: int, ema: float) -> dict[str, torch.Tensor]:
        recipe = recipe_of("caloshowergan", f"training.steps={steps}", f"training.ema={ema}")
        train(recipe, photons[::4], tmp_path, device="cpu", resume=True)
        return latest_checkpoint(tmp_path / "checkpoints")[0]

    weight = "generator.0.weight"
    first = resumed(2, 0.0)
    assert f"average.{weight}" not in first
    then = resumed(3, 0.3)  # one step: the average is between the weights before and after it
    expected = 0.3 * first[f"model.{weight}"] + 0.7 * then[f"model.{weight}"]
    torch.testing.assert_close(then[f"average.{weight}"], expected)
    assert f"average.{weight}" not in resumed(4, 0.0)


def test_a_model_trained_in_turns_is_not_resumed_with_other_steps(smoke, tmp_path: Path) -> None:
    """Its turns are shares of the steps: those taken would belong to another training."""
    shutil.copytree(smoke("copula"), tmp_path / "run")
    longer = recipe_of("copula", "training.steps=40")
    with pytest.raises(TrainingError, match=r"'steps': 20.*'steps': 40.*expected the same"):
        train(longer, sample_showers(longer.geometry), tmp_path / "run", device="cpu", resume=True)


def test_old_checkpoints_are_deleted(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4):
        save_checkpoint(tmp_path, step, {"a": torch.full((1,), float(step))}, {}, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step-00000003.safetensors",
        "step-00000004.safetensors",
    ]
    tensors, about = latest_checkpoint(tmp_path)
    assert (tensors["a"].item(), about["step"]) == (4.0, 4)
    assert latest_checkpoint(tmp_path / "nowhere") is None


# --- batches ---------------------------------------------------------------------------------
def test_an_epoch_holds_every_shower_once(photons: Showers) -> None:
    few = photons[:100]
    few.energies[:, 0] = np.arange(100)
    data = TrainingSet(few, device=CPU, seed=0)
    rng = torch.Generator()
    drawn = torch.cat([data.draw(40, rng).energies[:, 0] for _ in range(5)])
    assert sorted(drawn[:100].tolist()) == list(range(100))
    assert sorted(drawn[100:].tolist()) == list(range(100))
    assert drawn[:100].tolist() != drawn[100:].tolist()
    again = TrainingSet(few, device=CPU, seed=0)
    again.seek(1, 20)
    assert torch.equal(again.draw(40, rng).energies[:, 0], drawn[120:160])
    assert len(data.draw(350, rng).energies) == 350


@pytest.mark.parametrize(
    ("geometry", "symmetries"),
    [("ds1-photons", ("rotate-alpha", "reflect-alpha")), ("lhcb", None), ("lcd", None)],
)
def test_symmetric_copies_are_the_same_showers(geometry: str, symmetries: Any) -> None:
    """Turning and mirroring keeps the energy of every layer and ring, and maps the conditions."""
    showers = sample_showers(geometry)[:40]
    names = symmetries or tuple(name for name, _ in showers.geometry.symmetries)
    group = symmetry_group(showers.geometry, names)
    data = TrainingSet(showers, device=CPU, seed=0, augment=names)
    plain = TrainingSet(showers, device=CPU, seed=0)
    rng = torch.Generator().manual_seed(1)
    made, original = data.draw(40, rng), plain.draw(40, rng)
    assert len(group) > 1
    assert not torch.equal(made.energies, original.energies)
    for layer, where in zip(showers.geometry.layers, showers.geometry.slices, strict=True):
        a, b = (t.energies[:, where].reshape(40, *layer.shape) for t in (made, original))
        torch.testing.assert_close(a.sum((1, 2)), b.sum((1, 2)), rtol=1e-5, atol=1e-4)
        if layer.kind == "polar":
            torch.testing.assert_close(a.sum(1), b.sum(1), rtol=1e-5, atol=1e-4)
    assert torch.equal(made.energies.sort(1).values, original.energies.sort(1).values)
    used = set()
    for k in range(40):  # each shower is one element of the group, applied to its condition too
        matches = [
            number
            for number, element in enumerate(group)
            if torch.equal(
                original.energies[k][torch.from_numpy(element.permutation)], made.energies[k]
            )
            and np.allclose(
                np.asarray(original.condition[k]) @ element.matrix.T + element.offset,
                made.condition[k],
                atol=1e-3,
            )
        ]
        assert matches
        used.add(matches[0])
    assert len(used) > 1


# --- a model split in energy -----------------------------------------------------------------
def test_each_range_has_its_own_training_and_choice(smoke) -> None:
    folder = smoke("caloshowergan-split")
    joined = load_model(folder / "model.safetensors")
    for number, part in enumerate(joined.model.energy_ranges()):
        own = load_model(folder / f"range{number}" / "model.safetensors")
        assert own.about["model"] == "caloshowergan"
        for key, value in own.model.generator_state().items():
            assert torch.equal(part.model.generator_state()[key], value), key
        history = json.loads((folder / f"range{number}" / "selection.json").read_text())
        best = min(row["chi2_ndf"] for row in history)
        last = max(row["step"] for row in history if row["chi2_ndf"] == best)
        chosen = own.about["chosen"]
        assert (chosen["step"], chosen["chi2_ndf"]) == (last, best)
        energies = [float(e) for e in history[0]["per_energy"]]
        assert all(part.low <= e <= part.high for e in energies)
        assert 4096.0 in energies  # the boundary trains both neighbours
    steps = [entry["best_step"] for entry in joined.about["chosen"]["ranges"]]
    assert len(steps) == 2


def test_a_range_with_few_showers_is_warned_about(photons: Showers, tmp_path: Path) -> None:
    recipe = recipe_of("caloshowergan-split", "training.steps=1")
    with pytest.warns(UserWarning, match=r"Only \d+ training showers in the range"):
        train(recipe, photons[::10], tmp_path, device="cpu")
    high = photons[photons.incident_energy > 5000]
    with pytest.raises(TrainingError, match="There are 0 training showers in the range"):
        train(recipe, high, tmp_path / "none", device="cpu")
