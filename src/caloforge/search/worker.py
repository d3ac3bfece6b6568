"""One worker of a search: it takes trials from the study that all workers share."""

from __future__ import annotations

import signal
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from caloforge.config import Recipe, dump_recipe
from caloforge.data import holdout_split, read_showers, resolve_data
from caloforge.errors import CaloForgeError, TrainingError
from caloforge.search import results, study
from caloforge.search.objectives import OBJECTIVES, Measure
from caloforge.search.space import Space, load_space
from caloforge.search.trial import Watcher, draw, run_trial, trial_folder, trial_recipe
from caloforge.showers import Showers
from caloforge.signals import asked_to_stop
from caloforge.training.dataset import prepare_showers
from caloforge.training.train import check_read_out

FAILURES = 5  # in a row end a worker: then it is not the values that are wrong
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Search:
    """What to search, and where it is kept.

    Parameters
    ----------
    recipe
        The recipe that is trained; the space varies its values.
    data
        Training showers: a file or the name of a shipped sample. A seeded tenth (the recipe's
        `training.holdout`) is held out to judge the trials, without the energies that the recipe
        leaves out; each trial chooses its generator on a tenth of the rest.
    out
        Folder for trials, best generator and search.json.
    space
        TOML file with a table [search]; by default the one shipped for the recipe's model.
    objectives
        Keys of `OBJECTIVES`; by default what `check_objectives` says of the recipe.
    trials
        Number of trials that the study shall have in all, over all workers and days.
    seed
        Trial k trains with seed + k and draws its values from (seed, k).
    storage
        Database URL or `journal:FILE`. By default it is SQLite in `out`/study.db, and for the
        workers of a cluster `out`/study.journal.
    name
        Name of the study in the database; by default the recipe's name.
    device
        "auto" (a GPU where there is one), "cpu" or "cuda".
    keep
        Number of the best trials whose generators and checkpoints are kept.
    startup
        Number of trials with random values before the sampler learns and the pruner prunes.
    prune
        Whether hopeless trials are stopped early, which is possible with one objective only.
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
    """What a worker needs for all its trials."""

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


def check_data(search: Search) -> None:
    """Raise CaloForgeError when there is no such file of showers, or one of another read-out."""
    check_read_out(search.recipe, read_showers(resolve_data(search.data), rows=slice(0, 1)))


def open_shared(search: Search, space: Space) -> Any:
    """The study of a search, for this process."""
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


def work(
    search: Search, tell: Tell, watch: Tell, ended: Callable[[], bool] = lambda: False
) -> bool:
    """Run trials until there are enough; True when Ctrl-C, SIGTERM or `ended` asked to end.

    A cluster sends SIGTERM before it kills: the trial is then saved and queued again.
    """
    space = load_space(search.recipe, search.space)
    shared = open_shared(search, space)
    study.queue_lost(shared, lambda number: trial_folder(search.out, number))
    if not study.has_room(shared, search.trials):
        return False
    showers, measure = _showers(search, shared)
    with asked_to_stop(signal.SIGTERM) as terminated:

        def asked() -> bool:
            return terminated() or ended()

        bench = _Bench(search, space, shared, showers, measure, asked, tell, watch)
        while study.has_room(shared, search.trials) and not asked():
            if not _one_trial(bench):
                return True
            study.queue_lost(shared, lambda number: trial_folder(search.out, number))
        return asked()


def single(search: Search) -> tuple[list[str], list[str]]:
    """Run one trial, if there are not yet enough: what a worker of an executor does at a time.

    Returns the lines to tell, and for each trial the sentence why it failed, or "".
    """
    lines: list[str] = []
    with study.quiet(), study.answering(str(search.storage)):
        space = load_space(search.recipe, search.space)
        shared = open_shared(search, space)
        study.queue_lost(shared, lambda number: trial_folder(search.out, number))
        if not study.has_room(shared, search.trials):
            return [], []
        showers, measure = _showers(search, shared)
        bench = _Bench(
            search, space, shared, showers, measure, lambda: False, lines.append, lambda what: None
        )
        _one_trial(bench)
    return lines, bench.in_a_row


def _showers(search: Search, shared: Any) -> tuple[Showers, Measure]:
    """Showers that the trials train on, and the measure on those that are held out.

    Raises TrainingError when the study was begun with others under the same name.
    """
    showers, recipe = read_showers(resolve_data(search.data)), search.recipe
    check_read_out(recipe, showers)
    kept, held = holdout_split(showers.incident_energy, recipe.training.holdout, search.seed)
    digest = zlib.crc32(showers.conditions[held].tobytes())
    study.check_held_out(shared, zlib.crc32(showers.energies[held].tobytes(), digest), search.data)
    if recipe.data.leave_out:
        # What the trials may not learn from does not choose among them either.
        shown = recipe.data.model_copy(update={"at_most": (), "average": 1})
        energies = prepare_showers(showers, shown, search.seed).incident_energy
        held = held[np.isin(showers.incident_energy[held], energies)]
    measure = Measure(showers[held], recipe, search.objectives, search.seed)
    return showers[kept], measure


def _one_trial(bench: _Bench) -> bool:
    """Run one trial whatever becomes of it; False when the worker should end."""
    finished = study.optuna().exceptions.UpdateFinishedTrialError
    begun: list[int] = []
    given_away = False

    def objective(trial: Any) -> list[float]:
        nonlocal given_away
        begun.append(trial.number)
        try:
            return _objective(bench, trial)
        except finished:
            given_away = True
            raise

    try:
        bench.study.optimize(objective, n_trials=1, catch=(CaloForgeError, _SurplusError))
    except KeyboardInterrupt:
        if begun:
            study.queue_again(bench.study, begun[0])
        return False
    except (finished, ValueError):
        # Optuna raises a ValueError for a trial that it cannot end a second time.
        if not given_away:
            raise
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
    refuse_failures(bench.in_a_row)


def refuse_failures(sentences: list[str]) -> None:
    """Raise TrainingError when the last trials have all failed; "" stands for one that has not."""
    if len(sentences) >= FAILURES and all(sentences[-FAILURES:]):
        raise TrainingError(f"{FAILURES} trials in a row failed, the last: {sentences[-1]}")
