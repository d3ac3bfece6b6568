"""What a search leaves behind: search.json, the best trial's recipe and generator, and no more
files of the other trials than asked for.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from caloforge.config import Recipe, dump_recipe
from caloforge.errors import TrainingError
from caloforge.files import atomic_path, write_text
from caloforge.search.objectives import OBJECTIVES
from caloforge.search.space import Space, value_at
from caloforge.search.study import LOSSES, MOST_RETRIES, SENTENCE, counted, optuna, original
from caloforge.search.trial import MODEL, trial_folder, trial_recipe

FORMAT = "caloforge-search-1"
_STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed", "RUNNING": "running"}
_ENOUGH = 4  # complete trials for importances


def check_out(out: Path, name: str) -> None:
    """Raise TrainingError when the folder holds the results of another study, or files that no
    search has made and this one would replace.
    """
    path = out / "search.json"
    if path.exists():
        with suppress(ValueError, AttributeError):
            other = json.loads(path.read_text(encoding="utf-8")).get("study", name)
            if other != name:
                raise TrainingError(
                    f"{out} holds the results of the study '{other}', which those of '{name}' "
                    "would replace; give another --out."
                )
        return
    begun = any((out / own).exists() for own in ("study.db", "study.journal", "trials"))
    for place in (out / "index.html", out / "best"):
        if place.exists() and not begun:
            raise TrainingError(
                f"{place} exists and is of no search, which would replace it; give another --out."
            )


def ranked(study: Any) -> list[Any]:
    """Complete trials, the best first; for several objectives those on the Pareto front alone."""
    complete = optuna().trial.TrialState.COMPLETE
    if len(study.directions) > 1:
        return sorted(study.best_trials, key=original)
    done = [t for t in study.get_trials(deepcopy=False) if t.state == complete]
    sign = 1 if study.direction == optuna().study.StudyDirection.MINIMIZE else -1
    return sorted(done, key=lambda t: (sign * t.value, original(t)))


def trim(study: Any, out: Path, keep: int) -> None:
    """Delete model files and checkpoints of finished trials but the best `keep`, or the Pareto
    front; recipe, log and scores stay.
    """
    best = ranked(study)
    kept = {original(t) for t in (best if len(study.directions) > 1 else best[:keep])}
    for trial in counted(study.get_trials(deepcopy=False)):
        if trial.state.is_finished() and original(trial) not in kept:
            folder = trial_folder(out, original(trial))
            for path in folder.glob("**/checkpoints"):
                shutil.rmtree(path, ignore_errors=True)
            for path in folder.glob(f"**/{MODEL}"):
                with suppress(OSError):
                    path.unlink()


def summary(study: Any, recipe: Recipe, space: Space) -> dict[str, Any]:
    """Everything the report shows, JSON-able."""
    about = study.user_attrs["search"]
    names = about["objectives"]
    trials = sorted(counted(study.get_trials(deepcopy=False)), key=original)
    return {
        "format": FORMAT,
        "study": study.study_name,
        "recipe": recipe.name,
        "steps": recipe.training.steps,
        "seed": about["seed"],
        "data": about["data"],
        "objectives": [
            {"name": n, "label": OBJECTIVES[n].label, "direction": OBJECTIVES[n].direction}
            for n in names
        ],
        "space": {
            key: {
                **dimension.model_dump(mode="json", exclude_none=True),
                "recipe": value_at(recipe, key),
            }
            for key, dimension in space.items()
        },
        "trials": [_entry(trial, space) for trial in trials],
        "best": [original(t) for t in ranked(study)][: None if len(names) > 1 else 1],
        "importances": _importances(study, names),
    }


def _entry(trial: Any, space: Space) -> dict[str, Any]:
    attributes = trial.user_attrs
    return {
        "number": original(trial),
        "state": _STATES.get(trial.state.name, "waiting"),
        # Optuna gives a trial that was stopped early its last score, on other showers.
        "values": trial.values if trial.state.name == "COMPLETE" else None,
        "params": {k: space[k].labels().get(v, v) for k, v in trial.params.items() if k in space},
        "figures": attributes.get("figures", {}),
        "early": {str(k): v for k, v in sorted(trial.intermediate_values.items())},
        "sentence": attributes.get(SENTENCE) or _lost(trial),
        "seconds": attributes.get("seconds"),
        "host": attributes.get("host", ""),
        "retries": len(trial.system_attrs.get("retry_history", [])),
    }


def _lost(trial: Any) -> str:
    """Why a trial failed that could not say so itself; "" for any other trial."""
    often = trial.system_attrs.get(LOSSES, 0) >= MOST_RETRIES
    gone = trial.state == optuna().trial.TrialState.FAIL and often
    return f"Its worker died {MOST_RETRIES + 1} times: the trial may be why." if gone else ""


def _importances(study: Any, names: list[str]) -> dict[str, dict[str, float]]:
    """Share of each key in the spread of each objective (PED-ANOVA, S. Watanabe et al.,
    arXiv:2304.10255); empty for too few trials, and for values that are all alike.
    """
    if len(ranked(study)) == 0:
        return {}
    importances: dict[str, dict[str, float]] = {}
    state = optuna().trial.TrialState.COMPLETE
    done = study.get_trials(deepcopy=False, states=(state,))
    for index, name in enumerate(names):
        values = {t.values[index] for t in done}
        if len(done) < _ENOUGH or len(values) < 2:
            continue
        # PED-ANOVA looks at the lowest values, so an objective that should be high is negated.
        sign = 1.0 if OBJECTIVES[name].direction == "minimize" else -1.0
        with suppress(ValueError, RuntimeError), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna().importance.get_param_importances(
                study,
                evaluator=optuna().importance.PedAnovaImportanceEvaluator(),
                target=lambda t, k=index, sign=sign: sign * t.values[k],
            )
            importances[name] = {k: float(v) for k, v in shares.items() if math.isfinite(v)}
    return importances


def write_results(study: Any, out: Path, recipe: Recipe, space: Space) -> dict[str, Any]:
    """Write `out`/search.json and `out`/best: recipe and, where it was trained here, generator.

    For several objectives best/NNN for every trial of the Pareto front.
    """
    content = summary(study, recipe, space)
    write_text(out / "search.json", json.dumps(content, indent=1, allow_nan=False) + "\n")
    chosen = ranked(study) if len(study.directions) > 1 else ranked(study)[:1]
    current = {out / "best" / f"{original(t):03d}" for t in chosen}
    if len(study.directions) > 1:
        for old in (out / "best").glob("[0-9]*"):
            if old not in current:
                shutil.rmtree(old, ignore_errors=True)
    for trial in chosen:
        number = original(trial)
        place = out / "best"
        place = place / f"{number:03d}" if len(study.directions) > 1 else place
        seed = study.user_attrs["search"]["seed"] + number
        text = dump_recipe(trial_recipe(recipe, space, trial.params, seed))
        model = trial_folder(out, number) / MODEL
        if model.exists():
            with atomic_path(place / MODEL) as temporary:
                shutil.copyfile(model, temporary)
        else:  # trained on another machine; an older best must not pass for it
            with suppress(OSError):
                (place / MODEL).unlink()
        write_text(place / "recipe.toml", text)
    return content
