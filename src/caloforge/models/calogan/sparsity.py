r"""Occupancy of an image and its differentiable form.

Source: Conditional CaloGAN (J. Phys.: Conf. Ser. 1085 (2018) 042017), section 5. "Sparsity" there
is the share of cells *with* energy (Eq. 4), called occupancy here.

Eq. 5 as printed cannot have the limit that Eq. 6 claims. With s(x) = |x|^a + |x|^-b every cell
contributes s / (s + 1). For an empty cell |x|^-b diverges, so that it contributes 1, as a full one
does; and since max(|x|^a, |x|^-b) >= 1 for every x, s / (s + 1) >= 1/2 whatever the image. For
a, b -> infinity the sum tends to 1 for every image (cells of exactly |x| = 1 give 2/3), not to the
occupancy.

`soft_occupancy` has the claimed limit: a cell contributes (|x|/t)^a / (1 + (|x|/t)^a), the
logistic function of a log(|x|/t). It is 0 at x = 0 and 1/2 at the threshold t; for a -> infinity
it becomes the indicator |x| > t, and with t -> 0 after that Eq. 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

# |x|/t below this counts as 0: keeps the logarithm and its gradient finite in an empty cell.
_LEAST = 1e-12


def occupancy(x: Tensor) -> Tensor:
    """Share of cells with energy, (N, V) to (N, 1) (Eq. 4). It has no gradient."""
    return (x != 0).float().mean(dim=1, keepdim=True)


def soft_occupancy(x: Tensor, threshold: float, alpha: float) -> Tensor:
    """Differentiable share of cells above `threshold` (in the unit of x), (N, V) to (N, 1).

    >>> x = torch.tensor([[0.0, 1.0, 2.0, 0.5]])
    >>> soft_occupancy(x, threshold=1.0, alpha=1.0)  # (0 + 1/2 + 2/3 + 1/3) / 4
    tensor([[0.3750]])
    """
    ratio = (x.abs() / threshold).clamp(min=_LEAST)
    return torch.sigmoid(alpha * ratio.log()).mean(dim=1, keepdim=True)
