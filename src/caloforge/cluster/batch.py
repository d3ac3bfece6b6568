"""Workers as jobs of a batch system: Slurm or HTCondor, through dask-jobqueue."""

from __future__ import annotations

import logging
import math
import shlex
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from caloforge.cluster.dask import LOSSES, dask_distributed, dask_executor
from caloforge.cluster.settings import Cluster
from caloforge.errors import CaloForgeError

# Commands that list the user's jobs, a line for each: its number, then its state.
QUEUES = {
    "slurm": "squeue --noheader --me --format='%A %T (%r)'",
    "htcondor": "condor_q -autoformat:j JobStatus",
}
CONDOR_STATES = {"1": "idle", "2": "running", "5": "held"}
LONGEST = 60.0  # seconds between looks into the queue


@contextmanager
def open_batch_system(
    number: int, settings: Cluster, tell: Callable[[str], None]
) -> Iterator[Executor]:
    """An executor of `number` workers in jobs; work begins with the first worker that comes.

    Raises CaloForgeError when the jobs are refused, or end before a worker has come.
    """
    distributed = dask_distributed()
    with patient(), queue_cluster(settings) as cluster:
        command = cluster.job_cls.submit_command
        if shutil.which(command) is None:
            raise CaloForgeError(
                f"There is no command {command} here; expected a machine that sends jobs to "
                f"{settings.kind}: log in to one, or give --workers N alone for this machine."
            )
        with distributed.Client(cluster, set_as_default=False) as client:
            jobs = Jobs(cluster, client, number, settings)
            tell(f"waiting in the queue of {settings.kind} for the first of {number} workers")
            jobs.await_first(tell)
            with dask_executor(client, settings.threads, jobs.look) as executor:
                yield executor


class Jobs:
    """The jobs of a batch system that hold the workers, kept at their number.

    Parameters
    ----------
    cluster
        The `dask_jobqueue` cluster that sends the jobs.
    client
        The `distributed.Client` of its scheduler.
    number
        How many workers there shall be.
    settings
        What one job asks for.
    """

    def __init__(self, cluster: Any, client: Any, number: int, settings: Cluster) -> None:
        self._cluster, self._client = cluster, client
        self._number, self._settings = number, settings
        self._wanted = math.ceil(number / (settings.cores // settings.threads))
        self._in_vain = 0  # jobs in a row that ended while there was no worker
        self.waits_for = ""  # states of the jobs in the queue at the last look
        cluster.scale(number)

    def await_first(self, tell: Callable[[str], None]) -> None:
        """Wait for the first worker, however long the queue is, and tell the state of the jobs.

        Raises CaloForgeError when every job is refused, or jobs end and no worker comes.
        """
        pause, last_told = 1.0, ""
        while not self._client.nthreads():
            with suppress(TimeoutError):
                self._client.wait_for_workers(1, timeout=pause)
                return
            refusals = [job.refusal for job in self._jobs().values()]
            if refusals and all(refusals):
                raise CaloForgeError(
                    f"The job was refused by {self._settings.kind}: {refusals[-1]}; expected one "
                    "that it takes: change queue, account, cores, memory, walltime or directives "
                    "of the cluster file."
                )
            self.look()
            if self.waits_for not in ("", last_told):
                last_told = self.waits_for
                tell(f"jobs of {self._settings.kind}: {last_told}")
            pause = min(2 * pause, LONGEST)

    def look(self) -> None:
        """Ask for new jobs in place of those that ended or were refused.

        Raises CaloForgeError when more jobs have ended without any worker than there should be
        jobs at a time.
        """
        gone = self._gone()
        for name in gone:
            self._cluster.sync(self._forget, name)
        self._in_vain = 0 if self._client.nthreads() else self._in_vain + len(gone)
        if self._in_vain > self._wanted:
            *_, last = gone.values()
            raise CaloForgeError(
                f"{self._in_vain} jobs of {self._settings.kind} ended and no worker came"
                f"{self._said(last)}; expected jobs that start a worker: check python, prologue, "
                "memory and interface of the cluster file."
            )
        self._cluster.scale(self._number)

    def _jobs(self) -> dict[str, Any]:
        return dict(self._cluster.workers)

    def _gone(self) -> dict[str, Any]:
        """Jobs that were refused, or are no longer in the queue; none when it cannot be read."""
        jobs = self._jobs()
        sent = {name: job.job_id for name, job in jobs.items() if job.job_id is not None}
        command = shlex.split(QUEUES[self._settings.kind])
        try:
            queue = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            sent = {}
        else:
            listed = dict(line.split(maxsplit=1) for line in queue.stdout.splitlines() if line)
            states = {listed[number] for number in sent.values() if number in listed}
            states = {CONDOR_STATES.get(s, s).removesuffix(" (None)") for s in states}
            self.waits_for = ", ".join(sorted(states))
            sent = {name: number for name, number in sent.items() if number not in listed}
        return {name: job for name, job in jobs.items() if job.refusal or name in sent}

    async def _forget(self, name: str) -> None:
        """Dask itself notices neither jobs that never had a worker nor lost ones of several."""
        from distributed.core import Status

        job = self._cluster.workers.pop(name, None)
        if job is not None:
            job.status = Status.closed

    def _said(self, job: Any) -> str:
        """The last line that a job printed, for a sentence."""
        if job.refusal:
            return f" (the last was refused: {job.refusal})"
        folder = Path(self._settings.logs or ".")
        for name in (f"{job.job_name}-{job.job_id}.err", f"slurm-{job.job_id}.out",
                     f"worker-{job.job_id}.err"):  # fmt: skip
            with suppress(OSError):
                lines = (folder / name).read_text(encoding="utf-8", errors="replace").split("\n")
                for line in reversed(lines):
                    if line.strip():
                        return f" (the last line of {folder / name}: {line.strip()})"
        return ""


def queue_cluster(settings: Cluster) -> Any:
    """The `dask_jobqueue` cluster of the settings, without workers yet.

    Raises CaloForgeError when dask-jobqueue is not installed, or cannot read the settings.
    """
    try:
        with _ctrl_c_kept():
            from dask_jobqueue.htcondor import HTCondorCluster
            from dask_jobqueue.slurm import SLURMCluster
    except ImportError as error:
        raise CaloForgeError(
            "Batch systems need the package dask-jobqueue, which is not installed: pip install "
            "'caloforge[cluster]'."
        ) from error
    try:
        return _queue_cluster(SLURMCluster, HTCondorCluster, settings)
    except (ValueError, RuntimeError) as error:
        # Dask says what it cannot read, or that there is no such network interface here.
        reason = str(error).removeprefix("Cluster failed to start: ")
        raise CaloForgeError(
            f"The jobs of {settings.kind} cannot be described: {reason}; change memory, disk or "
            "interface of the cluster file."
        ) from error


def _queue_cluster(slurm: Any, condor: Any, settings: Cluster) -> Any:
    kind = slurm if settings.kind == "slurm" else condor
    common: dict[str, Any] = {
        "job_cls": _remembering(kind.job_cls),
        "silence_logs": logging.CRITICAL,  # lost workers only take time
        "cores": settings.cores,
        "processes": settings.cores // settings.threads,
        "memory": settings.memory,
        "interface": settings.interface,
        "job_script_prologue": list(settings.prologue),
        "log_directory": settings.logs,
        "scheduler_options": {"dashboard": False, "dashboard_address": ":0"},
        # One piece at a time: the threads of a worker are those of its piece.
        "worker_extra_args": ["--nthreads", "1"],
    }
    if settings.python is not None:
        common["python"] = settings.python
    if settings.kind == "slurm":
        return slurm(
            queue=settings.queue,
            account=settings.account,
            walltime=settings.walltime,
            job_extra_directives=list(settings.directives),
            **common,
        )
    return condor(**common, disk=settings.disk, job_extra_directives=_condor(settings))


def _remembering(kind: Any) -> Any:
    """A kind of job of dask-jobqueue that keeps the reason why it was refused. Dask itself would
    log a traceback and wait for the worker.
    """
    from distributed.core import Status

    class Job(kind):  # type: ignore[misc]
        refusal = ""

        async def start(self) -> None:
            try:
                await super().start()
            except (OSError, RuntimeError, ValueError) as error:
                self.refusal = _reason(error, self.submit_command)
                self.status = Status.running  # as Dask expects; `Jobs` sees to it

    return Job


def _reason(error: Exception, command: str) -> str:
    """What the batch system said, in one line; dask-jobqueue puts much text before it."""
    said = str(error).rpartition("stderr:")[2].splitlines()
    for mark in (f"{command.strip()}: error: ", "ERROR: "):
        said = [line.removeprefix(mark) for line in said]
    return "; ".join(line.strip() for line in said if line.strip()) or type(error).__name__


@contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """Ctrl-C keeps its meaning, although importing dask-jobqueue takes it over."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            signal.signal(signal.SIGINT, before)


def _condor(settings: Cluster) -> dict[str, str]:
    """The lines of the submit file that dask-jobqueue does not write itself."""
    lines = {"+MaxRuntime": str(settings.seconds)}
    if settings.queue is not None:
        lines["+JobFlavour"] = f'"{settings.queue}"'
    if settings.account is not None:
        lines["accounting_group"] = settings.account
    for line in settings.directives:
        key, equals, value = line.partition("=")
        if not equals:
            raise CaloForgeError(
                f"Got the directive '{line}' for HTCondor; expected key = value, for example "
                'requirements = OpSysAndVer == "AlmaLinux9".'
            )
        lines[key.strip()] = value.strip()
    return lines


def patient() -> Any:
    """Settings of Dask under which a lost worker is waited for and its work done again."""
    import dask

    # On a busy machine a worker takes longer to come again than the 15 s after which Dask gives
    # it up for good.
    settings = {"deploy.lost-worker-timeout": "60s", "scheduler.allowed-failures": LOSSES}
    return dask.config.set({f"distributed.{key}": value for key, value in settings.items()})
