"""The observables of the LCD study: ECAL and HCAL apart, and the energy spread of each slice.

Reference: C. Guthrie, I. Malkin, A. Pine, "Generative Models for High Energy Physics
Calorimeters", New York University (energy by layer, energy spread by layer sigma_z, number of
non-zero cells, output over input energy).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.observables import axes
from caloforge.observables.axes import LOG_EDGES, Family, Observable
from caloforge.observables.challenge import limits
from caloforge.showers import Showers

Array = NDArray[Any]

STUDY = "LCD generative models (New York University, 2017); axis: CaloForge"
PARTS = ("ECAL", "HCAL")  # as in `Layer.part`


def parts(geometry: Geometry) -> dict[str, list[int]]:
    """Positions of the layers of ECAL and of HCAL; nothing where a geometry does not have both."""
    layers = geometry.layers
    positions = {p: [k for k, layer in enumerate(layers) if layer.part == p] for p in PARTS}
    square = all(layer.kind == "grid" for layer in layers)
    return positions if square and all(positions.values()) else {}


def rows(geometry: Geometry) -> list[Observable]:
    """Energy, response and cells of each part, then the spread of each ECAL layer."""
    table = []
    for part, positions in parts(geometry).items():
        name, cells = part.lower(), sum(geometry.layers[k].size for k in positions)
        table += [
            axes.energy(f"{name}_energy", f"energy in the {part}", geometry, STUDY),
            axes.linear(
                f"{name}_response",
                f"{part} energy / incident energy",
                (0.0, 1.5),
                STUDY,
                fixed=False,
            ),
            axes.number_of_cells(f"{name}_cells", f"cells with energy, {part}", cells, STUDY),
        ]
    ecal = parts(geometry).get("ECAL", [])
    return (
        table
        + [_spread(geometry, k, printed=False) for k in ecal]
        + [_spread(geometry, k, printed=True) for k in ecal]
    )


def _spread(geometry: Geometry, position: int, *, printed: bool) -> Observable:
    layer = geometry.layers[position]
    where = f"layer {layer.id} ({layer.name})"
    first, second = (limits(geometry, layer, axis)[2] for axis in layer.axes)
    width = float(np.hypot(first, second))
    if not printed:
        key, label = f"spread/{layer.id}", f"energy spread, {where}"
        return axes.linear(key, label, (0.0, width), STUDY, unit="mm", layer=position)
    most = width * float(np.sqrt(axes.highest_energy(geometry)))
    return Observable(
        f"spread_printed/{layer.id}",
        f"energy spread as printed, not normalised, {where}",
        "mm √MeV",
        position,
        (LOG_EDGES - 1, 0.0, most),
        True,
        None,
        STUDY,
    )


def values(showers: Showers, known: Mapping[str, Array]) -> dict[str, Array]:
    """Sums over the layers of each part, and with r the transverse position of a cell, w its
    energy, mu the centre of energy of its layer:

    spread = sqrt(sum w |r - mu|^2 / sum w), mm;
    spread_printed = sqrt(sum w |r - mu|^2), mm sqrt(MeV): the formula that Guthrie, Malkin and
    Pine print, which lacks the norm and so grows with the root of the energy.
    """
    geometry = showers.geometry
    result: dict[str, Array] = {}
    for part, positions in parts(geometry).items():
        name, layers = part.lower(), [geometry.layers[k] for k in positions]
        energy = np.sum([known[f"layer_energy/{layer.id}"] for layer in layers], axis=0)
        empty = np.sum([layer.size * known[f"sparsity/{layer.id}"] for layer in layers], axis=0)
        result[f"{name}_energy"] = energy
        result[f"{name}_response"] = energy / showers.incident_energy
        result[f"{name}_cells"] = np.rint(sum(layer.size for layer in layers) - empty)
        if part != "ECAL":
            continue
        for layer in layers:
            first, second = (known[f"width_{axis}/{layer.id}"] for axis in layer.axes)
            spread = np.hypot(first, second)
            result[f"spread/{layer.id}"] = spread
            result[f"spread_printed/{layer.id}"] = spread * np.sqrt(
                known[f"layer_energy/{layer.id}"]
            )
    return result


FAMILY = Family("ECAL, HCAL and the spread of slices", rows, values)
