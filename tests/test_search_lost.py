"""Searches that go wrong: workers that are interrupted, die or are believed dead, and what is told
and left behind.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from test_search import SPACE, run, search_of

from caloforge.config import load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.errors import DataError, TrainingError
from caloforge.executors import SerialExecutor
from caloforge.models.file import load_model
from caloforge.signals import Terminated

optuna = pytest.importorskip("optuna", reason="needs the extra `search`")

from caloforge.search import (  # noqa: E402
    _warn_without_early,
    results,
    run_search,
    several,
    study,
    trial,
    worker,
)

FAIL = optuna.trial.TrialState.FAIL
# Some of these tests ask for trials themselves, without `Study.optimize`.
pytestmark = pytest.mark.filterwarnings("ignore:Heartbeat of storage:UserWarning")


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


# --- what a search says and leaves behind ----------------------------------------------------
def test_a_wrong_name_of_the_data_begins_no_study(tmp_path: Path, space: Path) -> None:
    """Otherwise the right one would be refused as that of another search."""
    with pytest.raises(DataError, match="did you mean 'ds1-photons-train'"):
        run(search_of(tmp_path, space, data="ds1-photons-trian"))
    with pytest.raises(TrainingError, match="The showers are of"):
        run(search_of(tmp_path, space, data="ds1-pions-train"))
    assert not (tmp_path / "out").exists()


def test_an_error_within_a_trial_fails_that_trial_alone(
    tmp_path: Path, space: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And five in a row end the search with the results until then."""
    real = trial.train

    def fragile(recipe: Any, showers: Any, folder: Path, **options: Any) -> Any:
        if folder.name != "000":
            raise RuntimeError("The factorisation could not be completed.\nand more")
        return real(recipe, showers, folder, **options)

    monkeypatch.setattr(trial, "train", fragile)
    search = search_of(tmp_path, space, trials=10)
    with pytest.raises(
        TrainingError, match="5 trials in a row failed, the last: RuntimeError: Th"
    ):
        run(search)
    found = json.loads((search.out / "search.json").read_text(encoding="utf-8"))
    assert [t["state"] for t in found["trials"]] == ["complete"] + 5 * ["failed"]
    assert found["trials"][1]["sentence"].endswith("could not be completed.")
    assert load_model(search.out / "best" / "model.safetensors")


def test_a_trial_that_was_stopped_early_has_no_value(shared: Any) -> None:
    """Its last score is of other showers than the value of a complete one."""
    number = shared.ask().number
    shared._storage.set_trial_intermediate_value(shared.trials[number]._trial_id, 10, 0.5)
    shared.tell(number, state=optuna.trial.TrialState.PRUNED)
    entry = results._entry(shared.trials[number], {})
    assert shared.trials[number].values == [0.5]
    assert (entry["values"], entry["early"]) == (None, {"10": 0.5})


def test_the_time_of_a_trial_is_that_of_all_its_tries(
    shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(trial, "train", stopped)
    own = shared.ask()
    own.set_user_attr("seconds", 100.0)
    with pytest.raises(KeyboardInterrupt):
        trial.run_trial(own, None, tmp_path / "t", None, "cpu", None, None)
    assert 100.0 < own.user_attrs["seconds"] < 160.0


@pytest.mark.parametrize(("every", "told"), [(60, False), (100, True)])
def test_a_note_says_when_nothing_can_be_stopped_early(every: int, told: bool) -> None:
    """A score at step 60 of 100 can stop a trial, one at the last step cannot."""
    sizes = [f"training.selection.every={every}", "training.steps=100"]
    with warnings.catch_warnings(record=True) as notes:
        warnings.simplefilter("always")
        _warn_without_early("chi2_ndf", load_recipe("smoke-flow-matching", sizes))
    assert [f"every {every} of 100" in str(note.message) for note in notes] == [True] * told


@pytest.mark.parametrize("what", ["no such system", "no locks on this disk"])
def test_without_locks_nobody_passes_for_dead(
    what: str, shared: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, and on shared file systems that know no locks; nor is anything refused there."""
    if what == "no such system":
        monkeypatch.setitem(sys.modules, "fcntl", None)
    else:
        import fcntl

        def unknown(*_: Any) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr(fcntl, "flock", unknown)
    number = shared.ask().number
    with study.alive(tmp_path / "trial", number):
        assert study.queue_lost(shared, lambda _: tmp_path / "trial") == []


def test_a_sign_of_life_that_was_not_taken_is_given_again(
    shared: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would end the thread that gives them."""
    asked: list[int] = []

    def busy(_: Any, trial_id: int) -> None:
        asked.append(trial_id)
        if len(asked) == 1:
            raise optuna.exceptions.StorageInternalError("database is locked")

    number = shared.ask().number
    own = shared.trials[number]._trial_id
    monkeypatch.setattr(optuna.storages.RDBStorage, "record_heartbeat", busy)
    for _ in range(2):
        shared._storage.record_heartbeat(own)
    assert asked == [own, own]


@pytest.mark.parametrize("content", [None, "no\njournal\n", "{}\n"])
def test_a_journal_that_is_none_gets_a_sentence(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.mkdir() if content is None else path.write_text(content, encoding="utf-8")
    with pytest.raises(TrainingError, match=f"Cannot open the storage journal:{path}"):
        study.open_storage(f"journal:{path}")


def test_other_showers_under_the_same_name_are_refused(tmp_path: Path, space: Path) -> None:
    data = tmp_path / "photons.hdf5"
    data.write_bytes(sample_path("ds1-photons-train").read_bytes())
    search = search_of(tmp_path, space, data=str(data), trials=1)
    run(search)
    data.write_bytes(sample_path("ds1-photons-test").read_bytes())
    with pytest.raises(TrainingError, match="begun with other showers than"):
        run(replace(search, trials=2))


def test_results_of_another_kind_or_study_are_not_replaced(tmp_path: Path, space: Path) -> None:
    search = search_of(tmp_path, space, trials=0)
    search.out.mkdir()
    (search.out / "index.html").write_text("a report", encoding="utf-8")
    with pytest.raises(TrainingError, match=r"index\.html exists and is of no search"):
        run(search)
    assert [path.name for path in search.out.iterdir()] == ["index.html"]
    (search.out / "index.html").unlink()
    run(search)
    with pytest.raises(TrainingError, match="results of the study 'smoke-flow-matching'"):
        run(replace(search, name="other"))
    run(search)


def test_energies_that_are_left_out_choose_no_trial(
    shared: Any, tmp_path: Path, space: Path
) -> None:
    """They are there to test what a generator makes between the energies it has seen."""
    own = load_recipe("smoke-flow-matching", ["data.leave_out=[65536.0]"])
    search = search_of(tmp_path, space, recipe=own, objectives=("chi2_ndf",))
    whole = read_showers(sample_path("ds1-photons-train"))
    assert 65536.0 in whole.incident_energy
    showers, measure = worker._showers(search, shared)
    judged = set(measure.score.incident)
    assert 65536.0 not in judged and {32768.0, 131072.0} <= judged
    assert len(showers) > 0.8 * len(whole)


def test_after_sigterm_the_results_of_an_executor_are_written(tmp_path: Path, space: Path) -> None:
    class Batch(SerialExecutor):
        done = 0

        def submit(self, function: Any, /, *arguments: Any, **more: Any) -> Future[Any]:
            self.done += 1
            if self.done > 1:
                raise Terminated
            return super().submit(function, *arguments, **more)

    search = search_of(tmp_path, space)
    with pytest.raises(Terminated):
        run_search(search, executor=Batch(), tell=lambda line: None)
    found = json.loads((search.out / "search.json").read_text(encoding="utf-8"))
    assert [t["state"] for t in found["trials"]] == ["complete"]
