"""What a search varies: recipe keys with a range or with choices, checked against the recipe
before the first trial.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import tomllib
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from caloforge.config import Recipe, Training, parse_recipe
from caloforge.detector.shipped import load_geometry
from caloforge.errors import CaloForgeError, RecipeError, did_you_mean
from caloforge.models import make_model, model_class
from caloforge.models.hyper import OptimiserSettings
from caloforge.transforms import TRANSFORMS

Number = int | float
# With another length, seed or held-out part the scores of two trials would not compare.
_FIXED = ("steps", "seed", "holdout", "checkpoint_every", "keep", "log_every", "selection")


class Dimension(BaseModel):
    """The values of one recipe key: `low` to `high` (whole numbers where both are), evenly in the
    logarithm with `log`, in steps of `step`; or one of `choices`.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    low: Number | None = None
    high: Number | None = None
    log: bool = False
    step: Number | None = None
    choices: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _one_or_the_other(self) -> Dimension:
        if self.choices is not None:
            if (self.low, self.high, self.log, self.step) != (None, None, False, None):
                raise ValueError("expected either low and high or choices, not both")
            if len(self.labels()) < 2 or len(self.labels()) != len(self.choices):
                raise ValueError("expected at least two choices, each once")
            return self
        if self.low is None or self.high is None or not self.low < self.high:
            raise ValueError("expected low < high, or choices")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range must be above 0 and has no step")
        if self.step is not None and not 0 < self.step <= self.high - self.low:
            raise ValueError("expected a step above 0 and not larger than the range")
        if self.whole and isinstance(self.step, float):
            raise ValueError("expected a whole step, as low and high are whole numbers")
        return self

    @property
    def whole(self) -> bool:
        """Whether the values are whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def labels(self) -> dict[Any, Any]:
        """Choice as a database keeps it -> value: lists and tables as text."""
        plain = (str, int, float, bool)
        return {c if isinstance(c, plain) else json.dumps(c): c for c in self.choices or ()}

    def ends(self) -> tuple[Any, ...]:
        """Values to try before the search: both ends, or all choices."""
        return self.choices if self.choices is not None else (self.low, self.high)


Space = dict[str, Dimension]


def write_out(recipe: Recipe) -> Recipe:
    """The recipe with every hyper-parameter that it leaves to the model's defaults written out, so
    that setting one number of an optimiser keeps its others.
    """
    if recipe.geometry is None:
        raise RecipeError(
            f"The recipe {recipe.name} names no geometry, which a search needs; add --set "
            "geometry=NAME, or the name of a geometry file."
        )
    geometry = load_geometry(recipe.geometry)
    with torch.random.fork_rng(devices=[]):
        model = make_model(recipe.model["name"], geometry, None, **recipe.hyper())
    hyper = model.hyper.to_dict()
    parts = [part.model.hyper.to_dict() for part in model.energy_ranges()]
    if len(parts) > 1:
        for part in parts:
            part.pop("label_range", None)  # follows from the edges
        hyper |= {"low": parts[0], "high": parts[-1]}
        hyper |= {"middle": parts[1]} if len(parts) > 2 else {}
    plain = recipe.model_dump()
    # As a recipe file would give it: lists, and no key without a value.
    plain["model"] = _without_none(json.loads(json.dumps({**plain["model"], **hyper})))
    return parse_recipe(plain)


def load_space(recipe: Recipe, source: str | Path | None = None) -> Space:
    """The space of a search: the table [search] of a TOML file, or the one shipped for the
    recipe's model. Keys are recipe keys, such as "model.latent"; `recipe` is written out.

    Raises
    ------
    RecipeError
        For a file that cannot be read, an unknown key (naming the nearest valid one), a key that
        cannot be searched, or values that the recipe cannot take.
    """
    text, what = _text(recipe, source)
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"The search space {what} is not valid TOML: {error}.") from error
    if source is None:
        tables = {"search": tables.get(recipe.model["name"], {})}
    if set(tables) != {"search"} or not tables["search"]:
        raise RecipeError(
            f"The search space {what} has the tables {sorted(tables)}; expected [search] with at "
            "least one line such as model.latent = { low = 16, high = 256, log = true }."
        )
    space = {key: _dimension(key, value) for key, value in _leaves(tables["search"]).items()}
    check_space(recipe, space)
    return space


def check_space(recipe: Recipe, space: Space) -> None:
    """Raise RecipeError when a key or a value of the space does not suit the recipe."""
    valid = searchable_keys(recipe)
    for key, dimension in space.items():
        if key not in valid:
            fixed = key.removeprefix("training.").partition(".")[0] in _FIXED
            why = "scores would not compare." if fixed else did_you_mean(key, valid)
            raise RecipeError(f"The recipe key '{key}' cannot be searched: {why}")
        for value in dimension.ends():
            try:
                _check(apply(recipe, {key: value}), key)
            except CaloForgeError as error:
                raise RecipeError(
                    f"The search space has {value!r} for '{key}', which the recipe cannot take: "
                    f"{error}"
                ) from error


def searchable_keys(recipe: Recipe) -> list[str]:
    """Recipe keys that a search may vary, dotted."""
    transform = inspect.signature(TRANSFORMS[recipe.transform["name"]].fit).parameters
    keys = [f"model.{key}" for key in _hyper_keys(recipe.hyper())]
    keys += [f"transform.{key}" for key in transform if key != "showers"]
    return keys + [f"training.{key}" for key in Training.model_fields if key not in _FIXED]


def apply(recipe: Recipe, values: dict[str, Any]) -> Recipe:
    """The recipe with other values at dotted keys. Raises RecipeError for one it cannot take."""
    plain = recipe.model_dump()
    for key, value in values.items():
        *tables, last = key.split(".")
        place = plain
        for table in tables:
            place[table] = dict(place.get(table, {}))
            place = place[table]
        place[last] = value
    return parse_recipe(plain)


def value_at(recipe: Recipe, key: str) -> Any:
    """The recipe's own value at a dotted key; None where it has none."""
    plain: Any = recipe.model_dump()
    for part in key.split("."):
        plain = plain.get(part) if isinstance(plain, dict) else None
    return list(plain) if isinstance(plain, tuple) else plain


def _text(recipe: Recipe, source: str | Path | None) -> tuple[str, str]:
    if source is None:
        path = resources.files("caloforge") / "search" / "spaces.toml"
        return path.read_text(encoding="utf-8"), f"of the model '{recipe.model['name']}'"
    try:
        return Path(source).read_text(encoding="utf-8"), str(source)
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"Cannot read the search space {source}: {error}.") from error


def _leaves(table: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> innermost table. TOML reads model.latent = {...} as nested tables."""
    if not isinstance(table, dict):
        return {prefix: table}
    inner = any(isinstance(value, dict) for value in table.values())
    if not inner and set(table) & set(Dimension.model_fields):
        return {prefix: table}
    leaves: dict[str, Any] = {}
    for key, value in table.items():
        leaves |= _leaves(value, f"{prefix}.{key}" if prefix else key)
    return leaves


def _dimension(key: str, value: Any) -> Dimension:
    if isinstance(value, dict) and isinstance(value.get("choices"), list):
        value = {**value, "choices": tuple(value["choices"])}
    try:
        return Dimension.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            wrong = str(first["loc"][-1])
            reason = f"unknown key '{wrong}', {did_you_mean(wrong, Dimension.model_fields)}"
        end = "" if reason.endswith((".", "?")) else "."
        raise RecipeError(f"The search space is wrong at '{key}': {reason}{end}") from error


def _check(recipe: Recipe, key: str) -> None:
    """Raise ModelError when the model cannot take the value at `key`."""
    tables = key.split(".")[:-1]
    if tables[0] != "model":
        return
    if tables[-1].endswith("optimiser"):
        table: Any = recipe.model_dump()
        for part in tables:
            table = table[part]
        OptimiserSettings.of(table)
    elif len(tables) == 1:
        model_class(recipe.model["name"]).hyper_class.of(recipe.hyper())
    else:  # inside a part, which only the model itself can check
        write_out(recipe)


def _hyper_keys(table: dict[str, Any]) -> list[str]:
    keys: list[str] = []
    for key, value in table.items():
        if key.endswith("optimiser"):
            keys += [f"{key}.{f.name}" for f in dataclasses.fields(OptimiserSettings)]
        elif isinstance(value, dict):
            keys += [f"{key}.{inner}" for inner in _hyper_keys(value)]
        else:
            keys.append(key)
    return keys


def _without_none(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {k: _without_none(v) for k, v in value.items() if v is not None}
