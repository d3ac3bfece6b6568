"""What the benchmarks share: threads, fair side-by-side timing, matrix products, tables."""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from threadpoolctl import threadpool_limits

from caloforge.executors import in_order, one_thread_each
from caloforge.generate.engines import Engine, Float32


@dataclass(frozen=True)
class Product:
    """A matrix product (m, k) @ (k, n)."""

    m: int
    k: int
    n: int

    @property
    def flops(self) -> int:
        """A multiplication and an addition for each of m k n terms."""
        return 2 * self.m * self.k * self.n


def arguments(description: str) -> argparse.ArgumentParser:
    """Options of every benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--quick", action="store_true", help="fewer rounds: seconds, and noisier")
    return parser


def begin(options: argparse.Namespace, title: str) -> None:
    """Set the threads and print under what conditions the numbers were taken."""
    torch.set_num_threads(options.threads)
    threadpool_limits(options.threads)
    cores = os.cpu_count()
    print(f"\n{title}")
    print(f"{options.threads} threads on {cores} cores ({platform.machine()}), ", end="")
    print(f"torch {torch.__version__}, {'quick' if options.quick else 'full'} run")
    load = os.getloadavg()[0]
    if load > options.threads:
        print(f"The machine is busy (load {load:.1f}): compare ratios only.")


def side_by_side(
    functions: dict[str, Callable[[], object]], *, seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Seconds per call of each function: one number a round, the functions in turn in each round.

    A round gives every function about `seconds`. Many short rounds in turn meet quiet moments of
    the machine for each function; a few long ones may not.
    """
    calls = {}
    for name, function in functions.items():
        function()
        start = time.perf_counter()
        function()
        calls[name] = max(1, round(seconds / max(time.perf_counter() - start, 1e-7)))
    times: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds):
        order = list(functions) if turn % 2 == 0 else list(reversed(functions))
        for name in order:
            start = time.perf_counter()
            for _ in range(calls[name]):
                functions[name]()
            times[name].append((time.perf_counter() - start) / calls[name])
    return times


def best(times: Sequence[float]) -> float:
    """The fastest round: other work on the machine only ever adds time."""
    return min(times)


def ratio(times: Sequence[float], base: Sequence[float]) -> float:
    """Fastest round against fastest round."""
    return min(times) / min(base)


def products(shapes: Sequence[Product], dtype: torch.dtype = torch.float32) -> Callable[[], None]:
    """Function that does the products one after the other, into memory allocated beforehand."""
    operands = {
        shape: (
            torch.randn(shape.m, shape.k).to(dtype),
            torch.randn(shape.k, shape.n).to(dtype),
            torch.empty(shape.m, shape.n, dtype=dtype),
        )
        for shape in set(shapes)
    }

    def run() -> None:
        with torch.inference_mode():
            for shape in shapes:
                left, right, out = operands[shape]
                torch.mm(left, right, out=out)

    return run


def copy_speed(options: argparse.Namespace) -> float:
    """Bytes a second that a copy in memory reads and writes."""
    source = torch.ones(16 << 20)
    target = torch.empty_like(source)
    times = side_by_side(
        {"copy": lambda: target.copy_(source)}, seconds=0.05, rounds=5 if options.quick else 20
    )
    return 2 * source.numel() * source.element_size() / best(times["copy"])


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print an aligned table; the first column is text, the others are numbers."""
    widths = [max(len(row[k]) for row in [columns, *rows]) for k in range(len(columns))]
    for index, row in enumerate([columns, *rows]):
        cells = [
            cell.ljust(width) if k == 0 else cell.rjust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "  ".join(cells).rstrip())
        if index == 0:
            print("  " + "-" * (sum(widths) + 2 * (len(widths) - 1)))


def run_batches(engine: Engine, conditions: Float32, noise: Float32, size: int) -> None:
    """Make showers from given noise in batches of `size`, side by side, and throw them away."""

    def piece(start: int) -> object:
        return engine(conditions[start : start + size], noise[start : start + size])

    starts = range(0, len(noise), size)
    with one_thread_each(len(starts)) as executor:
        for _ in in_order(executor, piece, starts):
            pass
