"""What is in a file of showers: the numbers behind `caloforge data info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from caloforge.data.reader import open_showers
from caloforge.detector.geometry import Geometry
from caloforge.showers import energy_points, point_of


def describe(path: str | Path, geometry: Geometry | None = None) -> dict[str, Any]:
    """Summary of a file of showers, JSON-able; every shower is read once, in bounded memory.

    Returns
    -------
    dict
        `format`, `geometry`, `geometry_hash`, `showers` (N), `layers` (L), `cells` (V);
        `conditions`: name to unit, `low` and `high`; `energy_points`: incident energy in MeV to
        showers, empty for a spectrum; `response`: deposited over incident energy of all showers;
        `layer_fractions`: share of the deposited energy in each layer; `occupancy`: share of cells
        above 0; `empty`: showers without any deposit; `highest_cell` in MeV; `provenance`.

    Raises
    ------
    DataError
        As `open_showers` and `ShowerFile.read`.
    """
    with open_showers(path, geometry) as file:
        read_out = file.geometry
        conditions = file.conditions()
        incident = read_out.incident_energy(conditions)
        layers = np.zeros(read_out.n_layers)
        hit, empty, highest = 0, 0, 0.0
        for chunk in file.chunks():
            cells = chunk.energies
            layers += [float(cells[:, s].sum(dtype=np.float64)) for s in read_out.slices]
            hit += int(np.count_nonzero(cells))
            empty += int((cells.max(axis=1) == 0).sum())
            highest = max(highest, float(cells.max(initial=0.0)))
        count, deposited = len(file), float(layers.sum())
        points = energy_points(incident)
        numbers = point_of(incident, points)
        return {
            "format": file.format,
            "geometry": read_out.name,
            "geometry_hash": read_out.hash,
            "showers": count,
            "layers": read_out.n_layers,
            "cells": read_out.n_cells,
            "conditions": {
                c.name: {"unit": c.unit, "low": float(values.min()), "high": float(values.max())}
                for c, values in zip(read_out.conditions, conditions.T, strict=True)
                if count
            },
            "energy_points": {float(e): int((numbers == k).sum()) for k, e in enumerate(points)},
            "response": deposited / float(incident.sum()) if count else 0.0,
            "layer_fractions": (layers / deposited).tolist() if deposited else [],
            "occupancy": hit / (count * read_out.n_cells) if count else 0.0,
            "empty": empty,
            "highest_cell": highest,
            "provenance": file.provenance,
        }
