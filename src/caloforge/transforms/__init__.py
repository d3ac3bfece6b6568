"""Invertible maps from MeV to the space a model works in, fitted when they are made and saved with
the model.

`base` says what a transform is, `cells` holds those of all cells of any read-out, `spiral` unrolls
the slices of a calorimeter.
"""

from __future__ import annotations

from typing import Any

from caloforge.errors import ModelError, did_you_mean
from caloforge.showers import Showers
from caloforge.transforms.base import IncidentEnergy, Transform, interpolate, response_curve
from caloforge.transforms.cells import (
    LEAST_CELL,
    BalancedFraction,
    IncidentFraction,
    LayerLogs,
    LogEnergy,
)
from caloforge.transforms.spiral import Spiral

TRANSFORMS: dict[str, type[Transform]] = {
    "balanced-fraction": BalancedFraction,
    "incident-fraction": IncidentFraction,
    "layer-logs": LayerLogs,
    "log-energy": LogEnergy,
    "spiral": Spiral,
}


def fit_transform(name: str, showers: Showers, **settings: Any) -> Transform:
    """Fit the named transform. Raises ModelError for an unknown name or setting, with the nearest
    valid one.
    """
    if name not in TRANSFORMS:
        raise ModelError(f"Unknown transform '{name}': {did_you_mean(name, TRANSFORMS)}")
    try:
        return TRANSFORMS[name].fit(showers, **settings)
    except TypeError as error:
        raise ModelError(
            f"Transform '{name}' was given wrong settings {settings}: {error}."
        ) from error


def transform_name(transform: Transform) -> str:
    """The name a transform has in TRANSFORMS."""
    return next(name for name, kind in TRANSFORMS.items() if type(transform) is kind)


__all__ = [
    "LEAST_CELL",
    "TRANSFORMS",
    "BalancedFraction",
    "IncidentEnergy",
    "IncidentFraction",
    "LayerLogs",
    "LogEnergy",
    "Spiral",
    "Transform",
    "fit_transform",
    "interpolate",
    "response_curve",
    "transform_name",
]
