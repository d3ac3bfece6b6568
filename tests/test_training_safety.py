"""A training is never lost and can be watched: checkpoints beside the training, full disks, log,
TensorBoard events, stagnation, and no waiting for the device between two lines of the log.
"""

import errno
import json
import os
import pickle
import subprocess
import sys
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import sample_showers
from test_training import CPU, assert_same, every_model, phase_of, recipe_of
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from caloforge.errors import CaloForgeError, TrainingError
from caloforge.models.file import load_model, write_tensors
from caloforge.showers import Showers
from caloforge.training.checkpoint import Checkpoints, latest_checkpoint, save_checkpoint
from caloforge.training.dataset import TrainingSet
from caloforge.training.log import Log, Stagnation
from caloforge.training.loop import Run
from caloforge.training.optimisers import Player
from caloforge.training.selection import HeldOut
from caloforge.training.train import build, train

WRITE = "caloforge.training.checkpoint.write_tensors"


class Gate:
    """Writes that begin when they are let through."""

    def __init__(self) -> None:
        self.open, self.begun = threading.Event(), 0

    def __call__(self, path: Path, *what: Any) -> None:
        self.begun += 1
        assert self.open.wait(60)
        write_tensors(path, *what)


def full(path: Path, *what: Any) -> None:
    """What `write_tensors` does when the disk is full."""
    raise CaloForgeError("Cannot write.") from OSError(errno.ENOSPC, "No space left on device")


# --- checkpoints -----------------------------------------------------------------------------
def test_a_checkpoint_holds_the_state_of_its_step(tmp_path: Path, monkeypatch) -> None:
    """The training goes on at once, and what it changes meanwhile is not in the file."""
    gate = Gate()
    monkeypatch.setattr(WRITE, gate)
    state, history = torch.zeros(3), [1]
    with Checkpoints(tmp_path, keep=2) as checkpoints:
        checkpoints.save(7, {"a": state, "same": state.view(3)}, {"history": history})
        state.fill_(5.0)
        history.append(2)
        checkpoints.check()  # does not wait
        assert latest_checkpoint(tmp_path) is None
        gate.open.set()
    tensors, about = latest_checkpoint(tmp_path)
    assert tensors["a"].tolist() == tensors["same"].tolist() == [0.0] * 3
    assert about == {"history": [1], "step": 7}


def test_one_write_at_a_time(tmp_path: Path, monkeypatch) -> None:
    gate = Gate()
    monkeypatch.setattr(WRITE, gate)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        checkpoints.save(1, {"a": torch.ones(1)}, {})
        second = threading.Thread(target=checkpoints.save, args=(2, {"a": torch.ones(1)}, {}))
        second.start()
        second.join(0.1)
        assert second.is_alive()
        assert gate.begun <= 1
        gate.open.set()
        second.join(60)
    assert latest_checkpoint(tmp_path)[1]["step"] == 2


def test_a_failed_write_is_told_once_at_the_next_step(tmp_path: Path, monkeypatch) -> None:
    checkpoints = Checkpoints(tmp_path, keep=2)
    with checkpoints:
        checkpoints.save(1, {"a": torch.ones(1)}, {})
    monkeypatch.setattr(WRITE, full)
    checkpoints.save(2, {"a": torch.ones(1)}, {})
    with pytest.raises(TrainingError, match=r"step 2 .*\(No space left on device\).*--resume"):
        checkpoints.wait()
    checkpoints.check()
    assert latest_checkpoint(tmp_path)[1]["step"] == 1
    with pytest.raises(TrainingError, match="step 3"), checkpoints:
        checkpoints.save(3, {"a": torch.ones(1)}, {})
    with pytest.raises(KeyError), checkpoints:  # what stopped the training is what is told
        checkpoints.save(4, {"a": torch.ones(1)}, {})
        raise KeyError


def test_a_disk_that_fills_up_beside_the_training(
    photons: Showers, tmp_path: Path, monkeypatch
) -> None:
    calls, whole, cut = iter(range(10)), tmp_path / "whole", tmp_path / "cut"

    def second_fails(path: Path, *what: Any) -> None:
        (full if next(calls) == 1 else write_tensors)(path, *what)

    recipe = recipe_of("caloshowergan", "training.checkpoint_every=5", "training.keep=9")
    train(recipe, photons, whole, device="cpu")
    with monkeypatch.context() as patch:
        patch.setattr(WRITE, second_fails)
        with pytest.raises(TrainingError, match=r"checkpoint of step 10 .*No space left"):
            train(recipe, photons, cut, device="cpu")
    steps = sorted(int(p.stem[5:]) for p in (cut / "checkpoints").iterdir())
    assert steps == [5]
    load_model(cut / "model.safetensors")
    (cut / "checkpoints" / ".step-00000010.1.part.safetensors").write_bytes(b"half")
    (cut / ".selection.1.part.json").write_bytes(b"half")
    train(recipe, photons, cut, device="cpu", resume=True)
    assert not [p for p in cut.rglob("*") if p.name.startswith(".")]
    assert_same(whole, cut)


def test_the_interpreter_waits_for_the_write(tmp_path: Path) -> None:
    code = (
        "import sys, time, torch\n"
        "from pathlib import Path\n"
        "from caloforge.training import checkpoint\n"
        "write = checkpoint.write_tensors\n"
        "checkpoint.write_tensors = lambda *a: (time.sleep(0.5), write(*a))\n"
        "c = checkpoint.Checkpoints(Path(sys.argv[1]), 1)\n"
        "c.save(3, {'a': torch.ones(1)}, {})\n"
        "sys.exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert latest_checkpoint(tmp_path)[1]["step"] == 3


class Exploit:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("exploited",)


def test_pickled_checkpoints_are_not_loaded(
    photons: Showers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "run" / "checkpoints"
    folder.mkdir(parents=True)
    for write, step in ((pickle.dump, 1), (torch.save, 2)):
        with (folder / f"step-{step:08d}.safetensors").open("wb") as file:
            write({"rng": Exploit()}, file)
    with pytest.raises(TrainingError, match="None of the checkpoints"):
        train(recipe_of("caloshowergan"), photons, tmp_path / "run", device="cpu", resume=True)
    assert not (tmp_path / "exploited").exists()


# --- what a run tells ------------------------------------------------------------------------
def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: tag -> (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


def test_a_killed_run_shows_every_step_once(tmp_path: Path) -> None:
    killed = Log(tmp_path)
    killed.begin(0)
    for step in (5, 10, 15):
        killed.numbers(step, {"loss/g": -step})
        killed.flush()  # and no more: it is never closed
    for _ in range(2):  # resumed twice from the same checkpoint
        with Log(tmp_path) as log:
            log.begin(10)
            for step in (15, 20):
                log.numbers(step, {"loss/g": step})
            log.scores(20, {"chi2_ndf": 2.0, "prd_auc_raw": None})
    assert scalars(tmp_path) == {
        "loss/g": [(5, -5), (10, -10), (15, 15), (20, 20)],
        "selection/chi2_ndf": [(20, 2.0)],
    }
    lines = (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["loss/g"] for line in lines] == [-5, -10, 15, 20]
    with killed:
        pass  # its file would be complained about


def test_events_hold_what_the_log_and_the_choice_hold(smoke) -> None:
    folder = smoke("caloshowergan")
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    shown = scalars(folder)
    for key in {"gradient/critic", "gradient/generator", "critic/penalty", "steps_per_second"}:
        assert [s for s, _ in shown[key]] == [row["step"] for row in rows]
        assert [v for _, v in shown[key]] == pytest.approx([row[key] for row in rows])
    history = json.loads((folder / "selection.json").read_text())
    expected = [(entry["step"], pytest.approx(entry["chi2_ndf"])) for entry in history]
    assert shown["selection/chi2_ndf"] == expected


def test_the_gradient_norm_is_that_before_clipping() -> None:
    for clip in (0.0, 0.1, 100.0):
        parameters = [nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(1))]
        phase = phase_of(parameters[0])
        phase.parameters.append(parameters[1])
        player = Player(phase, clip)
        loss = parameters[0] @ torch.tensor([3.0, 4.0]) + 12.0 * parameters[1].sum()
        player.take(torch.autograd.grad(loss, parameters))
        assert float(player.gradient_norm()) == pytest.approx(13.0)


def test_a_run_folder_names_all_its_files(smoke, photons: Showers, tmp_path: Path) -> None:
    recipe = recipe_of("caloshowergan", "training.steps=1")
    train(recipe, photons[:100], tmp_path, device="cpu", data="/a/secret/place/mine.hdf5")
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    for path in [*tmp_path.iterdir(), *smoke("caloshowergan-split").iterdir()]:
        name = path.name + "/" * path.is_dir()
        if name != "README.md" and not name.startswith("range"):
            assert f"| `{name}` |" in text
    assert "caloforge train recipe.toml --data mine.hdf5" in text
    assert "90 for training and 10 held out" in text
    assert "secret" not in text and str(tmp_path) not in text
    split = (smoke("caloshowergan-split") / "README.md").read_text(encoding="utf-8")
    assert "`range0` to `range1`" in split
    about = load_model(tmp_path / "model.safetensors").about["trained_on"]
    assert about["file"] == "mine.hdf5"


# --- stagnation ------------------------------------------------------------------------------
def test_stagnation_is_all_gradients_vanished_for_long() -> None:
    watch = Stagnation(fraction=1e-4, window=3)

    def seen(critic: float, generator: float) -> bool:
        return watch.see({"gradient/c": critic, "gradient/g": generator, "loss/c": 0.0})

    assert not any(seen(2.0, 8.0) for _ in range(5))
    assert not any(seen(1e-9, 1.0) for _ in range(5))  # one player alone
    assert [seen(1e-5, 7e-4) for _ in range(4)] == [False, False, True, True]
    assert not seen(1.0, 0.0)  # it learns again
    assert [seen(0.0, 0.0) for _ in range(3)] == [False, False, True]
    assert not any(Stagnation(window=1).see({"loss/c": 0.0}) for _ in range(3))


def vanishing(photons: Showers, out: Path, monkeypatch, what: str, **more: Any) -> None:
    """A training whose gradients vanish after the second step."""
    recipe = recipe_of(
        "flow-matching",
        "training.steps=30",
        "training.log_every=1",
        "training.checkpoint_every=10",
        "training.selection.every=100",
        f"training.stagnation={what}",
    )
    norm = Player.gradient_norm
    monkeypatch.setattr(
        Player, "gradient_norm", lambda self: norm(self) * (1.0 if self.updates <= 2 else 1e-9)
    )
    train(recipe, photons[:200], out, device="cpu", **more)


def test_a_training_that_stagnates_says_so(photons: Showers, tmp_path: Path, monkeypatch) -> None:
    with pytest.warns(UserWarning, match="nothing is learnt any more") as told:
        vanishing(photons, tmp_path, monkeypatch, "warn")
    assert len(told) == 1
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "stagnation" in row] == list(range(22, 31))
    vanishing(photons, tmp_path / "off", monkeypatch, "off")


def test_a_training_that_stagnates_can_stop(photons: Showers, tmp_path: Path, monkeypatch) -> None:
    with pytest.raises(TrainingError, match="up to step 22: nothing is learnt any more"):
        vanishing(photons, tmp_path, monkeypatch, "stop")
    assert latest_checkpoint(tmp_path / "checkpoints")[1]["step"] == 20
    with pytest.raises(TrainingError, match="up to step 22"):  # it remembers what it has seen
        vanishing(photons, tmp_path, monkeypatch, "stop", resume=True)


# --- no waiting for the device ---------------------------------------------------------------
class Waits(TorchDispatchMode):
    """Counts numbers that leave the device: there, each would wait for all work before it."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        packet = function.overloadpacket
        if packet in (torch.ops.aten._local_scalar_dense, torch.ops.aten.nonzero):
            self.count += 1
        elif packet in (torch.ops.aten.index, torch.ops.aten.index_put, torch.ops.aten.index_put_):
            # The size of what a mask selects is only known to the device.
            self.count += any(i is not None and i.dtype == torch.bool for i in args[1])
        return function(*args, **(kwargs or {}))


def test_waits_are_counted() -> None:
    with Waits() as waits:
        float(torch.ones(()))
        bool(torch.ones(()) > 0)
        torch.ones(3)[torch.ones(3) > 0]
    assert waits.count == 3


@every_model
def test_a_step_never_waits_for_the_device(name: str, tmp_path: Path) -> None:
    recipe = recipe_of(name, "training.gradient_clip=1.0")
    showers = sample_showers(recipe.geometry)[:200]
    settings, model = recipe.training, build(recipe, showers)
    part = model.energy_ranges()[0].model.train()
    data = TrainingSet(showers, device=CPU, seed=0, augment=settings.augment)
    score = HeldOut(showers[:0], settings.selection, 0)
    run = Run(part, data, score, settings, tmp_path, {}, nullcontext)
    run.advance()
    with Waits() as waits:
        for _ in range(2):
            run.advance()
    assert waits.count == 0


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    """One changed bit in the newest: the training goes on from the one before it."""
    for step in (1, 2):
        save_checkpoint(tmp_path, step, {"a": torch.full((9,), float(step))}, {}, keep=2)
    newest = tmp_path / "step-00000002.safetensors"
    content = bytearray(newest.read_bytes())
    content[-1] ^= 1
    newest.write_bytes(content)
    tensors, about = latest_checkpoint(tmp_path)
    assert about["step"] == 1
    assert torch.equal(tensors["a"], torch.ones(9))
    (tmp_path / "step-00000001.safetensors").write_bytes(b"")
    with pytest.raises(TrainingError, match="None of the checkpoints"):
        latest_checkpoint(tmp_path)
