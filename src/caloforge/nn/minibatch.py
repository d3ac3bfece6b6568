"""Minibatch discrimination: lets a discriminator see how alike the showers of a batch are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchDiscrimination(nn.Module):
    """o(x_i)_b = 1/N sum_j exp(-||M_ib - M_jb||_1) with M = x T (T. Salimans et al.
    2016, arXiv:1606.03498, section 3.2).

    A collapsed generator makes rows that are too much alike, which this shows. The sum is divided
    by the number of rows, so that its size does not depend on the batch.

    Parameters
    ----------
    size
        Number of features of a row.
    features, dims
        B and C: number of similarities and length of what each compares.

    Shapes: (N, size) to (N, features), in (0, 1].
    """

    joins_showers = "minibatch discrimination"  # for a warning when processes share a batch

    def __init__(self, size: int, features: int = 10, dims: int = 10) -> None:
        super().__init__()
        self.features, self.dims = features, dims
        self.kernel = nn.Parameter(torch.empty(size, features * dims))
        nn.init.xavier_uniform_(self.kernel)

    def forward(self, x: Tensor) -> Tensor:
        """Similarity of each row to the rows of the batch, itself included."""
        rows = (x @ self.kernel).reshape(len(x), self.features, self.dims)
        return similarity(rows)


def similarity(rows: Tensor) -> Tensor:
    """Mean over j of exp(-||rows_i - rows_j||_1), (N, B) from (N, B, C)."""
    distance = (rows[:, None] - rows[None]).abs().sum(dim=3)
    return (-distance).exp().mean(dim=1)
