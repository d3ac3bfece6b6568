"""The commands: each reads its arguments, calls one function of the package, and writes."""

from __future__ import annotations

from rich.console import Console


def console() -> Console:
    """Where commands print."""
    return Console()


# Help of the options that spread work over processes.
WORKERS = "Processes that share the work; the result does not depend on how many."
CLUSTER = "local, slurm, htcondor, a TOML file or tcp://host:port of a Dask scheduler."
