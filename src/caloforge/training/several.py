"""One recipe trained with several seeds, side by side or one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from caloforge.config import Recipe
from caloforge.errors import TrainingError
from caloforge.executors import in_order
from caloforge.training.folder import has_begun
from caloforge.training.train import Observer, Outcome, train, with_settings


@dataclass(frozen=True)
class SeedRun:
    """The training of one seed, which a worker is given.

    Parameters
    ----------
    recipe
        With its seed.
    showers
        File of training showers, which every worker must find under this path.
    out
        Folder of the run.
    """

    recipe: Recipe
    showers: Path
    out: Path
    device: str


def train_seeds(
    recipe: Recipe,
    showers: Path,
    out: Path,
    count: int,
    *,
    device: str = "auto",
    resume: bool = False,
    executor: Executor | None = None,
    observe: Callable[[], AbstractContextManager[Observer]] | None = None,
) -> Iterator[tuple[SeedRun, Outcome]]:
    """Trainings with `count` seeds from the recipe's own on, in `out`/seed-K; each as it ends.

    Parameters
    ----------
    showers
        File of training showers.
    resume
        Continue the seeds that were begun. What a lost worker had begun is always continued.
    executor
        It trains the seeds side by side, one in each worker. Without it, this process trains them
        one after the other.
    observe
        Makes an observer for each training in this process.

    Raises
    ------
    TrainingError
        For no seed, or a folder that holds a training while `resume` is not asked for.
    """
    if count < 1:
        raise TrainingError(f"Got --seeds {count}; expected at least one.")
    first = recipe.training.seed
    runs = [
        SeedRun(
            with_settings(recipe, seed=seed),
            showers.absolute(),
            out.absolute() / f"seed-{seed}",
            device,
        )
        for seed in range(first, first + count)
    ]
    for run in runs:
        has_begun(run.out, resume)
    if executor is not None:
        yield from zip(runs, in_order(executor, train_one, runs), strict=True)
        return
    for run in runs:
        if observe is None:
            outcome = train_one(run)
        else:
            with observe() as observer:
                outcome = train_one(run, observer)
        yield run, outcome
        if outcome.interrupted:
            return


def train_one(run: SeedRun, observer: Observer | None = None) -> Outcome:
    """Train one seed, or continue it when it was begun."""
    from caloforge.data import read_showers

    return train(
        run.recipe,
        read_showers(run.showers),
        run.out,
        device=run.device,
        resume=True,
        observer=observer,
        data=run.showers.name,
    )
