"""The executor of Dask's workers: lost workers are asked for again, errors become sentences."""

from __future__ import annotations

import errno
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Executor, Future
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from caloforge.errors import CaloForgeError
from caloforge.executors import Piece

# How often a piece of work may lose its worker: jobs end at their walltime, which is no fault of
# the piece.
LOSSES = 10
PATIENCE = 30.0  # seconds between two looks whether workers were lost and must be asked for again
LOST = (
    "The scheduler of the workers was lost, and the work in hand with it; start it again, then "
    "the same command: nothing was left half written."
)


@contextmanager
def dask_executor(
    client: Any, threads: int = 1, refill: Callable[[], None] = lambda: None
) -> Iterator[Executor]:
    """The workers of a `distributed.Client` as an executor.

    Parameters
    ----------
    client
        The client of a scheduler.
    threads
        Number of threads of each piece of work.
    refill
        It is called every `PATIENCE` seconds and asks for workers in place of lost ones. What it
        raises ends the work.

    Raises
    ------
    CaloForgeError
        At the end of the block, when a piece of work lost its worker again and again, when a
        worker lacks a package or finds its disk full, when the scheduler is lost, or when
        `refill` raised it.
    """
    from distributed.scheduler import KilledWorker

    executor = _executor(client, threads)
    try:
        with _looked_after(executor, refill):
            yield executor
    except KilledWorker as error:
        raise CaloForgeError(
            f"A piece of work lost its worker {LOSSES + 1} times; expected workers that live: "
            "give them more memory or a longer walltime, and look into their logs."
        ) from error
    except ModuleNotFoundError as error:
        raise CaloForgeError(
            f"A worker lacks the package {error.name}; install CaloForge where the workers run."
        ) from error
    except (CancelledError, RuntimeError) as error:
        # Nobody here cancels a piece of work and then waits for it; a client without a scheduler
        # takes no more work.
        if isinstance(error, RuntimeError) and client.status == "running":
            raise
        raise CaloForgeError(LOST) from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise CaloForgeError(
                "The disk of a worker is full; free some space there, then start the same command "
                "again: nothing was left half written."
            ) from error
        # What Dask raises for a connection that closed, or that nobody answered, has no number.
        if error.errno is None or isinstance(error, ConnectionError):
            raise CaloForgeError(LOST) from error
        raise


def _executor(client: Any, threads: int) -> Executor:
    """Dask's own executor of a client, with pieces of `threads` threads each."""
    base: Any = type(client.get_executor())

    class DaskExecutor(base):  # type: ignore[misc]
        takes_futures = True

        def __init__(self) -> None:
            super().__init__(client, pure=False)
            self._at_workers: WeakKeyDictionary[Future[Any], Any] = WeakKeyDictionary()

        @property
        def workers(self) -> int:
            """Workers that are there now."""
            return sum(client.nthreads().values())

        def submit(self, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
            """See `concurrent.futures.Executor.submit`."""
            there = [self._at_workers[a] if isinstance(a, Future) else a for a in arguments]
            key = f"{function.__name__}-{uuid.uuid4()}"
            return super().submit(Piece(function, threads), *there, key=key)

        def _wrap_future(self, future: Any) -> Future[Any]:
            wrapped: Future[Any] = super()._wrap_future(future)
            self._at_workers[wrapped] = future
            return wrapped

    executor: Executor = DaskExecutor()
    return executor


@contextmanager
def _looked_after(executor: Executor, refill: Callable[[], None]) -> Iterator[None]:
    """Call `refill` now and then, from a thread of its own: the one that waits is not disturbed.

    What it raises is raised here in place of the futures that it cancels.
    """
    ended, failures = threading.Event(), []

    def look() -> None:
        while not ended.wait(PATIENCE):
            try:
                refill()
            except Exception as error:
                failures.append(error)
                executor.shutdown(wait=False)
                return

    watch = threading.Thread(target=look, name="caloforge-workers", daemon=True)
    watch.start()
    try:
        yield
    except (CancelledError, RuntimeError) as error:
        if failures:
            raise failures[0] from error
        raise
    finally:
        ended.set()
        watch.join()


def dask_distributed() -> Any:
    """The package `distributed`. Raises CaloForgeError when it is not installed."""
    try:
        import distributed
    except ImportError as error:
        raise CaloForgeError(
            "Several workers need the package distributed, which is not installed: pip install "
            "'caloforge[cluster]'."
        ) from error
    return distributed
