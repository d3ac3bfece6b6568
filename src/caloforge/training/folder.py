"""What the folder of a run may hold when a training begins or goes on in it."""

from __future__ import annotations

from pathlib import Path

from caloforge.config import Recipe, load_recipe
from caloforge.errors import TrainingError
from caloforge.files import check_folder
from caloforge.training.readme import FILES, HEADING

# What may change when a training is resumed: the words about it, how long it goes on, how its
# weights are averaged, and what it writes.
_WORDS = ("description", "source")
_MAY_CHANGE = (
    "steps",
    "cooldown",
    "ema",
    "checkpoint_every",
    "keep",
    "log_every",
    "stagnation",
)


def has_begun(out: Path, resume: bool) -> bool:
    """Whether `out` holds a training. Raises TrainingError when it does and may not be resumed,
    and when a file of another origin is there that a training would replace; CaloForgeError when
    nothing can be written there.
    """
    check_folder(out)
    ours = _holds_readme(out)
    begun = any(out.glob("**/checkpoints/step-*.safetensors"))
    begun = begun or (ours and (out / "model.safetensors").exists())
    if begun and not resume:
        raise TrainingError(
            f"{out} already holds a training; give --resume to continue it, or another --out."
        )
    if not (begun or ours):
        for folder in (out, *sorted(out.glob("range*"))):
            for name in ("README.md", *FILES):
                if (folder / name).is_file():
                    raise TrainingError(
                        f"{out} holds no training, and {folder / name} would be replaced by one; "
                        "expected a new or empty folder: give another --out."
                    )
    return begun


def _holds_readme(out: Path) -> bool:
    """Whether a training has left its README.md in `out`: it is written before the first
    checkpoint, which may never have come.
    """
    try:
        with (out / "README.md").open("rb") as file:
            return file.read(len(HEADING)) == HEADING.encode()
    except OSError:
        return False


def check_same(recipe: Recipe, path: Path) -> None:
    """Raise TrainingError when the run to resume was begun with other settings than `recipe`."""
    if not path.exists():
        return
    old, new = load_recipe(path).model_dump(), recipe.model_dump()
    for plain in (old, new):
        for key in _WORDS:
            del plain[key]
        for key in _MAY_CHANGE:
            del plain["training"][key]
    for table, values in new.items():
        if old[table] != values:
            what = table
            if isinstance(values, dict):
                both = {**old[table], **values}
                what += "." + next(k for k in both if old[table].get(k) != values.get(k))
            raise TrainingError(
                f"The training in {path.parent} was begun with another {what} (see its "
                f"{path.name}); resume with the same recipe and --set, or give another --out."
            )
