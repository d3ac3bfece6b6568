"""Microseconds per generated shower against the bare matrix products of the same layers.

The generator is the shipped `caloshowergan-photon`. `model` is the engine alone, noise given;
`stream` adds noise, conditions, checks. Beside them the products by `torch.mm`, and by oneDNN with
packed weights, which is what the engine uses; on some processors the second is twice as fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
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
    run_batches,
    side_by_side,
    table,
)

from caloforge.data.samples import geant4_times
from caloforge.fast.packed import PackedLinear, packing_works
from caloforge.generate import (
    Conditions,
    Generator,
    default_batch,
    generate_file,
    make_engine,
    stream,
)
from caloforge.generate.engines import Engine, has_onnx
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import normals
from caloforge.pretrained import resolve_model

MODEL = "caloshowergan-photon"
ENERGY = 65536.0  # MeV
BATCHES = (100, 10_000)


def layer_products(file: ModelFile, batch: int) -> list[Product]:
    """The matrix products of one forward pass of the generator."""
    linear = (m for m in file.model.generator if isinstance(m, torch.nn.Linear))
    return [Product(batch, m.in_features, m.out_features) for m in linear]


def packed_products(file: ModelFile, batch: int) -> Callable[[], None]:
    """The same products and their biases by oneDNN."""
    linear = [m for m in file.model.generator if isinstance(m, torch.nn.Linear)]
    layers = [(PackedLinear(m), torch.randn(batch, m.in_features)) for m in linear]

    def run() -> None:
        with torch.inference_mode():
            for layer, x in layers:
                layer(x)

    return run


def traffic(file: ModelFile, batch: int) -> int:
    """Bytes that must move: noise and condition in, showers out (weights stay in caches)."""
    return 4 * batch * (file.model.noise_size + 1 + file.model.geometry.n_cells)


def measure(
    file: ModelFile, engine: Engine, batch: int, options: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds a call of the matrix products, of the model, of the noise, and of `stream`."""
    conditions = Conditions.of(file.model.geometry, {"energy": ENERGY})
    rows = conditions.rows(0, batch).astype("float32")
    noise, size = normals(0, 0, batch, file.model.noise_size), default_batch(file.model)

    def model() -> None:
        run_batches(engine, rows, noise, size)

    def streamed() -> None:
        for _ in stream(file, conditions, batch, engine=engine):
            pass

    tasks: dict[str, Callable[[], object]] = {
        "products": products(layer_products(file, batch)),
        "model": model,
        "noise": partial(normals, 0, 0, batch, file.model.noise_size),
        "stream": streamed,
    }
    if packing_works():
        tasks["packed"] = packed_products(file, batch)
    return side_by_side(tasks, seconds=0.03, rounds=10 if options.quick else 60)


def batches(file: ModelFile, options: argparse.Namespace) -> None:
    """Batch by batch and engine by engine beside the products."""
    speed, rows = copy_speed(options), []
    for name in ["torch", "onnx"] if has_onnx() else ["torch"]:
        engine = make_engine(file, name, default_batch(file.model))
        for batch in BATCHES:
            times = measure(file, engine, batch, options)
            micro = {task: 1e6 * best(rounds) / batch for task, rounds in times.items()}
            rows.append(
                [
                    f"{name}, {batch:,}",
                    f"{micro['products']:.2f}",
                    f"{micro['packed']:.2f}" if "packed" in micro else "-",
                    f"{micro['model']:.2f}",
                    f"{ratio(times['model'], times['products']):.2f}",
                    f"{micro['noise']:.2f}",
                    f"{micro['stream']:.2f}",
                    f"{ratio(times['stream'], times['products']):.2f}",
                    f"{1e6 * traffic(file, batch) / speed / batch:.2f}",
                ]
            )
    head = ["engine, batch", "torch.mm µs", "oneDNN µs", "model µs", "ratio", "noise µs"]
    table([*head, "stream µs", "ratio", "byte floor µs"], rows)
    flops = sum(product.flops for product in layer_products(file, 1))
    print(f"  {flops:,} FLOP a shower; ratios are to torch.mm; the noise alone by one thread;")
    print(f"  the byte floor is a copy in memory at {speed / 1e9:.1f} GB/s")


def singles(file: ModelFile, options: argparse.Namespace) -> None:
    """One shower at a time, as another program asks for it."""
    tasks: dict[str, Callable[[], object]] = {"products": products(layer_products(file, 1))}
    for name in ["torch", "onnx"] if has_onnx() else ["torch"]:
        tasks[name] = partial(Generator(file, engine=name).one, energy=ENERGY)
    times = side_by_side(tasks, seconds=0.03, rounds=10 if options.quick else 60)
    rows = [[f"one shower, {name}", f"{1e6 * best(rounds):.1f}"] for name, rounds in times.items()]
    table(["", "µs"], rows)


def to_disk(file: ModelFile, count: int) -> None:
    """Into a file, compression and disk included; beside Geant4."""
    conditions = Conditions.of(file.model.geometry, {"energy": ENERGY})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "showers.hdf5"
        seconds = generate_file(file, conditions, path, count)
        size = path.stat().st_size / count
    print(f"  {count:,} showers into a compressed file: {seconds:.1f} s, ", end="")
    print(f"{1e6 * seconds / count:.1f} µs and {size:.0f} bytes a shower")
    for geant4 in geant4_times(file.model.geometry.name):
        if geant4.energy == ENERGY:
            print(f"  Geant4: {geant4.seconds} s a shower, ", end="")
            print(f"{geant4.seconds / seconds * count:,.0f} times as long")


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "").parse_args()
    begin(options, f"Generation, {MODEL} (goals: model 1.2, stream 1.5 at 10,000; one 100 µs)")
    file = load_model(resolve_model(MODEL))
    batches(file, options)
    singles(file, options)
    to_disk(file, 20_000 if options.quick else 1_000_000)


if __name__ == "__main__":
    main()
