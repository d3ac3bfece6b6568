"""The standard normal's distribution function and its inverse, and normal variables that are known
only to lie below a threshold.

An empty cell says no more than that its normal variable y is at most t = Phi^-1(1 - p), where p is
the probability that the cell is filled. Here is how such a y is drawn, and what its mean is.

ONNX has neither Phi with a small relative error in its tail nor Phi^-1: an exported graph gets
them as rational functions and polynomials, which agree with PyTorch's to single precision.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

LEAST = 1e-30  # a smaller probability is not told from zero in single precision
_MOST = 1 - 6e-8


def cdf(x: Tensor) -> Tensor:
    """Phi(x), the standard normal's cumulative distribution, with a small relative error at every
    x: `torch.special.ndtr` has an absolute one in single precision, and is 0 below -5.5.
    """
    if torch.compiler.is_exporting():
        return tail(-x)
    return 0.5 * torch.special.erfc(-x / math.sqrt(2))


def quantile(p: Tensor) -> Tensor:
    """Phi^-1(p), finite for every p in [0, 1]."""
    p = p.clamp(LEAST, _MOST)
    return wichura(p) if torch.compiler.is_exporting() else torch.special.ndtri(p)


def draw_below(threshold: Tensor, level: Tensor) -> Tensor:
    """A standard normal number given that it lies below `threshold`, from a uniform `level` in
    (0, 1): Phi^-1(level * Phi(threshold)).
    """
    return torch.minimum(quantile(level * cdf(threshold)), threshold)


def mean_below(threshold: Tensor) -> Tensor:
    """The mean of a standard normal number that lies below `threshold`: -phi(t) / Phi(t)."""
    density = torch.exp(-0.5 * threshold.square()) / math.sqrt(2 * math.pi)
    return -density / cdf(threshold).clamp(min=LEAST)


def tail(x: Tensor) -> Tensor:
    """1 - Phi(x) with a relative error of 1.2e-7: the Chebyshev fit of erfc of W. Press et al.,
    Numerical Recipes (2nd edition, 1992), section 6.2.
    """
    z = x.abs() / math.sqrt(2)
    t = 1 / (1 + 0.5 * z)
    series = (
        -1.26551223,
        1.00002368,
        0.37409196,
        0.09678418,
        -0.18628806,
        0.27886807,
        -1.13520398,
        1.48851587,
        -0.82215223,
        0.17087277,
    )
    half = 0.5 * t * torch.exp(_polynomial(t, series) - z * z)
    return torch.where(x < 0, 1 - half, half)


def wichura(p: Tensor) -> Tensor:
    """Phi^-1(p) to about seven digits: algorithm AS 241, PPND7, of M. Wichura (1988)."""
    q = p - 0.5
    r = 0.180625 - q * q
    middle = (
        q
        * _polynomial(r, (3.3871327179, 50.434271938, 159.29113202, 59.109374720))
        / _polynomial(r, (1.0, 17.895169469, 78.757757664, 67.187563600))
    )
    s = (-torch.minimum(p, 1 - p).clamp(min=LEAST).log()).sqrt()
    near = s - 1.6
    near = _polynomial(near, (1.4234372777, 2.7568153900, 1.3067284816, 0.17023821103)) / (
        _polynomial(near, (1.0, 0.73700164250, 0.12021132975))
    )
    far = s - 5.0
    far = _polynomial(far, (6.6579051150, 3.0812263860, 0.42868294337, 0.017337203997)) / (
        _polynomial(far, (1.0, 0.24197894225, 0.012258202635))
    )
    outside = torch.where(s <= 5.0, near, far)
    return torch.where(q.abs() <= 0.425, middle, torch.where(q < 0, -outside, outside))


def _polynomial(x: Tensor, coefficients: Sequence[float]) -> Tensor:
    """c_0 + c_1 x + c_2 x^2 + ..."""
    total = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = total * x + c
    return total
