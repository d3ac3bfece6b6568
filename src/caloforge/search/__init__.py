"""Hyper-parameter search: many trainings of one recipe with other values, judged alike.

Trials are kept in a database. Any number of workers, on one machine or many, share it; a search
that was stopped or killed goes on where it was when it is begun again.
"""

from __future__ import annotations

import warnings
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from caloforge.config import Recipe
from caloforge.devices import find_device
from caloforge.errors import CaloForgeError, TrainingError
from caloforge.search import results, study
from caloforge.search.objectives import OBJECTIVES, check_objectives
from caloforge.search.several import by_executor, side_by_side
from caloforge.search.space import load_space, write_out
from caloforge.search.worker import Search, Tell, check_data, open_shared, work
from caloforge.signals import Terminated


def run_search(
    search: Search,
    workers: int = 1,
    *,
    executor: Executor | None = None,
    tell: Tell = print,
    watch: Tell = lambda what: None,
) -> tuple[dict[str, Any], bool]:
    """Run trials until the study has as many as asked; returns search.json's content and whether
    it was interrupted. Begun again, in another process or on another machine with the same
    storage, it joins or continues.

    Parameters
    ----------
    workers
        Number of processes on this machine; they share its threads, and its GPUs in turn.
    executor
        Its workers run the trials instead. They must see data and `out` under the same paths.
    tell
        It is called with a line for each trial.
    watch
        It is called with what is under way, for a single worker only.

    Raises
    ------
    CaloForgeError
        For settings that cannot be, a study begun as another search, and five failed trials in a
        row. The results until then are written all the same.
    """
    search = _checked(search, workers, by_others=executor is not None)
    space = load_space(search.recipe, search.space)
    if search.trials:  # a wrong name is no reason to begin a study
        check_data(search)
    results.check_out(search.out, str(search.name))
    with study.quiet(), study.answering(str(search.storage)):
        shared = open_shared(search, space)
        interrupted = False
        try:
            if executor is not None:
                interrupted = by_executor(search, shared, executor, tell)
            elif workers > 1 and study.has_room(shared, search.trials):
                interrupted = side_by_side(search, workers, tell)
            if executor is None and not interrupted:
                # A single worker does everything here; after several, what a killed one left.
                interrupted = work(search, tell, watch)
        except (CaloForgeError, KeyboardInterrupt, Terminated):
            with suppress(Exception):  # the first error is the one to tell
                results.write_results(shared, search.out, search.recipe, space)
            raise
        summary = results.write_results(shared, search.out, search.recipe, space)
    return summary, interrupted


def _checked(search: Search, workers: int, *, by_others: bool) -> Search:
    """The search with all its defaults. Raises TrainingError for settings that cannot be."""
    for value, least, what in (
        (workers, 1, "--workers"),
        (search.trials, 0, "--trials"),
        (search.seed, 0, "--seed"),
        (search.keep, 1, "--keep"),
        (search.startup, 1, "--startup"),
    ):
        if value < least:
            raise TrainingError(f"Got {what} {value}; expected at least {least}.")
    find_device(search.device)
    study.optuna()
    recipe = write_out(search.recipe)
    objectives = check_objectives(search.objectives, recipe)
    if by_others:
        search = _findable(search)
    url = _storage(search, by_others)
    if search.prune and len(objectives) == 1:
        _warn_without_early(objectives[0], recipe)
    name = search.name or recipe.name
    return replace(search, recipe=recipe, objectives=objectives, storage=url, name=name)


def _findable(search: Search) -> Search:
    """The search with full paths, for workers that may run in another folder."""
    data = Path(search.data)
    return replace(
        search,
        data=str(data.absolute()) if data.exists() else search.data,
        out=search.out.absolute(),
        space=None if search.space is None else search.space.absolute(),
    )


def _storage(search: Search, by_others: bool) -> str:
    """URL of the storage asked for, or of the one in `out`.

    Raises TrainingError when workers of several machines would share a file of SQLite.
    """
    sqlite, journal = search.out / "study.db", search.out / "study.journal"
    if search.storage is None and (journal.exists() or (by_others and not sqlite.exists())):
        return f"{study.JOURNAL}{journal}"
    url = search.storage or f"sqlite:///{sqlite}"
    if by_others and url.startswith("sqlite:"):
        raise TrainingError(
            f"Got {url} for the workers of a cluster; expected a storage that several machines "
            f"can share, as the locks of SQLite are for one: --storage {study.JOURNAL}FILE or the "
            "URL of a database."
        )
    if by_others and url.startswith(study.JOURNAL):
        return f"{study.JOURNAL}{Path(url.removeprefix(study.JOURNAL)).absolute()}"
    return url


def _warn_without_early(objective: str, recipe: Recipe) -> None:
    """Say so when nothing can be pruned although it was asked for."""
    settings, reason = recipe.training, ""
    by_prd = settings.selection.keep == "highest-prd-auc"
    if not OBJECTIVES[objective].known_early:
        reason = f"{objective} is only known when a training has ended"
    elif objective.startswith("prd") and not by_prd:
        reason = f"{objective} is only watched with training.selection.keep=highest-prd-auc"
    elif settings.selection.every >= settings.steps:
        reason = (
            f"a generator is scored every {settings.selection.every} of {settings.steps} steps: "
            "set training.selection.every lower"
        )
    if reason:
        warnings.warn(f"no trial will be stopped early, as {reason}", stacklevel=4)


__all__ = ["OBJECTIVES", "Search", "run_search"]
