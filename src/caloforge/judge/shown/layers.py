"""Layers against each other, against depth and against the impact."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.judge.shown.energies import EnergySlice
from caloforge.judge.shown.frame import Frame, volumes
from caloforge.judge.summary import Summary
from caloforge.observables.impact import s_shape

Array = NDArray[Any]

CONTROL_SEED = 1  # of the shuffled impacts
# Families of observables shown against depth -> whether a layer without energy has none.
DEPTH = {"layer_energy": False, "spread": True, "spread_printed": True, "cells": False}


@dataclass(frozen=True)
class Profile:
    """Mean share of the incident energy in each layer and its error, both (L,); NaN of nothing."""

    mean: Array
    error: Array


def profile(summary: Summary, part: EnergySlice | None) -> Profile:
    """The profile in depth of all showers, or of one energy slice."""
    inside = slice(None) if part is None else part.select(summary.incident_energy)
    incident = summary.incident_energy[inside]
    layers = summary.geometry.layers
    if len(incident) == 0:
        return Profile(np.full(len(layers), np.nan), np.full(len(layers), np.nan))
    empty = np.zeros(len(summary))  # in a layer without voxels
    keys = [f"layer_energy/{layer.id}" for layer in layers]
    rows = np.stack([summary.observables.get(k, empty)[inside] / incident for k in keys])
    return Profile(rows.mean(axis=1), rows.std(axis=1) / np.sqrt(len(incident)))


@dataclass(frozen=True)
class SShape:
    """Mean centre minus impact in mm in bins of the impact, and its error, both (B,)."""

    centres: Array
    mean: Array
    error: Array


def s_shapes(summary: Summary, frame: Frame) -> tuple[SShape, ...]:
    """S-shapes of the shown layers, then with the impacts of other showers; () without impact."""
    if not frame.impact:
        return ()
    result = []
    for control in (False, True):
        for position in frame.layers:
            curve = s_shape(
                summary.geometry,
                summary.conditions,
                summary.observables,
                position,
                frame.impact,
                bins=frame.steps,
                minus_impact=True,
                control=np.random.default_rng(CONTROL_SEED) if control else None,
            )
            result.append(SShape(curve.centres, curve.mean, curve.error))
    return tuple(result)


@dataclass(frozen=True)
class Depth:
    """Mean of an observable in each layer of a volume and its error, both (L',)."""

    mean: Array
    error: Array


def depth_means(summary: Summary) -> dict[str, Depth]:
    """Means along the first volume of equal layers, by family; nothing without such a volume.

    Layer energies are divided by the incident energy; spreads are averaged over the showers that
    have energy in the layer.
    """
    groups = volumes(summary.geometry)
    if not groups:
        return {}
    first = summary.geometry.layers[groups[0][0]].id
    return {
        family: _along_depth(summary, groups[0], family)
        for family in DEPTH
        if family == "cells" or f"{family}/{first}" in summary.observables
    }


def _along_depth(summary: Summary, positions: list[int], family: str) -> Depth:
    rows = []
    for position in positions:
        layer = summary.geometry.layers[position]
        if family == "cells":
            values = layer.size * (1 - summary.observables[f"sparsity/{layer.id}"])
        else:
            values = summary.observables[f"{family}/{layer.id}"]
        if family == "layer_energy":
            values = values / summary.incident_energy
        if DEPTH[family]:
            values = values[summary.observables[f"layer_energy/{layer.id}"] > 0]
        n = len(values)
        rows.append((values.mean(), values.std() / np.sqrt(n)) if n else (np.nan, np.nan))
    mean, error = np.array(rows, dtype=np.float64).T
    return Depth(mean, error)
