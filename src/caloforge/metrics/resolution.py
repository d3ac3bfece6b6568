"""Response and resolution of a calorimeter per energy point, and the terms of the resolution.

A response that is wrong by a percent is hard to see in a histogram and stands out in its mean: the
bias of the response is measured in units of its statistical error, energy by energy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge import units
from caloforge.errors import DataError
from caloforge.metrics.base import Case, Measured, Measurements

Array = NDArray[Any]

FEWEST = 10  # showers at an energy point for a resolution with an error


@dataclass(frozen=True)
class Response:
    """Mean of total / incident energy and sigma / mean of n showers at one energy, with errors.

    Resolution and errors are None below ten showers.
    """

    n: int
    response: float | None
    response_error: float | None
    resolution: float | None
    resolution_error: float | None


@dataclass(frozen=True)
class ResolutionFit:
    """(sigma / E)^2 = stochastic^2 / (E / GeV) + constant^2: both terms with errors."""

    stochastic: float
    stochastic_error: float
    constant: float
    constant_error: float
    chi2: float
    ndf: int


def response(values: Array) -> Response:
    """Response and resolution of the values (n,) of total / incident energy at one energy.

    With R = s / m of standard deviation and mean, skewness g and kurtosis k, linear error
    propagation gives Var R = R^2 [(k - 1) / 4 - R g + R^2] / n.

    Raises
    ------
    DataError
        For NaN or infinite values.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    if not np.isfinite(values).all():
        raise DataError(
            "A response is NaN or infinite; expected finite values: check the showers."
        )
    mean = float(values.mean()) if n else None
    if mean is None or n < FEWEST or mean <= 0:
        return Response(n, mean, None, None, None)
    spread = float(values.std(ddof=1))
    ratio = spread / mean
    if ratio <= 1e-12:
        return Response(n, mean, 0.0, 0.0, 0.0)
    pulls = (values - mean) / spread
    skewness, kurtosis = float((pulls**3).mean()), float((pulls**4).mean())
    variance = ratio**2 * ((kurtosis - 1) / 4 - ratio * skewness + ratio**2) / n
    return Response(n, mean, spread / n**0.5, ratio, float(np.sqrt(max(variance, 0.0))))


def pull(reference: Response, generated: Response) -> float | None:
    """Generated less reference response over the error of that; None where it is not known."""
    if reference.response is None or generated.response is None:
        return None
    if reference.response_error is None or generated.response_error is None:
        return None
    error = float(np.hypot(reference.response_error, generated.response_error))
    return (generated.response - reference.response) / error if error > 0 else None


def measure(case: Case) -> Measurements:
    """`response_bias`: at each energy the pull of the mean response, and over all their rms.

    For samples of one simulation a pull scatters about 0 with a standard deviation of 1, and the
    root mean square of K of them is 1 with the error of the root of a chi-square over K.
    """
    first, second = (sample.values("response") for sample in case.samples)
    at: dict[float, dict[str, Measured]] = {}
    for energy, rows1, rows2 in case.energies():
        value = pull(response(first[rows1]), response(second[rows2]))
        if value is not None:
            at[energy] = {"response_bias": Measured(value, 1.0, len(rows2))}
    if not at:
        return Measurements()
    squares = np.array([one["response_bias"].value for one in at.values()]) ** 2
    mean = float(squares.mean())
    variance = (2 + 4 * float(np.maximum(squares - 1, 0).mean())) / len(squares)
    # The error of a root where the square is well above 0, and bounded where it is not.
    error = variance**0.5 / (2 * max(mean, variance**0.5) ** 0.5)
    total = {"response_bias": Measured(mean**0.5, error, len(second))}
    return Measurements(total, at)


def fit_resolution(points: Mapping[float, Response]) -> ResolutionFit | None:
    """Stochastic and constant term of the resolutions at the given energies (MeV).

    Linear least squares in the squares of the terms, both >= 0. None with fewer than three
    energies.
    """
    from scipy.optimize import nnls

    used = [
        (energy / units.GEV, p.resolution, p.resolution_error)
        for energy, p in points.items()
        if p.resolution and p.resolution_error
    ]
    if len(used) < 3:
        return None
    energy, value, error = np.array(used, dtype=np.float64).T
    weight = 1 / (2 * value * error)
    design = np.stack([1 / energy, np.ones_like(energy)], axis=1) * weight[:, None]
    squares, distance = nnls(design, value**2 * weight)
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ design)))
    # Of a term at zero the error of its square is known; half of its root bounds the term.
    terms = np.sqrt(squares)
    term_errors = errors / (2 * np.maximum(terms, np.sqrt(errors)))
    return ResolutionFit(
        stochastic=float(terms[0]),
        stochastic_error=float(term_errors[0]),
        constant=float(terms[1]),
        constant_error=float(term_errors[1]),
        chi2=float(distance**2),
        ndf=len(used) - 2,
    )
