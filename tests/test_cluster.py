"""Executors: the same result for any number of workers, also when one is killed; settings."""

import errno
import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pytest

from caloforge import cluster as clusters
from caloforge.cluster import Cluster, dask, load_cluster, open_executor
from caloforge.cluster.batch import _ctrl_c_kept, queue_cluster
from caloforge.data import convert, create_showers, read_showers, sample_path
from caloforge.errors import CaloForgeError, DataError, ModelError
from caloforge.evaluate import judge_files
from caloforge.executors import AHEAD, SerialExecutor, in_order, submit, workers_of
from caloforge.generate import Conditions, generate_blocks, generate_file
from caloforge.metrics.effort import choose_effort
from caloforge.models.file import load_model
from caloforge.pretrained import resolve_model

distributed = pytest.importorskip("distributed")

# An event loop that is closed while a worker's sockets still close says so; nothing is lost.
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def executor() -> Iterator[Executor]:
    """Two worker processes on this machine."""
    with open_executor(2) as opened:
        assert isinstance(opened, Executor)
        yield opened


@pytest.fixture(scope="module")
def model() -> Path:
    return resolve_model("caloshowergan-photon")


def columns(path: Path) -> dict[str, np.ndarray]:
    with h5py.File(path) as file:
        return {**{k: file[k][:] for k in file}, **dict(file.attrs)}


def same(first: Path, second: Path) -> None:
    a, b = columns(first), columns(second)
    assert a.keys() == b.keys()
    for key in a:
        assert np.array_equal(a[key], b[key]), key


# --- work ------------------------------------------------------------------------------------
def slow_square(item: tuple[int, str | None, float]) -> int:
    """Squares; the first to see that the file is missing makes it and kills its process."""
    number, path, seconds = item
    if path is not None and not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(seconds)
    return number**2


def test_results_come_in_order_and_few_items_are_taken_ahead(executor: Executor) -> None:
    taken = []

    def items() -> Iterator[tuple[int, None, float]]:
        for number in range(20):
            taken.append(number)
            yield number, None, 0.02 if number % 2 else 0.0

    for number, result in enumerate(in_order(executor, slow_square, items())):
        assert result == number**2
        assert len(taken) <= number + 1 + AHEAD * 2
    assert number == 19


def test_a_killed_worker_only_delays(executor: Executor, tmp_path: Path) -> None:
    path = tmp_path / "killed"
    items = [(k, str(path) if k == 3 else None, 0.0) for k in range(8)]
    assert list(in_order(executor, slow_square, items)) == [k**2 for k in range(8)]
    assert path.exists()


def full_disk(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_of_a_worker_gets_a_sentence(executor: Executor) -> None:
    again = dask.dask_executor(executor._client)
    with pytest.raises(CaloForgeError, match="disk of a worker is full"), again as workers:
        list(in_order(workers, full_disk, [1, 2]))


def no_answer(_: int) -> None:
    raise OSError("Timed out trying to connect to tcp://127.0.0.1:1 after 10 s")


def test_a_scheduler_that_does_not_answer_gets_a_sentence(executor: Executor) -> None:
    again = dask.dask_executor(executor._client)
    with pytest.raises(CaloForgeError, match="scheduler of the wor"), again as workers:
        list(in_order(workers, no_answer, [1, 2]))


def test_a_lost_scheduler_gets_a_sentence(tmp_path: Path, monkeypatch) -> None:
    """The scheduler is killed while a worker works: no file, and no waiting for ever."""
    found = tmp_path / "scheduler.json"
    scheduler, worker = (
        subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + what, *more],
            stderr=subprocess.DEVNULL,
        )
        for what, more in (
            ("scheduler", ["--port", "0", "--no-dashboard", "--scheduler-file", str(found)]),
            ("worker", ["--scheduler-file", str(found), "--no-dashboard", "--no-nanny"]),
        )
    )
    try:
        while not found.exists():
            time.sleep(0.05)
        address = json.loads(found.read_text())["address"]
        lost = pytest.raises(CaloForgeError, match="scheduler of the workers was lost")
        with lost, open_executor(1, address) as opened:
            for number, _ in enumerate(in_order(opened, time.sleep, [0.2] * 1000)):
                if number == 3:
                    scheduler.kill()
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()


def add(first: int, second: int) -> int:
    return first + second


@pytest.mark.parametrize("kind", ["here", "dask"])
def test_promises_may_be_arguments(request: pytest.FixtureRequest, kind: str) -> None:
    executor: Executor = (
        SerialExecutor(threads=1) if kind == "here" else request.getfixturevalue("executor")
    )
    two = submit(executor, add, 1, 1)
    assert submit(executor, add, two, submit(executor, add, two, 3)).result() == 7


def test_any_executor_will_do() -> None:
    """One of the standard library, whose futures are no arguments of their own."""
    with ThreadPoolExecutor(3) as threads:
        assert workers_of(threads) == 3
        assert list(in_order(threads, str, range(20))) == [str(k) for k in range(20)]
        assert submit(threads, add, submit(threads, add, 1, 1), 5).result() == 7
    assert workers_of(SerialExecutor()) == 1


def refuse(_: int) -> None:
    raise DataError("Got this; expected that.")


def count_threads(_: int) -> int:
    import torch

    return torch.get_num_threads()


@pytest.mark.parametrize("kind", ["here", "dask"])
def test_errors_arrive_and_threads_are_fixed(request: pytest.FixtureRequest, kind: str) -> None:
    executor: Executor = (
        SerialExecutor(threads=1) if kind == "here" else request.getfixturevalue("executor")
    )
    with pytest.raises(DataError, match="Got this"):
        list(in_order(executor, refuse, [1]))
    assert list(in_order(executor, count_threads, range(3))) == [1, 1, 1]


def test_another_version_in_a_worker_is_refused(executor: Executor, monkeypatch) -> None:
    monkeypatch.setattr("caloforge.__version__", "0.0.0")
    with pytest.raises(CaloForgeError, match=r"this process has 0\.0\.0"):
        executor.submit(add, 1, 1).result()


def wait_long(_: int) -> None:
    time.sleep(2)


def test_what_goes_wrong_with_the_workers_becomes_a_sentence(
    executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be asked for in place of lost workers; or a piece kills one after the other."""
    monkeypatch.setattr(dask, "PATIENCE", 0.05)

    def refused() -> None:
        raise CaloForgeError("2 jobs ended and no worker came.")

    client = executor._client
    with (
        pytest.raises(CaloForgeError, match="2 jobs ended"),
        dask.dask_executor(client, refill=refused) as opened,
    ):
        list(in_order(opened, wait_long, [1]))
    from distributed.scheduler import KilledWorker

    with (
        pytest.raises(CaloForgeError, match="lost its worker 11 times"),
        dask.dask_executor(client),
    ):
        raise KilledWorker("piece", None, 11)
    with (
        pytest.raises(CaloForgeError, match="lacks the package caloforge"),
        dask.dask_executor(client),
    ):
        raise ModuleNotFoundError(name="caloforge")


# --- generation ------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def conditions(model: Path) -> Conditions:
    """A table that is no divisor of a block: rows follow the number of the shower."""
    geometry = load_model(model).model.geometry
    energies = np.geomspace(1000.0, 100000.0, 997)[:, None]
    return Conditions(geometry, energies)


def test_any_number_of_workers_gives_the_same_file(
    executor: Executor,
    model: Path,
    conditions: Conditions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caloforge.generate.blocks.BLOCK_SHOWERS", 512)
    number, batch = 1100, 128
    done: list[int] = []
    options = {"seed": 3, "batch": batch, "extrapolate": True}
    generate_blocks(
        model,
        conditions,
        tmp_path / "two.h5",
        number,
        executor=executor,
        progress=done.append,
        **options,
    )
    generate_blocks(
        model, conditions, tmp_path / "one.h5", number, executor=SerialExecutor(1), **options
    )
    assert (tmp_path / "one.h5").read_bytes() == (tmp_path / "two.h5").read_bytes()
    assert sum(done) == number
    assert len(done) == 3  # blocks of four batches
    # And the same showers as by the threads of this process.
    generate_file(load_model(model), conditions, tmp_path / "none.h5", number, **options)
    same(tmp_path / "none.h5", tmp_path / "two.h5")
    blocks = read_showers(tmp_path / "two.h5")
    assert np.array_equal(blocks.conditions[:, 0], conditions.rows(0, number)[:, 0])


def test_a_worker_killed_midway_changes_nothing(
    executor: Executor,
    model: Path,
    conditions: Conditions,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("caloforge.generate.blocks.BLOCK_SHOWERS", 256)
    killed: list[int] = []

    def kill_one(_: int) -> None:
        if not killed:  # while the other blocks are being made
            found = executor._client.run(os.getpid)
            killed.append(next(iter(found.values())))
            os.kill(killed[0], signal.SIGKILL)

    options = {"seed": 1, "batch": 64, "extrapolate": True}
    generate_blocks(
        model, conditions, tmp_path / "a.h5", 2000, executor=executor, progress=kill_one, **options
    )
    assert killed
    generate_blocks(
        model, conditions, tmp_path / "b.h5", 2000, executor=SerialExecutor(1), **options
    )
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_another_model_file_is_refused(
    model: Path, conditions: Conditions, tmp_path: Path
) -> None:
    """A worker never mixes showers of two generators, whatever happens to the file meanwhile."""
    copy = tmp_path / "model.safetensors"
    copy.write_bytes(model.read_bytes())

    class Replacing(SerialExecutor):
        def submit(self, function, /, *args, **kwargs):
            copy.write_bytes(resolve_model("flow-matching-photon").read_bytes())
            return super().submit(function, *args, **kwargs)

    with pytest.raises(ModelError, match="not the one that the generation began with"):
        generate_blocks(copy, conditions, tmp_path / "a.h5", 10, executor=Replacing())
    assert not (tmp_path / "a.h5").exists()


# --- conversion ------------------------------------------------------------------------------
def test_files_are_joined_and_converted_side_by_side(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.data.writer.BLOCK", 512)
    sources = [sample_path(f"ds1-photons-{part}") for part in ("train", "test")]
    done: list[int] = []
    assert convert(sources, tmp_path / "here.h5") == convert(
        sources,
        tmp_path / "spread.h5",
        executor=executor,
        progress=lambda more, total: done.append(more),
    )
    same(tmp_path / "here.h5", tmp_path / "spread.h5")
    first, second = (read_showers(path) for path in sources)
    joined = read_showers(tmp_path / "spread.h5")
    assert sum(done) == len(joined) == len(first) + len(second)
    assert np.array_equal(joined.energies[len(first) :], second.energies)
    assert np.array_equal(joined.conditions[: len(first)], first.conditions)
    assert joined.provenance["converted_from"] == ", ".join(path.name for path in sources)
    assert joined.provenance["producer"] == first.provenance["producer"]


def test_a_joined_file_has_the_origin_of_each_of_its_parts(tmp_path: Path) -> None:
    showers = read_showers(sample_path("ds1-photons-test"))[:10]
    for name, origin in (("a", {"producer": "Geant4", "seed": 1}), ("b", {"producer": "GAN"})):
        own = {"particle": "gamma", **origin}
        with create_showers(tmp_path / f"{name}.h5", showers.geometry, provenance=own) as writer:
            writer.append(showers)
    convert([tmp_path / "a.h5", tmp_path / "b.h5"], tmp_path / "c.h5")
    assert read_showers(tmp_path / "c.h5").provenance == {
        "particle": "gamma",
        "converted_from": "a.h5, b.h5",
        "sources": [
            {"file": "a.h5", "producer": "Geant4", "seed": 1},
            {"file": "b.h5", "producer": "GAN"},
        ],
    }


def test_a_part_is_stored_wherever_it_falls(tmp_path: Path) -> None:
    """Compressed chunks are copied where a chunk begins, and written anew where none does."""
    showers = read_showers(sample_path("ds1-photons-test"))[:1500]
    for name, sizes in (("aligned", (512, 512, 476)), ("crooked", (700, 1, 799))):
        path = tmp_path / f"{name}.h5"
        start = 0
        with create_showers(path, showers.geometry) as writer:
            for size in sizes:
                writer.append_part(writer.packer(showers[start : start + size]))
                start += size
        found = read_showers(path)
        assert np.array_equal(found.energies, showers.energies)
        assert np.array_equal(found.conditions, showers.conditions)
    with create_showers(tmp_path / "a.npz", showers.geometry) as writer:
        writer.append_part(writer.packer(showers))
        with pytest.raises(DataError, match="Cannot add showers of 'ds1-pions'"):
            pions = read_showers(sample_path("ds1-pions-test"))
            writer.append_part(writer.packer(pions))


def test_sources_of_two_read_outs_and_none_are_refused(tmp_path: Path) -> None:
    sources = [sample_path("ds1-photons-test"), sample_path("ds1-pions-test")]
    with pytest.raises(DataError, match="Cannot add showers of 'ds1-pions'"):
        convert(sources, tmp_path / "a.h5")
    assert not list(tmp_path.iterdir())
    with pytest.raises(DataError, match="Got no file"):
        convert([], tmp_path / "a.h5")


# --- settings --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('kind = "pbs"', "'kind'"),
        ('kind = "slurm"\nquue = "x"', "did you mean 'queue'"),
        ('walltime = "soon"', "'walltime'"),
        ("cores = 1\nthreads = 2", "1 cores for workers of 2 threads"),
        ("cores = ", "Cannot read"),
    ],
)
def test_wrong_settings_get_a_sentence(tmp_path: Path, text: str, named: str) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(text)
    with pytest.raises(CaloForgeError, match=named):
        load_cluster(path)


@pytest.mark.parametrize(
    ("workers", "cluster", "named"),
    [
        (0, None, "--workers 0"),
        (2, "slrm", "did you mean 'slurm'"),
        (None, "slurm", "add --workers N"),
        (None, "tcp://127.0.0.1:9", "No scheduler answers"),
        (None, "tls://127.0.0.1:9", "name certificates"),
    ],
)
def test_clusters_that_cannot_be_had(workers, cluster, named: str, monkeypatch) -> None:
    monkeypatch.setattr(clusters, "ARRIVAL", 0.5)
    monkeypatch.setattr(clusters, "ANSWER", 0.5)
    with pytest.raises(CaloForgeError, match=named), open_executor(workers, cluster):
        pass


@pytest.mark.skipif(not find_spec("dask_jobqueue"), reason="needs dask-jobqueue")
@pytest.mark.parametrize(("kind", "command"), [("slurm", "sbatch"), ("htcondor", "condor_submit")])
def test_a_machine_that_sends_no_jobs_gets_a_sentence(
    kind: str, command: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(CaloForgeError, match=f"There is no command {command} here"),
        open_executor(2, kind),
    ):
        pass


SUBMITTED = {"slurm": "Submitted batch job 7", "htcondor": "1 job(s) submitted to cluster 7."}
COMMANDS = {"slurm": ("sbatch", "squeue"), "htcondor": ("condor_submit", "condor_q")}
WAITING = {"slurm": "7 PENDING (Resources)", "htcondor": "7.0 5"}


def play(folder: Path, command: str, *lines: str) -> None:
    """A command of a batch system that does nothing but print."""
    path = folder / command
    path.write_text("\n".join(["#!/bin/sh", *lines]), encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.skipif(not find_spec("dask_jobqueue"), reason="needs dask-jobqueue")
@pytest.mark.parametrize("kind", ["slurm", "htcondor"])
def test_jobs_that_never_start_a_worker_get_a_sentence(
    kind: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """One that waits at first and is then gone, and one that is refused."""
    monkeypatch.setattr("caloforge.cluster.batch.LONGEST", 0.3)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    submit, queue = COMMANDS[kind]
    play(tmp_path, submit, f"echo '{SUBMITTED[kind]}'")
    looks = tmp_path / "looks"
    play(tmp_path, queue, f"[ -e {looks} ] || echo '{WAITING[kind]}'", f"touch {looks}")
    play(tmp_path, "scancel")
    play(tmp_path, "condor_rm")
    told: list[str] = []
    gone = pytest.raises(CaloForgeError, match=f"2 jobs of {kind} ended and no worker came")
    with gone, open_executor(1, kind, told.append):
        pass
    state = "PENDING (Resources)" if kind == "slurm" else "held"
    assert told[1:] == [f"jobs of {kind}: {state}"]
    play(tmp_path, submit, f"echo '{submit}: error: no such account' >&2", "exit 1")
    refused = pytest.raises(CaloForgeError, match=f"refused by {kind}: no such account; expected")
    with refused, open_executor(1, kind):
        pass


def test_no_executor_and_one_of_this_process() -> None:
    with open_executor() as opened:
        assert opened is None
    with open_executor(1) as opened:
        assert isinstance(opened, SerialExecutor)


def test_an_existing_scheduler_is_used(executor: Executor) -> None:
    with open_executor(2, executor._client.scheduler.address) as other:
        assert list(in_order(other, slow_square, [(3, None, 0.0)])) == [9]


def test_ctrl_c_stays_what_it_was() -> None:
    """The package for batch systems takes it over when it is imported."""
    before = signal.getsignal(signal.SIGINT)
    with _ctrl_c_kept():
        signal.signal(signal.SIGINT, lambda *_: sys.exit())
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.skipif(not find_spec("dask_jobqueue"), reason="needs dask-jobqueue")
@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [("memory", "lots", "slurm"), ("interface", "no0", "slurm"), ("disk", "lots", "htcondor")],
)
def test_what_no_job_can_ask_for_gets_a_sentence(key: str, value: str, kind: str) -> None:
    with pytest.raises(CaloForgeError, match=f"'{value}' .*; change memory, disk or interface"):
        queue_cluster(Cluster(kind=kind, **{key: value}))
    gc.collect()  # what was begun of it goes within the test, where warnings about it are awaited


@pytest.mark.parametrize(
    ("walltime", "seconds"),
    [("02:30:00", 9000), ("30:00", 1800), ("1-12:00", 129600), ("2-00:00:30", 172830)],
)
def test_a_walltime_means_the_same_everywhere(walltime: str, seconds: int) -> None:
    """What Slurm reads itself (sbatch, --time) is what HTCondor is told."""
    assert Cluster(walltime=walltime).seconds == seconds


@pytest.mark.skipif(not find_spec("dask_jobqueue"), reason="needs dask-jobqueue")
def test_job_scripts_ask_for_what_the_file_says() -> None:
    settings = {
        "cores": 4,
        "threads": 2,
        "memory": "8GB",
        "walltime": "02:30:00",
        "queue": "short",
    }
    settings |= {"account": "atlas", "prologue": ["module load python"]}
    with queue_cluster(Cluster(kind="slurm", directives=["--exclusive"], **settings)) as cluster:
        script = cluster.job_script()
    for line in (
        "#SBATCH -p short",
        "#SBATCH -A atlas",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH -t 02:30:00",
        "#SBATCH --exclusive",
        "module load python",
        "--nworkers 2",
        "--nthreads 1",
    ):
        assert line in script
    condor = Cluster(kind="htcondor", disk="2GB", directives=["requirements = HasAVX"], **settings)
    with queue_cluster(condor) as cluster:
        script = cluster.job_script()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    for line in ("+MaxRuntime = 9000", "accounting_group = atlas", "requirements = HasAVX"):
        assert line in script


# --- judging ---------------------------------------------------------------------------------
@pytest.mark.slow
def test_judging_side_by_side_finds_the_same_figures(
    executor: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caloforge.report.page.write_report", lambda *_, **__: None)
    showers = read_showers(sample_path("ds1-photons-test"))
    for name, rows in (("a", slice(0, 240)), ("b", slice(300, 540)), ("c", slice(600, 800))):
        with create_showers(tmp_path / f"{name}.h5", showers.geometry) as writer:
            writer.append(showers[rows])
    found = []
    for place in (executor, SerialExecutor(threads=1)):
        out = tmp_path / str(len(found))
        judge_files(
            tmp_path / "a.h5",
            [tmp_path / "b.h5"],
            out,
            train=tmp_path / "c.h5",
            metrics=replace(choose_effort("fast", ("high",), 1, 100), features=1),
            device="cpu",
            executor=place,
        )
        found.append((out / "results.json").read_bytes())
    assert found[0] == found[1]
    assert b"memorising" in found[0]
