"""Trials whose worker was interrupted, died or was believed dead: nothing of them is lost."""

from pathlib import Path
from typing import Any

import pytest
from test_search import SPACE, run, search_of

optuna = pytest.importorskip("optuna", reason="needs the extra `search`")

from caloforge.search import results, study, worker  # noqa: E402

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
