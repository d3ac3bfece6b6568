"""The distributions of single variables of the copula: of cells, layer energies and shares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.detector.geometry import Geometry
from caloforge.errors import ModelError
from caloforge.models.copula.by_layer import ByLayer
from caloforge.models.copula.censored import Censored
from caloforge.models.copula.conditional import Conditional
from caloforge.models.copula.frame import orbits
from caloforge.models.copula.given import CellFeatures, Given, LayerFeatures, ParticleFeatures
from caloforge.models.copula.hyper import CopulaHyper
from caloforge.models.copula.tables import Tables

STRIDE = 2000  # showers whose empty cells are placed at a time

Marginals = Conditional | Tables


def make_marginals(
    geometry: Geometry,
    hyper: CopulaHyper,
    particle: ParticleFeatures,
    kinds: int,
    permutations: Sequence[NDArray[np.int64]],
) -> tuple[Marginals | ByLayer, Marginals, Marginals]:
    """Distributions of every cell, of layer energies, and of response and shares: by networks for
    showers with an impact or a slope, else as tables.

    Parameters
    ----------
    particle
        What the networks see of the particle.
    kinds
        Number of classes of showers, each with tables of its own.
    permutations
        The symmetries of the cells, each (V,).

    Raises
    ------
    ModelError
        For tables over the energies of layers where a network is needed, and for bands of the
        incident energy where there are none of these tables or where there are classes.
    """
    if hyper.bands > 1 and (hyper.over != "layer" or kinds > 1):
        raise ModelError(
            f'Got bands = {hyper.bands} with over = "{hyper.over}" and {kinds} classes of showers '
            f"(read-out '{geometry.name}'). Expected bands = 1: several need over = \"layer\" and "
            "a read-out without categories."
        )
    layers = np.arange(geometry.n_layers)
    if particle.frame.moves:
        if hyper.over == "layer":
            raise ModelError(
                f"Got over = \"layer\" for the read-out '{geometry.name}', whose showers have an "
                'impact: their marginals are made by a network. Expected over = "incident".'
            )
        width = hyper.marginal_width
        cells = Conditional(CellFeatures(geometry, particle), geometry.layer_of_cell, width)
        ranks, parts = (
            Conditional(LayerFeatures(particle, len(layers)), layers, width) for _ in range(2)
        )
        return cells, ranks, parts
    sizes, shared = (kinds, hyper.points, hyper.quantiles), orbits(permutations)
    in_band = (kinds, max(2, hyper.points // hyper.bands), hyper.quantiles, hyper.bands)
    by_layer = hyper.over == "layer"
    return (
        ByLayer(shared, geometry.slices, *in_band) if by_layer else Tables(shared, *sizes),
        Tables(layers, *sizes),
        Tables(layers, *sizes),
    )


def place(
    marginals: Marginals | ByLayer,
    values: Tensor,
    given: Given,
    rng: torch.Generator,
    enough: int,
) -> Censored:
    """The normal number y of every value (N, M) and its threshold; tables are fitted on the way,
    `enough` showers of an energy to one of their points.
    """
    if not isinstance(marginals, Conditional):
        x, kind, log_energy = (
            t.cpu().numpy() for t in (values.double(), given.kind, given.log_energy.double())
        )
        ranked: NDArray[Any] = marginals.fit(x, kind, log_energy, enough)
        y = torch.from_numpy(ranked).to(values)
        return Censored(y, values <= 0, y)
    level = torch.rand(values.shape, generator=rng, device=values.device)
    pieces = []
    for start in range(0, len(values), STRIDE):
        rows = slice(start, start + STRIDE)
        known = Given(*(part[rows] for part in given))
        pieces.append(marginals.place(values[rows], known, level[rows]))
    y, threshold = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return Censored(y, values <= 0, threshold)
