"""Convolution streams, one per layer: they paint a layer's image or read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from caloforge.detector.geometry import Layer
from caloforge.nn.local import LocallyConnected2d

SLOPE = 0.3  # slope of the leaky ReLU below zero, the default of Keras


def image_norm(channels: int, *, batch: bool) -> nn.Module:
    """Batch normalisation with the constants of Keras, or nothing."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01) if batch else nn.Identity()


def channels_last(image: Tensor) -> Tensor:
    """The image (N, K, H, W) with its channels beside each other in memory: convolutions keep that
    order and are faster with it, twice as fast for few channels.
    """
    return image.contiguous(memory_format=torch.channels_last)


def dense_stack(sizes: Sequence[int]) -> nn.Sequential:
    """Dense layers, each followed by LeakyReLU. Shapes: (N, sizes[0]) to (N, sizes[-1])."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), nn.LeakyReLU(SLOPE)]
    return nn.Sequential(*layers)


class Resample(nn.Module):
    """An image of one layer on the cells of another: the mean over the overlap, as average pooling
    and up-sampling give it. Shapes: (N, K, H, W) to (N, K, H', W').
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, source: Layer, target: Layer) -> None:
        super().__init__()
        rows, columns = (_overlap(a, b) for a, b in zip(source.edges, target.edges, strict=True))
        self.register_buffer("rows", rows, persistent=False)  # (H', H)
        self.register_buffer("columns", columns.T.contiguous(), persistent=False)  # (W, W')

    def forward(self, image: Tensor) -> Tensor:
        """The image on the other cells."""
        out: Tensor = self.rows @ image @ self.columns
        return out


def _overlap(source: Sequence[float], target: Sequence[float]) -> Tensor:
    a = torch.tensor(source, dtype=torch.float64)
    b = torch.tensor(target, dtype=torch.float64)
    high = torch.minimum(b[1:, None], a[None, 1:])
    low = torch.maximum(b[:-1, None], a[None, :-1])
    return ((high - low).clamp(min=0) / b.diff()[:, None]).float()


class Inpainting(nn.Module):
    """Attention from layer to layer: each cell takes a weighted mean of its own value and of what
    comes over from the layer before; the weights are a softmax of a fully convolutional map of
    both.

    `weights` makes that map, (N, 2, H, W) to (N, 2, H, W). Shapes: twice (N, 1, H, W) to the same.
    """

    def __init__(self, weights: nn.Module) -> None:
        super().__init__()
        self.weights = weights

    def forward(self, painted: Tensor, carried: Tensor) -> Tensor:
        """The image after a look at the layer before."""
        both = torch.cat([painted, carried], dim=1)
        out: Tensor = (self.weights(both).softmax(dim=1) * both).sum(dim=1, keepdim=True)
        return out


def neighbours(n_in: int, n_out: int, local: tuple[int, int] | None) -> nn.Module:
    """A layer that sees the 3 x 3 neighbours of each cell: a convolution or, for an image of
    `local` rows and columns, one with weights of its own at each cell (locally connected).
    """
    if local is None:
        return nn.Conv2d(n_in, n_out, 3, padding=1)
    rows, columns = local
    unshared = LocallyConnected2d(n_in, n_out, (rows + 2, columns + 2), (3, 3))
    return nn.Sequential(nn.ZeroPad2d(1), unshared)


class PaintBlock(nn.Module):
    """`neighbours`, modulation by an embedding (if there is one), LeakyReLU, batch normalisation
    (if asked); added to what came in where the widths agree and there is no normalisation.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        embedding: int,
        *,
        batch_norm: bool,
        local: tuple[int, int] | None,
    ) -> None:
        super().__init__()
        self.conv = neighbours(n_in, n_out, local)
        self.modulation = nn.Linear(embedding, 2 * n_out) if embedding else None
        self.act = nn.LeakyReLU(SLOPE)
        self.norm = image_norm(n_out, batch=batch_norm)
        self.residual = n_in == n_out and not batch_norm

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(N, n_in, H, W) and (N, E) to (N, n_out, H, W)."""
        out: Tensor = self.conv(x)
        if self.modulation is not None:
            scale, shift = self.modulation(embedding)[:, :, None, None].chunk(2, dim=1)
            out = out * (1 + scale) + shift
        out = self.norm(self.act(out))
        out = x + out if self.residual else out
        return out


class PaintStream(nn.Module):
    """Paints one layer: a block for each width, then a convolution to one image or several; with
    `local`, rows and columns of the layer, the blocks are locally connected.

    `starts` are the values of the images, one for each, before anything is learned. Cells that all
    start below zero would have no gradient behind a ReLU and stay empty.
    """

    def __init__(
        self,
        n_in: int,
        widths: Sequence[int],
        embedding: int,
        *,
        batch_norm: bool,
        starts: Sequence[float],
        local: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            PaintBlock(a, b, embedding, batch_norm=batch_norm, local=local)
            for a, b in pairwise([n_in, *widths])
        )
        self.out = nn.Conv2d(widths[-1], len(starts), 3, padding=1)
        self.out.bias = nn.Parameter(torch.tensor([float(start) for start in starts]))

    def forward(self, seed: Tensor, embedding: Tensor) -> Tensor:
        """(N, n_in, H, W) and (N, E) to (N, images, H, W)."""
        seed = channels_last(seed)
        for block in self.blocks:
            seed = block(seed, embedding)
        out: Tensor = self.out(seed)
        return out


class ReadStream(nn.Module):
    """Reads one layer: a convolution for each width, then its features in a row.

    From the second block on an axis of eight cells or more is halved. Shapes: (N, n_in, H, W) to
    (N, size).
    """

    def __init__(
        self, n_in: int, shape: tuple[int, int], widths: Sequence[int], *, batch_norm: bool
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        height, width = shape
        for k, (a, b) in enumerate(pairwise([n_in, *widths])):
            stride = (2 if k and height >= 8 else 1, 2 if k and width >= 8 else 1)
            layers += [nn.Conv2d(a, b, 3, stride=stride, padding=1), nn.LeakyReLU(SLOPE)]
            layers.append(image_norm(b, batch=batch_norm and k > 0))
            height, width = math.ceil(height / stride[0]), math.ceil(width / stride[1])
        self.network = nn.Sequential(*layers, nn.Flatten())
        self.size = widths[-1] * height * width

    def forward(self, image: Tensor) -> Tensor:
        """Features of the image."""
        out: Tensor = self.network(channels_last(image))
        return out
