"""Transfer learning: a training that begins from a trained generator, with parts of the model that
keep their weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import nn

from caloforge.config import Recipe
from caloforge.detector.same import check_same_read_out
from caloforge.errors import ModelError, TrainingError, did_you_mean
from caloforge.models.base import Phase, ShowerModel
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import normals
from caloforge.pretrained import resolve_model
from caloforge.showers import Showers
from caloforge.training.average import evaluating

PROBED = 16  # showers by which two generators are compared


@dataclass(frozen=True)
class Start:
    """The trained generator that a training begins from, and what the run calls it."""

    name: str
    file: ModelFile


def load_start(source: str | Path) -> Start:
    """Read a generator, given as `load_model` takes it; it is called by its recipe, its step and
    the digest of the file.

    Raises ModelError for a file that is none.
    """
    path = resolve_model(source)
    file = load_model(path)
    recipe = file.about.get("recipe", {}).get("name", "a generator")
    step = file.about.get("chosen", {}).get("step", "unknown")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return Start(f"{recipe}, step {step}, sha256 {digest[:16]}", file)


def check_start(start: Start, recipe: Recipe, showers: Showers) -> None:
    """Raise TrainingError unless the generator is of the showers' read-out and the recipe's model
    and transform.
    """
    model, made_by = start.file.model, start.file.about.get("recipe", {})
    check_same_read_out(
        model.geometry,
        showers.geometry,
        (f"The generator to begin from ({start.name}) is of", "the showers are of"),
        "choose another --init or other --data",
        TrainingError,
    )
    asked = {
        "model": recipe.model["name"],
        **{f"transform.{key}": value for key, value in recipe.transform.items()},
    }
    held = {
        "model": start.file.about["model"],
        **{f"transform.{key}": v for key, v in made_by.get("transform", {}).items()},
    }
    for key in sorted(asked.keys() | held.keys()):
        if asked.get(key) != held.get(key):
            raise TrainingError(
                f"The generator to begin from ({start.name}) was made with {key} = "
                f"{held.get(key)!r}, the recipe has {asked.get(key)!r}; expected the same: begin "
                "with the recipe of that generator."
            )


def take_over(model: ShowerModel, start: Start, showers: Showers) -> None:
    """Give `model` the weights of the trained generator, in place; parts that only training needs,
    such as critics, keep their fresh ones.

    Raises TrainingError naming the first weight that does not fit, or the hyper-parameters with
    which the weights make other showers, at conditions of `showers`.
    """
    state = start.file.model.generator_state()
    expected = model.generator_state()
    for key in sorted(state.keys() | expected.keys()):
        shapes = [tuple(s[key].shape) if key in s else None for s in (state, expected)]
        if shapes[0] != shapes[1]:
            raise TrainingError(
                f"The weight {key} has the shape {shapes[0]} in the generator to begin from "
                f"({start.name}) and {shapes[1]} in the recipe's model; expected the same: give "
                "the recipe the sizes of that generator."
            )
    model.load_state_dict(state, strict=False)
    _check_same_generator(model, start, showers.conditions)


def _check_same_generator(model: ShowerModel, start: Start, conditions: NDArray[Any]) -> None:
    """Raise TrainingError when `model` makes other showers of the same weights: a hyper-parameter
    of the generator, such as an activation, need not have a weight.
    """
    begun = start.file.model
    there, here = begun.hyper.to_dict(), model.hyper.to_dict()
    changed = [key for key in here if here[key] != there[key]]
    if not changed:
        return
    condition = torch.from_numpy(conditions[:: -(-len(conditions) // PROBED)]).float()
    noise = torch.from_numpy(normals(0, 0, len(condition), begun.noise_size))
    with torch.no_grad(), evaluating(model):
        if model.noise_size == begun.noise_size:
            first, second = (one.sample(condition, noise) for one in (begun, model))
            if torch.allclose(first, second, rtol=1e-4, atol=1e-6 * float(first.max())):
                return
    what = ", ".join(f"model.{k} = {there[k]!r} (the recipe: {here[k]!r})" for k in changed)
    raise TrainingError(
        f"The weights of the generator to begin from ({start.name}) make other showers in the "
        f"recipe's model than in its own, which has {what}; expected the same but for critics, "
        "losses and optimisers: give the recipe the values of that generator."
    )


def freeze(model: nn.Module, parts: Iterable[str]) -> None:
    """Weights of the named sub-modules stay as they are, in place.

    Raises ModelError for a name the model does not have, naming the nearest, or a part without
    weights.
    """
    named = {
        name: part for name, part in model.named_modules() if any(True for _ in part.parameters())
    }
    named.pop("", None)
    for name in parts:
        if name not in named:
            top = [n for n in named if "." not in n]
            near = did_you_mean(name, named)
            hint = near if near.startswith("did") else did_you_mean("", top)
            raise ModelError(f"The model has no part '{name}' with weights to freeze: {hint}")
        named[name].requires_grad_(False)


def trainable(phase: Phase) -> Phase | None:
    """The phase without frozen parameters; None when none is left."""
    kept = [k for k, parameter in enumerate(phase.parameters) if parameter.requires_grad]
    if not kept:
        return None
    return replace(
        phase,
        parameters=[phase.parameters[k] for k in kept],
        rates=tuple(phase.rates[k] for k in kept) if phase.rates else (),
    )


def still(model: nn.Module) -> list[nn.Module]:
    """The frozen parts, whose batch statistics must not change either."""
    return [
        part
        for part in model.modules()
        if any(True for _ in part.parameters())
        and not any(parameter.requires_grad for parameter in part.parameters())
    ]
