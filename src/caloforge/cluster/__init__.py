"""Executors for `--workers` and `--cluster`: this process, processes of this machine, or the jobs
of a batch system.

Every executor does pieces of work in their order, few of them at a time, with the same result for
any number of workers: a piece is a function of its arguments alone. When a worker is lost, Dask
gives its pieces to another one, which only takes time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import Any

from caloforge.cluster.batch import open_batch_system, patient
from caloforge.cluster.dask import dask_distributed, dask_executor
from caloforge.cluster.settings import KINDS, Cluster, load_cluster
from caloforge.errors import CaloForgeError, did_you_mean
from caloforge.executors import SerialExecutor, cores

PROTOCOLS = ("tcp", "tls", "ucx", "ws", "wss", "inproc")
# Seconds that workers of an existing scheduler, or of this machine, may take until they answer.
ARRIVAL = 60.0
ANSWER = 10.0  # seconds that a scheduler may take until it answers


@contextmanager
def open_executor(
    workers: int | None = None,
    cluster: str | None = None,
    tell: Callable[[str], None] = lambda what: None,
) -> Iterator[Executor | None]:
    """The executor that `--workers` and `--cluster` ask for; None when neither is given.

    Parameters
    ----------
    workers
        Number of worker processes. By default it is what the cluster file says, or one for each
        core of this machine. With the address of a scheduler, the number to wait for.
    cluster
        "local" (default), "slurm", "htcondor", a TOML file (see `Cluster`), or the address of a
        scheduler, tcp://host:port.
    tell
        It is called with a sentence on what is being waited for.

    Raises
    ------
    CaloForgeError
        For a cluster that does not exist or does not answer, and at the end of the block for
        workers that were lost again and again.
    """
    if workers is not None and workers < 1:
        raise CaloForgeError(f"Got --workers {workers}; expected at least one.")
    if workers is None and cluster is None:
        yield None
        return
    if cluster is None and workers == 1:
        yield SerialExecutor(threads=1)
        return
    protocol = (cluster or "").partition("://")
    if protocol[1] and protocol[0] in PROTOCOLS:
        with _existing(str(cluster), workers or 1, tell) as executor:
            yield executor
        return
    settings = _settings(cluster or "local")
    number = workers or settings.workers
    if settings.kind == "local":
        opened = _local(number or max(1, cores() // settings.threads), settings)
    elif number is None:
        raise CaloForgeError(
            f"Got --cluster {cluster} without a number of workers; add --workers N."
        )
    else:
        opened = open_batch_system(number, settings, tell)
    with opened as executor:
        yield executor


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


@contextmanager
def _existing(address: str, least: int, tell: Callable[[str], None]) -> Iterator[Executor]:
    distributed = dask_distributed()
    try:
        client = distributed.Client(address, timeout=ANSWER, set_as_default=False)
    except TypeError as error:  # of a protocol that needs more than an address
        raise CaloForgeError(
            f"Cannot speak to the scheduler at {address}: {error}; for tls:// name certificates "
            "in the configuration of Dask (distributed.comm.tls), or use tcp://host:port."
        ) from error
    except (OSError, ValueError) as error:
        raise CaloForgeError(
            f"No scheduler answers at {address}; start one with `dask scheduler` or check the "
            "address."
        ) from error
    with client:
        tell(f"waiting for {least} workers of {address}")
        _await_workers(client, least, address)
        with dask_executor(client) as executor:
            yield executor


@contextmanager
def _local(number: int, settings: Cluster) -> Iterator[Executor]:
    distributed = dask_distributed()
    with (
        patient(),
        distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            # Blocks in flight bound the memory; a limit of Dask's would only stop workers.
            memory_limit=0,
            # Any free port, as another cluster on this machine may have the usual one.
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,  # lost workers only take time
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        _await_workers(client, 1, "this machine")
        with dask_executor(client, settings.threads, lambda: cluster.scale(number)) as executor:
            yield executor


def _await_workers(client: Any, least: int, where: str) -> None:
    try:
        client.wait_for_workers(least, timeout=ARRIVAL)
    except TimeoutError as error:
        raise CaloForgeError(
            f"{len(client.nthreads())} of {least} workers came from {where} within {ARRIVAL:.0f} "
            "s; start workers, or ask for fewer."
        ) from error


__all__ = ["Cluster", "load_cluster", "open_executor"]
