"""The commands: each reads its arguments, calls one function of the package, and writes."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """Where commands print."""
    return Console()


# Help of the options that share work among processes.
WORKERS = "Number of processes that share the work; the result does not depend on it."
CLUSTER = (
    "Where the processes run: local, slurm, htcondor, a TOML file or tcp://host:port of Dask."
)
FORCE = "Replace the output where it exists already; without it nothing is written over."
