"""Several processes, started by torchrun, train as one: same losses, weights and folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import sample_showers
from parallel_training import ALONE, short_training
from safetensors.torch import load_file
from test_training import assert_same

from caloforge.config import load_recipe
from caloforge.errors import TrainingError
from caloforge.training.parallel import JointDraws, Processes, fabric_settings, joins_showers
from caloforge.training.train import build

TESTS = Path(__file__).parent


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of trainings by two processes."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node=2", str(TESTS / "parallel_training.py"), str(folder)]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    (folder / "told").write_text(done.stderr, encoding="utf-8")
    (folder / "said").write_text(done.stdout, encoding="utf-8")
    return folder


def losses(folder: Path) -> list[dict[str, float]]:
    """Losses and gradient norms of a run (of its first range), line by line."""
    path = min(folder.rglob("log.jsonl"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in line.items() if k != "steps_per_second"} for line in lines]


@pytest.mark.parametrize("name", sorted(ALONE))
def test_two_processes_train_as_one(name: str, two: Path, tmp_path: Path) -> None:
    """Every number of the log and every weight."""
    short_training(name, tmp_path)
    written, expected = losses(two / name), losses(tmp_path)
    assert len(written) == len(expected) > 0
    for line, own in zip(written, expected, strict=True):
        assert line == pytest.approx(own, rel=1e-3, abs=1e-5)
    weights = load_file(tmp_path / "model.safetensors")
    for key, value in load_file(two / name / "model.safetensors").items():
        torch.testing.assert_close(value, weights[key], rtol=1e-3, atol=1e-4)


def test_a_model_that_joins_showers_says_what_differs(two: Path) -> None:
    """Batch normalisation takes its statistics from a process's part; the ranges are joined."""
    assert (two / "caloshowergan-split" / "model.safetensors").exists()
    assert joined("caloshowergan-split") == "batch normalisation"
    assert joined("calogan") == "batch normalisation and minibatch discrimination"
    assert "batch normalisation of this model sees" in (two / "told").read_text(encoding="utf-8")


def joined(name: str) -> str | None:
    recipe = load_recipe(f"smoke-{name}")
    return joins_showers(build(recipe, sample_showers(recipe.geometry)[:50]))


def test_processes_resume_exactly(two: Path) -> None:
    assert_same(two / "resumed", two / "flow-matching")


def test_folders_that_are_not_shared_cannot_be_resumed(two: Path) -> None:
    """Only the first process writes: the other would begin anew beside it, and both would hang."""
    said = (two / "said").read_text(encoding="utf-8")
    assert "this one that of step 2; expected one folder that all machines see" in said
    assert "this one that of step 0; expected one folder that all machines see" in said


def test_a_job_of_slurm_is_not_taken_for_one_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fabric would believe its variables: `sbatch --ntasks 2` is no training of two processes."""
    from lightning_fabric import Fabric

    from caloforge.training.parallel import fabric_settings

    for name, value in {"NTASKS": "2", "JOB_NAME": "x", "JOB_ID": "7", "NODELIST": "a"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    fabric = Fabric(accelerator="cpu", **fabric_settings(Processes()))
    fabric.launch()
    assert fabric.world_size == 1


def test_processes_part_before_python_ends(two: Path) -> None:
    """Else a thread of gloo that is late aborts, once in a while, one that has done its work."""
    said = (two / "said").read_text(encoding="utf-8")  # two lines, perhaps run together
    assert said.count("left") == 2, said
    assert "still" not in said


def test_random_numbers_are_those_of_the_joint_batch() -> None:
    def draw(rng: torch.Generator) -> list[torch.Tensor]:
        return [
            torch.randn(4, 3, generator=rng),
            torch.rand((4, 1), generator=rng, device="cpu"),
            torch.randn(7, generator=rng),  # of no shower: the same for all
        ]

    def joint(rng: torch.Generator) -> list[torch.Tensor]:
        first, second = torch.randn(8, 3, generator=rng), torch.rand(8, 1, generator=rng)
        return [first, second, torch.randn(7, generator=rng)]

    whole = joint(torch.Generator().manual_seed(5))
    parts = []
    for rank in range(2):
        with JointDraws(Processes(rank, 2).part(8), 8):
            parts.append(draw(torch.Generator().manual_seed(5)))
    for k in range(2):
        assert torch.equal(torch.cat([parts[0][k], parts[1][k]]), whole[k])
    assert torch.equal(parts[0][2], whole[2])
    assert torch.equal(parts[1][2], whole[2])


def test_draws_that_cannot_be_shared_are_refused() -> None:
    rng = torch.Generator()
    with JointDraws(slice(0, 2), 4), pytest.raises(TrainingError, match=r"torch\.randperm"):
        torch.randperm(4, generator=rng)
    with JointDraws(slice(0, 2), 4), pytest.raises(TrainingError, match=r"shape \(3, 2, 5\)"):
        torch.randn((3, 2, 5), generator=rng)


def test_a_batch_must_be_shared_evenly() -> None:
    with pytest.raises(TrainingError, match="multiple of 3"):
        Processes(0, 3).part(8)


def test_one_process_alone_changes_nothing() -> None:
    alone, value = Processes(), torch.tensor([1.0, 2.0])
    alone.average_([value])
    assert value.tolist() == [1.0, 2.0]
    assert alone.part(8) == slice(0, 8)
    assert not alone.any(False, torch.device("cpu"))


def test_a_batch_system_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither `srun` within reach (a warning, so an error here) nor a job of several tasks."""
    from lightning_fabric import Fabric

    srun = tmp_path / "srun"
    srun.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("SLURM_JOB_NAME", "training")
    for tasks in (None, "4"):
        if tasks is not None:
            monkeypatch.setenv("SLURM_NTASKS", tasks)
        fabric = Fabric(accelerator="cpu", **fabric_settings(Processes()))
        fabric.launch()
        assert fabric.world_size == 1
