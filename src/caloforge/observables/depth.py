"""The CaloGAN's observables of depth and of the hottest cells, for read-outs of few layers.

Reference: M. Paganini, L. de Oliveira, B. Nachman, "CaloGAN", arXiv:1705.02355, table of
shower shapes. Layers are numbered from the front, i = 0, 1, ...; E_i is the energy of layer i,
E_tot their sum.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry
from caloforge.observables import axes
from caloforge.observables.axes import Family, Observable, share
from caloforge.observables.blocks import cut_cells
from caloforge.showers import Showers

Array = NDArray[Any]

PAPER = "arXiv:1705.02355; axis: CaloForge"
MOST_LAYERS = 12  # beyond, one row a layer would crowd out everything else


def applies(geometry: Geometry) -> bool:
    """Whether a geometry has the family: two to a dozen layers."""
    return 1 < geometry.n_layers <= MOST_LAYERS


def rows(geometry: Geometry) -> list[Observable]:
    """Depth, its energy-weighted moments, then fraction and Eratio of each layer."""
    if not applies(geometry):
        return [
            _eratio(k, geometry)
            for k, layer in enumerate(geometry.layers)
            if geometry.n_layers <= MOST_LAYERS and layer.size
        ]
    last = geometry.n_layers - 1
    bins = (last + 1, -0.5, last + 0.5)
    table = [
        Observable(
            "depth",
            "depth: last layer with energy",
            "",
            None,
            bins,
            False,
            np.linspace(bins[1], bins[2], bins[0] + 1),
            PAPER,
            whole=True,
        ),
        axes.energy("lateral_depth", "lateral depth: sum of layer x energy", geometry, PAPER),
        axes.linear("shower_depth", "shower depth: mean layer", (0.0, last), PAPER),
        axes.linear("shower_depth_width", "shower depth width", (0.0, last / 2), PAPER),
    ]
    table += [
        axes.linear(
            f"fraction/{layer.id}",
            f"fraction of energy in layer {layer.id} ({layer.name})",
            (0.0, 1.0),
            PAPER,
            layer=position,
            fixed=False,
        )
        for position, layer in enumerate(geometry.layers)
        if layer.size
    ]
    return table + [_eratio(k, geometry) for k, layer in enumerate(geometry.layers) if layer.size]


def _eratio(position: int, geometry: Geometry) -> Observable:
    layer = geometry.layers[position]
    return axes.linear(
        f"eratio/{layer.id}",
        f"Eratio of the two hottest cells, layer {layer.id} ({layer.name})",
        (0.0, 1.0),
        PAPER,
        layer=position,
    )


def values(showers: Showers, known: Mapping[str, Array]) -> dict[str, Array]:
    """Depth d = max{i: E_i > 0}; lateral depth l_d = sum_i i E_i; shower depth s_d = l_d / E_tot;
    its width sqrt(sum_i i^2 E_i / E_tot - s_d^2); fraction E_i / E_tot; Eratio, see `eratio`.

    All are 0 for a shower without energy.
    """
    geometry = showers.geometry
    if not rows(geometry):
        return {}
    result = eratio(showers)
    if not applies(geometry):
        return result
    energies = np.stack(
        [
            known[f"layer_energy/{layer.id}"] if layer.size else np.zeros(len(showers))
            for layer in geometry.layers
        ],
        axis=1,
    )
    number = np.arange(geometry.n_layers)
    total = known["total_energy"]
    result["depth"] = np.max(np.where(energies > 0, number, 0), axis=1).astype(np.float64)
    result["lateral_depth"] = energies @ number
    mean = share(result["lateral_depth"], total)
    result["shower_depth"] = mean
    # About the mean, not <i^2> - <i>^2: a shower in one layer has no width, to rounding.
    square = (energies * (number - mean[:, None]) ** 2).sum(axis=1)
    result["shower_depth_width"] = np.sqrt(share(square, total))
    for k, layer in enumerate(geometry.layers):
        if layer.size:
            result[f"fraction/{layer.id}"] = share(energies[:, k], total)
    return result


def eratio(showers: Showers) -> dict[str, Array]:
    """(I1 - I2) / (I1 + I2) of the two hottest cells of each layer, 0 for a layer without energy.

    Returns `eratio/ID` -> (N,): 1 where a single cell has energy, 0 where two share the lead.
    """
    geometry = showers.geometry
    number = len(showers)
    top = np.zeros((geometry.n_layers, 2, number))
    for block, energies in cut_cells(showers):
        for k, where in enumerate(geometry.slices):
            if where.stop == where.start:
                continue
            cells = energies[:, where]
            line = np.arange(len(cells))
            hottest = cells.argmax(axis=1)
            top[k, 0, block] = cells[line, hottest]
            cells[line, hottest] = 0.0
            top[k, 1, block] = cells.max(axis=1)
    return {
        f"eratio/{layer.id}": share(top[k, 0] - top[k, 1], top[k, 0] + top[k, 1])
        for k, layer in enumerate(geometry.layers)
        if layer.size
    }


FAMILY = Family("depth, fractions and the hottest cells", rows, values)
