"""Farms: the same work in this process, on the cores of this machine, or on a batch system.

A farm does pieces of work in their order, few of them in flight, whatever the number of workers;
a worker that is lost delays its pieces and changes nothing else, because Dask gives them to
another one. A piece is a function of its arguments alone.
"""

from __future__ import annotations

import signal
import threading
import tomllib
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import caloforge
from caloforge.errors import CaloForgeError, did_you_mean

Kind = Literal["local", "slurm", "htcondor"]
KINDS: tuple[Kind, ...] = ("local", "slurm", "htcondor")
PROTOCOLS = ("tcp", "tls", "ucx", "ws", "wss", "inproc")
IN_FLIGHT = 2  # pieces of each worker that are asked for ahead of the one wanted next
# Times a piece may lose its worker: jobs end at their walltime through no fault of the piece.
LOSSES = 10
PATIENCE = 30.0  # seconds between looks whether workers were lost and must be asked for again
ARRIVAL = 60.0  # seconds that workers of an existing scheduler, or of this machine, may take


class Cluster(BaseModel):
    """Where workers come from: the content of a TOML file given as `--cluster FILE.toml`.

    Parameters
    ----------
    kind
        "local", "slurm" or "htcondor".
    workers
        Processes that make showers or figures at a time.
    threads
        Of each worker. Showers are bit-identical at the same number.
    cores, memory, disk, walltime
        Of one job of the batch system; a job has one worker for every `threads` of its cores.
        Memory and disk as "4GB", walltime as "01:00:00".
    queue, account
        As the batch system knows them.
    interface
        Network interface through which workers find the scheduler, such as "ib0".
    prologue
        Lines of shell before the worker starts, such as "module load python".
    directives
        Further lines for the batch system: options of sbatch, `key = value` of HTCondor.
    python
        Of the workers; by default this one.
    logs
        Folder for what the jobs print.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    kind: Kind = "local"
    workers: int | None = Field(default=None, ge=1)
    threads: int = Field(default=1, ge=1)
    cores: int = Field(default=1, ge=1)
    memory: str = "4GB"
    disk: str = "1GB"
    walltime: str = Field(default="01:00:00", pattern=r"^(\d+-)?\d+(:\d{2}){1,2}$")
    queue: str | None = None
    account: str | None = None
    interface: str | None = None
    prologue: list[str] = Field(default_factory=list)
    directives: list[str] = Field(default_factory=list)
    python: str | None = None
    logs: str | None = None


def load_cluster(path: str | Path) -> Cluster:
    """Settings from a TOML file. CaloForgeError names the key that is wrong."""
    try:
        plain = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CaloForgeError(f"Cannot read the cluster file {path}: {error}.") from error
    try:
        found = Cluster.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(where, Cluster.model_fields)
            raise CaloForgeError(f"Unknown key '{where}' in {path}: {hint}") from error
        raise CaloForgeError(
            f"The key '{where}' in {path} is wrong: {first['msg']} (got {first['input']!r})."
        ) from error
    if found.cores < found.threads:
        raise CaloForgeError(
            f"Jobs of {path} have {found.cores} cores for workers of {found.threads} threads; "
            "expected at least as many cores: raise cores or lower threads."
        )
    return found


class Farm(Protocol):
    """Does pieces of work.

    Functions must be importable by the workers, arguments and results can be pickled.
    """

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of the items, which are taken a few ahead of the results."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A promise of a result. Arguments may be promises."""

    def result(self, promise: Any) -> Any:
        """What a promise holds, once it is there."""


@dataclass(frozen=True)
class _Work:
    """A function, done with a fixed number of threads and by the same version of the package."""

    function: Callable[..., Any]
    threads: int
    version: str

    def __call__(self, *arguments: Any) -> Any:
        import torch
        from threadpoolctl import threadpool_limits

        if caloforge.__version__ != self.version:
            raise CaloForgeError(
                f"A worker has CaloForge {caloforge.__version__}, this process has "
                f"{self.version}; expected one version: install it where the workers run."
            )
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with threadpool_limits(self.threads):
                return self.function(*arguments)
        finally:
            torch.set_num_threads(before)


class Here:
    """A farm of one: this process, with the threads of a worker, so with a worker's results."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """See `Farm.map`."""
        return map(_Work(function, self._threads, caloforge.__version__), items)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Does it at once."""
        return _Work(function, self._threads, caloforge.__version__)(*arguments)

    def result(self, promise: Any) -> Any:
        """The promise itself."""
        return promise


class DaskFarm:
    """Workers of a Dask scheduler.

    Parameters
    ----------
    client
        A `distributed.Client`.
    threads
        Of each piece of work.
    refill
        Called now and then while waiting: asks for workers in place of lost ones.
    """

    def __init__(
        self, client: Any, threads: int = 1, refill: Callable[[], None] = lambda: None
    ) -> None:
        self._client, self._threads, self._refill = client, threads, refill

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """See `Farm.map`; at most `IN_FLIGHT` items of each worker are in flight."""
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(self.submit(function, item))
                while len(waiting) >= self._in_flight():
                    yield self.result(waiting.popleft())
            while waiting:
                yield self.result(waiting.popleft())
        finally:
            for promise in waiting:
                promise.cancel()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Farm.submit`."""
        work = _Work(function, self._threads, caloforge.__version__)
        key = f"{function.__name__}-{uuid.uuid4()}"
        return self._client.submit(work, *arguments, key=key, pure=False)

    def result(self, promise: Any) -> Any:
        """See `Farm.result`. CaloForgeError when piece after piece loses its worker."""
        from distributed.scheduler import KilledWorker

        try:
            while True:
                try:
                    return promise.result(timeout=PATIENCE)
                except TimeoutError:
                    if promise.status == "error":  # the work's own
                        raise
                    self._refill()
        except KilledWorker as error:
            raise CaloForgeError(
                f"A piece of work lost its worker {LOSSES + 1} times; expected workers that "
                "live: give them more memory or a longer walltime, and look into their logs."
            ) from error
        except ModuleNotFoundError as error:
            raise CaloForgeError(
                f"A worker lacks the package {error.name}; install CaloForge where the workers "
                "run."
            ) from error

    def _in_flight(self) -> int:
        return IN_FLIGHT * max(1, sum(self._client.nthreads().values()))


@contextmanager
def open_farm(
    workers: int | None = None,
    cluster: str | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Iterator[Farm | None]:
    """The farm that `--workers` and `--cluster` ask for; None when neither is given.

    Parameters
    ----------
    workers
        How many; default: the cores of this machine, or what the file says. With the address of a
        scheduler: how many to wait for.
    cluster
        "local" (default), "slurm", "htcondor", a TOML file (see `Cluster`), or the address of a
        scheduler, tcp://host:port.
    tell
        Called with what is being waited for.

    Raises
    ------
    CaloForgeError
        For a cluster that cannot be had.
    """
    if workers is not None and workers < 1:
        raise CaloForgeError(f"Got --workers {workers}; expected at least one.")
    if workers is None and cluster is None:
        yield None
        return
    if cluster is None and workers == 1:
        yield Here()
        return
    protocol = (cluster or "").partition("://")
    if protocol[1] and protocol[0] in PROTOCOLS:
        with _existing(str(cluster), workers or 1, tell) as farm:
            yield farm
        return
    settings = _settings(cluster or "local")
    number = workers or settings.workers
    if settings.kind == "local":
        opened = _local(number or max(1, _cores() // settings.threads), settings)
    elif number is None:
        raise CaloForgeError(
            f"Got --cluster {cluster} without a number of workers; add --workers N."
        )
    else:
        opened = _batch_system(number, settings, tell)
    with opened as farm:
        yield farm


def _cores() -> int:
    from joblib import cpu_count

    return int(cpu_count())


def _settings(cluster: str) -> Cluster:
    for kind in KINDS:
        if cluster == kind:
            return Cluster(kind=kind)
    if cluster.endswith(".toml"):
        return load_cluster(cluster)
    raise CaloForgeError(
        f"Got --cluster {cluster}; expected local, slurm, htcondor, a TOML file or the address "
        f"of a scheduler such as tcp://host:8786: {did_you_mean(cluster, KINDS)}"
    )


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as error:
        raise CaloForgeError(
            "Several workers need the package distributed, which is not installed: pip install "
            "'caloforge[cluster]'."
        ) from error
    return distributed


@contextmanager
def _existing(address: str, least: int, tell: Callable[[str], None]) -> Iterator[Farm]:
    distributed = _distributed()
    try:
        client = distributed.Client(address, timeout=10, set_as_default=False)
    except (OSError, ValueError) as error:
        raise CaloForgeError(
            f"No scheduler answers at {address}; start one with `dask scheduler` or check the "
            "address."
        ) from error
    with client:
        tell(f"waiting for {least} workers of {address}")
        _await_workers(client, least, address)
        yield DaskFarm(client)


@contextmanager
def _local(number: int, settings: Cluster) -> Iterator[Farm]:
    distributed = _distributed()
    with (
        _patient(),
        distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            # Blocks in flight bound the memory; a limit of Dask's would only stop workers.
            memory_limit=0,
            # Any free port: another farm on this machine may have the usual one.
            dashboard_address=":0",
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        _await_workers(client, 1, "this machine")
        yield DaskFarm(client, settings.threads, lambda: cluster.scale(number))


@contextmanager
def _batch_system(number: int, settings: Cluster, tell: Callable[[str], None]) -> Iterator[Farm]:
    distributed = _distributed()
    with (
        _patient(),
        queue_cluster(settings) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):

        def ask() -> None:
            cluster.scale(number)

        ask()
        tell(f"waiting in the queue of {settings.kind} for the first of {number} workers")
        while not client.nthreads():
            with suppress(TimeoutError):
                client.wait_for_workers(1, timeout=PATIENCE)
        yield DaskFarm(client, settings.threads, ask)


def queue_cluster(settings: Cluster) -> Any:
    """The `dask_jobqueue` cluster of the settings, without workers yet.

    Raises CaloForgeError when dask-jobqueue is not installed.
    """
    try:
        with _ctrl_c_kept():
            # Their package names them without exporting them.
            from dask_jobqueue import HTCondorCluster, SLURMCluster  # type: ignore[attr-defined]
    except ImportError as error:
        raise CaloForgeError(
            "Batch systems need the package dask-jobqueue, which is not installed: pip install "
            "'caloforge[cluster]'."
        ) from error
    common: dict[str, Any] = {
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
        return SLURMCluster(
            queue=settings.queue,
            account=settings.account,
            walltime=settings.walltime,
            job_extra_directives=list(settings.directives),
            **common,
        )
    return HTCondorCluster(**common, disk=settings.disk, job_extra_directives=_condor(settings))


@contextmanager
def _ctrl_c_kept() -> Iterator[None]:
    """Importing dask-jobqueue takes Ctrl-C over, and then exits with success: here it is given
    back.
    """
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # only it may set handlers
            signal.signal(signal.SIGINT, before)


def _condor(settings: Cluster) -> dict[str, str]:
    """Lines of the submit file that dask-jobqueue does not write itself."""
    days, _, clock = settings.walltime.rpartition("-")
    hours, minutes, seconds = ([int(x) for x in clock.split(":")] + [0])[:3]
    runtime = ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds
    lines = {"+MaxRuntime": str(runtime)}
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


def _await_workers(client: Any, least: int, where: str) -> None:
    try:
        client.wait_for_workers(least, timeout=ARRIVAL)
    except TimeoutError as error:
        raise CaloForgeError(
            f"{len(client.nthreads())} of {least} workers came from {where} within {ARRIVAL:.0f} "
            "s; start workers, or ask for fewer."
        ) from error


def _patient() -> Any:
    import dask

    # On a busy machine a worker takes longer to come again than the 15 s after which Dask gives
    # it up for good.
    settings = {"deploy.lost-worker-timeout": "60s", "scheduler.allowed-failures": LOSSES}
    return dask.config.set({f"distributed.{key}": value for key, value in settings.items()})
