"""Work that is done side by side, by any `concurrent.futures.Executor`.

Threads of this process, processes of this machine and the workers of a Dask cluster all have this
interface, so the rest of the package takes an executor and does not ask which it is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import caloforge
from caloforge.errors import CaloForgeError

T = TypeVar("T")
R = TypeVar("R")

AHEAD = 2  # pieces of work that each worker has in hand or waiting, so that it is never idle


def cores() -> int:
    """Number of cores that this process may use, which a container may limit."""
    from joblib import cpu_count

    return int(cpu_count())


@contextmanager
def torch_threads(number: int) -> Iterator[int]:
    """PyTorch uses `number` threads inside the block; the value is how many it used before."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Piece:
    """A function that every worker runs with the same number of threads and the same version.

    Parameters
    ----------
    function
        What is done. The worker must be able to import it.
    threads
        Number of threads of each call. Showers are bit-identical at the same number.
    version
        Version of CaloForge that the worker must have.
    """

    function: Callable[..., Any]
    threads: int
    version: str = field(default_factory=lambda: caloforge.__version__)

    def __call__(self, *arguments: Any) -> Any:
        """The function's result. Raises CaloForgeError when the worker has another version."""
        from threadpoolctl import threadpool_limits

        if caloforge.__version__ != self.version:
            raise CaloForgeError(
                f"A worker has CaloForge {caloforge.__version__}, this process has "
                f"{self.version}; expected one version: install it where the workers run."
            )
        with torch_threads(self.threads), threadpool_limits(self.threads):
            return self.function(*arguments)


class SerialExecutor(Executor):
    """Does every piece of work at once, in the thread that submits it.

    Parameters
    ----------
    threads
        Number of threads that a piece may use, as a worker of a cluster has; None changes nothing.
    """

    workers = 1

    def __init__(self, threads: int | None = None) -> None:
        self._threads = threads

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done already."""
        piece = function if self._threads is None else Piece(function, self._threads)
        future: Future[Any] = Future()
        try:
            future.set_result(piece(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


def thread_executor(threads: int) -> Executor:
    """An executor of so many threads of this process; for one, the thread that asks."""
    return SerialExecutor() if threads <= 1 else ThreadPoolExecutor(threads, "caloforge")


@contextmanager
def one_thread_each(pieces: int) -> Iterator[Executor]:
    """As many threads as PyTorch has, at most one for each piece of work, in which PyTorch uses
    one thread.

    Batches side by side need not wait for each other, unlike the parts of one batch. The showers
    are then also bit-identical for any number of threads.
    """
    with torch_threads(1) as before, thread_executor(min(before, pieces)) as executor:
        yield executor


def workers_of(executor: Executor) -> int:
    """How many pieces of work an executor does at a time."""
    # The standard library's pools keep the number under a name of their own.
    number: Any = getattr(executor, "workers", None) or getattr(executor, "_max_workers", None)
    return number or 1


def in_order(executor: Executor, function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """As the built-in `map`, done by an executor.

    Results come in the order of the items. Few items are taken ahead of the results, so memory
    does not grow with their number. The first error ends the work.
    """
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            while waiting and len(waiting) >= _most_ahead(executor):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _most_ahead(executor: Executor) -> int:
    """What the thread that asks does itself is done when it is asked for, and not before."""
    return 1 if isinstance(executor, SerialExecutor) else AHEAD * workers_of(executor)


def submit(executor: Executor, function: Callable[..., R], *arguments: Any) -> Future[R]:
    """As `executor.submit`, where an argument may be a future that `submit` returned: its result
    takes its place. Dask passes such results from worker to worker.
    """
    if not getattr(executor, "takes_futures", False):
        arguments = tuple(a.result() if isinstance(a, Future) else a for a in arguments)
    return executor.submit(function, *arguments)
