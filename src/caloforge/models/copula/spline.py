"""Monotone maps for very many variables at once: a line followed by a rational-quadratic spline.

The maths is that of C. Durkan et al., 2019, arXiv:1906.04032, in the form that zuko gives it
(`zuko.transforms.MonotonicRQSTransform`, with which a test compares). Here the numbers of a map
are the slow axis, (3 K - 1, ...), so that every operation runs along the variables: with millions
of cells that is several times faster, and needs nothing that ONNX does not have.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SLOPE = 1e-2  # the smallest slope of a bin and of a knot, and the inverse of the largest


class Spline:
    """A monotone map of the interval from -bound to bound onto itself; the identity outside.

    Parameters
    ----------
    parameters
        (3 K - 1, ...) unconstrained widths and heights of the K bins, slopes at the inner knots.
    bound
        Half the length of the interval.
    """

    def __init__(self, parameters: Tensor, bound: float) -> None:
        bins = (parameters.shape[0] + 1) // 3
        widths, heights, slopes = torch.split(parameters, [bins, bins, bins - 1])
        self.bound = bound
        self.x, self.y = (_knots(part, bound) for part in (widths, heights))
        one = torch.ones_like(slopes[0])
        limit = abs(math.log(SLOPE))
        inner = torch.exp(slopes / (1 + slopes.abs() / limit))
        self.slope = [one, *inner.unbind(), one]

    def _bin(self, value: Tensor, knots: list[Tensor]) -> tuple[Tensor, ...]:
        """x, y and slope at both ends of the bin that each value lies in."""
        left = [self.x[0], self.y[0], self.slope[0]]
        right = [self.x[1], self.y[1], self.slope[1]]
        for k in range(1, len(knots) - 1):
            beyond = value > knots[k]
            for number, row in enumerate((self.x, self.y, self.slope)):
                left[number] = torch.where(beyond, row[k], left[number])
                right[number] = torch.where(beyond, row[k + 1], right[number])
        return *left, *right

    def __call__(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The mapped value, and the logarithm of the map's slope."""
        inside = x.abs() < self.bound
        x0, y0, d0, x1, y1, d1 = self._bin(x, self.x)
        s = (y1 - y0) / (x1 - x0)
        z = torch.where(inside, (x - x0) / (x1 - x0), 0.5)
        rest = z * (1 - z)
        below = s + (d0 + d1 - 2 * s) * rest
        y = y0 + (y1 - y0) * (s * z * z + d0 * rest) / below
        above = s * s * (d1 * z * z + 2 * s * rest + d0 * (1 - z) ** 2)
        ladj = above.log() - 2 * below.log()
        return torch.where(inside, y, x), torch.where(inside, ladj, 0.0)

    def inverse(self, y: Tensor) -> Tensor:
        """The value that is mapped to y."""
        inside = y.abs() < self.bound
        x0, y0, d0, x1, y1, d1 = self._bin(y, self.y)
        s = (y1 - y0) / (x1 - x0)
        up = torch.where(inside, y - y0, 0.0)
        curve = up * (d0 + d1 - 2 * s)
        a = (y1 - y0) * (s - d0) + curve
        b = (y1 - y0) * d0 - curve
        c = -s * up
        z = 2 * c / (-b - (b * b - 4 * a * c).clamp(min=0).sqrt())
        return torch.where(inside, x0 + z * (x1 - x0), y)


def _knots(parameters: Tensor, bound: float) -> list[Tensor]:
    """Increasing knots from -bound to bound, from unconstrained sizes of the bins."""
    size = torch.exp(parameters / (1 + (2 * parameters / math.log(SLOPE)).abs()))
    share = 2 * bound / size.sum(dim=0)
    knots = [torch.full_like(share, -bound)]
    for part in size[:-1].unbind():
        knots.append(knots[-1] + share * part)
    return [*knots, torch.full_like(share, bound)]
