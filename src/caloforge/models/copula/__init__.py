"""The flagship: a censored Gaussian copula of cells, and a small network for what is left.

`model` puts the parts together, `hyper` says what can be chosen about them. One file each:
`normal` (truncated normal numbers), `censored` (what is known of empty cells), `marginals` (the
distribution of each variable, from `tables`, `by_layer` over the energy of the layer, or
`conditional` by a network with the maps of `spline`), `bound` (the largest energy of a cell),
`check` (whether these are right), `frame` (cells as the particle sees them), `given` (conditions
as features), `layers` (response and shares), `correlation` (expectation maximisation), `rings`
(the same matrix in blocks), `core` and `lowrank` (very many cells), `scale` (exact layer
energies), `remainder` (flow and one pass), `bank` (what the remainder is trained on).
"""

from caloforge.models.copula.model import Copula

__all__ = ["Copula"]
