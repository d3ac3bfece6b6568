"""Several runs of one recipe: means over them, and how far one run lies from another.

Trainings of a GAN differ by more than their statistical errors; settings are compared by means
over several seeds (A. Ghosh, D. Rousseau, IN2P3/IRFU ML workshop, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from caloforge.judge.comparison import Comparison

PER_ENERGY = ("response", "resolution")


@dataclass(frozen=True)
class Mean:
    """Mean over `runs` runs, their standard deviation, and the mean of the floors."""

    mean: float
    spread: float
    floor: float | None
    runs: int


@dataclass(frozen=True)
class RecipeRuns:
    """All generators that one recipe made, and the means of their metrics.

    Parameters
    ----------
    recipe
        Name of the recipe.
    names
        Names of the generators.
    metrics
        Key -> mean over the runs of `Comparison.metrics` (at the floor's size).
    per_energy
        Energy in MeV -> means of the generated showers' response and resolution there; the floor
        is the reference's own value.
    """

    recipe: str
    names: tuple[str, ...]
    metrics: dict[str, Mean]
    per_energy: dict[float, dict[str, Mean]] = field(default_factory=dict)


def recipe_runs(comparisons: Sequence[Comparison]) -> list[RecipeRuns]:
    """One entry for each recipe that several of the generators were trained with.

    Which recipe and which seed made a sample is told by its file. Two samples of one training are
    no two runs: recipes with a seed in common among theirs are left out.
    """
    by_recipe: dict[str, list[Comparison]] = {}
    for comparison in comparisons:
        recipe = str(comparison.details.provenance.get("recipe") or "")
        if recipe:
            by_recipe.setdefault(recipe, []).append(comparison)
    return [
        RecipeRuns(recipe, tuple(c.name for c in runs), _metrics(runs), _per_energy(runs))
        for recipe, runs in by_recipe.items()
        if len(runs) > 1 and len({_seed(c) for c in runs}) == len(runs)
    ]


def _seed(comparison: Comparison) -> str:
    return str(comparison.details.provenance.get("training_seed", ""))


def _metrics(runs: Sequence[Comparison]) -> dict[str, Mean]:
    figures = [c.sized for c in runs]
    return {
        key: _mean((f[key].value, f[key].floor) for f in figures)
        for key in figures[0]
        if all(key in f for f in figures)
    }


def _per_energy(runs: Sequence[Comparison]) -> dict[float, dict[str, Mean]]:
    means: dict[float, dict[str, Mean]] = {}
    for energy in runs[0].per_energy:
        points = [run.per_energy[energy] for run in runs if energy in run.per_energy]
        for key in PER_ENERGY:
            values = [getattr(point.generated, key) for point in points]
            floor = getattr(points[0].reference, key)
            if len(points) == len(runs) and all(value is not None for value in values):
                means.setdefault(energy, {})[key] = _mean((v, floor) for v in values)
    return means


def _mean(figures: Iterable[tuple[float, float | None]]) -> Mean:
    pairs = list(figures)
    values, floors = [v for v, _ in pairs], [f for _, f in pairs if f is not None]
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
    floor = sum(floors) / len(floors) if len(floors) == len(pairs) else None
    return Mean(mean, spread, floor, len(values))
