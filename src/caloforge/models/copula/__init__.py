"""The flagship: a censored Gaussian copula of cells, and a small network for what is left.

`model` puts the parts together, one file each: `normal` (truncated normal numbers), `censored`
(what is known of empty cells), `tables` and `conditional` (marginals), `check` (whether these
are right), `frame` (cells as the particle sees them), `given` (conditions as features), `layers`
(response and shares), `correlation` (expectation maximisation), `rings` (the same matrix in
blocks), `core` and `lowrank` (very many cells), `scale` (exact layer energies), `remainder`
(flow and one pass), `bank` (what the remainder is trained on).
"""

from caloforge.models.copula.model import Copula

__all__ = ["Copula"]
