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
