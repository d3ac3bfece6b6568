"""The table of observables: families of pure functions of showers, one literal list.

Each family lists its rows for a geometry and computes them; see `Family`. They come from the
CaloChallenge (C. Krause et al. 2024, arXiv:2410.21611), CaloGAN (M. Paganini, L. de Oliveira,
B. Nachman 2017, arXiv:1705.02355), and studies for ATLAS, LCD and LHCb; `Observable.source` names
the source of each row.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from caloforge.detector.geometry import Geometry
from caloforge.entry_points import load_all
from caloforge.observables import challenge, clusters, depth, impact, inclination, lcd
from caloforge.observables.axes import (
    BINS,
    LOG_EDGES,
    VOXEL_EDGES,
    Family,
    Observable,
    log_edges,
    response_edges,
    spread_edges,
)
from caloforge.observables.challenge import CHALLENGE, transverse_axes

__all__ = [
    "BINS",
    "CHALLENGE",
    "FAMILIES",
    "LOG_EDGES",
    "VOXEL_EDGES",
    "Family",
    "Observable",
    "families",
    "log_edges",
    "observables",
    "response_edges",
    "spread_edges",
    "transverse_axes",
]

FAMILIES: list[Family] = [
    challenge.FAMILY,  # every geometry
    depth.FAMILY,  # up to a dozen layers: CaloGAN
    impact.FAMILY,  # impact among the conditions: ATLAS, CaloGAN
    clusters.FAMILY,  # strips and middle layer: ATLAS
    lcd.FAMILY,  # ECAL and HCAL: LCD
    inclination.FAMILY,  # momentum and impact: LHCb
]


@cache
def families() -> Sequence[Family]:
    """All families: those of `FAMILIES`, then those of other packages.

    In this order each may use the values of those before it. Raises CaloForgeError when another
    package's family cannot be loaded.
    """
    names = [family.name for family in FAMILIES]
    return (*FAMILIES, *load_all("caloforge.observables", Family, lambda f: f.name, names))


def observables(geometry: Geometry) -> list[Observable]:
    """All observables of a geometry, family by family.

    Keys of every geometry: `total_energy`, `response` (total / incident energy), `occupancy`,
    `layer_energy/ID`, `centre_x/ID` and `centre_y/ID` (the challenge's EC_eta, EC_phi; for grid
    layers the geometry's own axis names), `width_x/ID`, `width_y/ID`, `centre_r/ID`, `width_r/ID`,
    `sparsity/ID`. With up to a dozen layers: `depth`, `lateral_depth`, `shower_depth`,
    `shower_depth_width`, `fraction/ID`, `eratio/ID`. With a known impact: `average_AXIS`,
    `offset_AXIS/ID`. ATLAS-like: `w_eta1`, `w_eta2`, `eratio_maxima`, `r_eta`, `r_phi`. LCD-like:
    `ecal_energy`, `ecal_response`, `ecal_cells`, the same for `hcal`, `spread/ID`,
    `spread_printed/ID`. LHCb-like: `asymmetry_`, `width_`, `spread_`, `offset_` with `along` or
    `across`, `cells_above_T`, `edge_cell`.
    """
    return [row for family in families() for row in family.rows(geometry)]
