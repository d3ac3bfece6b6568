"""Seconds of the distances between samples, against the same formulas in plain NumPy and
scikit-learn, and against the matrix products they cannot do without.

Features and voxels are correlated normal numbers: the time does not depend on their values.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from common import Product, arguments, begin, best, products, ratio, side_by_side, table
from numpy.typing import NDArray
from scipy.linalg import sqrtm
from sklearn.metrics import pairwise_distances

from caloforge.metrics.frechet import fpd, kpd
from caloforge.metrics.memorising import memorising, nearest
from caloforge.metrics.neighbours import prdc
from caloforge.metrics.prd import prd_auc

Matrix = NDArray[np.float64]

FEATURES = 30
VOXELS = 368


def plain_fpd(x: Matrix, y: Matrix, low: int, high: int) -> list[float]:
    """Fréchet distances of all draws."""
    scale = np.abs(x).max(axis=0)
    x, y = x / scale, y / scale
    rng = np.random.RandomState(42)
    means = []
    for size in (1 / np.linspace(1 / low, 1 / high, 10)).astype(int):
        values = []
        for _ in range(20):
            a, b = x[rng.choice(len(x), size)], y[rng.choice(len(y), size)]
            cov1, cov2 = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
            root = sqrtm(cov1 @ cov2).real
            shift = a.mean(axis=0) - b.mean(axis=0)
            values.append(shift @ shift + np.trace(cov1 + cov2 - 2 * root))
        means.append(float(np.mean(values)))
    return means


def plain_kpd(x: Matrix, y: Matrix, size: int) -> float:
    """Median of the unbiased squared MMD of 10 batches."""
    scale = np.abs(x).max(axis=0)
    x, y = x / scale, y / scale

    def kernel(a: Matrix, b: Matrix) -> Matrix:
        return (a @ b.T / a.shape[1] + 1) ** 4

    values = []
    for batch in range(10):
        rng = np.random.RandomState(42 + 1000 * batch)
        a, b = x[rng.choice(len(x), size)], y[rng.choice(len(y), size)]
        value = -2 * kernel(a, b).mean()
        for c in (a, b):
            within = kernel(c, c)
            value += (within.sum() - np.trace(within)) / (size * (size - 1))
        values.append(value)
    return float(np.median(values))


def plain_prdc(x: Matrix, y: Matrix, k: int = 5) -> list[float]:
    """Precision, recall, density, coverage from full matrices of distances."""
    radii = [
        np.partition(pairwise_distances(a), k, axis=1)[:, k].astype(np.float64) for a in (x, y)
    ]
    cross = pairwise_distances(x, y)
    inside = cross < radii[0][:, None]
    recall = (cross < radii[1]).any(axis=1)
    coverage = cross.min(axis=1) < radii[0]
    return [float(v) for v in (inside.any(axis=0).mean(), recall.mean(),
            inside.sum(axis=0).mean() / k, coverage.mean())]  # fmt: skip


def samples(n: int, features: int) -> tuple[Matrix, Matrix]:
    """Two correlated samples that differ by 2 %."""
    rng = np.random.default_rng(0)
    mix = rng.normal(size=(features, features)) / np.sqrt(features)
    first = rng.normal(size=(n, features)) @ mix + 1
    return first, rng.normal(size=(n, features)) @ mix * 1.02 + 1.01


def sizes(n: int) -> tuple[int, int, int]:
    """Smallest and largest size of FPD and the batch of KPD."""
    return (10_000, 50_000, 10_000) if n >= 50_000 else (n // 5, n, n // 2)


def tasks(n: int, m: int) -> dict[str, Callable[[], object]]:
    """Name -> what is timed; 'plain X' and 'floor of X' belong to 'X'."""
    x, y = samples(n, FEATURES)
    low, high, batch = sizes(n)
    v, w = (a.astype(np.float32) for a in samples(m, VOXELS))
    plain = plain_prdc(v, w)
    ours = prdc(v, w)
    figures = [a[0] for a in (ours.precision, ours.recall, ours.density, ours.coverage)]
    np.testing.assert_allclose(figures, plain, atol=1e-4)
    pairs = (FEATURES + 1) * (FEATURES + 2) // 2
    half = m // 2
    return {
        "FPD": lambda: fpd(x, y),
        "plain FPD": lambda: plain_fpd(x, y, low, high),
        "KPD": lambda: kpd(x, y),
        "plain KPD": lambda: plain_kpd(x, y, batch),
        # Symmetric: half of these products is needed.
        "floor of KPD": products([Product(pairs, batch, pairs)] * 10, torch.float64),
        "PRDC": lambda: prdc(v, w),
        "plain PRDC": lambda: plain_prdc(v, w),
        "floor of PRDC": products([Product(m, VOXELS, m)] * 2, torch.float64),
        "nearest": lambda: nearest(v, w),
        "plain nearest": lambda: pairwise_distances(v, w).argmin(axis=1),
        "floor of nearest": products([Product(m, VOXELS, m)], torch.float64),
        "memorising": lambda: memorising(v, w[:half], w[half:]),
        "PRD-AUC, features": lambda: prd_auc(x[:m], y[:m]),
        "PRD-AUC, voxels": lambda: prd_auc(v, w),
    }


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "").parse_args()
    n, m = (10_000, 2000) if options.quick else (100_000, 10_000)
    begin(options, "Distances (the goal: FPD and KPD of 100 000 photon showers in 20 s)")
    # The plain ones take a minute each: one round, after two that warm up.
    times = side_by_side(tasks(n, m), seconds=0.1, rounds=1)
    rows = []
    for task in [t for t in times if not t.startswith(("plain", "floor"))]:
        plain, floor = times.get(f"plain {task}"), times.get(f"floor of {task}")
        rows.append(
            [
                task,
                f"{n if task in ('FPD', 'KPD') else m:,}",
                f"{best(times[task]):.2f}",
                f"{best(plain):.2f}" if plain else "",
                f"{ratio(times[task], plain):.2f}" if plain else "",
                f"{ratio(times[task], floor):.2f}" if floor else "",
            ]
        )
    table(["task", "showers", "CaloForge s", "plain s", "ratio", "to its products"], rows)
    print(f"  {FEATURES} features (FPD, KPD), {VOXELS} voxels (the others)")


if __name__ == "__main__":
    main()
