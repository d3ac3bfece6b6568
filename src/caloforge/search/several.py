"""Several workers of a search: processes of this machine, or the workers of an executor."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from typing import Any

import torch

from caloforge.errors import CaloForgeError, TrainingError
from caloforge.executors import in_order
from caloforge.search import study
from caloforge.search.worker import Search, Tell, refuse_failures, single, work
from caloforge.signals import asked_to_stop

LOOKS = 0.2  # seconds between two looks at what the worker processes say


def side_by_side(search: Search, workers: int, tell: Tell) -> bool:
    """Run worker processes on this machine until they end; True when they were interrupted.

    Each worker has an executor of its own. When a process is killed, its trial waits in the study
    and the other workers go on.

    Raises
    ------
    TrainingError
        With the sentence of a worker that could not go on.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # a fork would share CUDA and database
    lines, end = context.SimpleQueue(), context.Event()
    threads = max(1, torch.get_num_threads() // workers)
    devices = _devices(search.device)
    with ExitStack() as stack:
        futures = []
        for number in range(workers):
            visible = devices[number % len(devices)] if devices else None
            settings = (threads, visible, lines, end)
            process = ProcessPoolExecutor(1, context, _begin, settings)
            futures.append(stack.enter_context(process).submit(_until_enough, search))
        interrupted = _wait(futures, lines, end, tell)
    for future in futures:
        error = future.exception()
        if isinstance(error, CaloForgeError):
            raise TrainingError(str(error)) from error
        if error is not None and not isinstance(error, BrokenProcessPool | KeyboardInterrupt):
            raise error
        interrupted = interrupted or (error is None and future.result())
    return interrupted


def _wait(futures: list[Future[bool]], lines: Any, end: Any, tell: Tell) -> bool:
    """Tell what the workers say until they have ended; True when this process was asked to end.

    The workers then save what they have: they are told through `end`, as a signal may be sent to
    this process alone.
    """
    interrupted = False
    lost: set[int] = set()
    with asked_to_stop(signal.SIGTERM) as asked:
        while True:
            try:
                left = wait(futures, LOOKS).not_done
                for number, future in enumerate(futures):
                    if number not in lost and future.done() and _was_killed(future):
                        lost.add(number)
                        tell(
                            "a worker process was killed, perhaps for want of memory; its trial "
                            f"waits for another one ({len(left)} of {len(futures)} go on)"
                        )
                if asked():
                    interrupted = True
                    end.set()
                while not lines.empty():
                    tell(lines.get())
                if not left:
                    return interrupted
            except KeyboardInterrupt:
                interrupted = True
                end.set()


def _was_killed(future: Future[bool]) -> bool:
    return isinstance(future.exception(), BrokenProcessPool)


# A worker process replaces them.
_ended: Callable[[], bool] = lambda: False  # noqa: E731
_orphaned: Callable[[], bool] = lambda: False  # noqa: E731
_tell: Tell = print


def _begin(threads: int, visible: str | None, lines: Any, end: Any) -> None:
    """Prepare a worker process: one of the GPUs, its share of the threads, lines to the parent."""
    import multiprocessing

    global _ended, _orphaned, _tell
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    torch.set_num_threads(threads)
    parent: Any = multiprocessing.parent_process()
    _orphaned = lambda: not parent.is_alive()  # noqa: E731
    _ended, _tell = lambda: end.is_set() or _orphaned(), lines.put
    warnings.showwarning = lambda message, *_, **__: lines.put(f"note: {message}")


def _until_enough(search: Search) -> bool:
    """Trials in a worker process; True when it was asked to end, or its parent was killed."""
    try:
        with study.quiet(), study.answering(str(search.storage)):
            return work(search, _tell, lambda what: None, _ended)
    except KeyboardInterrupt:
        return True
    finally:
        if _orphaned():  # nobody takes the result, and the process would wait for ever
            os._exit(1)


def _devices(device: str) -> list[str]:
    """Names of the GPUs for CUDA_VISIBLE_DEVICES; none without a GPU, or when the CPU is asked."""
    if device == "cpu" or not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(k) for k in range(torch.cuda.device_count())]


def by_executor(search: Search, shared: Any, executor: Executor, tell: Tell) -> bool:
    """Let an executor run trials, one a piece, until there are enough; True when it was
    interrupted.

    A piece whose worker is lost is done again: it takes up the trial that the worker left.

    Raises
    ------
    TrainingError
        After too many failed trials in a row.
    """
    in_a_row: list[str] = []

    def wanted() -> Iterator[Search]:
        while study.has_room(shared, search.trials):
            yield search

    try:
        while study.has_room(shared, search.trials):
            for lines, sentences in in_order(executor, single, wanted()):
                for line in lines:
                    tell(line)
                in_a_row += sentences
                refuse_failures(in_a_row)
    except KeyboardInterrupt:
        return True
    return False
