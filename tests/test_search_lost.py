"""Trials whose worker was interrupted, died or was believed dead: nothing of them is lost."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from test_search import SPACE, run, search_of

optuna = pytest.importorskip("optuna", reason="needs the extra `search`")

from caloforge.search import results, several, study, worker  # noqa: E402

FAIL = optuna.trial.TrialState.FAIL


@pytest.fixture
def space(tmp_path: Path) -> Path:
    path = tmp_path / "space.toml"
    path.write_text(SPACE, encoding="utf-8")
    return path


@pytest.fixture
def shared(tmp_path: Path) -> Any:
    with study.quiet():
        return optuna.create_study(storage=study.open_storage(f"sqlite:///{tmp_path}/study.db"))


def lose(shared: Any, number: int, folder: Path) -> list[int]:
    """The worker of a running trial dies with the lock of its folder; which are queued again."""
    with study.alive(folder, number):
        pass
    (folder / study.LOCK).write_text(str(number), encoding="utf-8")
    return study.queue_lost(shared, lambda _: folder)


def test_interruptions_are_not_counted_as_deaths(shared: Any, tmp_path: Path) -> None:
    number = shared.ask().number
    for _ in range(study.MOST_RETRIES + 1):
        shared.tell(number, state=FAIL)
        study.queue_again(shared, number)
        number = shared.ask().number
    for _ in range(study.MOST_RETRIES):
        assert lose(shared, number, tmp_path / "trial") == [0]
        (waiting,) = study.counted(shared.trials)
        assert waiting.state.name == "WAITING"
        number = shared.ask().number
    lose(shared, number, tmp_path / "trial")
    (left,) = study.counted(shared.trials)
    assert left.state == FAIL
    assert "died 4 times" in results._entry(left, {})["sentence"]


def test_deaths_known_by_their_heartbeat_are_counted_alike(shared: Any) -> None:
    number = shared.ask().number
    shared.tell(number, state=FAIL)
    study.queue_again(shared, number)
    again = shared._storage.get_heartbeat_stale_trial_callback()
    for _ in range(study.MOST_RETRIES):
        number = shared.ask().number
        shared.tell(number, state=FAIL)
        again(shared, shared.get_trials()[number])
        assert study.counted(shared.trials)[0].state.name == "WAITING"


def test_a_trial_that_another_worker_was_given_ends_no_search(
    tmp_path: Path, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that slept for minutes gave no sign of life, and its trial was queued again."""
    search = search_of(tmp_path, space, trials=1)
    real, begun = worker.run_trial, []

    def slow(trial: Any, *arguments: Any) -> list[float]:
        begun.append(trial.number)
        if len(begun) == 1:
            with study.quiet():
                storage = study.open_storage(f"sqlite:///{search.out}/study.db")
            other = optuna.load_study(study_name=search.recipe.name, storage=storage)
            other.tell(trial.number, state=FAIL)
            study.queue_again(other, trial.number)
        return real(trial, *arguments)

    monkeypatch.setattr(worker, "run_trial", slow)
    found, interrupted, lines = run(search)
    assert begun == [0, 1] and not interrupted
    assert [(t["number"], t["state"]) for t in found["trials"]] == [(0, "complete")]
    assert "given to another worker" in lines[0]


# --- worker processes of this machine --------------------------------------------------------
class Lines(SimpleQueue):  # type: ignore[type-arg]
    """What the workers say, without processes."""


def test_ctrl_c_for_the_parent_alone_ends_the_workers() -> None:
    """A notebook, or `kill -INT`, does not reach the worker processes themselves."""
    end, worker_ends = threading.Event(), Future[bool]()

    def work() -> None:
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGINT)
        worker_ends.set_result(end.wait(10))

    thread = threading.Thread(target=work)
    thread.start()
    assert several._wait([worker_ends], Lines(), end, print)
    thread.join()
    assert worker_ends.result()


def test_a_killed_worker_process_is_told_of() -> None:
    killed, other = Future[bool](), Future[bool]()
    killed.set_exception(BrokenProcessPool("killed"))
    timer = threading.Timer(3 * several.LOOKS, other.set_result, (False,))
    timer.start()
    told: list[str] = []
    assert not several._wait([killed, other], Lines(), threading.Event(), told.append)
    assert len(told) == 1 and "was killed" in told[0] and "1 of 2 go on" in told[0]


ORPHAN = """
import multiprocessing, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from caloforge.search import several

def work():
    several.work = lambda *_: wait()
    several._until_enough(several.Search(None, "", None, storage=""))

def wait():
    Path(sys.argv[1]).touch()
    while not several._ended():
        time.sleep(0.1)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    settings = (1, None, context.SimpleQueue(), context.Event())
    ProcessPoolExecutor(1, context, several._begin, settings).submit(work).result()
"""


@pytest.mark.slow
def test_workers_end_when_their_parent_was_killed(tmp_path: Path) -> None:
    """Nobody would take what they find, and the same search, begun again, has its own."""
    script, begun = tmp_path / "orphan.py", tmp_path / "begun"
    script.write_text(ORPHAN, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, str(script), str(begun)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        until = time.monotonic() + 100
        while not begun.exists():
            assert time.monotonic() < until and parent.poll() is None
            time.sleep(0.1)
        parent.kill()
        # The worker has the other end of the pipe: it closes when the worker is gone.
        ended = threading.Thread(target=parent.communicate)
        ended.start()
        ended.join(30)
        assert not ended.is_alive()
