"""How layers go together: correlations of their energies, and how far two samples are apart.

The shares of the incident energy are correlated, because the energies of all layers grow with the
incident energy, which would hide everything else.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from caloforge.metrics.base import Case, Measured, Measurements, Sample
from caloforge.metrics.notes import LayerCorrelations, Notes

Array = NDArray[Any]
Vector = NDArray[np.float64]

RAREST = 0.01  # share of showers that reach a layer, below which its correlations are noise
ODD = 0.005  # share of the reference showers beyond either end of what is correlated
RESAMPLED = 50  # times: the error of the error is then a tenth of it
DIGITS = 4  # of the correlations that are kept to be drawn


def layer_correlations(shares: Array) -> Array:
    """Pearson correlations (L, L) of the layers' shares (N, L) of the incident energy.

    A layer whose share does not vary has correlation 0 with all others.
    """
    centred = shares - shares.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    scaled = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    return scaled.T @ scaled / len(shares)


def pairs(values: Array) -> Vector:
    """The correlations of different layers, each pair once: (L, L) -> (L (L - 1) / 2,)."""
    return values[np.triu_indices(len(values), 1)]


def apart(reference: Array, generated: Array) -> float:
    """Root mean square difference of the correlations of shares (N, L) and (M, L)."""
    difference = pairs(layer_correlations(generated)) - pairs(layer_correlations(reference))
    return float(np.sqrt((difference**2).mean()))


def measure(case: Case) -> Measurements:
    """`correlations`: root mean square difference of the correlations of pairs of layers.

    Layers that fewer than 1 % of the reference showers reach are left out; there is no value for
    fewer than two layers. Shares are clipped to the central 99 % of the reference. The error is
    the standard deviation of 50 bootstrap samples: showers of both samples are drawn with
    replacement, as many as there are. For equal samples it is too large by up to a quarter,
    because a bootstrap sample adds its own scatter to what is there.
    """
    layers = [
        layer.id
        for layer in case.geometry.layers
        if layer.size
        and (case.reference.all.observables[f"layer_energy/{layer.id}"] > 0).mean() >= RAREST
    ]
    if len(layers) < 2:
        return Measurements()
    first, second = (_shares(sample, layers) for sample in case.samples)
    # One odd shower, such as one with all its energy in the last layer, would carry the rest.
    low, high = np.quantile(first, [ODD, 1 - ODD], axis=0)
    first, second = np.clip(first, low, high), np.clip(second, low, high)
    rng = np.random.default_rng(case.seed)
    drawn = [
        apart(
            first[rng.integers(len(first), size=len(first))],
            second[rng.integers(len(second), size=len(second))],
        )
        for _ in range(0 if case.values_only else RESAMPLED)
    ]
    value, error = apart(first, second), float(np.std(drawn, ddof=1)) if drawn else None
    kept = [pairs(layer_correlations(shares)).round(DIGITS) for shares in (first, second)]
    notes = LayerCorrelations(tuple(layers), tuple(kept[0].tolist()), tuple(kept[1].tolist()))
    measured = Measured(value, error, len(case.generated))
    return Measurements({"correlations": measured}, notes=Notes(correlations=notes))


def _shares(sample: Sample, layers: list[int]) -> Array:
    """Shares of the incident energy in these layers, (n, L)."""
    energies = np.stack([sample.values(f"layer_energy/{i}") for i in layers], axis=1)
    return energies / sample.incident[:, None]
