"""Microseconds per generated shower against the bare matrix products of the same layers.

The generator is that of the recipe `caloshowergan-photon` with fresh weights: the time does not
depend on them. `sample` is the model alone, noise given; `stream` adds noise, conditions, checks.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from common import (
    Product,
    arguments,
    begin,
    best,
    copy_speed,
    products,
    ratio,
    side_by_side,
    table,
)
from generators import RECIPE, untrained

from caloforge.generate import Conditions, generate_file, stream
from caloforge.models.file import ModelFile
from caloforge.noise import normals

ENERGY = 65536.0  # MeV
BATCHES = (1, 100, 10_000)


def layer_products(file: ModelFile, batch: int) -> list[Product]:
    """The matrix products of one forward pass of the generator."""
    linear = (m for m in file.model.generator if isinstance(m, torch.nn.Linear))
    return [Product(batch, m.in_features, m.out_features) for m in linear]


def traffic(file: ModelFile, batch: int) -> int:
    """Bytes that must move: noise and condition in, showers out (weights stay in caches)."""
    return 4 * batch * (file.model.noise_size + 1 + file.model.geometry.n_cells)


def measure(file: ModelFile, batch: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds a call of the matrix products, of `sample`, of the noise, and of `stream`."""
    conditions = Conditions.of(file.model.geometry, {"energy": ENERGY})
    condition = torch.full((batch, 1), ENERGY)
    noise = torch.from_numpy(normals(0, 0, batch, file.model.noise_size))

    def sample() -> None:
        with torch.inference_mode():
            file.model.sample(condition, noise)

    def streamed() -> None:
        for _ in stream(file, conditions, batch):
            pass

    return side_by_side(
        {
            "products": products(layer_products(file, batch)),
            "sample": sample,
            "noise": partial(normals, 0, 0, batch, file.model.noise_size),
            "stream": streamed,
        },
        seconds=0.03,
        rounds=10 if options.quick else 60,
    )


def to_disk(file: ModelFile, count: int) -> float:
    """Seconds a shower of `generate_file`, compression and disk included."""
    conditions = Conditions.of(file.model.geometry, {"energy": ENERGY})
    with TemporaryDirectory() as folder:
        return generate_file(file, conditions, Path(folder) / "showers.hdf5", count) / count


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "").parse_args()
    begin(options, f"Generation, {RECIPE} (the goal: batch 10 000 within 1.3 x its products)")
    file = untrained()
    speed = copy_speed(options)
    rows = []
    for batch in BATCHES:
        times = measure(file, batch, options)
        flops = sum(product.flops for product in layer_products(file, batch))
        micro = {name: 1e6 * best(rounds) / batch for name, rounds in times.items()}
        rows.append(
            [
                f"{batch:,}",
                f"{micro['products']:.2f}",
                f"{micro['sample']:.2f}",
                f"{ratio(times['sample'], times['products']):.2f}",
                f"{micro['noise']:.2f}",
                f"{micro['stream']:.2f}",
                f"{ratio(times['stream'], times['products']):.2f}",
                f"{flops / best(times['products']) / 1e9:.1f}",
                f"{1e6 * traffic(file, batch) / speed / batch:.2f}",
            ]
        )
    head = ["batch", "products µs", "sample µs", "ratio", "noise µs", "stream µs", "ratio"]
    table([*head, "GFLOP/s", "byte floor µs"], rows)
    flops_one = sum(product.flops for product in layer_products(file, 1))
    print(f"  {flops_one:,} FLOP a shower; memory copies at {speed / 1e9:.1f} GB/s")
    print("  all times per shower; GFLOP/s is what the products reach here, the floor of `sample`")
    count = 10_000 if options.quick else 50_000
    micro_file = 1e6 * to_disk(file, count)
    print(f"  into a compressed file: {micro_file:.1f} µs a shower ({count:,} untrained showers)")


if __name__ == "__main__":
    main()
