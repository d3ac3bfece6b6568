"""The table of observables: families of pure functions of showers, one literal list.

Each family says its rows for a geometry and computes them; see `Family`. Which documents they come
from: CaloChallenge (arXiv:2410.21611), CaloGAN (arXiv:1705.02355), the ATLAS DNNCaloGAN talk, the
LCD and the LHCb studies; `Observable.source` says it row by row.
"""

from __future__ import annotations

from caloforge.evaluation import challenge, clusters, depth, impact, inclination, lcd
from caloforge.evaluation.axes import (
    BINS,
    LOG_EDGES,
    VOXEL_EDGES,
    Family,
    Observable,
    log_edges,
    response_edges,
    spread_edges,
)
from caloforge.evaluation.challenge import CHALLENGE, transverse_axes
from caloforge.geometry import Geometry

__all__ = [
    "BINS",
    "CHALLENGE",
    "FAMILIES",
    "LOG_EDGES",
    "VOXEL_EDGES",
    "Family",
    "Observable",
    "log_edges",
    "observables",
    "response_edges",
    "spread_edges",
    "transverse_axes",
]

# In this order: a family may use the values of those before it.
FAMILIES = [
    challenge.FAMILY,  # every geometry
    depth.FAMILY,  # up to a dozen layers: CaloGAN
    impact.FAMILY,  # impact among the conditions: ATLAS, CaloGAN
    clusters.FAMILY,  # strips and middle layer: ATLAS
    lcd.FAMILY,  # ECAL and HCAL: LCD
    inclination.FAMILY,  # momentum and impact: LHCb
]


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
    `across`, `cells_above_T`.
    """
    return [row for family in FAMILIES for row in family.rows(geometry)]
