"""Which of two ways to multiply is faster here: measured once for each shape, then remembered.

The answer is kept in a file of the user's cache, so that a training that goes on tomorrow
multiplies as it did today, bit for bit.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from caloforge.files import write_text

REPEATS = 5  # of each way, one after the other; the shortest time counts
GAIN = 0.9  # ours is taken when it needs at most this share of the other's time


# A batch (N, K) times the transpose of a layer's weights (M, K).
Multiply = Callable[[Tensor, Tensor], Tensor]


def faster(ours: Multiply, rows: int, n_out: int, n_in: int) -> bool:
    """Whether `ours` multiplies a batch (rows, n_in) with a layer's weights (n_out, n_in) faster
    than PyTorch's usual way, forward and backward, on this machine with so many threads.
    """
    size = 1 << (rows - 1).bit_length()  # batches of similar size share an answer
    return _faster(ours, size, n_out, n_in, torch.get_num_threads())


@cache
def _faster(ours: Multiply, rows: int, n_out: int, n_in: int, threads: int) -> bool:
    machine = f"{_processor()}, {threads} threads, PyTorch {torch.__version__}"
    shape = f"{ours.__name__}: {rows} x {n_in} x {n_out}"
    answers = _read()
    answer = answers.get(machine, {}).get(shape)
    if not isinstance(answer, bool):
        usual, own = _times(ours, rows, n_out, n_in)
        answer = own <= GAIN * usual
        answers = _read()  # another process may have written meanwhile
        answers.setdefault(machine, {})[shape] = answer
        _write(answers)
    return answer


def _times(ours: Multiply, rows: int, n_out: int, n_in: int) -> tuple[float, float]:
    """Seconds of the usual product and of `ours`, each with its gradients."""
    x = torch.ones(rows, n_in, requires_grad=True)
    weight = torch.ones(n_out, n_in, requires_grad=True)

    def run(multiply: Multiply) -> float:
        begin = time.perf_counter()
        torch.autograd.grad(multiply(x, weight).sum(), (x, weight))
        return time.perf_counter() - begin

    # Whatever context the caller is in: 16 bits and missing gradients would be another question.
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        pairs = [(run(_usual), run(ours)) for _ in range(REPEATS)]
    return min(usual for usual, _ in pairs), min(own for _, own in pairs)


def bf16_pays() -> bool:
    """Whether products in bf16, casts included, are faster here than in single precision.

    Not every processor that has them is: an Intel Xeon with AVX-512 and without AMX is slower.
    """
    return faster(bf16_product, 256, 512, 512)


def bf16_product(x: Tensor, weight: Tensor) -> Tensor:
    """The product as mixed precision makes it."""
    return x.bfloat16() @ weight.bfloat16().t()


def _usual(x: Tensor, weight: Tensor) -> Tensor:
    return x @ weight.t()


@cache
def _processor() -> str:
    """The processor's name; the kind of machine where the system does not tell."""
    try:
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="ascii", errors="ignore").splitlines()
        ):
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _file() -> Path:
    """Where the answers are kept: the folder of this user and operating system for such files."""
    import pooch

    return Path(pooch.os_cache("caloforge")) / "products.json"


def _read() -> dict[str, Any]:
    """All answers; none where the file is absent or is not what was written."""
    try:
        answers = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(answers, dict) or not all(isinstance(v, dict) for v in answers.values()):
        return {}
    return answers


def _write(answers: dict[str, Any]) -> None:
    """Keep the answers; where that is impossible, the next process measures again."""
    try:
        _file().parent.mkdir(parents=True, exist_ok=True)
        write_text(_file(), json.dumps(answers, indent=1) + "\n")
    except OSError:
        pass
