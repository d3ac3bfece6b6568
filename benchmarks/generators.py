"""Generators and showers that the benchmarks work on."""

from __future__ import annotations

import numpy as np

from caloforge.config import load_recipe
from caloforge.data import read_showers, sample_path
from caloforge.detector.shipped import load_geometry
from caloforge.generate import Conditions, generate_showers
from caloforge.models import make_model
from caloforge.models.file import ModelFile, load_model
from caloforge.pretrained import pretrained_names, resolve_model
from caloforge.showers import Showers

RECIPE = "caloshowergan-photon"
GEOMETRY = "ds1-photons"


def untrained() -> ModelFile:
    """The recipe's generator with fresh weights, as if it had been read from a file."""
    recipe = load_recipe(RECIPE)
    geometry = load_geometry(recipe.geometry)
    model = make_model(recipe.model["name"], geometry, **recipe.hyper()).eval()
    energy = geometry.conditions[geometry.column("energy")]
    about = {"model": RECIPE, "condition_range": {"energy": [energy.low, energy.high]}}
    return ModelFile(model, about)


def photon_generator(source: str | None = None) -> tuple[ModelFile, str]:
    """A generator for data set 1 photons and its name.

    It is the model file (or shipped name) `source`; else the first shipped one; else untrained.
    """
    for name in [source] if source else pretrained_names():
        file = load_model(resolve_model(name))
        if source or file.model.geometry.name == GEOMETRY:
            return file, name
    return untrained(), f"{RECIPE}, untrained"


def photon_showers(count: int, source: str | None = None) -> tuple[Showers, str]:
    """`count` generated showers with the incident energies of the shipped test sample."""
    file, name = photon_generator(source)
    table = read_showers(sample_path(f"{GEOMETRY}-test")).conditions
    return generate_showers(
        file, Conditions(file.model.geometry, table), count, extrapolate=True
    ), name


def repeated(showers: Showers, count: int) -> Showers:
    """The showers over again until there are `count` of them."""
    return showers[np.arange(count) % len(showers)]
