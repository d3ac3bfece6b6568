"""Recipes: everything that defines a training, in one TOML file; an unknown key is an error naming
the nearest valid one.
"""

from __future__ import annotations

import ast
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from caloforge.errors import RecipeError, did_you_mean


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Selection(_Strict):
    """How the generator to keep is chosen, from scores on the held-out showers.

    The scores are chi2/NDF of the total energy and, where it chooses, PRD-AUC (the smaller of that
    of the cells and that of the observables). A model whose training simply converges has
    chi2/NDF at the floor early, where the lowest is merely the luckiest: "newest" keeps the last
    generator. "lowest-wasserstein" compares the total energy without bins, for few held-out
    showers an energy. "lowest-loss" is for a model of one phase whose loss tells how well it does:
    a likelihood, a squared error.
    """

    keep: Literal[
        "lowest-chi2", "lowest-wasserstein", "highest-prd-auc", "lowest-loss", "newest"
    ] = "lowest-chi2"
    every: int = Field(default=1000, ge=1)
    repeats: int = Field(default=8, ge=1)  # generated samples, each as large as the held-out one
    minimum: int = Field(default=20, ge=5)  # held-out showers an energy point needs to count
    range_rms: tuple[float, float] = (3.0, 3.0)


class Training(_Strict):
    """Length, batches and bookkeeping of a training."""

    steps: int = Field(ge=1)
    cooldown: int = Field(default=0, ge=0)  # last steps, in which all learning rates fall to zero
    batch_size: int = Field(ge=2)
    seed: int = Field(0, ge=0, lt=2**63)
    # "auto": bf16-mixed where the hardware multiplies matrices in bfloat16, else 32-true.
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "32-true"
    holdout: float = Field(default=0.1, gt=0.0, lt=0.9)
    augment: tuple[str, ...] = ()
    freeze: tuple[str, ...] = ()  # parts that keep the weights of the generator begun from
    gradient_clip: float = Field(default=0.0, ge=0.0)  # largest norm; 0: no clipping
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)  # decay of the average; 0: no averaging
    # Loss and gradients of each player as one compiled graph: minutes at the start, then faster.
    compile: bool = False
    checkpoint_every: int = Field(default=1000, ge=1)
    keep: int = Field(default=2, ge=1)  # checkpoints kept
    log_every: int = Field(default=50, ge=1)
    # What to do when the gradients of all players have vanished for good.
    stagnation: Literal["warn", "stop", "off"] = "warn"
    selection: Selection = Selection()

    def pace(self, step: int) -> float:
        """Factor of all learning rates after `step` steps: 1 until the cooldown begins, then down
        to zero in a straight line.
        """
        return min(1.0, (self.steps - step) / self.cooldown) if self.cooldown else 1.0


class AtMost(_Strict):
    """The largest number of showers at one incident energy (MeV)."""

    energy: float = Field(gt=0.0)
    showers: int = Field(ge=1)


class Data(_Strict):
    """What of a file of showers the training, its held-out part included, is shown."""

    leave_out: tuple[float, ...] = ()  # incident energies in MeV that are never shown
    at_most: tuple[AtMost, ...] = ()
    average: int = Field(default=1, ge=1)  # showers that are averaged to one; 1: none


class Recipe(_Strict):
    """A training: model and hyper-parameters, transform, geometry, showers, loop settings, and
    where they come from.
    """

    name: str
    description: str
    source: str
    geometry: str
    model: dict[str, Any]
    transform: dict[str, Any] = Field(default_factory=lambda: {"name": "incident-fraction"})
    data: Data = Data()
    training: Training

    def hyper(self) -> dict[str, Any]:
        """The model's hyper-parameters: the table [model] without its name."""
        return {k: v for k, v in self.model.items() if k != "name"}


def recipe_names() -> list[str]:
    """Names of the recipes shipped with the package."""
    folder = resources.files("caloforge") / "recipes"
    return sorted(
        f.name.removesuffix(".toml") for f in folder.iterdir() if f.name.endswith(".toml")
    )


def load_recipe(source: str | Path, overrides: list[str] | tuple[str, ...] = ()) -> Recipe:
    """Recipe by shipped name or TOML file, with `--set key=value` overrides applied.

    Raises RecipeError with one sentence for an unknown name, broken TOML, an unknown key (naming
    the nearest valid one) or a value of the wrong type.
    """
    if str(source) in recipe_names():
        path = resources.files("caloforge") / "recipes" / f"{source}.toml"
        text = path.read_text(encoding="utf-8")
    elif Path(source).suffix == ".toml":
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"Cannot read the recipe {source}: {error}.") from error
    elif Path(source).exists():
        raise RecipeError(
            f"{source} does not end in .toml; expected a recipe file such as `caloforge recipes "
            "NAME` prints, or the name of a shipped recipe."
        )
    else:
        raise RecipeError(
            f"Unknown recipe '{source}': {did_you_mean(str(source), recipe_names())}"
        )
    try:
        plain = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"The recipe {source} is not valid TOML: {error}.") from error
    for override in overrides:
        _override(plain, override)
    return parse_recipe(plain)


def parse_recipe(plain: dict[str, Any]) -> Recipe:
    """Recipe from plain values. Raises RecipeError naming the key that is wrong."""
    try:
        recipe = Recipe.model_validate(_tuples(plain))
    except ValidationError as error:
        wrong = error.errors()
        # A misspelt key tells more than that the right one is missing.
        first = next((e for e in wrong if e["type"] == "extra_forbidden"), wrong[0])
        where = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            hint = did_you_mean(str(first["loc"][-1]), _keys_at(first["loc"][:-1]))
            raise RecipeError(f"Unknown recipe key '{where}': {hint}") from error
        raise RecipeError(
            f"Recipe key '{where}' is wrong: {first['msg']} (got {first['input']!r})."
        ) from error
    for table in ("model", "transform"):
        if not isinstance(getattr(recipe, table).get("name"), str):
            raise RecipeError(f'The recipe\'s table [{table}] has no name; expected name = "...".')
    return recipe


def dump_recipe(recipe: Recipe) -> str:
    """TOML text of the recipe with every default written out."""
    import tomli_w

    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def _keys_at(location: tuple[int | str, ...]) -> list[str]:
    kind: Any = Recipe
    for part in location:
        kind = get_args(kind)[0] if isinstance(part, int) else kind.model_fields[part].annotation
    return list(kind.model_fields)


def _tuples(value: Any) -> Any:
    """TOML has lists only; the settings are frozen and hold tuples. Tables of the model keep their
    lists.
    """
    if not isinstance(value, dict):
        return value
    plain = dict(value)
    for table in ("data", "training"):
        if isinstance(plain.get(table), dict):
            plain[table] = _lists_to_tuples(plain[table])
    return plain


def _lists_to_tuples(table: dict[str, Any]) -> dict[str, Any]:
    return {
        key: tuple(value)
        if isinstance(value, list)
        else _lists_to_tuples(value)
        if isinstance(value, dict)
        else value
        for key, value in table.items()
    }


def _override(plain: dict[str, Any], override: str) -> None:
    key, sign, text = override.partition("=")
    if not sign:
        raise RecipeError(
            f"Got --set {override}; expected key=value, for example training.batch_size=256."
        )
    try:
        value = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        value = {"true": True, "false": False}.get(text, text)
    *tables, last = key.strip().split(".")
    place = plain
    for table in tables:
        place = place.setdefault(table, {})
        if not isinstance(place, dict):
            raise RecipeError(f"Got --set {override}; '{table}' is a value, not a table.")
    place[last] = value
