"""One training by several processes that torchrun started: each takes its part of every batch and
all take the same step.

The random numbers of a batch are those that one process would draw for the whole of it, and
gradients are averaged over the processes: losses that are means over showers give the weights of
one process with the joint batch. Models do not know of it.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.overrides import TorchFunctionMode

from caloforge.errors import TrainingError


@dataclass(frozen=True)
class Processes:
    """The processes that train one model together, seen from number `rank` of `count`."""

    rank: int = 0
    count: int = 1

    @property
    def first(self) -> bool:
        """Whether this one writes and tells."""
        return self.rank == 0

    def part(self, size: int) -> slice:
        """This process's rows of a joint batch of `size` showers.

        Raises TrainingError when the batch cannot be shared out evenly.
        """
        if size % self.count:
            raise TrainingError(
                f"A batch of {size} showers cannot be shared evenly by {self.count} processes; "
                f"choose training.batch_size as a multiple of {self.count}."
            )
        share = size // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    def draws(self, size: int) -> AbstractContextManager[Any]:
        """Within it random numbers belong to this process's rows of a joint batch of `size`."""
        return nullcontext() if self.count == 1 else JointDraws(self.part(size), size)

    @torch.no_grad()
    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Tensors of one type, replaced by their mean over the processes: one message for all."""
        if self.count == 1 or not tensors:
            return
        flat = torch.cat([t.reshape(-1) for t in tensors])
        distributed.all_reduce(flat)
        pieces = torch.split(flat / self.count, [t.numel() for t in tensors])
        for tensor, piece in zip(tensors, pieces, strict=True):
            tensor.copy_(piece.view_as(tensor))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether `flag` is set in any of them; waits for all."""
        if self.count == 1:
            return flag
        raised = torch.tensor(float(flag), device=device)
        distributed.all_reduce(raised)
        return bool(raised)

    def agree(self, number: int, device: torch.device) -> bool:
        """Whether all of them have the same number, below 2^63; waits for all."""
        if self.count == 1:
            return True
        ends = torch.tensor([number, -number], device=device)
        distributed.all_reduce(ends, op=distributed.ReduceOp.MAX)
        return bool(ends[0] == -ends[1])

    def wait(self) -> None:
        """Go on when all have come here."""
        if self.count > 1:
            distributed.barrier()


class JointDraws(TorchFunctionMode):
    """Random numbers drawn for the joint batch, of which the rows of this process are kept.

    The showers lie along the first axis. What is drawn for something else than the showers of a
    batch is the same in all processes; where another axis is as long as the batch, nobody can tell
    which of both it is, and it is refused.
    """

    def __init__(self, rows: slice, size: int) -> None:
        super().__init__()
        self.rows, self.size = rows, size

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if kwargs.get("generator") is None:
            return function(*args, **kwargs)
        if function not in (torch.randn, torch.rand):
            raise TrainingError(
                f"The model draws random numbers with torch.{function.__name__}, which several "
                "processes cannot share; expected torch.randn or torch.rand: train in one process."
            )
        shape = tuple(args[0]) if isinstance(args[0], Iterable) else args
        count = self.rows.stop - self.rows.start
        if shape and shape[0] == count:
            return function((self.size, *shape[1:]), **kwargs)[self.rows]
        if count in shape:
            raise TrainingError(
                f"The model draws random numbers of the shape {shape}, of which another axis than "
                f"the first is as long as the batch of a process, {count}; expected the showers "
                "along the first axis: draw them so, or choose another training.batch_size."
            )
        return function(*args, **kwargs)


def started() -> Processes:
    """The processes that torchrun says there are; one alone without it."""
    return Processes(int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1)))


def fabric_settings(processes: Processes) -> dict[str, Any]:
    """How Fabric is to be made for them: it is told who started them, or it would take any job of
    Slurm for processes of one training.
    """
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    if processes.count == 1:
        return {"devices": 1, "plugins": [LightningEnvironment()]}
    local = int(os.environ.get("LOCAL_WORLD_SIZE", processes.count))
    return {
        "devices": local,
        "num_nodes": processes.count // local,
        "strategy": "ddp",
        "plugins": [TorchElasticEnvironment()],
    }


def leave_at_exit(processes: Processes) -> None:
    """Have this process take leave of the others before Python ends: a thread of gloo that lets go
    of its last tensor only then aborts a process that has done all its work.
    """
    if processes.count > 1:
        atexit.register(_leave)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def batch_norms(model: nn.Module) -> list[Tensor]:
    """The running statistics of a model, which differ between processes."""
    norms = [part for part in model.modules() if isinstance(part, BatchNorm)]
    return [s for n in norms for s in (n.running_mean, n.running_var) if s is not None]


def joins_showers(model: nn.Module) -> str | None:
    """What in a model looks at all showers of a batch together, in words; None for nothing. Parts
    that do so say it in an attribute `joins_showers`.

    With several processes that is their part of the batch, so that the training differs a little
    from that of one process: as it does with the batch size.
    """
    joining = ["batch normalisation"] if batch_norms(model) else []
    for part in model.modules():
        what = getattr(part, "joins_showers", None)
        if what is not None and what not in joining:
            joining.append(what)
    return " and ".join(joining) or None
