"""Distributions as tables of quantiles at fixed normal scores, and Gaussianisation by ranks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from caloforge.nn.normal import cdf

LAST = 3.5  # largest normal score of a table: 2.3e-4 of a distribution lies beyond
SCORES = 29  # entries of a table, evenly from -LAST to LAST


def scores() -> Tensor:
    """The normal scores of a table, (SCORES,)."""
    return torch.linspace(-LAST, LAST, SCORES)


def quantile_table(values: Tensor) -> Tensor:
    """Quantiles of samples (n, F) at the levels Phi(scores): (F, SCORES), increasing."""
    return torch.quantile(values, cdf(scores().to(values)), dim=0).T


def place(z: Tensor) -> tuple[Tensor, Tensor]:
    """Index of the table's entry at or below each score, and how far it is to the next (0 to 1).

    Scores beyond the ends are taken to the ends.
    """
    position = (z.clamp(-LAST, LAST) + LAST) * ((SCORES - 1) / (2 * LAST))
    low = position.floor().clamp(max=SCORES - 2)
    return low.long(), position - low


def look_up(table: Tensor, z: Tensor) -> Tensor:
    """Inverse cumulative transform: normal scores z (N, F) to values by tables (N, F, SCORES),
    linear between the entries.
    """
    low, share = place(z)
    below = table.gather(-1, low[..., None])[..., 0]
    above = table.gather(-1, low[..., None] + 1)[..., 0]
    return torch.lerp(below, above, share)


def normal_scores(values: Tensor) -> Tensor:
    """Gaussianisation by the cumulative distribution: samples (n, F) to normal scores of their
    ranks, each column on its own. Equal values share their mean rank.
    """
    from scipy.stats import norm, rankdata

    ranks = rankdata(values.cpu().numpy(), axis=0)
    z: NDArray[np.float64] = norm.ppf((ranks - 0.5) / len(values))
    return torch.from_numpy(z).to(values)


def principal_components(values: Tensor) -> Tensor:
    """Principal components of the correlation of values (n, F), scaled: R (F, F) with R R^T the
    correlation, so that R z has it for standard normal z. Columns in order of their variance.
    """
    centred = values.double() - values.double().mean(dim=0)
    spread = centred.square().mean(dim=0).sqrt()
    scaled = centred / torch.where(spread > 1e-6, spread, 1.0)
    correlation = scaled.T @ scaled / len(values)
    correlation.fill_diagonal_(1.0)  # what never varies is a component of its own
    variances, vectors = torch.linalg.eigh(correlation)
    return (vectors * variances.clamp(min=0).sqrt()).to(values.dtype)
