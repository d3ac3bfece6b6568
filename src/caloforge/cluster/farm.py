"""Farms: who does pieces of work, in their order, few of them in flight."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import caloforge
from caloforge.errors import CaloForgeError

IN_FLIGHT = 2  # pieces of each worker that are asked for ahead of the one wanted next
# Times a piece may lose its worker: jobs end at their walltime through no fault of the piece.
LOSSES = 10
PATIENCE = 30.0  # seconds between looks whether workers were lost and must be asked for again


class Farm(Protocol):
    """Does pieces of work.

    Functions must be importable by the workers, arguments and results can be pickled.
    """

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """Results in the order of the items, which are taken a few ahead of the results."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """A promise of a result. Arguments may be promises."""

    def result(self, promise: Any) -> Any:
        """What a promise holds, once it is there."""


@dataclass(frozen=True)
class _Work:
    """A function, done with a fixed number of threads and by the same version of the package."""

    function: Callable[..., Any]
    threads: int
    version: str

    def __call__(self, *arguments: Any) -> Any:
        import torch
        from threadpoolctl import threadpool_limits

        if caloforge.__version__ != self.version:
            raise CaloForgeError(
                f"A worker has CaloForge {caloforge.__version__}, this process has "
                f"{self.version}; expected one version: install it where the workers run."
            )
        before = torch.get_num_threads()
        torch.set_num_threads(self.threads)
        try:
            with threadpool_limits(self.threads):
                return self.function(*arguments)
        finally:
            torch.set_num_threads(before)


class Here:
    """A farm of one: this process, with the threads of a worker, so with a worker's results."""

    def __init__(self, threads: int = 1) -> None:
        self._threads = threads

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """See `Farm.map`."""
        return map(_Work(function, self._threads, caloforge.__version__), items)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Does it at once."""
        return _Work(function, self._threads, caloforge.__version__)(*arguments)

    def result(self, promise: Any) -> Any:
        """The promise itself."""
        return promise


class DaskFarm:
    """Workers of a Dask scheduler.

    Parameters
    ----------
    client
        A `distributed.Client`.
    threads
        Of each piece of work.
    refill
        Called now and then while waiting: asks for workers in place of lost ones.
    """

    def __init__(
        self, client: Any, threads: int = 1, refill: Callable[[], None] = lambda: None
    ) -> None:
        self._client, self._threads, self._refill = client, threads, refill
        self._looked = time.monotonic()

    def map(self, function: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        """See `Farm.map`; at most `IN_FLIGHT` items of each worker are in flight."""
        waiting: deque[Any] = deque()
        try:
            for item in items:
                waiting.append(self.submit(function, item))
                while len(waiting) >= self._in_flight():
                    yield self.result(waiting.popleft())
            while waiting:
                yield self.result(waiting.popleft())
        finally:
            for promise in waiting:
                promise.cancel()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """See `Farm.submit`."""
        work = _Work(function, self._threads, caloforge.__version__)
        key = f"{function.__name__}-{uuid.uuid4()}"
        return self._client.submit(work, *arguments, key=key, pure=False)

    def result(self, promise: Any) -> Any:
        """See `Farm.result`. CaloForgeError when piece after piece loses its worker."""
        from distributed.scheduler import KilledWorker

        try:
            while True:
                self._look_after_workers()
                try:
                    return promise.result(timeout=PATIENCE)
                except TimeoutError:
                    if promise.status == "error":  # the work's own
                        raise
        except KilledWorker as error:
            raise CaloForgeError(
                f"A piece of work lost its worker {LOSSES + 1} times; expected workers that "
                "live: give them more memory or a longer walltime, and look into their logs."
            ) from error
        except ModuleNotFoundError as error:
            raise CaloForgeError(
                f"A worker lacks the package {error.name}; install CaloForge where the workers "
                "run."
            ) from error

    def _look_after_workers(self) -> None:
        # By the clock: while some workers deliver, the lost ones are asked for again too.
        if time.monotonic() - self._looked > PATIENCE:
            self._refill()
            self._looked = time.monotonic()

    def _in_flight(self) -> int:
        return IN_FLIGHT * max(1, sum(self._client.nthreads().values()))


def dask_distributed() -> Any:
    """The package of that name. Raises CaloForgeError when it is not installed."""
    try:
        import distributed
    except ImportError as error:
        raise CaloForgeError(
            "Several workers need the package distributed, which is not installed: pip install "
            "'caloforge[cluster]'."
        ) from error
    return distributed
