"""Hyper-parameter search: many trainings of one recipe with other values, judged alike.

Trials are kept in a database. Any number of workers, on one machine or many, share it; a search
that was stopped or killed goes on where it was when it is begun again.
"""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from caloforge.config import Recipe, dump_recipe
from caloforge.data import holdout_split, read_showers, resolve_data
from caloforge.errors import CaloForgeError, TrainingError, did_you_mean
from caloforge.geometry import load_geometry
from caloforge.search import results, study
from caloforge.search.objectives import OBJECTIVES, Measure, check_objectives
from caloforge.search.space import Space, load_space, write_out
from caloforge.search.trial import Watcher, draw, run_trial, trial_folder, trial_recipe
from caloforge.showers import Showers
from caloforge.training import DEVICES

FAILURES = 5  # in a row end a worker: then it is not the values that are wrong
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Search:
    """What to search, and where it is kept.

    Parameters
    ----------
    recipe
        What is trained, for how many steps; the space varies its values.
    data
        Training showers: a file or a shipped sample. A seeded tenth (the recipe's
        `training.holdout`) is held out to judge the trials; each trial chooses its generator on a
        tenth of the rest.
    out
        Folder for trials, best generator and search.json.
    space
        TOML file with a table [search]; None: the one shipped for the recipe's model.
    objectives
        Keys of `OBJECTIVES`; none: what chooses the recipe's generator.
    trials
        How many the study shall have in all, over all workers and days.
    seed
        Trial k trains with seed + k and draws its values from (seed, k).
    storage
        Database URL or `journal:FILE`; None: SQLite in `out`/study.db.
    name
        Of the study in the database; None: the recipe's.
    device
        "auto", "cpu" or "cuda".
    keep
        Trials whose generators and checkpoints are kept: the best ones.
    startup
        Trials at random before the sampler learns and the pruner prunes.
    prune
        Whether hopeless trials are stopped early; only with one objective.
    """

    recipe: Recipe
    data: str
    out: Path
    space: Path | None = None
    objectives: tuple[str, ...] = ()
    trials: int = 20
    seed: int = 0
    storage: str | None = None
    name: str | None = None
    device: str = "auto"
    keep: int = 3
    startup: int = 10
    prune: bool = True


@dataclass
class _Bench:
    """What a worker has at hand for all its trials."""

    search: Search
    space: Space
    study: Any
    showers: Showers
    measure: Measure
    asked: Callable[[], bool]
    tell: Tell
    watch: Tell
    in_a_row: list[str] = field(default_factory=list)


class _SurplusError(Exception):
    """One worker too many asked for the last trial."""


def run_search(
    search: Search, workers: int = 1, *, tell: Tell = print, watch: Tell = lambda what: None
) -> tuple[dict[str, Any], bool]:
    """Run trials until the study has as many as asked; returns search.json's content and whether
    it was interrupted. Begun again, in another process or on another machine with the same
    storage, it joins or continues.

    Parameters
    ----------
    workers
        Processes on this machine; they share its threads, and its GPUs in turn.
    tell, watch
        Told a line for each trial; and what is under way (one worker only).

    Raises
    ------
    CaloForgeError
        For settings that cannot be, a study begun as another search, and five failed trials in a
        row.
    """
    search = _checked(search, workers)
    space = load_space(search.recipe, search.space)
    with study.quiet():
        shared = _open(search, space)
        interrupted = False
        if workers > 1 and study.has_room(shared, search.trials):
            interrupted = _side_by_side(search, workers, tell)
        if not interrupted:
            # Alone, or after the others: what a killed worker left is finished here.
            interrupted = _work(search, tell, watch)
        found = results.write_results(shared, search.out, search.recipe, space)
    return found, interrupted


def _checked(search: Search, workers: int) -> Search:
    for value, least, what in (
        (workers, 1, "--workers"),
        (search.trials, 0, "--trials"),
        (search.seed, 0, "--seed"),
        (search.keep, 1, "--keep"),
        (search.startup, 1, "--startup"),
    ):
        if value < least:
            raise TrainingError(f"Got {what} {value}; expected at least {least}.")
    if search.device not in DEVICES:
        raise TrainingError(
            f"Unknown device '{search.device}': {did_you_mean(search.device, DEVICES)}"
        )
    study.optuna()
    recipe = write_out(search.recipe)
    objectives = check_objectives(search.objectives, recipe)
    url = search.storage or f"sqlite:///{search.out / 'study.db'}"
    if search.prune and len(objectives) == 1:
        _warn_without_early(objectives[0], recipe)
    name = search.name or recipe.name
    return replace(search, recipe=recipe, objectives=objectives, storage=url, name=name)


def _warn_without_early(objective: str, recipe: Recipe) -> None:
    """Say so when nothing can be pruned although it was asked for."""
    settings, reason = recipe.training, ""
    by_prd = settings.selection.keep == "highest-prd-auc"
    if not OBJECTIVES[objective].known_early:
        reason = f"{objective} is only known when a training has ended"
    elif objective.startswith("prd") and not by_prd:
        reason = f"{objective} is only watched with training.selection.keep=highest-prd-auc"
    elif settings.selection.every > settings.steps // 2:
        reason = (
            f"a generator is scored every {settings.selection.every} of {settings.steps} steps: "
            "set training.selection.every lower"
        )
    if reason:
        warnings.warn(f"no trial will be stopped early, as {reason}", stacklevel=4)


def _open(search: Search, space: Space) -> Any:
    """The study, for this process."""
    one = len(search.objectives) == 1
    about = {
        "recipe": dump_recipe(search.recipe),
        "space": {k: d.model_dump(mode="json", exclude_none=True) for k, d in space.items()},
        "objectives": list(search.objectives),
        "seed": search.seed,
        "data": Path(search.data).name,
    }
    return study.open_study(
        str(search.storage),
        str(search.name),
        [OBJECTIVES[n].direction for n in search.objectives],
        about,
        study.PerTrialSampler(search.seed, search.startup),
        study.make_pruner(search.prune and one, search.startup, search.recipe.training.steps),
    )


# --- one worker ------------------------------------------------------------------------------
def _work(search: Search, tell: Tell, watch: Tell) -> bool:
    """Trials until there are enough; True when asked to end by Ctrl-C or SIGTERM."""
    space = load_space(search.recipe, search.space)
    shared = _open(search, space)
    study.queue_lost(shared, lambda number: trial_folder(search.out, number))
    if not study.has_room(shared, search.trials):
        return False
    showers, measure = _showers(search)
    with _asked_to_end() as asked:
        bench = _Bench(search, space, shared, showers, measure, asked, tell, watch)
        while study.has_room(shared, search.trials) and not asked():
            if not _one_trial(bench):
                return True
            study.queue_lost(shared, lambda number: trial_folder(search.out, number))
        return asked()


def _showers(search: Search) -> tuple[Showers, Measure]:
    """Showers that trials train on, and the judge of the others."""
    showers, recipe = read_showers(resolve_data(search.data)), search.recipe
    expected = load_geometry(recipe.geometry)
    if expected.hash != showers.geometry.hash:
        raise TrainingError(
            f"The showers are of '{showers.geometry.name}', the recipe is for "
            f"'{recipe.geometry}'; expected the same read-out: choose another recipe or other "
            "data."
        )
    kept, held = holdout_split(showers.incident_energy, recipe.training.holdout, search.seed)
    measure = Measure(showers[held], recipe, search.objectives, search.seed)
    return showers[kept], measure


def _one_trial(bench: _Bench) -> bool:
    """Run one trial whatever becomes of it; False when the worker should end."""
    optuna, begun = study.optuna(), []

    def objective(trial: Any) -> list[float]:
        begun.append(trial.number)
        return _objective(bench, trial)

    try:
        bench.study.optimize(objective, n_trials=1, catch=(CaloForgeError, _SurplusError))
    except KeyboardInterrupt:
        if begun:
            study.queue_again(bench.study, begun[0])
        return False
    except optuna.exceptions.UpdateFinishedTrialError:
        bench.tell("a trial was given to another worker, as this one gave no sign of life")
        return True
    trial = bench.study.get_trials(deepcopy=False)[begun[0]]
    if study.SURPLUS not in trial.user_attrs:
        _account(bench, trial)
    return True


def _objective(bench: _Bench, trial: Any) -> list[float]:
    search = bench.search
    number = study.original(bench.study.get_trials(deepcopy=False)[trial.number])
    again = number != trial.number
    if not again and study.is_surplus(bench.study, trial.number, search.trials):
        trial.set_user_attr(study.SURPLUS, True)
        raise _SurplusError
    try:
        params = draw(trial, bench.space)
        recipe = trial_recipe(search.recipe, bench.space, params, search.seed + number)
        folder = trial_folder(search.out, number)
        early = search.objectives[0] if search.prune and len(search.objectives) == 1 else ""
        watcher = Watcher(trial, number, folder, early, bench.asked, bench.watch)
        return run_trial(
            trial, recipe, folder, bench.showers, search.device, bench.measure, watcher
        )
    except CaloForgeError as error:
        trial.set_user_attr(study.SENTENCE, str(error))
        raise


def _account(bench: _Bench, trial: Any) -> None:
    """Tell of a finished trial, delete what is not kept, and end after too many failures."""
    search, number = bench.search, study.original(trial)
    results.trim(bench.study, search.out, search.keep)
    if trial.values is not None and trial.state.name == "COMPLETE":
        pairs = zip(search.objectives, trial.values, strict=True)
        outcome = ", ".join(f"{name} {value:.4g}" for name, value in pairs)
    else:
        sentence = trial.user_attrs.get(study.SENTENCE, "")
        last = max(trial.intermediate_values, default=0)
        outcome = f"failed: {sentence}" if sentence else f"stopped early at step {last}"
    best = [study.original(t) for t in results.ranked(bench.study)]
    if best and len(search.objectives) > 1:
        outcome += f" (Pareto front: {', '.join(map(str, best))})"
    elif best:
        outcome += f" (best: trial {best[0]})"
    bench.tell(f"trial {number}: {outcome}")
    bench.in_a_row.append(trial.user_attrs.get(study.SENTENCE, ""))
    if len(bench.in_a_row) >= FAILURES and all(bench.in_a_row[-FAILURES:]):
        raise TrainingError(f"{FAILURES} trials in a row failed, the last: {bench.in_a_row[-1]}")


@contextmanager
def _asked_to_end() -> Iterator[Callable[[], bool]]:
    """Tells whether SIGTERM came, as clusters send it before they kill: then the trial is saved
    and queued again.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


# --- several workers -------------------------------------------------------------------------
def _side_by_side(search: Search, workers: int, tell: Tell) -> bool:
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
    with _asked_to_end() as asked:
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
        with study.quiet():
            if _work(search, lambda text: lines.put(("line", text)), lambda what: None):
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


__all__ = ["OBJECTIVES", "Search", "run_search"]
