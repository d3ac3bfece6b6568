"""The same results from a real Slurm: tools/with_slurm.sh .venv/bin/pytest -m slurm"""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from test_search import SPACE, search_of

from caloforge.cluster import dask, open_executor
from caloforge.config import load_recipe
from caloforge.data import sample_path
from caloforge.errors import CaloForgeError
from caloforge.executors import SerialExecutor
from caloforge.generate import Conditions, generate_blocks
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model


def _answers() -> bool:
    """Whether a Slurm takes jobs here."""
    if shutil.which("sbatch") is None:
        return False
    return (
        subprocess.run(["sinfo", "--noheader"], capture_output=True, check=False).returncode == 0
    )


pytestmark = [
    pytest.mark.slurm,
    # Not imported here: that would take Ctrl-C over for all tests of this process.
    pytest.mark.skipif(not find_spec("dask_jobqueue"), reason="needs the extra `cluster`"),
    pytest.mark.skipif(not _answers(), reason="needs Slurm: see tools/with_slurm.sh"),
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
CALOFORGE = Path(sys.executable).with_name("caloforge")


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    yield
    subprocess.run(["scancel", "--me"], check=True)


def cluster(folder: Path, *lines: str) -> str:
    """A cluster file."""
    path = folder / "slurm.toml"
    text = ('kind = "slurm"', 'memory = "2GB"', 'walltime = "00:10:00"', 'logs = "logs"', *lines)
    path.write_text("\n".join(text), encoding="utf-8")
    return str(path)


def jobs() -> list[str]:
    done = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True)
    return done.stdout.split()


@pytest.mark.parametrize("cores", [1, 2])  # two jobs of one worker, or one job of two
def test_a_job_killed_midway_changes_nothing(
    cores: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.generate.blocks.BLOCK_SHOWERS", 256)
    monkeypatch.setattr(dask, "PATIENCE", 2.0)
    model = resolve_model("caloshowergan-photon")
    conditions = Conditions.like(sample_path("ds1-photons-test"), load_model(model).model.geometry)
    killed: list[str] = []
    done: list[int] = []

    def kill_one(count: int) -> None:
        done.append(count)
        if len(done) == 3:
            killed.append(jobs()[0])
            subprocess.run(["scancel", "--signal=KILL", killed[0]], check=True)

    options: dict[str, Any] = {"seed": 1, "batch": 64}
    with open_executor(2, cluster(tmp_path, f"cores = {cores}")) as executor:
        assert executor is not None
        options["executor"] = executor
        generate_blocks(model, conditions, "a.h5", 20000, progress=kill_one, **options)
    assert killed
    options["executor"] = SerialExecutor(threads=1)
    generate_blocks(model, conditions, "b.h5", 20000, **options)
    assert Path("a.h5").read_bytes() == Path("b.h5").read_bytes()


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('queue = "nowhere"', "refused by slurm: invalid partition specified: nowhere"),
        ('python = "/nowhere/python"', "/nowhere/python: No such file or directory"),
    ],
)
def test_jobs_that_never_work_get_a_sentence(line: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(CaloForgeError, match=sentence), open_executor(2, cluster(tmp_path, line)):
        pass


def test_a_search_by_workers_in_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job is killed while its trial trains: another worker goes on with it."""
    from caloforge.search import run_search

    monkeypatch.setattr(dask, "PATIENCE", 2.0)
    space = tmp_path / "space.toml"
    space.write_text(SPACE, encoding="utf-8")
    long = load_recipe(
        "smoke-flow-matching",
        ["training.steps=60", "training.checkpoint_every=5", "training.selection.every=30"],
    )
    settings = {"recipe": long, "trials": 3, "startup": 10}
    expected, _ = run_search(search_of(tmp_path / "alone", space, **settings), tell=lambda _: None)
    search = search_of(tmp_path / "jobs", space, **settings)

    def kill_one() -> None:
        until = time.monotonic() + 200
        while not list(search.out.glob("trials/*/checkpoints/*")) and time.monotonic() < until:
            time.sleep(0.05)
        subprocess.run(["scancel", "--signal=KILL", jobs()[0]], check=True)

    killer = threading.Thread(target=kill_one)
    killer.start()
    with open_executor(2, cluster(tmp_path)) as executor:
        assert executor is not None
        found, interrupted = run_search(search, executor=executor, tell=lambda _: None)
    killer.join()
    assert not interrupted
    assert [t["state"] for t in found["trials"]] == ["complete"] * 3
    assert sum(t["retries"] for t in found["trials"]) == 1
    # The second try of a trial takes a number, so one may be new here.
    known = {t["number"]: t for t in expected["trials"]}
    mine = [t for t in found["trials"] if t["number"] in known]
    assert len(mine) >= 2
    for trial in mine:
        assert trial["params"] == known[trial["number"]]["params"]
        assert trial["values"] == pytest.approx(known[trial["number"]]["values"], rel=1e-3)


SCRIPT = """#!/bin/bash
#SBATCH --nodes 2
#SBATCH --ntasks-per-node 1
#SBATCH --cpus-per-task 1
export GLOO_SOCKET_IFNAME=lo
srun {python} -m torch.distributed.run --nnodes 2 --nproc-per-node 1 --rdzv-backend c10d \\
    --rdzv-endpoint "$(hostname):29517" {train} --out shared
{train} --out alone
"""


def test_one_training_on_two_nodes(tmp_path: Path) -> None:
    """And in the same job one by a single process, which is not told of the second node."""
    train = (
        f"{CALOFORGE} train smoke-flow-matching --data ds1-photons-train --device cpu --steps 20"
    )
    script = tmp_path / "job.sh"
    script.write_text(SCRIPT.format(python=sys.executable, train=train), encoding="utf-8")
    done = subprocess.run(
        ["sbatch", "--wait", "--output", "said", str(script)],
        capture_output=True,
        text=True,
        env={**os.environ},
    )
    said = Path("said").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr + said
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in said
    one = load_file("alone/model.safetensors")
    for key, value in load_file("shared/model.safetensors").items():
        assert float((value.float() - one[key].float()).abs().max()) < 1e-4
