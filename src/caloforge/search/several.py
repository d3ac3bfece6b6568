"""Several workers of a search: processes of this machine, or the workers of a farm."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import torch

from caloforge.data.writer import Spread
from caloforge.errors import CaloForgeError, TrainingError
from caloforge.search import study
from caloforge.search.worker import Search, Tell, asked_to_end, refuse_failures, single, work


def side_by_side(search: Search, workers: int, tell: Tell) -> bool:
    """Worker processes on this machine until they end; True when they were interrupted.

    Raises
    ------
    TrainingError
        The sentence of a worker that could not go on.
    """
    import multiprocessing

    context = multiprocessing.get_context("spawn")  # a fork would share CUDA and database
    lines = context.SimpleQueue()
    threads = max(1, torch.get_num_threads() // workers)
    devices = _devices(search.device)
    team = []
    for k in range(workers):
        visible = devices[k % len(devices)] if devices else None
        team.append(context.Process(target=_worker, args=(search, threads, visible, lines)))
    for process in team:
        process.start()
    interrupted, sentence = False, ""
    with asked_to_end() as asked:
        while any(process.is_alive() for process in team) or not lines.empty():
            try:
                if asked():
                    interrupted = True
                    for process in team:
                        process.terminate()
                    asked = threading.Event().is_set
                while not lines.empty():
                    kind, text = lines.get()
                    if kind == "line":
                        tell(text)
                    elif kind == "interrupted":
                        interrupted = True
                    else:
                        sentence = text
                team[0].join(0.2) if team[0].is_alive() else threading.Event().wait(0.2)
            except KeyboardInterrupt:  # the workers got it too, and save what they have
                interrupted = True
    if sentence:
        raise TrainingError(sentence)
    return interrupted


def _worker(search: Search, threads: int, visible: str | None, lines: Any) -> None:
    """A worker process: one of the GPUs, its share of the threads."""
    if visible is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    torch.set_num_threads(threads)
    warnings.showwarning = lambda message, *_, **__: lines.put(("line", f"note: {message}"))
    try:
        with study.quiet(), study.answering(str(search.storage)):
            if work(search, lambda text: lines.put(("line", text)), lambda what: None):
                lines.put(("interrupted", ""))
    except CaloForgeError as error:
        lines.put(("error", str(error)))
    except KeyboardInterrupt:
        lines.put(("interrupted", ""))


def _devices(device: str) -> list[str]:
    """Names of the GPUs for CUDA_VISIBLE_DEVICES, none when there are none or the CPU is asked."""
    if device == "cpu" or not torch.cuda.is_available():
        return []
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(k) for k in range(torch.cuda.device_count())]


def on_farm(search: Search, shared: Any, spread: Spread, tell: Tell) -> bool:
    """Trials by the workers of a farm, one a piece, until there are enough; True when it was
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
            for lines, sentences in spread(single, wanted()):
                for line in lines:
                    tell(line)
                in_a_row += sentences
                refuse_failures(in_a_row)
    except KeyboardInterrupt:
        return True
    return False
