"""The flagship: a censored Gaussian copula of cells, and a small network for what is left.

`model` puts the parts together, one file each: `normal` (truncated normal numbers), `censored`, `tables` and
`conditional` (marginals), `frame` (cells as the particle sees them), `given` (conditions as
features), `layers` (response and shares), `correlation` (expectation maximisation), `remainder`
(flow and one pass), `bank` (what the remainder is trained on).
"""

from caloforge.models.copula.model import Copula

__all__ = ["Copula"]
