"""PRD-AUC of showers: of their cells, and of the observables that physics looks at.

Reference: LHCb SAGAN (its statistics: see `caloforge.evaluation.inclination`); PRD of
M. S. M. Sajjadi et al., 2018, arXiv:1806.00035.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from caloforge.evaluation import inclination
from caloforge.evaluation.features import compute
from caloforge.evaluation.observables import observables
from caloforge.evaluation.prd import PRD, physics_matrix, prd_auc
from caloforge.geometry import Geometry
from caloforge.showers import Showers

Array = NDArray[Any]

LHCB_FAMILIES = ("asymmetry", "width", "cells_above")


def physics_keys(geometry: Geometry) -> list[str]:
    """Observables of the physics score.

    Asymmetries, widths and cells above thresholds where the geometry has them along and across an
    inclination, as in the LHCb document; all observables elsewhere.
    """
    if inclination.applies(geometry):
        keys = [row.key for row in inclination.rows(geometry)]
        return [key for key in keys if key.startswith(LHCB_FAMILIES)]
    return [row.key for row in observables(geometry)]


def prd_aucs(reference: Showers, generated: Showers, seed: int) -> tuple[PRD, PRD]:
    """PRD-AUC raw and physics of two sets of showers in memory, see `prd_of`.

    Raises
    ------
    DataError
        For fewer than 20 showers in a set.
    """
    cells = reference.after_cut().energies, generated.after_cut().energies
    tables = compute(reference), compute(generated)
    return prd_of(cells, tables, reference.geometry, seed)


def prd_of(
    cells: tuple[Array, Array],
    tables: tuple[Mapping[str, Array], Mapping[str, Array]],
    geometry: Geometry,
    seed: int,
) -> tuple[PRD, PRD]:
    """PRD-AUC raw, of cells (N, V) in MeV, and physics, of standardised observables.

    Both of reference and generated showers, in this order; `tables` hold all observables.
    """
    keys = physics_keys(geometry)
    physics = physics_matrix(*({key: table[key] for key in keys} for table in tables))
    return prd_auc(*cells, seed=seed), prd_auc(*physics, seed=seed)
