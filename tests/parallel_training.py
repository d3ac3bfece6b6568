"""What torchrun runs in test_parallel.py: short trainings, one of them resumed."""

import atexit
import os
import sys
from pathlib import Path

from conftest import sample_showers
from torch import distributed

from caloforge.config import load_recipe
from caloforge.errors import TrainingError
from caloforge.training.train import train, with_settings

STEPS = 4
SETTINGS = (
    "training.log_every=1",
    "training.selection.every=2",
    "training.selection.repeats=1",
    "training.checkpoint_every=2",
    "training.batch_size=8",
)


# Models that look at each shower alone: several processes train them exactly as one does.
ALONE = {"flow-matching": (), "sagan": ("model.thresholds=[]",)}


def short_training(name: str, out: Path, *, steps: int = STEPS, resume: bool = False) -> None:
    settings = (*SETTINGS, *ALONE.get(name, ()))
    recipe = with_settings(load_recipe(f"smoke-{name}", settings), steps=steps)
    train(recipe, sample_showers(recipe.geometry)[:200], out, resume=resume, device="cpu")


def resume_apart(out: Path) -> None:
    """Each process with a folder of its own, of which the first process's alone was written."""
    rank = os.environ["RANK"]
    short_training("flow-matching", out / rank, steps=2)
    try:
        short_training("flow-matching", out / rank, resume=True)
    except TrainingError as error:
        print(f"refused by {rank}: {error}")


def tell_who_left() -> None:
    print("left" if not distributed.is_initialized() else "still there")


if __name__ == "__main__":
    atexit.register(tell_who_left)  # registered first: called last
    folder = Path(sys.argv[1])
    for model in (*ALONE, "caloshowergan-split"):
        short_training(model, folder / model)
    short_training("flow-matching", folder / "resumed", steps=2)
    short_training("flow-matching", folder / "resumed", resume=True)
    resume_apart(folder / "apart")
