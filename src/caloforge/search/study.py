"""The study behind a search: an Optuna study in a database that any number of workers share.

Every trial gets one number for good. A trial whose worker died is queued again with the same
values and goes on in its own folder from its last checkpoint.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.errors import CaloForgeError, TrainingError
from caloforge.files import make_folder
from caloforge.search.space import Space

HEARTBEAT, GRACE = 30, 180  # seconds between signs of life, and until their lack means death
ATTEMPTS = 5  # to open a database, one a second
MOST_RETRIES = 3  # A trial whose worker died is not tried more often: it may be what kills them.
WARM_UP = 0.2  # share of the steps before which nothing is pruned
SURPLUS, SENTENCE = "surplus", "sentence"  # attributes of a trial
LOSSES = "losses"  # attribute of the next try of a trial: how many of its workers have died
LOCK = ".alive"
JOURNAL = "journal:"  # begins the storage in a plain file


def optuna() -> Any:
    """The package Optuna, its messages off. Raises TrainingError when it is not installed."""
    try:
        import optuna as package
    except ImportError as error:
        raise TrainingError(
            "A search needs Optuna, which is not installed: pip install 'caloforge[search]'."
        ) from error
    package.logging.set_verbosity(package.logging.ERROR)
    return package


@contextmanager
def quiet() -> Iterator[None]:
    """Within it, Optuna does not warn that a feature may still change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna().exceptions.ExperimentalWarning)
        yield


def open_storage(url: str) -> Any:
    """The database at a URL, or `journal:FILE`: a file that workers append to, for a cluster whose
    shared file system is all it has.

    Raises
    ------
    TrainingError
        For a database that cannot be reached or whose driver is not installed.
    """
    package = optuna()
    if url.startswith(JOURNAL):
        from optuna.storages.journal import JournalFileBackend

        path = Path(url.removeprefix(JOURNAL))
        make_folder(path.parent)
        try:
            return package.storages.JournalStorage(JournalFileBackend(str(path)))
        except Exception as error:  # whatever is in that place
            raise TrainingError(
                f"Cannot open the storage {url}: {_first_line(error, url)}; expected the name of "
                "a new file, or one that a search began."
            ) from error
    sqlite = url.startswith("sqlite:///")
    if sqlite:
        make_folder(Path(url.removeprefix("sqlite:///")).parent)
    for attempt in range(ATTEMPTS):
        try:
            return _database(url, sqlite)
        except Exception as error:  # every driver has errors of its own
            if attempt < ATTEMPTS - 1 and _may_pass(error):
                time.sleep(1.0)
                continue
            raise TrainingError(
                f"Cannot open the storage {_hidden(url)}: {_first_line(error, url)}; expected a "
                "database URL such as sqlite:///study.db or "
                "postgresql+psycopg://user@host/name, and its driver installed."
            ) from error
    raise AssertionError("unreachable")


def _database(url: str, sqlite: bool) -> Any:
    from sqlalchemy.exc import SQLAlchemyError

    package = optuna()
    base: Any = package.storages.RDBStorage

    class Storage(base):  # type: ignore[misc]
        def record_heartbeat(self, trial_id: int) -> None:
            # The next sign of life is as good as one that a busy database did not take; an error
            # would end the thread that gives them, and the trial would pass for dead.
            with suppress(SQLAlchemyError, package.exceptions.StorageInternalError):
                super().record_heartbeat(trial_id)

    with quiet():
        return Storage(
            url,
            # Workers wait for each other's writes; a connection that was idle while a trial
            # trained may have been cut.
            engine_kwargs=(
                {"connect_args": {"timeout": 120}} if sqlite else {"pool_pre_ping": True}
            ),
            heartbeat_interval=HEARTBEAT,
            grace_period=GRACE,
            heartbeat_stale_trial_callback=_queue_after_loss,
        )


def _may_pass(error: Exception) -> bool:
    """Whether the error may be gone at the next attempt: workers that begin at the same time all
    make the tables of the database, and all but one then get an error.
    """
    from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

    exists = isinstance(error, OperationalError) and "already exists" in str(error)
    return exists or isinstance(error, IntegrityError | ProgrammingError)


@contextmanager
def answering(url: str) -> Iterator[None]:
    """Within it, a database that is lost becomes a TrainingError."""
    try:
        yield
    except CaloForgeError:
        raise
    except Exception as error:
        from sqlalchemy.exc import SQLAlchemyError

        lost: BaseException | None = error  # Optuna may stumble over what it caught
        while lost is not None and not isinstance(lost, SQLAlchemyError):
            lost = lost.__cause__ or lost.__context__
        if lost is None:
            raise
        raise TrainingError(
            f"The storage {_hidden(url)} no longer answers: {_first_line(lost, url)}; begin the "
            "search again when it does, trials go on from their checkpoints."
        ) from error


def open_study(
    url: str, name: str, directions: list[str], about: dict[str, Any], sampler: Any, pruner: Any
) -> Any:
    """The study of that name, begun if there is none.

    Raises
    ------
    TrainingError
        When it was begun as another search than `about` says, naming what differs.
    """
    with quiet():
        study = optuna().create_study(
            storage=open_storage(url),
            study_name=name,
            directions=directions,
            sampler=sampler,
            pruner=pruner,
            load_if_exists=True,
        )
    if "search" not in study.user_attrs:
        study.set_user_attr("search", about)
    begun = study.user_attrs["search"]
    different = [key for key in about if begun.get(key) != about[key]]
    if different:
        raise TrainingError(
            f"The study '{name}' in {_hidden(url)} was begun with another "
            f"{' and '.join(different)}; continue it with the same, or give another --out, and "
            "with --storage another --study."
        )
    return study


def check_held_out(study: Any, digest: int, data: str) -> None:
    """Raise TrainingError when the study was begun with other held-out showers than those of this
    digest: its scores would not compare with new ones.
    """
    if "held_out" not in study.user_attrs:
        study.set_user_attr("held_out", digest)
    elif study.user_attrs["held_out"] != digest:
        raise TrainingError(
            f"The study '{study.study_name}' was begun with other showers than {data} has now; "
            "give the same file again, or another --out, and with --storage another --study."
        )


class PerTrialSampler:
    """Tree-structured Parzen estimator (J. Bergstra et al., 2011), seeded anew for each trial.

    What a trial draws depends on the seed, its number and the trials finished before, not on the
    worker that asks; workers with one seed do not draw the same values.
    """

    def __init__(self, seed: int, startup: int) -> None:
        self._seed, self._startup = seed, startup
        self._own = self._make(0)

    def _make(self, number: int) -> Any:
        seed = int(np.random.SeedSequence([self._seed, number]).generate_state(1)[0])
        with quiet():
            return optuna().samplers.TPESampler(
                seed=seed, n_startup_trials=self._startup, multivariate=True, constant_liar=True
            )

    def before_trial(self, study: Any, trial: Any) -> None:
        """Optuna calls this before it draws."""
        self._own = self._make(original(trial))
        self._own.before_trial(study, trial)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)


def make_pruner(prune: bool, startup: int, steps: int) -> Any:
    """Stops a trial whose best score so far is worse than the median of the others' at that step;
    never in the first fifth, nor before `startup` trials are done.
    """
    pruners = optuna().pruners
    if not prune:
        return pruners.NopPruner()
    return pruners.MedianPruner(n_startup_trials=startup, n_warmup_steps=int(WARM_UP * steps))


def distributions(space: Space) -> dict[str, Any]:
    """The distributions of Optuna that the space describes."""
    kinds = optuna().distributions
    drawn_from: dict[str, Any] = {}
    for key, d in space.items():
        if d.choices is not None:
            drawn_from[key] = kinds.CategoricalDistribution(list(d.labels()))
        elif d.whole:
            drawn_from[key] = kinds.IntDistribution(d.low, d.high, log=d.log, step=d.step or 1)
        else:
            drawn_from[key] = kinds.FloatDistribution(d.low, d.high, log=d.log, step=d.step)
    return drawn_from


def original(trial: Any) -> int:
    """Number of a trial: that of its first try when its worker died."""
    return int(trial.system_attrs.get("failed_trial", trial.number))


def counted(trials: list[Any]) -> list[Any]:
    """The trials that count, the last try of each; not those one worker too many began."""
    replaced = {n for t in trials for n in t.system_attrs.get("retry_history", [])}
    return [t for t in trials if t.number not in replaced and SURPLUS not in t.user_attrs]


def has_room(study: Any, most: int) -> bool:
    """Whether a trial waits, or fewer than `most` have been begun."""
    trials = counted(study.get_trials(deepcopy=False))
    waiting = optuna().trial.TrialState.WAITING
    return len(trials) < most or any(t.state == waiting for t in trials)


def is_surplus(study: Any, number: int, most: int) -> bool:
    """Whether enough trials were begun before this one: two workers may ask at once."""
    before = [t for t in counted(study.get_trials(deepcopy=False)) if t.number < number]
    return len(before) >= most


def queue_again(study: Any, number: int) -> None:
    """Let a worker take up an interrupted trial again, with the same values, however often."""
    _queue(study, study.get_trials(deepcopy=True)[number])


def _queue_after_loss(study: Any, trial: Any) -> None:
    """Let a worker take up a trial again whose worker died, unless that came too often. Being
    interrupted does not count: it is no fault of the trial.
    """
    losses = trial.system_attrs.get(LOSSES, 0) + 1
    if losses <= MOST_RETRIES:
        trial.system_attrs[LOSSES] = losses
        _queue(study, trial)


def _queue(study: Any, trial: Any) -> None:
    with quiet():
        optuna().storages.RetryHeartbeatStaleTrialCallback()(study, trial)


def queue_lost(study: Any, folder_of: Callable[[int], Path]) -> list[int]:
    """Queue the running trials whose worker on this machine is gone; returns their numbers.

    Those of other machines are known by their heartbeat, which Optuna looks after.
    """
    state, lost = optuna().trial.TrialState, []
    for trial in study.get_trials(deepcopy=False, states=(state.RUNNING,)):
        with _let_go(folder_of(original(trial)), trial.number) as gone:
            # Asked again under the lock: another worker may have been faster.
            if gone and study.get_trials(deepcopy=False)[trial.number].state == state.RUNNING:
                study.tell(trial.number, state=state.FAIL)
                _queue_after_loss(study, study.get_trials(deepcopy=True)[trial.number])
                lost.append(original(trial))
    return lost


@contextmanager
def alive(folder: Path, number: int) -> Iterator[None]:
    """Hold the lock of a trial's folder; the system lets go of it when the process dies.

    Raises
    ------
    TrainingError
        When another process holds it.
    """
    make_folder(folder)
    with (folder / LOCK).open("a+", encoding="utf-8") as file:
        if _lock(file) is False:
            raise TrainingError(f"Another process trains the trial in {folder}; let it finish.")
        # Only after the lock: a number in the file and no lock means that its worker died.
        file.truncate(0)
        file.write(str(number))
        file.flush()
        try:
            yield
        finally:
            file.truncate(0)


@contextmanager
def _let_go(folder: Path, number: int) -> Iterator[bool]:
    """Whether trial `number` was trained in this folder by a process that is no more."""
    try:
        file = (folder / LOCK).open("r+", encoding="utf-8")
    except OSError:
        yield False
        return
    with file:
        yield _lock(file) is True and file.read() == str(number)


def _lock(file: Any) -> bool | None:
    """Lock a file. False when another process holds the lock; None where there are no locks, so
    that the heartbeat alone tells who lives: on Windows and some shared file systems.
    """
    try:
        import fcntl
    except ImportError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        return None
    return True


def _hidden(url: str) -> str:
    """A URL without its password, which may hold any character but a space."""
    return re.sub(r"//([^:/@]*):\S*@", r"//\1@", url)


def _first_line(error: BaseException, url: str) -> str:
    """What went wrong, without the password if a driver repeats it."""
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return _hidden(first.replace(url, _hidden(url)))
