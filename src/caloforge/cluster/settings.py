"""Settings of a cluster: where workers come from and what one of their jobs asks for."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caloforge.errors import CaloForgeError, did_you_mean

Kind = Literal["local", "slurm", "htcondor"]
KINDS: tuple[Kind, ...] = ("local", "slurm", "htcondor")


class Cluster(BaseModel):
    """Where workers come from: the content of a TOML file given as `--cluster FILE.toml`.

    Parameters
    ----------
    kind
        Kind of cluster: "local" (processes of this machine), "slurm" or "htcondor".
    workers
        Number of processes that work at the same time; by default `--workers` says it.
    threads
        Number of threads of each worker. Showers are bit-identical at the same number.
    cores
        Number of cores of one job. A job has one worker for every `threads` of its cores.
    memory, disk
        Memory and disk that one job asks for, such as "4GB".
    walltime
        Longest time that one job may take, such as "01:00:00". As Slurm reads it: "30:00" is half
        an hour, and "1-12:00" one day and a half.
    queue, account
        Queue (partition) and account of the jobs, as the batch system knows them.
    interface
        Network interface through which workers find the scheduler, such as "ib0".
    prologue
        Lines of shell that run before the worker starts, such as "module load python".
    directives
        Further lines for the batch system: options of sbatch, or `key = value` of HTCondor.
    python
        Python that the workers run; by default the one of this process.
    logs
        Folder for what the jobs print; by default the current one.
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

    @property
    def seconds(self) -> int:
        """The walltime in seconds."""
        days, dash, clock = self.walltime.rpartition("-")
        parts = [int(part) for part in clock.split(":")]
        hours, minutes, seconds = [*parts, 0][:3] if dash else [0, *parts][-3:]
        return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


def load_cluster(path: str | Path) -> Cluster:
    """Settings from a TOML file. CaloForgeError names the key that is wrong."""
    try:
        plain = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise CaloForgeError(f"Cannot read the cluster file {path}: {error}.") from error
    try:
        settings = Cluster.model_validate(plain)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(where, Cluster.model_fields)
            raise CaloForgeError(f"Unknown key '{where}' in {path}: {hint}") from error
        raise CaloForgeError(
            f"The key '{where}' in {path} is wrong: {first['msg']} (got {first['input']!r})."
        ) from error
    if settings.cores < settings.threads:
        raise CaloForgeError(
            f"Jobs of {path} have {settings.cores} cores for workers of {settings.threads} "
            "threads; expected at least as many cores: raise cores or lower threads."
        )
    return settings
