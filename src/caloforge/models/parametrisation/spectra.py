"""Spectra of single cells, tabulated against the mean energy a cell has, and draws from them."""

from __future__ import annotations

import torch
from torch import Tensor

from caloforge.models.parametrisation.quantiles import SCORES, look_up, place, scores
from caloforge.nn.normal import cdf

MEANS = 16  # mean energies at which spectra are tabulated
WIDTH = 1 + SCORES  # of a spectrum: probability to be filled, quantiles of filled cells
ODDS = 2.0  # logarithm of the odds that a score of 1 stands for among the quantiles
MOST_CELLS = 200_000  # cells that a spectrum is made from
FEW = 30  # filled cells: fewer make no spectrum
LARGEST = 30.0  # logarithm of a cell over the floor that is never reached


def draw(tables: Tensor, row: Tensor, part: Tensor, beyond: Tensor, z: Tensor) -> Tensor:
    """Energies of cells over the floor, (N, V): 0 or about 1 and more.

    Parameters
    ----------
    tables
        All spectra, flattened.
    row, part
        Where the spectrum below a cell's mean begins, and how far it is to the next, (N, V).
    beyond
        Logarithm of the cell's mean over the last (or, negative, the first) mean there is a
        spectrum for; 0 between them. Above, energies grow with the mean; below, the probability
        to be filled falls with it: fewer of the same deposits.
    z
        Standard normal, (N, V).
    """
    filled = torch.lerp(tables[row], tables[row + WIDTH], part) * beyond.clamp(max=0).exp()
    # Of the levels 0 to 1 the lowest are empty; the odds within the rest choose the energy.
    rest = cdf(-z)
    odds = ((filled - rest).clamp(min=1e-9) / rest.clamp(min=1e-9)).log()
    low, share = place(odds / ODDS)
    entry = row + 1 + low
    below = torch.lerp(tables[entry], tables[entry + 1], share)
    above = torch.lerp(tables[entry + WIDTH], tables[entry + WIDTH + 1], share)
    logs = torch.lerp(below, above, part) + beyond.clamp(min=0)
    return torch.where(rest < filled, logs.clamp(max=LARGEST).exp(), 0.0)


def tabulate(mean: Tensor, cells: Tensor, floor: Tensor) -> tuple[Tensor, Tensor]:
    """How cells (n,) of known mean energies (n,) in MeV fluctuate.

    Returns the first node and the distance of nodes in log mean, (2,), and for each node the
    probability to be filled, and quantiles of log(energy / floor) of filled cells at the odds
    exp(ODDS score), (MEANS, 1 + SCORES). A node with hardly any cell gets those of its neighbour.
    """
    log_mean = mean.log()
    first = torch.quantile(log_mean[:: 1 + len(mean) // MOST_CELLS], 0.02)
    step = ((log_mean.max() - first) / (MEANS - 1)).clamp(min=1e-3)
    nearest = ((log_mean - first) / step).round().clamp(0, MEANS - 1)
    levels = torch.sigmoid(ODDS * scores().to(mean))
    tables, known = mean.new_zeros(MEANS, WIDTH), []
    for node in range(MEANS):
        near = cells[nearest == node]
        logs = (near[near > 0] / floor).log()
        if len(logs) >= FEW:
            known.append(node)
            tables[node, 0] = len(logs) / len(near)
            tables[node, 1:] = torch.quantile(logs[:: 1 + len(logs) // MOST_CELLS], levels)
            # As seen from the node's own mean, with the mean energy that the cells have.
            shift = node * step + first - log_mean[nearest == node].mean()
            tables[node, 1:] += shift + (logs.exp().mean() / _mean(tables[node, 1:])).log()
    for node in range(MEANS):
        tables[node] = tables[min(known, key=lambda k: abs(k - node))] if known else tables[node]
    return torch.stack([first, step]), tables


def _mean(table: Tensor) -> Tensor:
    """Mean of exp(logs) where a table of quantiles at the odds exp(ODDS score) gives the logs."""
    level = (torch.arange(4000).to(table) + 0.5) / 4000
    odds = (level / (1 - level)).log() / ODDS
    return look_up(table.expand(len(odds), 1, -1), odds[:, None]).exp().mean()
