"""The ATLAS photon variables of strips and middle layer, for cells around a cluster.

References: A. Ghosh, D. Rousseau, "Generative Adversarial Networks for Fast Shower Simulation in
ATLAS", IN2P3/IRFU ML workshop, 2019 (which variables); ATLAS collaboration, arXiv:1810.05087
(their windows). The cluster's centre is the central middle cell, on which the read-out is
centred: the 7 x 7 window fits always. Where ATLAS adds the strips of two phi cells, all phi cells
of the strips' window are added.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.detector.geometry import Geometry, Layer
from caloforge.observables import axes
from caloforge.observables.axes import Family, Observable, share
from caloforge.observables.blocks import cut_cells
from caloforge.showers import Showers

Array = NDArray[Any]

ATLAS = "arXiv:1810.05087; axis: CaloForge"
TALK = "ATLAS DNNCaloGAN talk (2019); axis: CaloForge"


def layers_of(geometry: Geometry) -> tuple[int, int] | None:
    """Positions of strips and middle layer in eta and phi; None without them.

    The middle layer must be odd by odd, have at least 7 x 7 cells and state the pseudorapidity
    that a cell covers (`LayerLimits.cell_eta`); the strips must be at least 3 in eta.
    """
    parts = {
        layer.part: k for k, layer in enumerate(geometry.layers) if layer.axes == ("eta", "phi")
    }
    if not {"strips", "middle"} <= parts.keys():
        return None
    strips, middle = geometry.layers[parts["strips"]], geometry.layers[parts["middle"]]
    fits = strips.shape[0] >= 3 and min(middle.shape) >= 7 and all(n % 2 for n in middle.shape)
    stated = middle.limits.cell_eta is not None
    return (parts["strips"], parts["middle"]) if fits and stated else None


def rows(geometry: Geometry) -> list[Observable]:
    """Widths in eta, Eratio of the strip maxima, R_eta and R_phi."""
    positions = layers_of(geometry)
    if positions is None:
        return []
    cell = geometry.layers[positions[1]].limits.cell_eta or 0.0
    return [
        axes.linear("w_eta1", "w_eta1: width of three strips, in strips", (0.0, 1.0), ATLAS),
        axes.linear("w_eta2", "w_eta2: width of 3 x 5 middle cells, in eta", (0.0, cell), ATLAS),
        axes.linear("eratio_maxima", "Eratio of the two highest strip maxima", (0.0, 1.0), TALK),
        axes.linear("r_eta", "R_eta: E(3x7) / E(7x7), middle", (0.0, 1.0), ATLAS, fixed=False),
        axes.linear("r_phi", "R_phi: E(3x3) / E(3x7), middle", (0.0, 1.0), ATLAS, fixed=False),
    ]


def values(showers: Showers, known: Mapping[str, Array]) -> dict[str, Array]:
    """The variables of `strip_variables` and `middle_variables`; 0 without energy there."""
    geometry = showers.geometry
    positions = layers_of(geometry)
    if positions is None:
        return {}
    strips, middle = (geometry.layers[k] for k in positions)
    result = {row.key: np.empty(len(showers)) for row in rows(geometry)}
    for block, energies in cut_cells(showers):
        first, second = (
            energies[:, geometry.slices[k]].reshape(-1, *layer.shape)
            for k, layer in zip(positions, (strips, middle), strict=True)
        )
        for key, numbers in (strip_variables(first) | middle_variables(second, middle)).items():
            result[key][block] = numbers
    return result


def strip_variables(strips: Array) -> dict[str, Array]:
    """`w_eta1` and `eratio_maxima` of strips (N, eta, phi), added in phi.

    w_eta1 = sqrt(sum E_i (i - i_max)^2 / sum E_i) over the hottest strip and its neighbours, in
    strips. Eratio = (E_1 - E_2) / (E_1 + E_2) of the two highest local maxima: strips with more
    than the strip before and no less than the one after; 1 with a single maximum.
    """
    energy = strips.sum(axis=2)
    line = np.arange(len(energy))
    padded = np.pad(energy, ((0, 0), (1, 1)))
    before, after = padded[:, :-2], padded[:, 2:]
    hottest = energy.argmax(axis=1)
    sides = before[line, hottest] + after[line, hottest]
    peaks = np.where((energy > before) & (energy >= after), energy, 0.0)
    first = energy[line, hottest]
    peaks[line, hottest] = 0.0
    second = peaks.max(axis=1)
    return {
        "w_eta1": np.sqrt(share(sides, sides + first)),
        "eratio_maxima": share(first - second, first + second),
    }


def middle_variables(middle: Array, layer: Layer) -> dict[str, Array]:
    """`w_eta2`, `r_eta`, `r_phi` of the middle layer (N, eta, phi) around its central cell.

    w_eta2 = sqrt(<eta^2> - <eta>^2) over 3 x 5 cells, weighted with the energy; R_eta = E(3x7) /
    E(7x7) and R_phi = E(3x3) / E(3x7), eta x phi.
    """
    wide = _window(middle, 3, 7).sum(axis=(1, 2))
    columns = _window(middle, 3, 5).sum(axis=2)
    # In cells about the central one: a single cell has exactly no width.
    lower, upper, total = columns[:, 0], columns[:, 2], columns.sum(axis=1)
    mean = share(upper - lower, total)
    variance = np.maximum(share(upper + lower, total) - mean**2, 0.0)
    return {
        "w_eta2": (layer.limits.cell_eta or 0.0) * np.sqrt(variance),
        "r_eta": share(wide, _window(middle, 7, 7).sum(axis=(1, 2))),
        "r_phi": share(_window(middle, 3, 3).sum(axis=(1, 2)), wide),
    }


def _window(cells: Array, eta: int, phi: int) -> Array:
    first, second = (cells.shape[1] - eta) // 2, (cells.shape[2] - phi) // 2
    return cells[:, first : first + eta, second : second + phi]


FAMILY = Family("ATLAS photon variables", rows, values)
