"""One trial of a search: an ordinary training with the values drawn, then its figures."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from caloforge.config import Recipe
from caloforge.devices import find_device
from caloforge.errors import TrainingError
from caloforge.search.objectives import Measure, early_value
from caloforge.search.space import Space, apply
from caloforge.search.study import alive, distributions, optuna
from caloforge.showers import Showers
from caloforge.training.train import train

MODEL = "model.safetensors"


def trial_folder(out: Path, number: int) -> Path:
    """`out`/trials/NNN."""
    return out / "trials" / f"{number:03d}"


def trial_recipe(recipe: Recipe, space: Space, params: dict[str, Any], seed: int) -> Recipe:
    """The recipe of a trial: `params` are as the study keeps them (choices as labels)."""
    values = {k: space[k].labels().get(v, v) for k, v in params.items()}
    return apply(recipe, {**values, "training.seed": seed})


class Watcher:
    """Observer of a trial: reports its best score so far, and stops it when the pruner says so or
    the worker was asked to end.

    Parameters
    ----------
    trial
        Optuna's trial.
    number
        Number that the trial keeps when it is tried again.
    folder
        Folder of the training.
    early
        The objective to report, or "" for none.
    asked
        It tells whether the worker should end.
    tell
        It is called with how far the trial is.
    """

    def __init__(
        self,
        trial: Any,
        number: int,
        folder: Path,
        early: str,
        asked: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:
        self.trial, self.number, self.folder, self.early = trial, number, folder, early
        self.asked, self.tell = asked, tell
        self.pruned, self.part, self.steps = False, -1, 0

    def start(self, what: str, step: int, steps: int) -> None:
        """Called when a training, or one energy range of it, begins."""
        self.part, self.steps = self.part + 1, steps

    def log(self, step: int, numbers: dict[str, float]) -> None:
        """Called with the losses; it ends a trial that should end."""
        part = f", range {self.part + 1}" if self.part else ""
        self.tell(f"trial {self.number}{part}: step {step} of {self.steps}")
        if self.asked():
            raise KeyboardInterrupt

    def choice(self, step: int, score: str, best: bool) -> None:
        """Called with a score. A model split in energy is pruned by its first range alone, and
        nothing is stopped at the last step: no time would be saved, and the outcome lost.
        """
        if not self.early or self.part > 0 or not self._report():
            return
        if step < self.steps and self.trial.should_prune():
            self.pruned = True
            raise KeyboardInterrupt

    def _report(self) -> bool:
        """Report the best score so far at each step that was scored, also those of the process
        from which the trial was taken up. Returns whether the newest score is known.
        """
        path = self.folder / "selection.json"
        if not path.exists():
            path = self.folder / "range0" / "selection.json"
        history = json.loads(path.read_text(encoding="utf-8"))
        better = max if _maximised(self.trial.study) else min
        best, value = None, None
        for entry in history:
            value = early_value(self.early, entry)
            if value is None:
                continue
            best = value if best is None else better(best, value)
            if entry["step"] not in self._reported():
                self.trial.report(best, entry["step"])
        return value is not None

    def _reported(self) -> dict[int, float]:
        frozen = self.trial.study.get_trials(deepcopy=False)[self.trial.number]
        return dict(frozen.intermediate_values)


def _maximised(study: Any) -> bool:
    return bool(study.direction == optuna().study.StudyDirection.MAXIMIZE)


def run_trial(
    trial: Any,
    recipe: Recipe,
    folder: Path,
    showers: Showers,
    device: str,
    measure: Measure,
    watcher: Watcher,
) -> list[float]:
    """Train one trial and return its objectives; a folder that holds part of it is continued.

    Raises
    ------
    TrainingError
        For a training that cannot go on (its sentence says why), also where the values drawn make
        PyTorch or NumPy fail, or one out of memory.
    optuna.TrialPruned
        When the pruner stopped it.
    KeyboardInterrupt
        When the worker should end; the training is saved.
    """
    begin, before = time.perf_counter(), trial.user_attrs.get("seconds", 0.0)
    trial.set_user_attr("host", socket.gethostname())
    with alive(folder, trial.number):
        try:
            outcome = train(recipe, showers, folder, device=device, resume=True, observer=watcher)
            if watcher.pruned:
                raise optuna().TrialPruned
            if outcome.interrupted:
                raise KeyboardInterrupt
            figures = measure(folder / MODEL, find_device(device))
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise TrainingError(
                "Out of memory; expected a model and a batch that fit: search smaller ones."
            ) from error
        except (RuntimeError, ValueError, ArithmeticError) as error:
            # What PyTorch and NumPy raise for values that cannot be trained with. A study that
            # says that the trial is no longer its own is another matter.
            if isinstance(error, optuna().exceptions.OptunaError):
                raise
            raise TrainingError(
                f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            ) from error
        finally:
            trial.set_user_attr("seconds", before + time.perf_counter() - begin)
    trial.set_user_attr("figures", figures)
    trial.set_user_attr("best_step", outcome.best_step)
    return [figures[name] for name in measure.names]


def draw(trial: Any, space: Space) -> dict[str, Any]:
    """The values of a trial as the study keeps them; a trial that is taken up again has them."""
    kinds, values = optuna().distributions, {}
    for key, kind in distributions(space).items():
        if isinstance(kind, kinds.CategoricalDistribution):
            values[key] = trial.suggest_categorical(key, kind.choices)
        elif isinstance(kind, kinds.IntDistribution):
            values[key] = trial.suggest_int(key, kind.low, kind.high, log=kind.log, step=kind.step)
        else:
            values[key] = trial.suggest_float(
                key, kind.low, kind.high, log=kind.log, step=kind.step
            )
    return values
