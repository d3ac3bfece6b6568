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


def pretrained_summary(name: str) -> str:
    """One line about a shipped generator: its recipe's description and its training steps."""
    from safetensors import safe_open

    with safe_open(_folder() / name / "model.safetensors", framework="numpy") as file:
        about = json.loads(file.metadata()["caloforge-model"])
    step = about.get("chosen", {}).get("step")
    return about["recipe"]["description"] + (f" ({step:,} steps)" if step else "")


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
    if path.suffix or len(path.parts) > 1:
        raise ModelError(
            f"There is no model file {source}; give the model.safetensors of a training."
        )
    raise ModelError(
        f"There is no model file '{source}' and no such shipped generator: "
        f"{did_you_mean(str(source), pretrained_names())}"
    )
