"""Correlations of layers: closed forms, the error of their difference, and its floor."""

from __future__ import annotations

import numpy as np
import pytest
from test_evaluation_compare import toy

from caloforge.judge.compare import compare
from caloforge.judge.summary import summarise
from caloforge.metrics.correlations import apart, layer_correlations, pairs


def shares(number: int, correlation: float, seed: int) -> np.ndarray:
    """Shares (N, 3) of three layers, the first two of them correlated."""
    rng = np.random.default_rng(seed)
    covariance = np.eye(3)
    covariance[0, 1] = covariance[1, 0] = correlation
    return rng.multivariate_normal([0.2, 0.5, 0.3], 0.01 * covariance, size=number)


def test_correlations_are_pearsons() -> None:
    values = shares(500, 0.6, 0)
    correlations = layer_correlations(values)
    np.testing.assert_allclose(correlations, np.corrcoef(values.T), atol=1e-12)
    np.testing.assert_allclose(
        pairs(correlations), [correlations[0, 1], correlations[0, 2], correlations[1, 2]]
    )
    constant = np.column_stack([values, np.ones(500)])
    np.testing.assert_array_equal(layer_correlations(constant)[3], 0.0)


def test_the_difference_is_that_of_the_pairs() -> None:
    """One of three pairs differs by 0.6."""
    assert apart(shares(200_000, 0.0, 1), shares(200_000, 0.6, 2)) == pytest.approx(
        0.6 / 3**0.5, abs=0.005
    )


def test_the_error_is_the_scatter_of_repeated_samples() -> None:
    def one(seed: int, scale: float) -> tuple[float, float]:
        reference = summarise(toy(300, seed=2 * seed), "reference")
        judged = summarise(toy(300, seed=2 * seed + 1, scale=scale), "judged", like=reference)
        (comparison,) = compare(reference, [judged], judged)
        value = comparison.metrics["correlations"]
        assert value.n == 300 and value.error is not None
        return value.value, value.error

    values, errors = np.array([one(seed, 1.0) for seed in range(12)]).T
    # Samples of one simulation: the bootstrap is too large by up to a quarter.
    assert 0.6 < errors.mean() / values.std(ddof=1) < 2.2


def test_a_page_gets_both_matrices_and_a_floor() -> None:
    reference = summarise(toy(), "reference")
    (comparison,) = compare(reference, [summarise(toy(seed=1), "good", like=reference)])
    value, notes = comparison.metrics["correlations"], comparison.details.notes.correlations
    assert value.floor is not None and notes is not None and comparison.details.floor is not None
    first, second = notes.matrices()
    assert first.shape == (len(notes.layers),) * 2
    np.testing.assert_array_equal(first, first.T)
    difference = pairs(second - first)
    assert float(np.sqrt((difference**2).mean())) == pytest.approx(value.value, abs=1e-3)
    floor = comparison.details.floor.notes.correlations
    assert floor is not None and floor.layers == notes.layers
