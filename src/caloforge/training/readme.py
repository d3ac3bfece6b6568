"""README.md of a run folder: what was trained on what, the command, and what every file is."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import caloforge
from caloforge.config import Recipe
from caloforge.files import write_text

HEADING = "# Training of "  # the beginning of every README.md of a run, which tells it apart
FILES = {
    "model.safetensors": "the chosen generator: all that `caloforge generate` needs",
    "recipe.toml": "every setting of the training, defaults included",
    "log.jsonl": "losses, norms of gradients (before clipping) and speed: one line of JSON each "
    "`log_every` steps",
    "selection.json": "scores of the generator on the held-out showers; `kept`: it became the "
    "chosen one",
    "tensorboard/": "the same numbers as event files: `tensorboard --logdir .`",
    "checkpoints/": "the newest states of the training, for `--resume`; may be deleted when it "
    "is finished",
    "index.html": "curves and settings as a page; written when the command ends",
}


def write_readme(
    out: Path,
    recipe: Recipe,
    read_out: str,
    trained_on: dict[str, Any],
    ranges: int,
    device: str,
    precision: str,
    notes: Sequence[str] = (),
) -> None:
    """Write `out`/README.md; nothing in it depends on the machine's paths or names.

    Parameters
    ----------
    read_out
        Name of the geometry of the showers.
    trained_on
        `showers` and `held_out` (how many), `file` where known, and what the showers say of
        their origin.
    ranges
        Parts of a model split in energy, each trained in a folder of its own.
    device, precision
        On what kind of device and in which precision the training runs.
    notes
        Sentences on the showers as the model sees them: `Transform.notes`.
    """
    counts = ("showers", "held_out", "file")
    origin = [f"- {key}: {value}" for key, value in trained_on.items() if key not in counts]
    source = trained_on.get("file")
    begun = " --init MODEL" if "init" in trained_on else ""
    split = [
        f"The model is split in energy: `range0` to `range{ranges - 1}` are the trainings of its "
        "parts, each with such files; `model.safetensors` here joins the chosen generators.",
        "",
    ]
    steps = recipe.training.steps
    going_on = f"With `--resume --out .` this training is continued to {steps:,} steps"
    if steps == 1:
        going_on = "It takes one step, in which the model is fitted"
    lines = [
        f"{HEADING}{recipe.name}",
        "",
        recipe.description + ".",
        "",
        "```",
        f"caloforge train recipe.toml --data {source or 'SHOWERS'}{begun} --out NEW_FOLDER",
        "```",
        "",
        f"trains it again. {going_on}, seed {recipe.training.seed}.",
        "",
        "## Showers",
        "",
        f"{trained_on['showers']:,} for training and {trained_on['held_out']:,} held out to "
        f"choose the generator, of {read_out}" + (f", from `{source}`." if source else "."),
        *(["", *origin] if origin else []),
        *(["", *notes] if notes else []),
        "",
        "## Files",
        "",
        *(split if ranges > 1 else []),
        "| file | what it is |",
        "|---|---|",
        *(f"| `{name}` | {what} |" for name, what in FILES.items()),
        "",
        "## Made with",
        "",
        f"CaloForge {caloforge.__version__}, PyTorch {torch.__version__}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}, on {device} in {precision}.",
        "",
    ]
    write_text(out / "README.md", "\n".join(lines))
