"""Recipes: everything that defines a training, in one TOML file; an unknown key is an error naming
the nearest valid one.
"""

from __future__ import annotations

import ast
import tomllib
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from caloforge.detector.geometry import Geometry
from caloforge.errors import RecipeError, did_you_mean


class _Strict(BaseModel):
    # The sentence under a field is its description, from which the documentation is made.
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True
    )


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
    """Which generator is kept: the one with the best score of this kind, or the newest."""
    every: int = Field(default=1000, ge=1)
    """Number of steps from one score to the next."""
    repeats: int = Field(default=8, ge=1)
    """Number of generated samples of a score, each as large as the held-out one."""
    minimum: int = Field(default=20, ge=5)
    """Fewest held-out showers with which an energy point counts."""
    range_rms: tuple[float, float] = (3.0, 3.0)
    """Range of the histogram of the total energy below and above its mean, in standard deviations
    of the held-out showers."""


class Training(_Strict):
    """Length, batches and bookkeeping of a training."""

    steps: int = Field(ge=1)
    """Number of steps; in one step every player takes its turn."""
    cooldown: int = Field(default=0, ge=0)
    """Number of last steps, in which all learning rates fall to zero in a straight line."""
    batch_size: int = Field(ge=2)
    """Showers of a batch, of all processes together."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of weights, batches, noise and the choice of held-out showers."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "32-true"
    """Precision of the arithmetic; "auto" is bf16-mixed where the hardware multiplies matrices in
    bfloat16, else 32-true."""
    holdout: float = Field(default=0.1, gt=0.0, lt=0.9)
    """Share of the showers that is held out; the generator is chosen on it."""
    augment: tuple[str, ...] = ()
    """Names of exact symmetries of the geometry; each batch is reflected or rotated at random."""
    freeze: tuple[str, ...] = ()
    """Parts that keep the weights of the generator that the training begins from."""
    gradient_clip: float = Field(default=0.0, ge=0.0)
    """Largest norm of a gradient; with 0 gradients are not clipped."""
    ema: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Decay of the running average of the weights, which is then kept; with 0 there is none. Batch
    normalisation is measured anew for the averaged weights."""
    compile: bool = False
    """Whether loss and gradients of each player are compiled to one graph: the training then needs
    minutes to start and goes faster."""
    checkpoint_every: int = Field(default=1000, ge=1)
    """Number of steps from one checkpoint to the next."""
    keep: int = Field(default=2, ge=1)
    """Number of checkpoints kept."""
    log_every: int = Field(default=50, ge=1)
    """Number of steps from one line of the log to the next."""
    stagnation: Literal["warn", "stop", "off"] = "warn"
    """What to do when the gradients of all players have vanished for good."""
    selection: Selection = Selection()
    """How the generator to keep is chosen."""

    @field_validator("precision", mode="before")
    @classmethod
    def _no_small_numbers(cls, precision: Any) -> Any:
        """Numbers of 16 bits with a small exponent lose small gradients unless losses are scaled,
        and the penalties on the slope of a critic, which are gradients themselves, cannot be.
        """
        if precision == "16-mixed":
            raise ValueError(
                "16-mixed loses small gradients, as losses are not scaled here; expected "
                "bf16-mixed, 32-true or auto"
            )
        return precision

    def pace(self, step: int) -> float:
        """Factor of all learning rates after `step` steps: 1 until the cooldown begins, then down
        to zero in a straight line.
        """
        return min(1.0, (self.steps - step) / self.cooldown) if self.cooldown else 1.0


class AtMost(_Strict):
    """The largest number of showers at one incident energy (MeV)."""

    energy: float = Field(gt=0.0)
    """Incident energy in MeV."""
    showers: int = Field(ge=1)
    """Largest number of showers that are shown; the seed chooses them."""


class Data(_Strict):
    """What of a file of showers the training, its held-out part included, is shown."""

    leave_out: tuple[float, ...] = ()
    """Incident energies in MeV that are never shown."""
    at_most: tuple[AtMost, ...] = ()
    """Energies of which only some showers are shown."""
    average: int = Field(default=1, ge=1)
    """Number of showers of one particle and neighbouring energies that are averaged to one; with 1
    none are."""


class Recipe(_Strict):
    """A training: model and hyper-parameters, transform, geometry, showers, loop settings, and
    where they come from.

    A recipe without a geometry trains on showers of any read-out. It may name symmetries that not
    every read-out has; those are then left out, see `suited_to`.
    """

    name: str
    """Name of the recipe; generators of several seeds of one recipe are averaged by it."""
    description: str
    """What the recipe trains, in a line."""
    source: str
    """The publication that the model and its settings come from."""
    geometry: str | None = None
    """Name or file of the read-out; without it the recipe trains on showers of any read-out."""
    model: dict[str, Any]
    """Table with the `name` of a model and its hyper-parameters."""
    transform: dict[str, Any] = Field(default_factory=lambda: {"name": "incident-fraction"})
    """Table with the `name` of a transform from MeV to the space of the model and its settings."""
    data: Data = Data()
    """What of the showers the training is shown."""
    training: Training
    """Length, batches and bookkeeping of the training."""

    def __repr__(self) -> str:
        what = f"{self.model.get('name')} for {self.geometry or 'any read-out'}"
        return f"Recipe('{self.name}': {what}, {self.training.steps:,} steps)"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(dump_recipe(self))}</pre>"

    def hyper(self) -> dict[str, Any]:
        """The model's hyper-parameters: the table [model] without its name."""
        return {k: v for k, v in self.model.items() if k != "name"}


def suited_to(recipe: Recipe, geometry: Geometry) -> Recipe:
    """A recipe that names no geometry, without the symmetries that a read-out lacks; any other
    recipe as it is.
    """
    if recipe.geometry is not None:
        return recipe
    has = {name for name, _ in geometry.symmetries}
    augment = tuple(name for name in recipe.training.augment if name in has)
    training = recipe.training.model_copy(update={"augment": augment})
    return recipe.model_copy(update={"training": training})


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
            f"Recipe key '{where}' is wrong: {first['msg'].removeprefix('Value error, ')} "
            f"(got {first['input']!r})."
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
