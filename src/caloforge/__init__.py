"""CaloForge: fast calorimeter simulation with generative models.

From reference showers to a conditional generator that is trained, judged and ready to use::

    from caloforge import load_recipe, read_showers, train, with_settings
    from caloforge import Conditions, generate_showers, judge_files, load_model

    recipe = with_settings(load_recipe("caloshowergan-photon"), steps=10_000)
    train(recipe, read_showers("train.hdf5"), "run")
    model = load_model("run/model.safetensors")
    showers = generate_showers(model, Conditions.like("test.hdf5", model.model.geometry), seed=1)

Names are looked up when they are first used, so that importing the package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from caloforge.config import Recipe, load_recipe
    from caloforge.data import (
        convert,
        create_showers,
        open_showers,
        read_showers,
        sample_path,
    )
    from caloforge.detector.geometry import Geometry
    from caloforge.detector.shipped import load_geometry
    from caloforge.errors import CaloForgeError
    from caloforge.evaluate import judge_files
    from caloforge.export import export_model
    from caloforge.generate import Conditions, Generator, generate_file, generate_showers
    from caloforge.judge.folder import read_results
    from caloforge.models import MODELS, ShowerModel
    from caloforge.models.file import ModelFile, load_model, save_model
    from caloforge.notebook import Compared, compare
    from caloforge.plotting import plot_average, plot_shower
    from caloforge.progress import TrainingBar
    from caloforge.showers import Showers
    from caloforge.training.train import train, with_settings

_HOMES = {
    "caloforge.config": ("Recipe", "load_recipe"),
    "caloforge.data": ("convert", "create_showers", "open_showers", "read_showers", "sample_path"),
    "caloforge.errors": ("CaloForgeError",),
    "caloforge.evaluate": ("judge_files",),
    "caloforge.export": ("export_model",),
    "caloforge.generate": ("Conditions", "Generator", "generate_file", "generate_showers"),
    "caloforge.detector.geometry": ("Geometry",),
    "caloforge.detector.shipped": ("load_geometry",),
    "caloforge.judge.folder": ("read_results",),
    "caloforge.models": ("MODELS", "ShowerModel"),
    "caloforge.notebook": ("Compared", "compare"),
    "caloforge.plotting": ("plot_average", "plot_shower"),
    "caloforge.progress": ("TrainingBar",),
    "caloforge.models.file": ("ModelFile", "load_model", "save_model"),
    "caloforge.showers": ("Showers",),
    "caloforge.training.train": ("train", "with_settings"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "MODELS",
    "CaloForgeError",
    "Compared",
    "Conditions",
    "Generator",
    "Geometry",
    "ModelFile",
    "Recipe",
    "ShowerModel",
    "Showers",
    "TrainingBar",
    "__version__",
    "compare",
    "convert",
    "create_showers",
    "export_model",
    "generate_file",
    "generate_showers",
    "judge_files",
    "load_geometry",
    "load_model",
    "load_recipe",
    "open_showers",
    "plot_average",
    "plot_shower",
    "read_results",
    "read_showers",
    "sample_path",
    "save_model",
    "train",
    "with_settings",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'caloforge' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
