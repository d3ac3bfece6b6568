"""The page about one generator: what it is, its recipe, its trained ranges, its traversals."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from caloforge.generate.traversal import LATENTS, traverse
from caloforge.models.base import ShowerModel
from caloforge.models.file import ModelFile
from caloforge.pretrained import shipped_description
from caloforge.report.blocks import Cell, Section, Table
from caloforge.report.page import write_page
from caloforge.report.traversal import Traversal, traversal_section

STEPS = 5


def traversals(
    file: ModelFile, steps: int = STEPS, latents: int = LATENTS, seed: int = 0
) -> list[Traversal]:
    """Along every condition that is no category, over its trained range (see `traverse`)."""
    traversed = []
    for condition in file.model.geometry.conditions:
        low, high = file.condition_range[condition.name]
        if condition.scale == "category" or not high > low:
            continue
        space = np.geomspace if condition.scale == "log" else np.linspace
        values = np.clip(space(low, high, steps), low, high)
        showers = traverse(file, condition.name, values, latents, seed)
        traversed.append(Traversal(file.model.geometry, condition.name, values, showers, latents))
    return traversed


def write_model_page(file: ModelFile, name: str, out: str | Path) -> Path:
    """A page about a generator: what it is, its recipe, trained ranges, and its traversals."""
    section = Section("The generator", tables=generator_tables(file))
    sections = [section, traversal_section(traversals(file))]
    text = _recipe_text(file.about.get("recipe", {}))
    return write_page(out, f"Generator {name}", sections, verbatim=text)


def generator_tables(file: ModelFile) -> tuple[Table, Table]:
    """What a generator is, and the conditions it is asked with, each with its trained range."""
    about, geometry = file.about, file.model.geometry
    recipe = about.get("recipe", {})
    step = about.get("chosen", {}).get("step")
    facts = {
        "model": about.get("model", ""),
        "recipe": recipe.get("name", ""),
        "what it is": shipped_description(recipe.get("name", ""), recipe.get("description", "")),
        "source": recipe.get("source", ""),
        "read-out": f"{geometry.title}, {geometry.n_cells} cells in {geometry.n_layers} layers",
        "parameters": f"{_generator_parameters(file.model):,}",
        "noise of a shower": f"{file.model.noise_size} normal numbers",
        "training steps": "" if step is None else f"{step:,}",
        "seed": str(about.get("seed", "")),
        "versions": ", ".join(f"{k} {v}" for k, v in about.get("versions", {}).items()),
    }
    ranges = [
        (Cell(c.name), Cell(c.label), Cell(f"{low:.7g} to {high:.7g}"), Cell(c.unit))
        for c in geometry.conditions
        for low, high in [file.condition_range[c.name]]
    ]
    return (
        Table(
            "What it is",
            ("property", "value"),
            tuple((Cell(k), Cell(str(v))) for k, v in facts.items() if v),
        ),
        Table(
            "Trained ranges",
            ("condition", "what it is", "range", "unit"),
            tuple(ranges),
            note="Conditions outside are refused unless asked for.",
        ),
    )


def _recipe_text(recipe: dict[str, object]) -> str:
    """The recipe as it stands in the model file; nothing for a file without one."""
    from caloforge.config import dump_recipe, parse_recipe

    return dump_recipe(parse_recipe(recipe)) if recipe else ""


def _generator_parameters(model: ShowerModel) -> int:
    """Parameters without the parts that only training needs."""
    kept = model.generator_state()
    return sum(p.numel() for name, p in model.named_parameters() if name in kept)
