"""Farms: the same work in this process, on the cores of this machine, or on a batch system.

A farm does pieces of work in their order, few of them in flight, whatever the number of workers;
a worker that is lost delays its pieces and changes nothing else, because Dask gives them to
another one. A piece is a function of its arguments alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from caloforge.cluster.batch import open_batch_system, patient
from caloforge.cluster.farm import DaskFarm, Farm, Here, dask_distributed
from caloforge.cluster.settings import KINDS, Cluster, load_cluster
from caloforge.errors import CaloForgeError, did_you_mean

PROTOCOLS = ("tcp", "tls", "ucx", "ws", "wss", "inproc")
ARRIVAL = 60.0  # seconds that workers of an existing scheduler, or of this machine, may take


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
        opened = open_batch_system(number, settings, tell)
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


@contextmanager
def _existing(address: str, least: int, tell: Callable[[str], None]) -> Iterator[Farm]:
    distributed = dask_distributed()
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
    distributed = dask_distributed()
    with (
        patient(),
        distributed.LocalCluster(
            n_workers=number,
            threads_per_worker=1,
            processes=True,
            # Blocks in flight bound the memory; a limit of Dask's would only stop workers.
            memory_limit=0,
            # Any free port: another farm on this machine may have the usual one.
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,  # of lost workers, which only delay
        ) as cluster,
        distributed.Client(cluster, set_as_default=False) as client,
    ):
        _await_workers(client, 1, "this machine")
        yield DaskFarm(client, settings.threads, lambda: cluster.scale(number))


def _await_workers(client: Any, least: int, where: str) -> None:
    try:
        client.wait_for_workers(least, timeout=ARRIVAL)
    except TimeoutError as error:
        raise CaloForgeError(
            f"{len(client.nthreads())} of {least} workers came from {where} within {ARRIVAL:.0f} "
            "s; start workers, or ask for fewer."
        ) from error


__all__ = ["Cluster", "DaskFarm", "Farm", "Here", "load_cluster", "open_farm"]
