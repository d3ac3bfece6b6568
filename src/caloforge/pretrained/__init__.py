"""Trained generators shipped with the package, each with its results and its command."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from caloforge.errors import ModelError, did_you_mean


def _folder() -> Path:
    return Path(str(resources.files("caloforge.pretrained")))


def pretrained_names() -> list[str]:
    """Names of the shipped generators."""
    return sorted(path.parent.name for path in _folder().glob("*/model.safetensors"))


def left_out_names() -> list[str]:
    """Names of generators that this installation lacks.

    The wheel carries the page of every generator, but only some of the generators (see
    `package-data` in pyproject.toml), so that it stays small.
    """
    pages = {path.parent.name for path in _folder().glob("*/README.md")}
    return sorted(pages.difference(pretrained_names()))


def where_left_out(names: list[str]) -> str:
    """One sentence that says which generators the wheel leaves out and where they are."""
    return (
        f"The wheel leaves out {', '.join(names)}; get them from src/caloforge/pretrained of the "
        "source archive (sdist) or the repository, and give the path of the model.safetensors."
    )


def pretrained_summary(name: str) -> str:
    """One line about a shipped generator: its recipe's description and its training steps.

    The description is that of the recipe in this version of the package; model files keep the
    words of the version that trained them.
    """
    from safetensors import safe_open

    with safe_open(_folder() / name / "model.safetensors", framework="numpy") as file:
        about = json.loads(file.metadata()["caloforge-model"])
    step = about.get("chosen", {}).get("step")
    description = shipped_description(name, about["recipe"]["description"])
    if not step:
        return description
    return f"{description} ({step:,} {'step' if step == 1 else 'steps'})"


def shipped_description(name: str, stored: str) -> str:
    """The description of the shipped recipe of this name; `stored` where there is none."""
    from caloforge.config import load_recipe, recipe_names

    return load_recipe(name).description if name in recipe_names() else stored


def resolve_model(source: str | Path) -> Path:
    """Path of a model file, given the path or the name of a shipped generator.

    Raises ModelError when there is neither, naming the nearest shipped generator.
    """
    path = Path(source)
    if path.is_dir() and (path / "model.safetensors").exists():
        return path / "model.safetensors"
    if path.is_dir():
        raise ModelError(
            f"The folder {source} holds no model.safetensors; give that of a finished training."
        )
    if path.exists():
        return path
    if str(source) in pretrained_names():
        return _folder() / str(source) / "model.safetensors"
    if str(source) in left_out_names():
        raise ModelError(where_left_out([str(source)]))
    if path.suffix or len(path.parts) > 1:
        raise ModelError(
            f"There is no model file {source}; give the model.safetensors of a training."
        )
    raise ModelError(
        f"There is no model file '{source}' and no such shipped generator: "
        f"{did_you_mean(str(source), pretrained_names())}"
    )
