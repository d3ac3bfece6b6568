"""Peak memory and seconds of judging whole files, data set 3 with 40 500 voxels among them.

The showers of data set 3 are drawn from a parametrisation (a gamma profile in depth, an
exponential in radius, spots of energy): no physics, but as many cells, as sparse, as large a file.
Every judgement runs in a process of its own, whose largest resident set is read at its end.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from common import table
from generators import photon_generator

from caloforge.data import create_showers, sample_path
from caloforge.detector.geometry import Geometry
from caloforge.detector.shipped import load_geometry
from caloforge.evaluate import judge_files
from caloforge.generate import Conditions, generate_file
from caloforge.showers import Showers

CHUNK = 200
# First word of what the judge tells -> kind of step.
KINDS = {
    "reading": "reading",
    "FPD": "FPD, KPD",
    "KPD": "FPD, KPD",
    "classifier": "classifiers",
    "precision": "neighbours, PRD",
    "PRD": "neighbours, PRD",
    "drawing": "drawing",
}
STEPS = ("reading", "histograms", "FPD, KPD", "classifiers", "neighbours, PRD", "drawing")
SPOT = 10.0  # MeV


def parametric(geometry: Geometry, count: int, scale: float, rng: np.random.Generator) -> Showers:
    """`count` electron-like showers in a read-out of polar layers; `scale` widens them."""
    incident = 10 ** rng.uniform(3, 5, count)
    layers = np.arange(geometry.n_layers)
    peak = 6 + 1.2 * np.log(incident / 1000)
    depth = layers ** (peak[:, None] / 2.5) * np.exp(-layers / 2.5)
    depth /= depth.sum(axis=1, keepdims=True)
    cells = np.empty((count, geometry.n_cells), dtype=np.float32)
    for k, (layer, where) in enumerate(zip(geometry.layers, geometry.slices, strict=True)):
        radius = layer.centres[1]
        share = layer.area * np.exp(-radius / (scale * (4 + 0.3 * k)))
        spots = rng.poisson((incident * depth[:, k] / SPOT)[:, None] * (share / share.sum()))
        cells[:, where] = SPOT * spots
    return Showers(cells, incident[:, None], geometry, {"producer": "parametrisation"})


def write(path: Path, count: int, scale: float, seed: int) -> None:
    """A file of parametric data-set-3 showers, written in chunks."""
    geometry, rng = load_geometry("ds3"), np.random.default_rng(seed)
    with create_showers(path, geometry, compression="fast") as writer:
        for start in range(0, count, CHUNK):
            writer.append(parametric(geometry, min(CHUNK, count - start), scale, rng))


def photons(path: Path, count: int, model: str | None, seed: int) -> None:
    """A file of generated data-set-1 photons at the incident energies of the test sample."""
    file, _ = photon_generator(model)
    conditions = Conditions.like(sample_path("ds1-photons-test"), file.model.geometry)
    generate_file(file, conditions, path, count, seed=seed, extrapolate=True)


class Clock:
    """Seconds of each kind of step, from what the judge tells."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.kind, self.begin = "histograms", time.perf_counter()

    def __call__(self, what: str) -> None:
        now = time.perf_counter()
        self.seconds[self.kind] = self.seconds.get(self.kind, 0.0) + now - self.begin
        step = what.partition(": ")[2] or what
        kinds = [kind for word, kind in KINDS.items() if step.startswith(word)]
        self.kind, self.begin = (kinds or ["histograms"])[0], now


def child(reference: str, generated: str, effort: str) -> None:
    """Judge one file against the other; print peak memory in bytes and seconds as JSON."""
    clock = Clock()
    with TemporaryDirectory() as folder:
        chosen = None if effort == "histograms" else effort
        judge_files(reference, [generated], folder, metrics=chosen, tell=clock)
    clock("end")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    print(json.dumps({"peak": peak, "seconds": clock.seconds}))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ds3", type=int, default=20_000, help="showers of data set 3; 0: none")
    parser.add_argument("--photons", type=int, default=100_000, help="data set 1; 0: none")
    parser.add_argument("--model", help="model file or shipped generator of the photons")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(*options.child)
    rows = []
    with TemporaryDirectory() as name:
        folder = Path(name)
        jobs = []
        if options.photons:
            for seed, file in enumerate(("photons-a.hdf5", "photons-b.hdf5")):
                photons(folder / file, options.photons, options.model, seed)
            jobs += [("photons", options.photons, "fast")]
        if options.ds3:
            for seed, file in enumerate(("ds3-a.hdf5", "ds3-b.hdf5")):
                write(folder / file, options.ds3, 1.0 + 0.1 * seed, seed)
            jobs += [("ds3", options.ds3, "fast")]
        for kind, count, effort in jobs:
            files = [str(folder / f"{kind}-{part}.hdf5") for part in "ab"]
            command = [sys.executable, __file__, "--child", *files, effort]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            measured = json.loads(done.stdout.splitlines()[-1])
            seconds = measured["seconds"]
            size = sum(Path(f).stat().st_size for f in files)
            rows.append(
                [f"{kind}, {count:,}", effort, f"{measured['peak'] / 1e6:.0f}"]
                + [f"{seconds.get(step, 0.0):.1f}" for step in STEPS]
                + [f"{sum(seconds.values()):.0f}", f"{size / 1e6:.0f}"]
            )
    print("\nJudging one file against another of the same size")
    table(["showers", "figures", "peak MB", *(f"{s} s" for s in STEPS), "all s", "files MB"], rows)
    return None


if __name__ == "__main__":
    main()
