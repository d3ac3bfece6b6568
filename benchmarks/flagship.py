"""Microseconds per shower of the flagship's three members beside other generators of photons.

Many showers at once by PyTorch, in pieces of `default_batch` on all threads as `generate` makes
them, and one shower at a time by ONNX Runtime on one thread. Noise is given; ratios are to
`caloshowergan-photon`, the fastest generator shipped.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import arguments, begin, best, ratio, run_batches, side_by_side, table

from caloforge.errors import CaloForgeError, ExportError
from caloforge.generate import Conditions, default_batch, make_engine
from caloforge.generate.engines import Engine, has_onnx
from caloforge.models.file import ModelFile, load_model
from caloforge.noise import normals
from caloforge.pretrained import resolve_model

BASE = "caloshowergan-photon"
MODELS = (
    "one-step-photons",
    "copula-flow-photons",
    "copula-photons",
    BASE,
    "flow-matching-photon",
)
ENERGY = 65536.0  # MeV
BATCH = 10_000


def load_models(names: list[str]) -> dict[str, ModelFile]:
    """The models that there are, by name or path; says which are not."""
    files = {}
    for name in names:
        try:
            files[name] = load_model(resolve_model(name))
        except CaloForgeError as error:
            print(f"Left out, {name}: {error}")
    return files


def task(file: ModelFile, engine: Engine, count: int) -> Callable[[], None]:
    """Makes `count` showers of one energy from given noise."""
    conditions = Conditions.of(file.model.geometry, {"energy": ENERGY})
    rows = conditions.rows(0, count).astype("float32")
    noise, size = normals(0, 0, count, file.model.noise_size), default_batch(file.model)

    def run() -> None:
        if count <= size:
            engine(rows, noise)
        else:
            run_batches(engine, rows, noise, size)

    return run


def single(name: str, file: ModelFile) -> Callable[[], None] | None:
    """Makes one shower by ONNX Runtime; None where that is not there or refused."""
    if not has_onnx():
        return None
    try:
        return task(file, make_engine(file, "onnx", 1), 1)
    except ExportError as error:
        print(f"No ONNX, {name}: {error}")
        return None


def compared(
    title: str, tasks: dict[str, Callable[[], None]], count: int, rounds: int
) -> dict[str, list[str]]:
    """Microseconds a shower and the ratio to `BASE` of each model, in turn."""
    print(f"  measuring {title} ...", flush=True)
    times = side_by_side(dict(tasks), seconds=0.05, rounds=rounds)
    base = times.get(BASE)
    return {
        name: [f"{1e6 * best(t) / count:.1f}", f"{ratio(t, base):.2f}" if base else "-"]
        for name, t in times.items()
    }


def main() -> None:
    """Measure and print."""
    parser = arguments(__doc__ or "")
    parser.add_argument(
        "models", nargs="*", help=f"files or names of generators of photons, beside {BASE}"
    )
    options = parser.parse_args()
    begin(options, "Flagship beside other generators of photons (goals: one-step 8 and 100 µs)")
    files = load_models([*options.models, BASE] if options.models else list(MODELS))
    rounds = 10 if options.quick else 60
    many = {
        name: task(file, make_engine(file, "torch", default_batch(file.model)), BATCH)
        for name, file in files.items()
    }
    batches = compared(f"batches of {BATCH:,} by PyTorch", many, BATCH, rounds)
    torch.set_num_threads(1)
    ones = {name: made for name, file in files.items() if (made := single(name, file))}
    singles = compared("one shower by ONNX Runtime", ones, 1, rounds) if ones else {}
    rows = [[name, *batches[name], *singles.get(name, ["-", "-"])] for name in files]
    table(["model", f"{BATCH:,}: µs", "ratio", "one: µs", "ratio"], rows)


if __name__ == "__main__":
    main()
