"""Blocks of work in processes of their own, which may be killed without harm."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from caloforge.errors import SimulationError
from caloforge.executors import AHEAD

T = TypeVar("T")
R = TypeVar("R")

STRIKES = 3  # times in a row that workers may be lost before anything is done


def in_processes(
    function: Callable[[T], R], items: Sequence[T], workers: int
) -> Iterator[tuple[int, R]]:
    """Number and result of each item, in the order in which they are done.

    A worker that is lost takes nothing along: what it had in hand is done again by new workers.
    For one worker everything is done in this process. Raises SimulationError when workers are lost
    again and again, and whatever the function raises.
    """
    if workers == 1:
        for number, item in enumerate(items):
            yield number, function(item)
        return
    left = dict(enumerate(items))
    strikes = 0
    while left:
        before = len(left)
        try:
            for number, result in _one_pool(function, dict(left), workers):
                del left[number]
                yield number, result
        except BrokenProcessPool as error:
            strikes = strikes + 1 if len(left) == before else 0
            if strikes == STRIKES:
                raise SimulationError(
                    f"Workers were lost {STRIKES} times without finishing anything; the machine "
                    "may lack memory: use fewer --workers, and go on with --resume."
                ) from error


def _one_pool(
    function: Callable[[T], R], left: dict[int, T], workers: int
) -> Iterator[tuple[int, R]]:
    # Not forked: Geant4 and threads of this process do not survive that.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_end_with, initargs=(os.getpid(),)
    )
    running: dict[Future[R], int] = {}
    try:
        while left or running:
            while left and len(running) < AHEAD * workers:
                number = next(iter(left))
                running[pool.submit(function, left.pop(number))] = number
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def _end_with(parent: int) -> None:
    """A worker ends when the process that started it has ended, however that happened."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
